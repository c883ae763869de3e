package rig

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// registryPatience is how long a registry may take to listen.
const registryPatience = time.Minute

// registryProcess is a `docker-registry serve`.
type registryProcess struct {
	port string
	cmd  *exec.Cmd
	// ended is closed when the process and all it says are over.
	ended chan struct{}
}

// serveRegistry starts a registry on a port of its own choice at an address of this machine. It keeps its data and
// its configuration, to which settings are added, in dir.
func serveRegistry(ctx context.Context, dir, host, settings string) (*registryProcess, error) {
	config := filepath.Join(dir, "config.yml")
	text := fmt.Sprintf("version: 0.1\nstorage: {filesystem: {rootdirectory: %q}}\nhttp: {addr: %q}\nlog: {level: info, formatter: json, accesslog: {disabled: true}}\n%s",
		registryData(dir), net.JoinHostPort(host, "0"), settings)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return nil, err
	}
	p := &registryProcess{cmd: exec.Command("docker-registry", "serve", config), ended: make(chan struct{})}
	said, err := p.cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting a registry: %w; run make setup", err)
	}
	listening := make(chan string, 1)
	go p.follow(said, listening)
	ctx, stop := context.WithTimeoutCause(ctx, registryPatience, fmt.Errorf("it does not listen within %s", registryPatience))
	defer stop()
	select {
	case p.port = <-listening:
		return p, nil
	case <-p.ended:
		return nil, fmt.Errorf("starting a registry: it ended with %s", p.cmd.ProcessState)
	case <-ctx.Done():
		return nil, errors.Join(fmt.Errorf("starting a registry: %w", context.Cause(ctx)), p.close())
	}
}

// registryData is where a registry keeps what was pushed.
func registryData(dir string) string { return filepath.Join(dir, "data") }

// follow reads what the process says to its end, and tells the port once.
func (p *registryProcess) follow(said io.Reader, listening chan<- string) {
	defer close(p.ended)
	for lines := bufio.NewScanner(said); lines.Scan(); {
		var entry struct {
			Message string `json:"msg"`
		}
		if json.Unmarshal(lines.Bytes(), &entry) != nil {
			continue
		}
		if address, ok := strings.CutPrefix(entry.Message, "listening on "); ok {
			if _, port, err := net.SplitHostPort(address); err == nil {
				select {
				case listening <- port:
				default:
				}
			}
		}
	}
	_, _ = io.Copy(io.Discard, said) // a line that is too long ends the scanning
	_ = p.cmd.Wait()                 // mostly it was killed
}

// local is the address by which this machine itself reaches the registry. Its engine asks no TLS there.
func (p *registryProcess) local() string { return net.JoinHostPort("127.0.0.1", p.port) }

// close ends the process, which may have ended before.
func (p *registryProcess) close() error {
	err := p.cmd.Process.Kill()
	<-p.ended
	if errors.Is(err, os.ErrProcessDone) {
		return nil
	}
	return err
}
