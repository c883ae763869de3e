package connector

import (
	"strings"
	"unicode"
)

// maxErrorText is the number of bytes of a remote machine's words that an error repeats.
const maxErrorText = 1024

// cleanText makes the text of a remote machine fit for logs and terminals.
func cleanText(s string) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	s = strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' || unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, s)
	return strings.TrimSpace(s)
}

// remoteError is an error whose text a remote machine had a part in. It keeps the error for
// errors.Is and errors.As.
type remoteError struct {
	error
}

func (e remoteError) Error() string {
	text := e.error.Error()
	if len(text) > maxErrorText {
		text = text[:maxErrorText] + "..."
	}
	return cleanText(text)
}

func (e remoteError) Unwrap() error { return e.error }
