package masking

import (
	"slices"
	"strings"
)

const mask = "[MASKED]"

// values replaces every byte that belongs to an occurrence of a secret. Occurrences that overlap are
// replaced together, so that nothing of either is left over. It holds back exactly the bytes that may
// be the beginning of an occurrence.
type values struct {
	secrets *automaton
	state   int32

	// held are the last bytes that came, as many as the state stands for.
	held []byte

	// spans are the occurrences that are not decided, in order and without overlap; their positions
	// are those of held between two calls, and of the data under work during one.
	spans []span
	// announced says that the replacement of the first span was written already: it may only grow.
	announced bool

	// done is how much of the data under work was written to out, or replaced.
	done int
	out  []byte
}

// span is an occurrence, or several that overlap.
type span struct{ start, end int }

// maxSpans is how many spans are kept before those that can be decided are.
const maxSpans = 1024

// secretAutomaton returns nil if there is nothing to hide.
func secretAutomaton(list []string) *automaton {
	var secrets []string
	for _, value := range list {
		if value = strings.TrimSpace(value); value != "" {
			secrets = append(secrets, value)
		}
	}
	if len(secrets) == 0 {
		return nil
	}
	slices.Sort(secrets)
	return newAutomaton(slices.Compact(secrets))
}

// process returns what of p, and of what was held back, can be passed on. The result is valid until
// the next call.
func (v *values) process(p []byte) []byte {
	if v.secrets == nil {
		return p
	}
	data, from := p, 0
	if len(v.held) > 0 {
		from = len(v.held)
		v.held = append(v.held, p...)
		data = v.held
	}
	v.out, v.done = v.out[:0], 0
	v.scan(data, from)

	decided := len(data) - int(v.secrets.depth[v.state])
	if len(v.spans) == 0 && v.done == 0 && from == 0 {
		v.held = append(v.held[:0], data[decided:]...)
		return data[:decided]
	}
	v.decide(data, decided)
	for i := range v.spans {
		v.spans[i].start -= decided
		v.spans[i].end -= decided
	}
	v.held = append(v.held[:0], data[decided:]...)
	return v.out
}

// flush returns what is held back, after which nothing comes.
func (v *values) flush() []byte {
	v.out, v.done = v.out[:0], 0
	v.decide(v.held, len(v.held))
	v.held, v.state = nil, root
	return v.out
}

// scan looks for occurrences that end in data after from.
func (v *values) scan(data []byte, from int) {
	secrets := v.secrets
	for i := from; i < len(data); {
		v.state, i = secrets.scan(v.state, data, i)
		if length := int(secrets.longest[v.state]); length > 0 {
			v.found(span{i - length, i})
			if len(v.spans) >= maxSpans {
				v.decide(data, i-int(secrets.depth[v.state]))
			}
		}
	}
}

// found adds an occurrence, which ends behind all others.
func (v *values) found(s span) {
	for len(v.spans) > 0 && v.spans[len(v.spans)-1].end > s.start {
		s.start = min(s.start, v.spans[len(v.spans)-1].start)
		v.spans = v.spans[:len(v.spans)-1]
	}
	v.spans = append(v.spans, s)
}

// decide writes all of data before end, where no occurrence to come begins.
func (v *values) decide(data []byte, end int) {
	settled := 0
	for settled < len(v.spans) && v.spans[settled].start < end {
		s := v.spans[settled]
		if !v.announced {
			v.out = append(v.out, data[v.done:s.start]...)
			v.out = append(v.out, mask...)
		}
		if s.end > end {
			v.spans[settled].start, v.announced = end, true
			v.done = end
			break
		}
		v.announced, v.done = false, s.end
		settled++
	}
	v.spans = append(v.spans[:0], v.spans[settled:]...)
	if v.done < end {
		v.out = append(v.out, data[v.done:end]...)
		v.done = end
	}
}
