//go:build unix

package archive

import "syscall"

const openNoWait = syscall.O_NONBLOCK
