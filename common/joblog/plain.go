package joblog

import (
	"bytes"
	"regexp"
)

var escapes = regexp.MustCompile("\x1b(?:\\[[0-9;?]*[A-Za-z]|\\][^\a]*\a)")

// Plain is a line of a job log without its escape sequences and without what a later part of it overwrites. A line
// break at its end is gone, too.
func Plain(line []byte) []byte {
	line = escapes.ReplaceAll(bytes.TrimRight(line, "\r\n"), nil)
	if at := bytes.LastIndexByte(line, '\r'); at >= 0 {
		line = line[at+1:]
	}
	return line
}
