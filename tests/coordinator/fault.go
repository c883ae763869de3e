package coordinator

import (
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"time"
)

// Fault is trouble that the coordinator makes for its clients on purpose.
//
// With a Status the request is answered so without being handled; 412 to a final update also throws the stored trace
// away, since that answer asks the client to send it again. Without a Status the request is handled, late by Delay,
// and with LoseAnswer the connection is cut where the answer should have been.
type Fault struct {
	Endpoint    Endpoint // empty means all of them, git included
	Job         *Job     // nil means any job
	FinalOnly   bool     // only job updates that report an end state
	Times       int      // how many requests it hits; 0 means one
	Status      int
	Header      http.Header // sent with Status
	Body        []byte      // sent with Status, with Content-Type application/json unless Header has another
	Delay       time.Duration
	LoseRequest bool // cut the connection without handling the request
	LoseAnswer  bool
}

// Injected is a fault in force.
type Injected struct {
	c     *Coordinator
	fault Fault
	left  int
	hits  int
}

// Inject puts a fault in force. Faults are tried in the order of their injection; each request meets at most one.
func (c *Coordinator) Inject(fault Fault) *Injected {
	c.mu.Lock()
	defer c.mu.Unlock()
	injected := &Injected{c: c, fault: fault, left: max(fault.Times, 1)}
	c.faults = append(c.faults, injected)
	return injected
}

// Hits tells how many requests the fault has met.
func (i *Injected) Hits() int {
	i.c.mu.Lock()
	defer i.c.mu.Unlock()
	return i.hits
}

// Remove takes the fault out of force.
func (i *Injected) Remove() {
	i.c.mu.Lock()
	defer i.c.mu.Unlock()
	i.c.faults = slices.DeleteFunc(i.c.faults, func(other *Injected) bool { return other == i })
}

// applyFault lets the first matching fault act and reports whether the request is done with.
func (c *Coordinator) applyFault(x *exchange) bool {
	c.mu.Lock()
	c.checkRetryAfter(x)
	fault, found := c.takeFault(x)
	if !found {
		c.mu.Unlock()
		return false
	}
	if job := c.jobs[x.jobID]; job != nil {
		job.suffer(fault, x.endpoint)
	}
	c.mu.Unlock()

	if fault.Delay > 0 {
		timer := time.NewTimer(fault.Delay)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-x.r.Context().Done():
			panic(http.ErrAbortHandler)
		}
	}
	if fault.LoseRequest {
		panic(http.ErrAbortHandler)
	}
	if fault.Status != 0 {
		if fault.Body != nil {
			x.w.Header().Set("Content-Type", "application/json")
		}
		for key, values := range fault.Header {
			x.w.Header()[http.CanonicalHeaderKey(key)] = values
		}
		if fault.Body == nil {
			refuse(x.w, fault.Status)
			return true
		}
		x.w.WriteHeader(fault.Status)
		_, _ = x.w.Write(fault.Body)
		return true
	}
	x.w.lost = fault.LoseAnswer
	return false
}

// takeFault finds the fault for x and counts it. The caller holds c.mu.
func (c *Coordinator) takeFault(x *exchange) (Fault, bool) {
	for index, injected := range c.faults {
		fault := injected.fault
		if fault.Endpoint != "" && fault.Endpoint != x.endpoint || fault.Job != nil && fault.Job.id != x.jobID {
			continue
		}
		if fault.FinalOnly && !isFinalUpdate(x.body) {
			continue
		}
		injected.hits++
		injected.left--
		if injected.left == 0 {
			c.faults = slices.Delete(c.faults, index, index+1)
		}
		return fault, true
	}
	return Fault{}, false
}

func isFinalUpdate(body []byte) bool {
	var update struct{ State State }
	return json.Unmarshal(body, &update) == nil && update.State.Final()
}

// suffer notes what the fault excuses the client from. The caller holds c.mu.
func (j *Job) suffer(fault Fault, endpoint Endpoint) {
	switch endpoint {
	case EndpointPatchTrace:
		j.excused.traceRange = j.excused.traceRange || fault.Status == http.StatusRequestedRangeNotSatisfiable
		// The client rightly stops sending its trace after these.
		j.excused.traceContent = j.excused.traceContent || fault.Status == http.StatusNotFound || fault.Status == http.StatusForbidden
	case EndpointUpdateJob:
		j.excused.ended = j.excused.ended || fault.Delay > 0 || fault.LoseAnswer || fault.LoseRequest
		if fault.Status == http.StatusPreconditionFailed {
			j.truncateTrace(0)
		}
	}
	if seconds, err := strconv.Atoi(fault.Header.Get("Retry-After")); err == nil && fault.Header.Get("RateLimit-ResetTime") == "" {
		j.notBefore[endpoint] = time.Now().Add(fault.Delay + time.Duration(seconds)*time.Second)
	}
}

// retryAfterSlack forgives clocks and timers that are a little early.
const retryAfterSlack = 50 * time.Millisecond

// checkRetryAfter notes a request that comes before the time it was asked to wait for. The caller holds c.mu.
func (c *Coordinator) checkRetryAfter(x *exchange) {
	job := c.jobs[x.jobID]
	if job == nil {
		return
	}
	due, asked := job.notBefore[x.endpoint]
	if !asked {
		return
	}
	delete(job.notBefore, x.endpoint)
	if early := time.Until(due); early > retryAfterSlack {
		c.violate(RuleRetryAfter, job.id, "%s came %v before Retry-After had passed", x.endpoint, early.Round(time.Millisecond))
	}
}
