//go:build !windows

package docker

import (
	"errors"
	"syscall"
)

// processExists says whether there is a process with an id.
func processExists(pid int) bool {
	err := syscall.Kill(pid, 0)
	return err == nil || errors.Is(err, syscall.EPERM)
}
