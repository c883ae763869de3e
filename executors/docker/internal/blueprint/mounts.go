package blueprint

import (
	"strconv"

	"github.com/docker/docker/api/types/mount"

	"gitlab.com/gitlab-org/gitlab-runner/executors/docker/internal/volumes"
)

// volumeMount is a volume that is made for the job, or kept from an earlier one.
type volumeMount struct {
	name        string
	destination string
	options     string
	reusable    bool
}

// mounts decides what every container of the job has mounted. Volumes come into being with the first
// container that mounts them.
func (c *compiler) mounts() error {
	if c.docker.VolumeKeep {
		c.plan.KeepVolumes = true
		c.warn("volume_keep is enabled: Docker volumes will not be removed after job completion and may accumulate on disk")
	}
	specs, err := parseVolumes(c.docker.Volumes, c.Engine.OS, c.vars.ExpandValue)
	if err != nil {
		return err
	}
	taken := map[string]bool{}
	hostBound := false
	for i, spec := range specs {
		if spec.Destination == "" {
			return configurationError("invalid volume specification: %q", c.docker.Volumes[i])
		}
		spec.Destination = volumes.Absolute(c.Engine.OS, c.Job.ProjectDir, spec.Destination)
		if volumes.IsRoot(c.Engine.OS, spec.Destination) {
			return configurationError("volume for container path %q: the root of the container cannot be a volume", spec.Destination)
		}
		key := volumes.Clean(c.Engine.OS, spec.Destination)
		if taken[key] {
			return configurationError("volume for container path %q is already defined", spec.Destination)
		}
		taken[key] = true
		if spec.Source != "" {
			hostBound = hostBound || volumes.Within(c.Engine.OS, c.buildsDir(), spec.Destination)
			c.binds = append(c.binds, spec.Bind())
			continue
		}
		c.addCache(spec, !c.docker.DisableCache)
	}
	if builds := c.buildsDir(); !hostBound && !taken[volumes.Clean(c.Engine.OS, builds)] {
		c.addCache(volumes.Spec{Destination: builds}, keepsSources(c.Job.Strategy) && !c.docker.DisableCache)
	}
	return nil
}

// addCache adds what stands behind a destination that has no source.
func (c *compiler) addCache(spec volumes.Spec, reusable bool) {
	hash := volumes.Hash(spec.Destination)
	if c.Job.ProtectedRef() {
		hash += "-protected"
	}
	if reusable && c.docker.CacheDir != "" {
		spec.Source = volumes.Join(c.Engine.OS, c.docker.CacheDir, c.Job.SystemUniqueName(), hash)
		c.binds = append(c.binds, spec.Bind())
		return
	}
	name := c.Job.SystemUniqueName()
	if !reusable {
		name = c.unique
	}
	name += "-cache-" + hash
	if reusable {
		c.plan.CacheVolumes = append(c.plan.CacheVolumes, name)
	} else {
		c.plan.TemporaryVolumes = append(c.plan.TemporaryVolumes, name)
	}
	if c.Engine.OS != windows {
		c.plan.OpenVolumes = append(c.plan.OpenVolumes, spec.Destination)
	}
	c.volumes = append(c.volumes, volumeMount{
		name: name, destination: spec.Destination, options: spec.Options, reusable: reusable,
	})
}

// mountList returns the volumes of the job in the form that a container is created with.
func (c *compiler) mountList() []mount.Mount {
	var mounts []mount.Mount
	for _, v := range c.volumes {
		options := &mount.VolumeOptions{Labels: c.typedLabels("cache", map[string]string{
			"destination": v.destination,
			"protected":   strconv.FormatBool(c.Job.ProtectedRef()),
			"reusable":    strconv.FormatBool(v.reusable),
		})}
		if c.docker.VolumeDriver != "" || len(c.docker.VolumeDriverOps) > 0 {
			options.DriverConfig = &mount.Driver{Name: c.docker.VolumeDriver, Options: c.docker.VolumeDriverOps}
		}
		mounts = append(mounts, mount.Mount{
			Type: mount.TypeVolume, Source: v.name, Target: v.destination,
			ReadOnly: hasOption(v.options, "ro"), VolumeOptions: options,
		})
	}
	return mounts
}

func (c *compiler) buildsDir() string { return BuildsDir(c.Job.Runner, c.Engine.OS) }
