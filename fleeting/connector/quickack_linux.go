package connector

import (
	"net"
	"syscall"
)

// quickAck returns a function that has what was received on conn acknowledged at once. OpenSSH leaves
// Nagle's algorithm on, so that its second small packet in a row waits for our acknowledgement, which
// the kernel delays by 40 ms. The effect does not last, hence the function is called again and again.
func quickAck(conn net.Conn) func() {
	socket, ok := conn.(syscall.Conn)
	if !ok {
		return func() {}
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return func() {}
	}
	return func() {
		_ = raw.Control(func(fd uintptr) {
			_ = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_QUICKACK, 1)
		})
	}
}
