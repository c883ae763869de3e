package connector

import (
	"errors"
	"fmt"
	"io"
	"time"
)

// exitGrace is how long the end of a command's output waits for the command to exit, so that its
// failure becomes the error of the Read.
const exitGrace = 5 * time.Second

// processStream is the stream of a command started for DialRun.
type processStream struct {
	// name is the prefix of errors, "ssh tunnel" or "winrm tunnel".
	name   string
	stdin  io.WriteCloser
	stdout io.Reader
	stderr *tail

	// exited is closed when exit is set to how the command ended.
	exited <-chan struct{}
	exit   *error
	// stop ends a command that may still run.
	stop func() error
}

func (s *processStream) Read(p []byte) (int, error) {
	n, err := s.stdout.Read(p)
	if err == nil {
		return n, nil
	}
	exit := s.exitError()
	if exit == nil && err == io.EOF {
		return n, io.EOF
	}
	if exit == nil {
		exit = err
	}
	return n, s.explain(exit)
}

func (s *processStream) Write(p []byte) (int, error) {
	n, err := s.stdin.Write(p)
	if err == nil {
		return n, nil
	}
	if exit := s.exitError(); exit != nil {
		err = exit
	}
	return n, s.explain(err)
}

func (s *processStream) CloseWrite() error { return ignoreClosed(s.stdin.Close()) }

func (s *processStream) Close() error { return ignoreClosed(s.stop()) }

// exitError is nil for a command that succeeded, and for one that goes on without its output.
func (s *processStream) exitError() error {
	select {
	case <-s.exited:
		return *s.exit
	case <-time.After(exitGrace):
		return nil
	}
}

func (s *processStream) explain(err error) error {
	return fmt.Errorf("%s: %w (%s)", s.name, err, s.stderr)
}

// ignoreClosed drops the error of closing what is closed already.
func ignoreClosed(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrClosedPipe) {
		return nil
	}
	return err
}
