// Package diagnosis is what the parts of this program say when they are asked whether they can work:
// steps that went well or did not, each with a remedy. Whoever is examined reports, the command that asks
// prints; it imports nothing of ours, and anything may import it.
package diagnosis

// State is how a step went.
type State string

// With Warn jobs run, but not as they should; with Fail none does.
const (
	OK   State = "ok"
	Warn State = "warn"
	Fail State = "fail"
)

// Step is one thing that was tried.
type Step struct {
	// Name is what was tried, in a word or two.
	Name  string `json:"name"`
	State State  `json:"state"`
	// Detail is what was found.
	Detail string `json:"detail"`
	// Remedy says what to do, empty if all is well.
	Remedy string `json:"remedy,omitempty"`
}

// Report takes steps in the order in which they are tried, from one goroutine.
type Report func(Step)

// OK reports a step that went well.
func (r Report) OK(name, detail string) { r(Step{Name: name, State: OK, Detail: detail}) }

// Warn reports a step after which jobs run, but not as they should.
func (r Report) Warn(name, detail, remedy string) {
	r(Step{Name: name, State: Warn, Detail: detail, Remedy: remedy})
}

// Fail reports a step without which no job runs.
func (r Report) Fail(name, detail, remedy string) {
	r(Step{Name: name, State: Fail, Detail: detail, Remedy: remedy})
}
