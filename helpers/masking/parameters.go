package masking

import "bytes"

// parameters replaces the values of query parameters that carry credentials. It holds nothing back:
// the name of a parameter is passed on as it comes.
type parameters struct {
	mode parameterMode
	// name is what came of a parameter's name so far, in lower case.
	name [maxName]byte
	size int
	out  []byte
}

type parameterMode int

const (
	outsideParameter parameterMode = iota
	inName
	inValue
)

// maxName is the length of the longest name of interest.
const maxName = len("x-amz-security-token")

func isSecretParameter(name []byte) bool {
	switch string(name) {
	case "private_token", "authenticity_token", "rss_token",
		"x-amz-signature", "x-amz-credential", "x-amz-security-token":
		return true
	}
	return false
}

func startsParameter(b byte) bool { return b == '?' || b == '&' }

// endsValue says whether b, a question mark, ampersand, blank or control character, ends a value.
func endsValue(b byte) bool { return startsParameter(b) || b <= ' ' || b == 0x7f }

// process returns p with the values replaced. The result is valid until the next call.
func (f *parameters) process(p []byte) []byte {
	f.out = f.out[:0]
	done := 0 // what of p was copied to out or replaced
	starts := starts{data: p}
	for i := 0; i < len(p); i++ {
		switch f.mode {
		case outsideParameter:
			i = starts.after(i)
			if i < len(p) {
				f.mode, f.size = inName, 0
			}
		case inName:
			if f.readName(p[i]) {
				f.out = append(f.out, p[done:i+1]...)
				f.out = append(f.out, mask...)
				done = i + 1
				f.mode = inValue
			}
		case inValue:
			for i < len(p) && !endsValue(p[i]) {
				i++
			}
			done = i
			if i < len(p) {
				f.mode, f.size = outsideParameter, 0
				if startsParameter(p[i]) {
					f.mode = inName
				}
			}
		}
	}
	if f.mode == inValue {
		done = len(p)
	}
	if done == 0 {
		return p
	}
	f.out = append(f.out, p[done:]...)
	return f.out
}

// readName takes one byte that follows the start of a parameter, and says whether a value to replace
// begins behind it.
func (f *parameters) readName(b byte) bool {
	switch {
	case startsParameter(b):
		f.size = 0
	case b == '=':
		if isSecretParameter(f.name[:f.size]) {
			return true
		}
		f.mode = outsideParameter
	case f.size == maxName || endsValue(b):
		f.mode = outsideParameter
	default:
		if 'A' <= b && b <= 'Z' {
			b += 'a' - 'A'
		}
		f.name[f.size] = b
		f.size++
	}
	return false
}

// starts finds the starts of parameters in data, looking at every byte at most twice.
type starts struct {
	data                []byte
	question, ampersand int
	searched            bool
}

// after returns the first start at or after i, or the length of data.
func (s *starts) after(i int) int {
	if !s.searched {
		s.question, s.ampersand, s.searched = -1, -1, true
	}
	if s.question < i {
		s.question = indexFrom(s.data, i, '?')
	}
	if s.ampersand < i {
		s.ampersand = indexFrom(s.data, i, '&')
	}
	return min(s.question, s.ampersand)
}

func indexFrom(data []byte, from int, b byte) int {
	if at := bytes.IndexByte(data[from:], b); at >= 0 {
		return from + at
	}
	return len(data)
}
