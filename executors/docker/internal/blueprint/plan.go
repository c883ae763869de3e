// Package blueprint compiles a job into a plan: what is to be made on an engine so that the job can
// run. Compiling is a pure function of the job, its configuration and what is known of the engine; it
// asks no engine and changes nothing, so that every key of the configuration is tested by comparing
// plans.
//
// The docker executor imports it and carries plans out.
package blueprint

import (
	"fmt"
	"slices"

	"github.com/docker/docker/api/types/network"

	"gitlab.com/gitlab-org/gitlab-runner/common"
	"gitlab.com/gitlab-org/gitlab-runner/common/config"
	"gitlab.com/gitlab-org/gitlab-runner/common/plan"
	"gitlab.com/gitlab-org/gitlab-runner/executors/docker/internal/images"
	"gitlab.com/gitlab-org/gitlab-runner/helpers/docker"
	"gitlab.com/gitlab-org/gitlab-runner/helpers/version"
)

// Input is what a plan depends on.
type Input struct {
	// Job has its variables and directories decided.
	Job    *common.Job
	Engine docker.Server
	// Suffix tells the objects of one try at a job from those of all others: 16 hex characters.
	Suffix string
	// Manager names this process in labels.
	Manager string
	// Slot is the number of the job's slot on the machine, -1 if the machine is not divided.
	Slot    int
	Version version.Info
	// ReadFile reads seccomp profiles on this machine.
	ReadFile func(name string) ([]byte, error)
}

// Plan is what is to be made for a job.
type Plan struct {
	Image  Image
	Build  docker.Container
	Helper Helper
	// HelperContainer is made when the first stage needs it.
	HelperContainer docker.Container
	Services        []Service

	// Network is created before the first container, nil for none.
	Network *Network
	// UserNetwork says that containers find one another by name.
	UserNetwork bool

	// OpenVolumes are the paths of volumes that every user of the job's containers may write to.
	OpenVolumes []string
	// CacheVolumes are kept for later jobs, by name.
	CacheVolumes []string
	// TemporaryVolumes are removed with the containers, by name.
	TemporaryVolumes []string
	// KeepVolumes leaves the anonymous volumes of containers behind.
	KeepVolumes bool

	// Notices are what the user is told before anything is made, Warnings likewise.
	Notices  []string
	Warnings []string
}

// Image is an image of the job.
type Image struct {
	images.Request
	// Default says that the job named none.
	Default bool
}

// Network is a network of the job's own.
type Network struct {
	Name    string
	Options network.CreateOptions
}

// Service is one service container.
type Service struct {
	Container docker.Container
	Image     images.Request
	// Name is the image's name without tag, digest and port, Version the tag or digest.
	Name    string
	Version string
	Aliases []string
	// Index counts the services of the configuration first, then those of the job.
	Index int
}

// Title is the service as the user is told of it.
func (s Service) Title() string {
	if len(s.Version) > 7 && s.Version[:7] == "sha256:" {
		return s.Name + "@" + s.Version
	}
	return s.Name + ":" + s.Version
}

// On returns the container for an image that is there, with further lines for its hosts file.
func On(c docker.Container, image string, hosts []string) docker.Container {
	config, host := *c.Config, *c.Host
	config.Image = image
	host.ExtraHosts = append(slices.Clone(host.ExtraHosts), hosts...)
	c.Config, c.Host = &config, &host
	return c
}

// Compile makes the plan of a job. Its errors are faults of the job or of the configuration.
func Compile(in Input) (*Plan, error) {
	c := &compiler{
		Input:  in,
		docker: in.Job.Runner.Docker,
		vars:   in.Job.Variables,
		plan:   &Plan{},
		unique: in.Job.ProjectUniqueName() + "-" + in.Suffix,
	}
	if c.docker == nil {
		return nil, configurationError("missing docker configuration")
	}
	for _, step := range []func() error{
		c.labelSet, c.networkMode, c.mounts, c.image, c.helper, c.build, c.services,
	} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	return c.plan, nil
}

// compiler collects the parts of one plan.
type compiler struct {
	Input
	docker *config.Docker
	vars   interface {
		ExpandValue(string) string
		Get(string) string
	}
	plan   *Plan
	unique string

	labels  map[string]string
	binds   []string
	volumes []volumeMount
	network networkChoice
}

func (c *compiler) warn(format string, args ...any) {
	c.plan.Warnings = append(c.plan.Warnings, fmt.Sprintf(format, args...))
}

func (c *compiler) notice(format string, args ...any) {
	c.plan.Notices = append(c.plan.Notices, fmt.Sprintf(format, args...))
}

// keepsSources says whether the builds directory is of use to a later job.
func keepsSources(strategy plan.Strategy) bool { return strategy == plan.StrategyFetch }

func configurationError(format string, args ...any) error {
	return common.Fail(common.RunnerConfigurationError, fmt.Errorf(format, args...))
}
