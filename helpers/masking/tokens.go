package masking

import "slices"

// PersonalAccessTokenPrefix begins the tokens of persons. It is always among the prefixes.
const PersonalAccessTokenPrefix = "glpat-"

// DefaultTokenPrefixes returns the prefixes of all kinds of tokens that GitLab makes.
func DefaultTokenPrefixes() []string {
	return []string{
		PersonalAccessTokenPrefix,
		"gloas-", "gldt-", "glrt-", "glcbt-", "glrtr-", "glptt-", "glft-", "glimt-", "glagent-",
		"glsoat-", "glffct-", "_gitlab_session=", "gltok-",
	}
}

// tokens replaces what follows the prefix of a token. It holds nothing back.
type tokens struct {
	prefixes *automaton
	state    int32
	mode     tokenMode
	out      []byte
}

type tokenMode int

const (
	outsideToken tokenMode = iota
	behindPrefix
	inToken
)

func prefixAutomaton(list []string) *automaton {
	prefixes := []string{PersonalAccessTokenPrefix}
	for _, prefix := range list {
		if prefix != "" {
			prefixes = append(prefixes, prefix)
		}
	}
	slices.Sort(prefixes)
	return newAutomaton(slices.Compact(prefixes))
}

func inTokenAlphabet(b byte) bool {
	return b >= '0' && b <= '9' || b >= 'A' && b <= 'Z' || b >= 'a' && b <= 'z' ||
		b == '.' || b == '_' || b == '=' || b == '-'
}

// process returns p with the tokens replaced. The result is valid until the next call.
func (t *tokens) process(p []byte) []byte {
	t.out = t.out[:0]
	done := 0 // what of p was copied to out or replaced
	for i := 0; i < len(p); {
		switch t.mode {
		case outsideToken:
			t.state, i = t.prefixes.scan(t.state, p, i)
			if t.prefixes.longest[t.state] > 0 {
				t.mode = behindPrefix
			}
		case behindPrefix:
			if !inTokenAlphabet(p[i]) {
				// The end of a prefix may be the beginning of another: the state stays.
				t.mode = outsideToken
				continue
			}
			t.out = append(t.out, p[done:i]...)
			t.out = append(t.out, mask...)
			done, t.mode, t.state = i, inToken, root
		case inToken:
			for i < len(p) && inTokenAlphabet(p[i]) {
				i++
			}
			done = i
			if i < len(p) {
				t.mode = outsideToken
			}
		}
	}
	if done == 0 {
		return p
	}
	t.out = append(t.out, p[done:]...)
	return t.out
}
