package rig

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// PrivateRegistry is a real OCI registry on this machine, behind a password.
type PrivateRegistry struct {
	// Host is its address, with the port.
	Host string
	// Username and Password are the only login that it takes.
	Username, Password string

	dir     string
	process *exec.Cmd
}

// StartPrivateRegistry starts a registry that keeps its data in dir. Close it.
func StartPrivateRegistry(ctx context.Context, dir string) (*PrivateRegistry, error) {
	r := &PrivateRegistry{Username: "publisher", Password: "not-for-everybody", dir: dir}
	passwords, err := output("htpasswd", "-nbB", r.Username, r.Password)
	if err != nil {
		return nil, err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	r.Host = listener.Addr().String()
	if err := listener.Close(); err != nil {
		return nil, err
	}
	settings := fmt.Sprintf(`version: 0.1
storage: {filesystem: {rootdirectory: %s}}
http: {addr: %s}
auth: {htpasswd: {realm: test, path: %s}}
log: {level: error}
`, r.Data(), r.Host, filepath.Join(dir, "htpasswd"))
	for name, text := range map[string]string{"htpasswd": passwords, "config.yml": settings} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			return nil, err
		}
	}
	r.process = exec.Command("docker-registry", "serve", filepath.Join(dir, "config.yml"))
	if err := r.process.Start(); err != nil {
		return nil, fmt.Errorf("starting the registry: %w; run make setup", err)
	}
	for {
		if answer, err := http.Get("http://" + r.Host + "/v2/"); err == nil {
			return r, answer.Body.Close()
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			r.Close()
			return nil, fmt.Errorf("waiting for the registry: %w", context.Cause(ctx))
		}
	}
}

// Data is where the registry keeps what was pushed.
func (r *PrivateRegistry) Data() string { return filepath.Join(r.dir, "data") }

// Close ends the registry.
func (r *PrivateRegistry) Close() {
	_ = r.process.Process.Kill()
	_ = r.process.Wait()
}
