package blueprint

import (
	"fmt"
	"slices"
	"strings"

	"github.com/docker/docker/api/types/container"

	"gitlab.com/gitlab-org/gitlab-runner/common"
	"gitlab.com/gitlab-org/gitlab-runner/common/featureflags"
	"gitlab.com/gitlab-org/gitlab-runner/executors/docker/internal/images"
	"gitlab.com/gitlab-org/gitlab-runner/helpers/docker"
)

const allowedImagesHelp = "https://docs.gitlab.com/runner/executors/docker/#restrict-docker-images-and-services"

// image decides on the job's image.
func (c *compiler) image() error {
	request := images.Request{}
	var asked []string
	if image := c.Job.Spec.Image; image != nil && image.Name != "" {
		request.Name = c.vars.ExpandValue(image.Name)
		asked = image.PullPolicies
		if err := refuseUnsupported(image.Name, image.ExecutorOpts.Unsupported); err != nil {
			return err
		}
		platform, warning, err := parsePlatform(c.vars.ExpandValue(image.ExecutorOpts.Docker.Platform), c.Engine.OS)
		if err != nil {
			return err
		}
		if warning != "" {
			c.warn("%s", warning)
		}
		request.Platform = platform
	}
	if request.Name == "" {
		c.plan.Image.Default = true
		request.Name = c.vars.ExpandValue(c.docker.Image)
		if request.Name == "" {
			return configurationError("no Docker image specified to run the build in")
		}
		c.notice("Using default image")
	} else if err := c.allowed(request.Name, "images", c.docker.AllowedImages, []string{c.vars.ExpandValue(c.docker.Image)}); err != nil {
		return err
	}
	c.notice("Using Docker executor with image %s ...", request.Name)
	policies, err := images.Policies(request.Name, asked, c.docker)
	if err != nil {
		return err
	}
	request.Policies = policies
	c.plan.Image.Request = request
	return nil
}

// build describes the user's container.
func (c *compiler) build() error {
	privilegedName := c.plan.Image.Name
	if c.plan.Image.Default {
		privilegedName = ""
	}
	host, err := c.jobHost(privilegedName)
	if err != nil {
		return err
	}
	host.PidMode = container.PidMode(c.docker.PidMode)
	host.Init = c.useInit()
	user, err := c.buildUser()
	if err != nil {
		return err
	}
	shell, err := shellOf(c.Job.Runner.Shell, c.Engine.OS)
	if err != nil {
		return err
	}
	if c.Engine.OS != windows && c.Job.Flags.IsOn(featureflags.DisableUmask) {
		c.notice("Not using umask - %s is set!", featureflags.DisableUmask)
	}
	name := c.unique + "-build"
	config := c.stdio()
	config.Hostname = c.hostname()
	config.User = user
	config.Env = c.Job.Variables.Environment(c.Job.TmpDir)
	config.Cmd = buildCommand(shell)
	config.Labels = c.containerLabels("build", nil)
	if image := c.Job.Spec.Image; image != nil {
		config.Entrypoint = c.entrypoint(image.Entrypoint)
	}
	c.plan.Build = docker.Container{
		Name: name, Config: config, Host: host,
		Network:  c.endpoint(c.network.buildMac, "build", name),
		Platform: c.plan.Image.Platform,
	}
	return nil
}

// stdio is a container that a script is given to on its standard input.
func (c *compiler) stdio() *container.Config {
	return &container.Config{
		AttachStdin: true, AttachStdout: true, AttachStderr: true,
		OpenStdin: true, StdinOnce: true,
	}
}

func (c *compiler) hostname() string { return Hostname(c.Job) }

// Hostname is that of the build and helper containers.
func Hostname(job *common.Job) string {
	if job.Runner.Docker != nil && job.Runner.Docker.Hostname != "" {
		return job.Runner.Docker.Hostname
	}
	return job.ProjectUniqueName()
}

func (c *compiler) entrypoint(asked []string) []string {
	if len(asked) == 0 {
		return nil
	}
	if c.docker.DisableEntrypointOverwrite {
		c.warn("Entrypoint override disabled")
		return nil
	}
	return asked
}

// buildUser is who runs the script, empty for the image's own user.
func (c *compiler) buildUser() (string, error) {
	user := c.docker.User
	if image := c.Job.Spec.Image; user == "" && image != nil {
		user = c.vars.ExpandValue(image.ExecutorOpts.Docker.User)
	}
	allowed := c.docker.AllowedUsers
	if user != "" && len(allowed) > 0 && !slices.Contains(allowed, user) {
		return "", configurationError("user %q is not an allowed user: %v", user, allowed)
	}
	return user, nil
}

// allowed checks an image of the job against a list of patterns. What the configuration itself names
// is always allowed.
func (c *compiler) allowed(name, kind string, patterns, always []string) error {
	if len(patterns) == 0 || slices.Contains(always, name) {
		return nil
	}
	matches, err := matchesAny(name, patterns)
	if err != nil || matches {
		return err
	}
	return common.Fail(common.RunnerConfigurationError, &RefusedImageError{Name: name, Kind: kind, Patterns: patterns})
}

// RefusedImageError says that the configuration does not allow an image of the job.
type RefusedImageError struct {
	Name string
	// Kind is images or services.
	Kind     string
	Patterns []string
}

func (e *RefusedImageError) Error() string { return "disallowed image" }

// Explanation is what the user is told.
func (e *RefusedImageError) Explanation() string {
	var text strings.Builder
	fmt.Fprintf(&text, "The %q image is not present on list of allowed %s:\n", e.Name, e.Kind)
	for _, pattern := range e.Patterns {
		fmt.Fprintf(&text, "- %s\n", pattern)
	}
	fmt.Fprintf(&text, "Please check runner's allowed_%s configuration: %s", e.Kind, allowedImagesHelp)
	return text.String()
}

func refuseUnsupported(image string, options []string) error {
	if len(options) == 0 {
		return nil
	}
	const exitCode = 3
	return &common.BuildError{
		Reason: common.RunnerSystemFailure, ExitCode: exitCode,
		Err: unsupportedError{image: image, options: options},
	}
}

// unsupportedError says that a job asks for what this executor does not know.
type unsupportedError struct {
	image   string
	options []string
}

func (e unsupportedError) Error() string {
	return "unsupported executor_opts of image \"" + e.image + "\": " + strings.Join(e.options, ", ")
}
