package docker

import (
	"context"
	"fmt"
)

// Server is what an engine says about itself and its machine.
type Server struct {
	// OS is linux, windows or freebsd; Arch is Go's name of the architecture, such as amd64.
	OS   string
	Arch string
	// Kernel is the kernel's version; on Windows it begins with the build, as in "10.0 20348".
	Kernel string
	// Version is the engine's. APIVersion is what client and engine agreed on.
	Version    string
	APIVersion string
}

// Ping asks the engine for a sign of life.
func (c *Client) Ping(ctx context.Context) error {
	_, err := c.library().Ping(ctx)
	return err
}

// Server asks the engine about itself and settles on an API version for this client. It is called
// before anything else, unless Options.APIVersion was given.
func (c *Client) Server(ctx context.Context) (Server, error) {
	ping, err := c.library().Ping(ctx)
	if err != nil {
		return Server{}, err
	}
	if ping.APIVersion == "" {
		return Server{}, fmt.Errorf("what answers at %s is no docker engine: it names no API version", c.host)
	}
	version, err := c.agree(ping.APIVersion)
	if err != nil {
		return Server{}, err
	}
	answer, err := c.library().ServerVersion(ctx)
	if err != nil {
		return Server{}, err
	}
	return Server{
		OS:         answer.Os,
		Arch:       answer.Arch,
		Kernel:     answer.KernelVersion,
		Version:    answer.Version,
		APIVersion: version,
	}, nil
}
