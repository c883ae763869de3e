// Package console writes what the user reads in the job's log. The helper's packages share it.
package console

import (
	"fmt"
	"io"
)

const (
	boldGreen = "\x1b[32;1m"
	boldRed   = "\x1b[31;1m"
	yellow    = "\x1b[0;33m"
	reset     = "\x1b[0;m"
)

// Console is the two streams of the job's log. It is as safe for concurrent use as its writers are;
// each message is one write. A log that cannot be written to is no reason to stop the work, so that
// errors of the writers are ignored.
type Console struct {
	Out io.Writer
	Err io.Writer
}

// Notice says what happens.
func (c *Console) Notice(format string, args ...any) {
	_, _ = io.WriteString(c.Out, boldGreen+fmt.Sprintf(format, args...)+reset+"\n")
}

// Warning says what the user should look at although the work goes on.
func (c *Console) Warning(format string, args ...any) {
	_, _ = io.WriteString(c.Out, yellow+fmt.Sprintf(format, args...)+reset+"\n")
}

// Print says something by the way.
func (c *Console) Print(format string, args ...any) {
	_, _ = io.WriteString(c.Out, fmt.Sprintf(format, args...)+"\n")
}

// Error says what failed.
func (c *Console) Error(format string, args ...any) {
	_, _ = io.WriteString(c.Err, boldRed+"ERROR: "+fmt.Sprintf(format, args...)+reset+"\n")
}
