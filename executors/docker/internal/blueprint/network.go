package blueprint

import (
	"net"
	"net/netip"
	"strconv"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/api/types/versions"

	"gitlab.com/gitlab-org/gitlab-runner/common"
	"gitlab.com/gitlab-org/gitlab-runner/common/featureflags"
)

// endpointVersion is the API version from which an endpoint carries its own MAC address.
const endpointVersion = "1.44"

// networkChoice is what the containers of a job are attached to.
type networkChoice struct {
	mode container.NetworkMode
	dns  []string
	// buildMac is the build container's MAC address; older engines are given none. The containers that
	// run beside it have others: two of the same address on one network cannot reach anything.
	buildMac string
}

// NetworkName is the name of the job's own network, empty if it gets none.
func NetworkName(job *common.Job) string {
	docker := job.Runner.Docker
	if docker == nil || docker.NetworkMode != "" || !job.Flags.IsOn(featureflags.NetworkPerBuild) {
		return ""
	}
	return job.ShortName()
}

// networkMode decides on the network of all containers.
func (c *compiler) networkMode() error {
	c.network.mode = container.NetworkMode(c.docker.NetworkMode)
	if name := NetworkName(c.Job); name != "" {
		c.network.mode = container.NetworkMode(name)
		c.plan.Network = &Network{Name: name, Options: c.networkOptions()}
	}
	c.plan.UserNetwork = c.network.mode != "" && c.network.mode.IsUserDefined()
	for _, server := range c.docker.DNS {
		if _, err := netip.ParseAddr(server); err != nil {
			return configurationError("invalid DNS server address %q: %w", server, err)
		}
	}
	c.network.dns = c.docker.DNS
	return c.macAddress()
}

func (c *compiler) macAddress() error {
	address := c.docker.MacAddress
	if address == "" {
		return nil
	}
	if versions.LessThan(c.Engine.APIVersion, endpointVersion) {
		c.warn("mac_address is not applied: it needs a Docker Engine with API %s or newer, this one has %s",
			endpointVersion, c.Engine.APIVersion)
		return nil
	}
	if _, err := net.ParseMAC(address); err != nil {
		return configurationError("invalid MAC address %q: %w", address, err)
	}
	c.network.buildMac = address
	return nil
}

func (c *compiler) networkOptions() network.CreateOptions {
	labels := map[string]string{}
	for key, value := range c.labels {
		labels[key] = value
	}
	options := network.CreateOptions{Driver: "bridge", Labels: labels}
	if c.Engine.OS == windows {
		options.Driver = "nat"
	}
	if c.docker.EnableIPv6 {
		options.EnableIPv6 = &c.docker.EnableIPv6
	}
	if c.docker.NetworkMTU > 0 {
		options.Options = map[string]string{"com.docker.network.driver.mtu": strconv.Itoa(c.docker.NetworkMTU)}
	}
	return options
}

// endpoint is how a container with a MAC address (empty: the engine's choice) is attached: with aliases on
// networks that know names.
func (c *compiler) endpoint(mac string, aliases ...string) *network.NetworkingConfig {
	settings := &network.EndpointSettings{MacAddress: mac}
	name := string(c.network.mode)
	if c.plan.UserNetwork {
		settings.Aliases = aliases
	}
	if name == "" {
		name = network.NetworkDefault
	}
	if settings.MacAddress == "" && len(settings.Aliases) == 0 {
		return nil
	}
	return &network.NetworkingConfig{EndpointsConfig: map[string]*network.EndpointSettings{name: settings}}
}
