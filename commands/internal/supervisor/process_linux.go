package supervisor

import "syscall"

// attached puts the process in a group of its own. When the supervisor is killed the kernel asks it to
// abort its work: nobody would be there to do so, and a new supervisor would start a second runner beside it.
func attached() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
}
