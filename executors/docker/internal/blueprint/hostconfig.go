package blueprint

import (
	"slices"

	"github.com/bmatcuk/doublestar/v4"
	"github.com/docker/docker/api/types/container"

	"gitlab.com/gitlab-org/gitlab-runner/common/featureflags"
)

// commonHost is what the host configurations of all containers have in common.
func (c *compiler) commonHost() (*container.HostConfig, error) {
	log, err := logConfig(c.docker.LogOptions)
	if err != nil {
		return nil, err
	}
	mode, err := isolation(c.docker.Isolation)
	if err != nil {
		return nil, err
	}
	return &container.HostConfig{
		DNS:           c.network.dns,
		DNSSearch:     c.docker.DNSSearch,
		Runtime:       c.docker.Runtime,
		UsernsMode:    container.UsernsMode(c.docker.UsernsMode),
		Isolation:     mode,
		ShmSize:       c.docker.ShmSize,
		ExtraHosts:    slices.Clone(c.docker.ExtraHosts),
		NetworkMode:   c.network.mode,
		Binds:         slices.Clone(c.binds),
		Mounts:        c.mountList(),
		LogConfig:     log,
		RestartPolicy: container.RestartPolicy{Name: container.RestartPolicyDisabled},
	}, nil
}

// jobHost is the host configuration of the build and helper containers. Image is the name by which
// privileges are allowed.
func (c *compiler) jobHost(image string) (*container.HostConfig, error) {
	host, err := c.commonHost()
	if err != nil {
		return nil, err
	}
	d := c.docker
	if host.Resources, err = c.jobResources(); err != nil {
		return nil, err
	}
	if host.SecurityOpt, err = securityOptions("security_opt", d.SecurityOpt, c.ReadFile); err != nil {
		return nil, err
	}
	host.CapAdd, host.CapDrop = slices.Clone(d.CapAdd), slices.Clone(d.CapDrop)
	host.GroupAdd = d.GroupAdd
	host.Sysctls = d.Sysctls
	host.IpcMode = container.IpcMode(d.IpcMode)
	host.VolumesFrom = d.VolumesFrom
	host.VolumeDriver = d.VolumeDriver
	host.Links = d.Links
	host.OomScoreAdj = d.OomScoreAdjust
	host.Tmpfs = d.Tmpfs
	if host.Privileged, err = allowedPrivileged(d.Privileged, image, d.AllowedPrivilegedImages); err != nil {
		return nil, err
	}
	return host, nil
}

func (c *compiler) jobResources() (container.Resources, error) {
	d := c.docker
	r := container.Resources{
		CPUShares:         d.CPUShares,
		CpusetCpus:        d.CpusetCpus,
		CpusetMems:        d.CpusetMems,
		CgroupParent:      d.CgroupParent,
		DeviceCgroupRules: d.DeviceCgroupRules,
	}
	if d.OomKillDisable {
		r.OomKillDisable = &d.OomKillDisable
	}
	if slot := SlotCgroup(c.Job.Runner, c.Slot); slot != "" {
		r.CgroupParent = slot
	}
	var err error
	if r.Memory, r.MemorySwap, r.MemoryReservation, err = memory("", d.Memory, d.MemorySwap, d.MemoryReservation); err != nil {
		return r, err
	}
	if r.NanoCPUs, err = nanoCPUs(d.Cpus); err != nil {
		return r, err
	}
	if r.Ulimits, err = ulimits(d.Ulimit); err != nil {
		return r, err
	}
	if r.Devices, err = devices("devices", d.Devices); err != nil {
		return r, err
	}
	r.DeviceRequests, err = gpus("gpus", d.Gpus)
	return r, err
}

// serviceHost is the host configuration of a service of the given image.
func (c *compiler) serviceHost(image string) (*container.HostConfig, error) {
	host, err := c.commonHost()
	if err != nil {
		return nil, err
	}
	d := c.docker
	if host.Resources, err = c.serviceResources(image); err != nil {
		return nil, err
	}
	if host.SecurityOpt, err = securityOptions("services_security_opt", d.ServicesSecurityOpt, c.ReadFile); err != nil {
		return nil, err
	}
	host.Tmpfs = d.ServicesTmpfs
	privileged := d.Privileged
	if d.ServicesPrivileged != nil {
		privileged = *d.ServicesPrivileged
	}
	host.Privileged, err = allowedPrivileged(privileged, image, d.AllowedPrivilegedServices)
	host.Init = c.useInit()
	return host, err
}

func (c *compiler) serviceResources(image string) (container.Resources, error) {
	d := c.docker
	r := container.Resources{
		CPUShares:    d.ServiceCPUShares,
		CpusetCpus:   d.ServiceCpusetCpus,
		CgroupParent: d.ServiceCgroupParent,
	}
	if slot := serviceSlotCgroup(c.Job.Runner, c.Slot); slot != "" {
		r.CgroupParent = slot
	}
	var err error
	if r.Memory, r.MemorySwap, r.MemoryReservation, err = memory("service_",
		d.ServiceMemory, d.ServiceMemorySwap, d.ServiceMemoryReservation); err != nil {
		return r, err
	}
	if r.NanoCPUs, err = nanoCPUs(d.ServiceCpus); err != nil {
		return r, err
	}
	for _, pattern := range sortedKeys(d.ServicesDevices) {
		matches, err := doublestar.Match(pattern, image)
		if err != nil {
			return r, configurationError("services_devices: %q is not a pattern: %w", pattern, err)
		}
		if !matches {
			continue
		}
		list, err := devices("services_devices", d.ServicesDevices[pattern])
		if err != nil {
			return r, err
		}
		r.Devices = append(r.Devices, list...)
	}
	r.DeviceRequests, err = gpus("service_gpus", d.ServiceGpus)
	return r, err
}

func memory(prefix, limit, swapLimit, reservation string) (int64, int64, int64, error) {
	bytes, err := size(prefix+"memory", limit)
	if err != nil {
		return 0, 0, 0, err
	}
	swapBytes, err := swap(prefix+"memory_swap", swapLimit)
	if err != nil {
		return 0, 0, 0, err
	}
	reserved, err := size(prefix+"memory_reservation", reservation)
	return bytes, swapBytes, reserved, err
}

func (c *compiler) useInit() *bool {
	if !c.Job.Flags.IsOn(featureflags.UseInit) {
		return nil
	}
	return new(true)
}

// allowedPrivileged says whether a container is privileged: the list, if there is one, must have its
// image.
func allowedPrivileged(privileged bool, image string, allowed []string) (bool, error) {
	if !privileged || len(allowed) == 0 {
		return privileged, nil
	}
	return matchesAny(image, allowed)
}

// matchesAny matches a name with glob patterns.
func matchesAny(name string, patterns []string) (bool, error) {
	for _, pattern := range patterns {
		matches, err := doublestar.Match(pattern, name)
		if err != nil {
			return false, configurationError("%q is not a pattern for image names: %w", pattern, err)
		}
		if matches {
			return true, nil
		}
	}
	return false, nil
}
