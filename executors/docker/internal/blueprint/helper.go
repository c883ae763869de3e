package blueprint

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/mount"

	"gitlab.com/gitlab-org/gitlab-runner/common/config"
	"gitlab.com/gitlab-org/gitlab-runner/executors/docker/internal/images"
	"gitlab.com/gitlab-org/gitlab-runner/helpers/docker"
	"gitlab.com/gitlab-org/gitlab-runner/helpers/version"
)

// Helper is where the helper container's image and program come from.
type Helper struct {
	// Request is the image of the helper container: helper_image, else Default.
	images.Request
	// Default is the image that has the runner's own helper. It may be on the engine, in a bundled
	// archive or in a registry, and is looked for in this order.
	Default images.Request
	// Archives are the names of the archives that Default may be bundled in, without directory.
	Archives []string
	// Carried says that a volume carries the runner's own helper into an image of the user's. It is filled
	// from Default, if that can be had without a pull.
	Carried bool
}

const helperRepository = "registry.gitlab.com/gitlab-org/gitlab-runner/gitlab-runner-helper"

// HelperProgram is the command in the helper image.
const HelperProgram = "gitlab-runner-helper"

// HelperImage decides on the helper image of a runner entry.
func HelperImage(runner *config.Runner, engine docker.Server, v version.Info, expand func(string) string) (Helper, error) {
	flavor := runner.Docker.HelperImageFlavor
	if flavor == "" {
		flavor = defaultFlavor
	}
	pwsh := runner.Shell == shellPwsh
	tag, err := helperTag(engine, v, flavor, pwsh)
	if err != nil {
		return Helper{}, err
	}
	helper := Helper{Archives: helperArchives(engine, flavor, pwsh)}
	helper.Default.Name = helperRepository + ":" + tag
	if helper.Default.Policies, err = images.Policies(helper.Default.Name, nil, runner.Docker); err != nil {
		return Helper{}, err
	}
	helper.Request = helper.Default
	if override := expand(runner.Docker.HelperImage); override != "" {
		helper.Name = override
		helper.Carried = engine.OS != windows
	}
	return helper, nil
}

// Overridden says whether the user chose the image.
func (h Helper) Overridden() bool { return h.Name != h.Default.Name }

const (
	// helperSource is the directory of the program in the default image, helperTarget the one where an
	// image of the user's gets it.
	helperSource = "/usr/bin"
	helperTarget = "/opt/gitlab-runner-helper"
)

// HelperVolume is the volume with the program of an image, by the image's ID.
func HelperVolume(imageID string) string {
	const enough = 12
	id := strings.TrimPrefix(imageID, "sha256:")
	return HelperProgram + "-" + id[:min(enough, len(id))]
}

// FillVolume describes a container that is never started: the engine fills the volume when it creates
// it.
func (p *Plan) FillVolume(volume, image string) docker.Container {
	labels := maps.Clone(p.HelperContainer.Config.Labels)
	labels[LabelType] = "helper-volume"
	return docker.Container{
		Name:   p.HelperContainer.Name + "-fill",
		Config: &container.Config{Image: image, Labels: labels, Cmd: []string{HelperProgram}},
		Host: &container.HostConfig{NetworkMode: "none", Mounts: []mount.Mount{{
			Type: mount.TypeVolume, Source: volume, Target: helperSource,
			VolumeOptions: &mount.VolumeOptions{Labels: map[string]string{
				LabelManaged: "true", LabelType: "helper", LabelReusable: "true",
			}},
		}}},
	}
}

// CarryHelper mounts the volume with the runner's own helper into the helper container. It returns the
// path of the program there.
func (p *Plan) CarryHelper(volume string) string {
	host := *p.HelperContainer.Host
	host.Mounts = append(slices.Clone(host.Mounts), mount.Mount{
		Type: mount.TypeVolume, Source: volume, Target: helperTarget, ReadOnly: true,
		VolumeOptions: &mount.VolumeOptions{NoCopy: true},
	})
	p.HelperContainer.Host = &host
	return helperTarget + "/" + HelperProgram
}

// helper decides on the helper image and describes its container, which idles while stages are run in
// it.
func (c *compiler) helper() error {
	var err error
	helper := &c.plan.Helper
	if *helper, err = HelperImage(c.Job.Runner, c.Engine, c.Version, c.vars.ExpandValue); err != nil {
		return err
	}

	host, err := c.jobHost(helper.Name)
	if err != nil {
		return err
	}
	name := c.unique + "-predefined"
	config := &container.Config{
		Hostname:  c.hostname(),
		Cmd:       idleCommand(c.Engine.OS),
		Labels:    c.containerLabels("predefined", nil),
		OpenStdin: true,
	}
	c.plan.HelperContainer = docker.Container{
		Name: name, Config: config, Host: host, Network: c.endpoint("", "build", name),
	}
	return nil
}

// idleCommand waits on a standard input that nobody writes to. A shell is what every helper image has.
func idleCommand(os string) []string {
	if os == windows {
		return []string{"cmd"}
	}
	return []string{"sh"}
}

const defaultFlavor = "alpine"

// helperTag is the tag of the helper image for an engine.
func helperTag(engine docker.Server, v version.Info, flavor string, pwsh bool) (string, error) {
	release := "latest"
	if v.Released() {
		release = "v" + v.Version
	}
	if engine.OS == windows {
		base, err := windowsBase(engine.Kernel)
		if err != nil {
			return "", err
		}
		arch := "x86_64"
		if engine.Arch == "arm64" && base == "servercore24H2" {
			arch = "arm64"
		}
		return fmt.Sprintf("%s-%s-%s", arch, release, base), nil
	}
	tag := helperArch(engine.Arch) + "-" + release
	if flavor != defaultFlavor {
		tag = flavor + "-" + tag
	}
	if pwsh {
		tag += "-pwsh"
	}
	return tag, nil
}

// helperArch is an architecture as helper images name it.
func helperArch(arch string) string {
	switch {
	case arch == "amd64":
		return "x86_64"
	case strings.HasPrefix(arch, "arm64"), arch == "aarch64":
		return "arm64"
	case strings.HasPrefix(arch, "arm"):
		return "arm"
	default:
		return arch
	}
}

// windowsBase is the base image for a Windows kernel, whose version contains its build number.
func windowsBase(kernel string) (string, error) {
	bases := map[string][]string{
		"servercore1809": {"17763", "19043", "19044", "19045"},
		"servercore21H2": {"20348", "22000", "22621", "22631"},
		"servercore24H2": {"26100", "26200"},
	}
	for base, builds := range bases {
		for _, build := range builds {
			if strings.Contains(kernel, build) {
				return base, nil
			}
		}
	}
	return "", configurationError("detecting base image: unsupported Windows version: %s", kernel)
}

// helperArchives are the file names under which an image for an engine may be bundled.
func helperArchives(engine docker.Server, flavor string, pwsh bool) []string {
	suffix := ""
	if pwsh {
		suffix = "-pwsh"
	}
	arches := []string{helperArch(engine.Arch)}
	if arches[0] != engine.Arch {
		arches = append(arches, engine.Arch)
	}
	var names []string
	for _, arch := range arches {
		names = append(names, fmt.Sprintf("prebuilt-%s-%s%s.docker.tar.zst", flavor, arch, suffix))
	}
	return names
}
