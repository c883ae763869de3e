package connector

import (
	"errors"
	"fmt"
)

// ExitError says that a command ran and ended with a status other than zero, or by a signal.
type ExitError struct {
	code   int
	signal string
}

// Error names the status and the signal, if there was one.
func (e *ExitError) Error() string {
	if e.signal != "" {
		return fmt.Sprintf("Process exited with status %d from signal %s", e.code, e.signal)
	}
	return fmt.Sprintf("Process exited with status %d", e.code)
}

// ExitCode returns the status; for a signal 128 plus its number. Statuses of Windows are unsigned
// 32-bit numbers.
func (e *ExitError) ExitCode() int { return e.code }

// ForwardingError says that the instance opened no connection on the client's behalf.
type ForwardingError struct {
	Network string
	Address string
	// Certain is true when the instance said that it does not forward. It is false when it may
	// also be that nothing listens at the address: OpenSSH answers both alike for Unix sockets.
	Certain bool
	// Err is the instance's answer.
	Err error
}

// Error names the address and what to look at.
func (e *ForwardingError) Error() string {
	reason := "forwarding is refused or nothing listens there (check AllowStreamLocalForwarding in sshd_config)"
	if e.Certain {
		reason = "forwarding is refused"
	}
	return fmt.Sprintf("dial %s %s from the instance: %s: %v", e.Network, e.Address, reason, e.Err)
}

func (e *ForwardingError) Unwrap() error { return e.Err }

// IsForwardingRefused reports whether Dial failed because the instance does, or may, not forward
// connections, so that a command such as "docker system dial-stdio" through DialRun can take its
// place. A *ForwardingError tells whether it is certain.
func IsForwardingRefused(err error) bool {
	var refused *ForwardingError
	return errors.As(err, &refused)
}

// errSessionLimit marks the refusal of one more session.
var errSessionLimit = errors.New("the server refuses another session on this connection (check MaxSessions in sshd_config, or use fewer commands at a time)")

// IsSessionLimit reports whether Run or DialRun failed because the server allows no further session
// on the connection. It works again when a running command has ended.
func IsSessionLimit(err error) bool {
	return errors.Is(err, errSessionLimit)
}
