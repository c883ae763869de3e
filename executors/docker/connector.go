package docker

import (
	"context"
	"fmt"
	"strings"

	"github.com/sirupsen/logrus"

	"gitlab.com/gitlab-org/gitlab-runner/common"
	"gitlab.com/gitlab-org/gitlab-runner/common/config"
	"gitlab.com/gitlab-org/gitlab-runner/common/featureflags"
	"gitlab.com/gitlab-org/gitlab-runner/executors"
	"gitlab.com/gitlab-org/gitlab-runner/helpers/docker"
)

// dialStdioFlag chooses the kind of tunnel for everybody who sets it.
const dialStdioFlag = featureflags.AutoscalerDialStdio

// connector opens connections to the engine of one machine.
type connector struct {
	runner *config.Runner
	// env is nil for the engine that the configuration names.
	env     executors.Environment
	machine *machine
	log     logrus.FieldLogger
	// stdio is the choice of the tunnel that somebody made by the feature flag, nil if nobody did.
	stdio *bool
}

// link is a connection to an engine, with the connection to its machine if there is one.
type link struct {
	engine engine
	server docker.Server
	conn   executors.Client
}

func (l *link) close() {
	_ = l.engine.Close()
	if l.conn != nil {
		_ = l.conn.Close()
	}
}

// openLink connects. Commands that it runs on the machine live for as long as life lasts.
func openLink(ctx, life context.Context, c *connector) (*link, error) {
	if c.env == nil {
		return c.openEndpoint(ctx)
	}
	conn, err := c.env.Connect(ctx)
	if err != nil {
		return nil, fmt.Errorf("creating docker connection: creating docker tunnel: %w", err)
	}
	l, err := c.tunnel(ctx, life, conn)
	if err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("getting docker info: %w", err)
	}
	return l, nil
}

func (c *connector) openEndpoint(ctx context.Context) (*link, error) {
	server, _, known := c.machine.known()
	d := c.runner.Docker
	client, err := docker.New(docker.Options{
		Host: d.Host, CertPath: d.TLSCertPath, Verify: d.TLSVerify, APIVersion: server.APIVersion,
	})
	if err != nil {
		return nil, common.Fail(common.RunnerConfigurationError, fmt.Errorf("creating docker connection: %w", err))
	}
	if known {
		return &link{engine: client, server: server}, nil
	}
	if server, err = client.Server(ctx); err != nil {
		_ = client.Close()
		return nil, fmt.Errorf("getting docker info: %w", err)
	}
	c.machine.learn(server, direct)
	return &link{engine: client, server: server}, nil
}

// tunnel finds the way to the engine through the machine's connection and asks the engine about itself,
// unless both are known from a former job.
func (c *connector) tunnel(ctx, life context.Context, conn executors.Client) (*link, error) {
	at, err := remoteEndpoint(c.runner.Docker)
	if err != nil {
		return nil, err
	}
	kind, only := c.preferred(at)
	server, remembered, known := c.machine.known()
	if !only && remembered != "" {
		kind = remembered
	}
	client, err := tunnelClient(life, conn, at, kind, server.APIVersion)
	if err != nil {
		return nil, err
	}
	if known {
		return &link{engine: client, server: server, conn: conn}, nil
	}
	server, err = client.Server(ctx)
	if err != nil && !only && kind == direct && ctx.Err() == nil {
		_ = client.Close()
		c.log.WithError(err).Info("docker tunnel: direct forwarding failed, trying docker system dial-stdio")
		directErr := err
		kind = dialStdio
		if client, err = tunnelClient(life, conn, at, kind, ""); err != nil {
			return nil, err
		}
		if server, err = client.Server(ctx); err != nil {
			err = fmt.Errorf("%w (direct forwarding failed too: %w)", err, directErr)
		}
	}
	if err != nil {
		_ = client.Close()
		return nil, err
	}
	if kind != remembered {
		c.log.WithField("via", string(kind)).Info("docker tunnel established")
	}
	c.machine.learn(server, kind)
	return &link{engine: client, server: server, conn: conn}, nil
}

func tunnelClient(life context.Context, conn executors.Client, at endpoint, kind tunnelKind, apiVersion string) (*docker.Client, error) {
	host := docker.TunnelHost
	if kind == direct && at.network == "tcp" {
		host = at.host
	}
	client, err := docker.New(docker.Options{
		Host: host, Dial: dialer(life, conn, at, kind), APIVersion: apiVersion,
	})
	if err != nil {
		return nil, fmt.Errorf("creating docker connection: %w", err)
	}
	return client, nil
}

// preferred is the kind of tunnel to try first, and whether it is the only one.
func (c *connector) preferred(at endpoint) (tunnelKind, bool) {
	switch {
	case c.stdio != nil && *c.stdio:
		return dialStdio, true
	case c.stdio != nil:
		return direct, true
	case at.network == "npipe":
		return dialStdio, true
	case c.runner.Autoscaler != nil && strings.EqualFold(c.runner.Autoscaler.ConnectorConfig.OS, "windows"):
		return dialStdio, true
	default:
		return direct, false
	}
}

// chosenStdio returns the value of the feature flag if somebody set it, in the configuration or for the
// job.
func chosenStdio(job *common.Job) *bool {
	const flag = dialStdioFlag
	if on, set := job.Runner.FeatureFlags[flag]; set {
		return &on
	}
	set := false
	for _, v := range job.Spec.Variables {
		set = set || v.Key == flag
	}
	for _, entry := range job.Runner.Environment {
		set = set || strings.HasPrefix(entry, flag+"=")
	}
	if !set {
		return nil
	}
	return new(job.Flags.IsOn(flag))
}

// machineID tells machines apart for what is remembered of them.
func machineID(runner *config.Runner, env executors.Environment) string {
	if env != nil {
		return "instance " + env.ID()
	}
	return "endpoint " + runner.Docker.Host + " " + runner.Docker.TLSCertPath
}
