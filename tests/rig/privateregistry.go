package rig

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
)

// PrivateRegistry is a real OCI registry on this machine, behind a password.
type PrivateRegistry struct {
	// Host is its address, with the port.
	Host string
	// Username and Password are the only login that it takes.
	Username, Password string

	dir     string
	process *registryProcess
}

// StartPrivateRegistry starts a registry that keeps its data in dir. Close it.
func StartPrivateRegistry(ctx context.Context, dir string) (*PrivateRegistry, error) {
	r := &PrivateRegistry{Username: "publisher", Password: "not-for-everybody", dir: dir}
	passwords, err := output("htpasswd", "-nbB", r.Username, r.Password)
	if err != nil {
		return nil, err
	}
	file := filepath.Join(dir, "htpasswd")
	if err := os.WriteFile(file, []byte(passwords), 0o600); err != nil {
		return nil, err
	}
	r.process, err = serveRegistry(ctx, dir, "127.0.0.1", fmt.Sprintf("auth: {htpasswd: {realm: test, path: %q}}\n", file))
	if err != nil {
		return nil, err
	}
	r.Host = r.process.local()
	return r, nil
}

// Data is where the registry keeps what was pushed.
func (r *PrivateRegistry) Data() string { return registryData(r.dir) }

// Close ends the registry. Closing twice is allowed.
func (r *PrivateRegistry) Close() { _ = r.process.close() }
