package coordinator

import (
	"fmt"
	"hash/crc32"
	"net/http"
	"regexp"
	"strconv"
	"time"
)

var contentRangeForm = regexp.MustCompile(`^(\d{1,18})-(\d{1,18})$`)

func (c *Coordinator) patchTrace(x *exchange) {
	c.mu.Lock()
	defer c.mu.Unlock()
	job := c.authorize(x, x.r.Header.Get("JOB-TOKEN"))
	if job == nil {
		return
	}
	start, problem := chunkStart(x)
	debug := x.r.URL.Query().Get("debug_trace")
	if debug != "true" && debug != "false" {
		c.violate(RuleTraceRange, job.id, "debug_trace is %q, want true or false", clip(debug))
	}
	defer func() {
		if len(job.patches) < maxRecords {
			job.patches = append(job.patches, Patch{
				Time: time.Now(), Start: start, Length: len(x.body), Status: x.w.status, Debug: debug == "true",
			})
		}
	}()

	switch {
	case job.state.Final():
		c.refuseEnded(x, job)
	case job.state == StatePending:
		c.violate(RuleCommit, job.id, "trace before the job was confirmed as running")
		c.setJobHeaders(x, job)
		refuse(x.w, http.StatusForbidden)
	case problem != "":
		c.violate(RuleTraceRange, job.id, "%s", problem)
		refuse(x.w, http.StatusBadRequest)
	case start != int64(len(job.trace)):
		if !job.excused.traceRange {
			c.blameRange(x, job, start)
		}
		c.answerTrace(x, job, http.StatusRequestedRangeNotSatisfiable)
	case int64(len(job.trace)+len(x.body)) > c.cfg.MaxTraceSize:
		job.failure, job.stopped = "trace_size_exceeded", true
		job.end(StateFailed)
		c.setJobHeaders(x, job)
		refuse(x.w, http.StatusForbidden)
	default:
		c.appendTrace(job, x.body)
		job.lastChunk = chunk{start, x.turn}
		job.excused.traceRange = false
		c.answerTrace(x, job, http.StatusAccepted)
	}
}

// chunk is an accepted piece of a trace: where it began, and how it came.
type chunk struct {
	start int64
	turn  turn
}

// blameRange notes a chunk that does not follow the stored trace, if the client could know.
//
// It could not if the answer to the last chunk did not reach it: then that chunk is rightly sent again. And it could not
// if it had given up on this request and sent the chunk again already, which was faster. A client sends one chunk of a
// job at a time, so that neither is the case for an answered request after an answered chunk.
func (c *Coordinator) blameRange(x *exchange, job *Job, start int64) {
	text := fmt.Sprintf("chunk starts at %d, %d bytes are stored", start, len(job.trace))
	if start > int64(len(job.trace)) {
		c.violate(RuleTraceRange, job.id, "%s", text)
		return
	}
	var answered []turn
	if x.turn.of == nil || x.turn.of != job.lastChunk.turn.of {
		answered = append(answered, x.turn)
	}
	if start == job.lastChunk.start {
		answered = append(answered, job.lastChunk.turn)
	}
	onceAnswered(answered, func() { c.violate(RuleTraceRange, job.id, "%s", text) })
}

// chunkStart reads Content-Range, and says what is wrong with the chunk if something is.
func chunkStart(x *exchange) (start int64, problem string) {
	header := x.r.Header.Get("Content-Range")
	match := contentRangeForm.FindStringSubmatch(header)
	if match == nil {
		return 0, fmt.Sprintf("Content-Range is %q, want <start>-<end>", clip(header))
	}
	// The form admits at most 18 digits, which always fit.
	start, _ = strconv.ParseInt(match[1], 10, 64)
	end, _ := strconv.ParseInt(match[2], 10, 64)
	switch length := int64(len(x.body)); {
	case length == 0:
		return start, "empty chunk, which is not to be sent"
	case length > maxTraceChunk:
		return start, fmt.Sprintf("chunk exceeds %d bytes", maxTraceChunk)
	case end-start+1 != length:
		return start, fmt.Sprintf("Content-Range %s with %d bytes; the end is inclusive", header, length)
	}
	return start, ""
}

func (c *Coordinator) appendTrace(job *Job, chunk []byte) {
	if job.times.FirstTrace.IsZero() {
		job.times.FirstTrace = time.Now()
	}
	begin := len(job.trace)
	job.trace = append(job.trace, chunk...)
	job.traceSum = crc32.Update(job.traceSum, crc32.IEEETable, chunk)
	job.notify()
	c.publish(Event{Kind: EventTrace, Job: job, State: job.state, Data: job.trace[begin:len(job.trace):len(job.trace)]})
}

// answerTrace tells how much is stored; unlike in Content-Range the second number is a count.
func (c *Coordinator) answerTrace(x *exchange, job *Job, status int) {
	x.w.Header().Set("Range", "0-"+strconv.Itoa(len(job.trace)))
	c.setJobHeaders(x, job)
	x.w.WriteHeader(status)
}
