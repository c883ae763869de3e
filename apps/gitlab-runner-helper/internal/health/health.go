// Package health finds out whether a service of the job accepts connections.
package health

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"gitlab.com/gitlab-org/gitlab-runner/apps/gitlab-runner-helper/internal/console"
	"gitlab.com/gitlab-org/gitlab-runner/helpers/pause"
)

const (
	interval    = time.Second
	dialTimeout = 5 * time.Second
)

// Target is what to connect to.
type Target struct {
	Host  string
	Ports []string
	// All asks for an answer at every port, otherwise one is enough.
	All bool
}

// FromEnvironment returns the target that variables tell: the host from the last one whose name ends in
// _TCP_ADDR, the ports from all that end in _TCP_PORT.
func FromEnvironment(environ []string) (Target, error) {
	var t Target
	for _, entry := range environ {
		key, value, _ := strings.Cut(entry, "=")
		switch {
		case strings.HasSuffix(key, "_TCP_ADDR"):
			t.Host = value
		case strings.HasSuffix(key, "_TCP_PORT"):
			t.Ports = append(t.Ports, value)
		}
	}
	if t.Host == "" {
		return Target{}, errors.New("no host to check: no environment variable ends in _TCP_ADDR")
	}
	if len(t.Ports) == 0 {
		return Target{}, errors.New("no port to check: no environment variable ends in _TCP_PORT")
	}
	return t, nil
}

// Dial opens a connection.
type Dial func(ctx context.Context, network, address string) (net.Conn, error)

// Wait tries once per second until the target answers or ctx ends, whose cause is the error then.
func Wait(ctx context.Context, c *console.Console, dial Dial, t Target) error {
	c.Print("waiting for TCP connection to %s on %v...", t.Host, t.Ports)
	waiting := t.Ports
	for {
		var silent []string
		for _, port := range waiting {
			if err := try(ctx, dial, net.JoinHostPort(t.Host, port)); err != nil {
				silent = append(silent, port)
				continue
			}
			c.Print("dialed %s:%s", t.Host, port)
			if !t.All {
				return nil
			}
		}
		if len(silent) == 0 {
			return nil
		}
		waiting = silent
		if err := pause.For(ctx, interval); err != nil {
			return err
		}
	}
}

func try(ctx context.Context, dial Dial, address string) error {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	conn, err := dial(ctx, "tcp", address)
	if err != nil {
		return err
	}
	return conn.Close()
}

// InitCache makes directories that every user may write to.
func InitCache(dirs []string) error {
	if len(dirs) == 0 {
		return errors.New("no directory given")
	}
	for _, dir := range dirs {
		if err := os.MkdirAll(filepath.Clean(dir), 0o777); err != nil {
			return fmt.Errorf("making the cache directory: %w", err)
		}
		// The mode above is subject to the umask, and the directory may have been there.
		if err := os.Chmod(dir, 0o777); err != nil {
			return fmt.Errorf("opening the cache directory to everybody: %w", err)
		}
	}
	return nil
}
