//go:build unix

package main

import "syscall"

func clearUmask() {
	syscall.Umask(0)
}
