package supervisor

import "syscall"

// attached puts the process in a group of its own. When the supervisor is killed the kernel asks it to finish
// its work and end, since nobody is there any more to do so. It is not asked to abort it: the kernel may ask
// several times, once for each thread that the process is handed on to, and a runner that is asked twice to
// abort leaves everything lying about.
func attached() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGQUIT}
}
