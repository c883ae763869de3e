package redaction

import "strings"

// index finds values in short texts. Adding and removing one takes a time that does not depend on how many there
// are, and finding takes hardly more with many than with few: jobs come and go, each with its values.
// It is not safe for concurrent use.
type index struct {
	// heads are the values by their first bytes. How often each was added is counted.
	heads map[[headSize]byte]map[string]int
}

// headSize is not more than the length of the shortest value.
const headSize = shortest

func headOf(text string) [headSize]byte {
	return [headSize]byte([]byte(text[:headSize]))
}

func (x *index) add(value string) {
	if x.heads == nil {
		x.heads = map[[headSize]byte]map[string]int{}
	}
	head := headOf(value)
	if x.heads[head] == nil {
		x.heads[head] = map[string]int{}
	}
	x.heads[head][value]++
}

// remove takes back one add.
func (x *index) remove(value string) {
	head := headOf(value)
	values := x.heads[head]
	if values[value]--; values[value] == 0 {
		delete(values, value)
	}
	if len(values) == 0 {
		delete(x.heads, head)
	}
}

// longestAt is the length of the longest value at the beginning of text, 0 if there is none.
func (x *index) longestAt(text string) int {
	if len(text) < headSize {
		return 0
	}
	longest := 0
	for value := range x.heads[headOf(text)] {
		if len(value) > longest && strings.HasPrefix(text, value) {
			longest = len(value)
		}
	}
	return longest
}

// hide replaces all values in text. Those that overlap are replaced together, so that nothing of any is left.
func (x *index) hide(text, mask string) string {
	var out strings.Builder
	written, start, end := 0, 0, 0 // of text; start and end are those of what is being replaced
	flush := func() {
		if end > start {
			out.WriteString(text[written:start])
			out.WriteString(mask)
			written = end
		}
	}
	for i := range len(text) {
		length := x.longestAt(text[i:])
		switch {
		case length == 0:
		case i < end:
			end = max(end, i+length)
		default:
			flush()
			start, end = i, i+length
		}
	}
	flush()
	if written == 0 {
		return text
	}
	out.WriteString(text[written:])
	return out.String()
}
