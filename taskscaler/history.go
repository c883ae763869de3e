package taskscaler

import (
	"time"

	"gitlab.com/gitlab-org/fleeting/taskscaler/internal/fleet"
)

const (
	// historyTime is how far back the history goes.
	historyTime = time.Hour
	// maxEvents and maxSamples bound it, whatever happens in that time: the oldest are forgotten first.
	maxEvents  = 512
	maxSamples = 2048
	// sampleInterval is the least time between two samples, so that a busy fleet cannot push the hour
	// out of its own history.
	sampleInterval = 2 * time.Second
)

// history is what was decided and counted in the last hour. It is owned by the scaler's goroutine.
type history struct {
	events  []Event
	samples []Sample
}

// eventKinds are the decisions worth telling; what is missing happens with every task.
var eventKinds = map[fleet.Kind]EventKind{
	fleet.Create: EventCreate, fleet.Mark: EventMark, fleet.Delete: EventDelete, fleet.Lose: EventLost, fleet.Sleep: EventSuspend,
}

func (h *history) decided(d fleet.Decision, now time.Time) {
	kind, ok := eventKinds[d.Kind]
	if !ok {
		return
	}
	event := Event{At: now, Kind: kind, Reason: d.Reason, Count: 1}
	if d.Instance != nil {
		event.Instance = d.Instance.ID()
	} else {
		event.Count = d.Count
	}
	h.add(event)
}

func (h *history) prepared(instance string, err error, now time.Time) {
	event := Event{At: now, Kind: EventReady, Instance: instance, Count: 1}
	if err != nil {
		event.Kind, event.Reason = EventUnfit, err.Error()
	}
	h.add(event)
}

func (h *history) add(event Event) {
	old := 0
	for old < len(h.events) && event.At.Sub(h.events[old].At) > historyTime {
		old++
	}
	h.events = append(h.events[max(old, len(h.events)+1-maxEvents):], event)
}

// measured records the figures of a plan, if they changed: between two samples those of the first hold.
func (h *history) measured(plan fleet.Plan, now time.Time) {
	t := plan.Tally
	sample := Sample{
		At: now, Instances: t.Instances(), Slots: t.Slots(), Demand: t.Acquired + t.Pending + t.Reserved,
		Busy: t.Acquired, Desired: plan.Info.InstanceCount + plan.Required,
	}
	if n := len(h.samples); n > 0 {
		last := h.samples[n-1]
		at := last.At
		last.At = now
		if last == sample || now.Sub(at) < sampleInterval {
			return
		}
	}
	// The one before the hour says what held when the hour began.
	old := 0
	for old+1 < len(h.samples) && now.Sub(h.samples[old+1].At) > historyTime {
		old++
	}
	h.samples = append(h.samples[max(old, len(h.samples)+1-maxSamples):], sample)
}

// since returns copies without what became too old since it was added.
func (h *history) since(now time.Time) ([]Event, []Sample) {
	events := []Event{}
	for _, event := range h.events {
		if now.Sub(event.At) <= historyTime {
			events = append(events, event)
		}
	}
	return events, append([]Sample{}, h.samples...)
}
