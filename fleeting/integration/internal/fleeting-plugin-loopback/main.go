// Command fleeting-plugin-loopback is a plugin whose instances are SSH servers in its own process, so
// that the test kit can be tried without a cloud. A server knows one command, echo.
package main

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"fmt"
	"net"
	"runtime"
	"sync"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/crypto/ssh"

	"gitlab.com/gitlab-org/fleeting/fleeting/plugin"
	"gitlab.com/gitlab-org/fleeting/fleeting/provider"
)

func main() {
	plugin.Main(&loopback{}, plugin.VersionInfo{Name: "fleeting-plugin-loopback"})
}

// loopback is the group.
type loopback struct {
	// Username and Password are those of the instances.
	Username, Password string

	hostKey  ssh.Signer
	settings provider.Settings

	mu      sync.Mutex
	created int
	servers map[string]*server
}

func (l *loopback) Init(_ context.Context, _ hclog.Logger, settings provider.Settings) (provider.ProviderInfo, error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return provider.ProviderInfo{}, fmt.Errorf("generate host key: %w", err)
	}
	if l.hostKey, err = ssh.NewSignerFromKey(key); err != nil {
		return provider.ProviderInfo{}, fmt.Errorf("use host key: %w", err)
	}
	l.settings, l.servers = settings, map[string]*server{}
	return provider.ProviderInfo{ID: "loopback", MaxSize: 10}, nil
}

func (l *loopback) Update(_ context.Context, fn func(instance string, state provider.State)) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for id := range l.servers {
		fn(id, provider.StateRunning)
	}
	return nil
}

func (l *loopback) Increase(_ context.Context, n int) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range n {
		s, err := newServer(l.Username, l.Password, l.hostKey)
		if err != nil {
			return i, err
		}
		l.created++
		l.servers[fmt.Sprintf("loopback-%d", l.created)] = s
	}
	return n, nil
}

func (l *loopback) Decrease(_ context.Context, instances []string) ([]string, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, id := range instances {
		if s := l.servers[id]; s != nil {
			s.close()
			delete(l.servers, id)
		}
	}
	return instances, nil
}

func (l *loopback) ConnectInfo(_ context.Context, instance string) (provider.ConnectInfo, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.servers[instance]
	if s == nil {
		return provider.ConnectInfo{}, fmt.Errorf("no such instance: %q", instance)
	}
	info := provider.ConnectInfo{ConnectorConfig: l.settings.ConnectorConfig, ID: instance, ExternalAddr: "192.0.2.1", InternalAddr: "127.0.0.1"}
	info.OS, info.Arch, info.Protocol = runtime.GOOS, runtime.GOARCH, provider.ProtocolSSH
	info.Username, info.Password = l.Username, l.Password
	info.ProtocolPort = s.listener.Addr().(*net.TCPAddr).Port
	info.HostKeys = []string{string(ssh.MarshalAuthorizedKey(l.hostKey.PublicKey()))}
	return info, nil
}

func (l *loopback) Heartbeat(context.Context, string) error { return nil }

func (l *loopback) Suspend(context.Context, []string) ([]string, error) {
	return nil, provider.ErrSuspendResumeNotSupported
}

func (l *loopback) Resume(context.Context, []string) ([]string, error) {
	return nil, provider.ErrSuspendResumeNotSupported
}

func (l *loopback) Shutdown(context.Context) error { return nil }
