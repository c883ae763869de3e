package plugin

import (
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin"

	"gitlab.com/gitlab-org/fleeting/fleeting/internal/wire"
	"gitlab.com/gitlab-org/fleeting/fleeting/provider"
)

// Serve serves the group to the host that started this process and returns when the host ends it. The
// configuration that the host sends is decoded into impl, which must be a pointer, before its Init is
// called. Started by anything but a host, it says so and exits with status 1.
func Serve(impl provider.InstanceGroup) {
	// The host reads this form and filters by level.
	logger := hclog.New(&hclog.LoggerOptions{Level: hclog.Trace, Output: os.Stderr, JSONFormat: true})
	if os.Getenv(wire.LifelineEnv) == wire.LifelineStdin {
		go exitWithHost(logger, os.Stdin)
		outliveSignals(logger)
	}
	plugin.Serve(&plugin.ServeConfig{
		HandshakeConfig: wire.Handshake(),
		Plugins:         wire.Plugins(impl, logger),
		GRPCServer:      plugin.DefaultGRPCServer,
		Logger:          logger,
	})
}

// exitWithHost ends this process when the host, which holds the other end of lifeline, is gone.
func exitWithHost(logger hclog.Logger, lifeline io.Reader) {
	_, _ = io.Copy(io.Discard, lifeline)
	logger.Warn("the host is gone, exiting")
	os.Exit(1)
}

// outliveSignals takes no notice of the signals that a service manager sends to all processes of a
// service: the host finishes its work first, needs the plugin for it, and ends the plugin itself. The
// signals are caught, not ignored, so that the plugin's own children get them as usual.
func outliveSignals(logger hclog.Logger) {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGQUIT, syscall.SIGHUP)
	go func() {
		for s := range signals {
			logger.Debug("leaving a signal to the host", "signal", s.String())
		}
	}()
}
