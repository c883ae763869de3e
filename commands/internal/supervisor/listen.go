package supervisor

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/sirupsen/logrus"
)

// dialTimeout bounds the question whether somebody listens on a socket.
const dialTimeout = 5 * time.Second

// Listen listens on tcp://HOST:PORT or unix:///PATH. Who can connect can stop the process, so only the
// user may use the file of a socket, and a port that others on the network reach is warned of. A file that
// nobody listens on any more is replaced.
func Listen(address string, log logrus.FieldLogger) (net.Listener, error) {
	listener, err := listen(address)
	if err != nil {
		return nil, fmt.Errorf("listening on %s: %w", address, err)
	}
	log = log.WithField("address", listener.Addr().String())
	if tcp, ok := listener.Addr().(*net.TCPAddr); ok && !tcp.IP.IsLoopback() {
		log.Warning("The wrapper can be reached from the network, where everybody may stop the runner: use tcp://localhost:PORT or unix:///PATH")
	}
	log.Info("Wrapper listening")
	return listener, nil
}

func listen(address string) (net.Listener, error) {
	parsed, err := url.Parse(address)
	if err != nil {
		return nil, withoutURL(err)
	}
	switch {
	case parsed.Scheme == "tcp" && parsed.Port() != "" && parsed.Path == "":
		return net.Listen("tcp", parsed.Host)
	case parsed.Scheme == "unix" && parsed.Host == "" && parsed.Path != "":
		return listenOnSocket(socketPath(parsed.Path))
	default:
		return nil, errors.New("the address must have the form tcp://HOST:PORT or unix:///PATH")
	}
}

// socketPath is the path of an address in the form of this system: of Windows, /C:/x means C:\x.
func socketPath(path string) string {
	if filepath.VolumeName(path[1:]) != "" {
		path = path[1:]
	}
	return filepath.FromSlash(path)
}

func listenOnSocket(path string) (net.Listener, error) {
	if err := makeRoom(path); err != nil {
		return nil, err
	}
	listener, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(err, listener.Close())
	}
	return listener, nil
}

// makeRoom removes a socket whose listener has died without doing so.
func makeRoom(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode().Type() != fs.ModeSocket {
		return errors.New("there is a file which is no socket")
	}
	conn, err := net.DialTimeout("unix", path, dialTimeout)
	if err == nil {
		return errors.Join(errors.New("another process listens there"), conn.Close())
	}
	if !nobodyListens(err) {
		return fmt.Errorf("it is not known whether another process listens there: %w", err)
	}
	return os.Remove(path)
}

func isErrno(err error, want syscall.Errno) bool {
	got, ok := errors.AsType[syscall.Errno](err)
	return ok && got == want
}
