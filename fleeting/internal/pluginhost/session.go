package pluginhost

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"sync/atomic"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin"
	"github.com/hashicorp/go-plugin/runner"
	"google.golang.org/grpc/health/grpc_health_v1"

	"gitlab.com/gitlab-org/fleeting/fleeting/internal/wire"
)

// session is one process of the plugin and the connection to it, from start to end.
type session struct {
	process   *process
	plugin    *plugin.Client
	rpc       *plugin.GRPCClient
	client    *wire.Client
	limits    Limits
	socketDir string      // made by go-plugin, which leaves it behind when the process cannot be started
	suspected atomic.Bool // its life is being checked
}

// newSession starts the process and connects to it. The end of ctx aborts the start, nothing else.
func newSession(ctx context.Context, path string, log hclog.Logger, limits Limits) (*session, error) {
	resolved, err := exec.LookPath(path)
	if err != nil {
		return nil, err
	}
	s := &session{process: newProcess(resolved, log), limits: limits}
	s.plugin = plugin.NewClient(&plugin.ClientConfig{
		HandshakeConfig:  wire.Handshake(),
		Plugins:          wire.Plugins(nil, nil),
		AllowedProtocols: []plugin.Protocol{plugin.ProtocolGRPC},
		StartTimeout:     limits.Start,
		// The plugin receives credentials: nobody else may talk to it, nor pretend to be it.
		AutoMTLS: true,
		// Once connected, the plugin's os.Stdout and os.Stderr arrive here.
		SyncStdout: newOutput(log),
		SyncStderr: newOutput(log),
		Logger:     hclog.NewNullLogger(),
		RunnerFunc: func(_ hclog.Logger, cmd *exec.Cmd, socketDir string) (runner.Runner, error) {
			s.socketDir = socketDir
			s.process.env = cmd.Env
			return s.process, nil
		},
	})

	stopWatching := context.AfterFunc(ctx, func() { s.process.kill(context.Cause(ctx)) })
	defer stopWatching()
	if err := s.connect(); err != nil {
		s.close()
		if cause := context.Cause(ctx); cause != nil {
			return nil, cause
		}
		if words := s.process.lastWords(); len(words) > 0 {
			return nil, fmt.Errorf("%w (its output: %s)", err, words[1])
		}
		return nil, err
	}
	return s, nil
}

func (s *session) connect() error {
	if _, err := s.plugin.Start(); err != nil {
		return fmt.Errorf("start: %w", err)
	}
	protocol, err := s.plugin.Client()
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	rpc, ok := protocol.(*plugin.GRPCClient)
	if !ok {
		return errors.New("connect: the plugin does not speak gRPC")
	}
	s.rpc = rpc
	s.client = wire.NewClient(rpc.Conn)
	return nil
}

// ping asks the process for a sign of life.
func (s *session) ping(ctx context.Context) error {
	_, err := grpc_health_v1.NewHealthClient(s.rpc.Conn).Check(ctx, &grpc_health_v1.HealthCheckRequest{Service: plugin.GRPCServiceName})
	return err
}

// close ends the process, if it still runs, and frees everything.
func (s *session) close() {
	// go-plugin asks the plugin to exit and waits for its answer without a limit.
	stop := afterFunc(s.limits.Stop, func() { s.process.kill(errStopped) })
	defer stop()
	s.plugin.Kill()
	s.process.kill(errStopped)
	s.process.wait()
	if s.socketDir != "" {
		_ = os.RemoveAll(s.socketDir)
	}
}
