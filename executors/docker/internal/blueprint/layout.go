package blueprint

import (
	"strings"

	"gitlab.com/gitlab-org/gitlab-runner/common/config"
	"gitlab.com/gitlab-org/gitlab-runner/executors/docker/internal/volumes"
)

const windows = "windows"

// Layout is what is decided of a job's directories before its variables are complete.
type Layout struct {
	BuildsDir string
	CacheDir  string
	// Shared says that other jobs use the builds directory too: it is on the machine.
	Shared bool
	// Shell is the dialect of the scripts: bash, pwsh or powershell.
	Shell string
}

// Arrange checks the configuration of a runner entry as far as that does not depend on a job, and
// decides the layout on an engine of the given operating system.
func Arrange(runner *config.Runner, os string, expand func(string) string) (Layout, error) {
	if runner.Docker == nil {
		return Layout{}, configurationError("missing docker configuration")
	}
	if _, err := logConfig(runner.Docker.LogOptions); err != nil {
		return Layout{}, err
	}
	layout := Layout{BuildsDir: BuildsDir(runner, os), CacheDir: cacheDir(runner, os)}
	switch {
	case !volumes.IsAbsolute(os, layout.BuildsDir):
		return Layout{}, configurationError("build directory needs to be an absolute path")
	case volumes.IsRoot(os, layout.BuildsDir):
		return Layout{}, configurationError("build directory needs to be a non-root path")
	}
	specs, err := parseVolumes(runner.Docker.Volumes, os, expand)
	if err != nil {
		return Layout{}, err
	}
	for _, spec := range specs {
		if spec.Source != "" && volumes.IsAbsolute(os, spec.Source) && volumes.Within(os, layout.BuildsDir, spec.Destination) {
			layout.Shared = true
		}
	}
	layout.Shell, err = shellOf(runner.Shell, os)
	return layout, err
}

// BuildsDir is the directory under which projects are checked out.
func BuildsDir(runner *config.Runner, os string) string {
	switch {
	case runner.BuildsDir != "":
		return runner.BuildsDir
	case os == windows:
		return `C:\builds`
	default:
		return "/builds"
	}
}

func cacheDir(runner *config.Runner, os string) string {
	switch {
	case runner.CacheDir != "":
		return runner.CacheDir
	case os == windows:
		return `C:\cache`
	default:
		return "/cache"
	}
}

// parseVolumes reads the entries of the configuration. A destination may come out empty: a variable of the
// job need not be known yet.
func parseVolumes(entries []string, os string, expand func(string) string) ([]volumes.Spec, error) {
	var specs []volumes.Spec
	for _, entry := range entries {
		spec, err := volumes.Parse(os, entry)
		if err != nil {
			return nil, configurationError("%w", err)
		}
		spec.Destination = expand(spec.Destination)
		specs = append(specs, spec)
	}
	return specs, nil
}

func hasOption(options, name string) bool {
	for option := range strings.SplitSeq(options, ",") {
		if strings.EqualFold(option, name) {
			return true
		}
	}
	return false
}
