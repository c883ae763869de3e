//go:build unix && !linux

package supervisor

import "syscall"

// attached puts the process in a group of its own.
func attached() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
