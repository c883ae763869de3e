package rig

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"
)

// Census is what there is on this machine that a manager and its instances make: containers, volumes,
// networks and processes.
type Census map[string]bool

// The labels of what the docker plugin makes.
const (
	groupLabel    = "com.gitlab.fleeting.group"
	instanceLabel = "com.gitlab.fleeting.role=instance"
)

// Count takes the census.
func Count() (Census, error) {
	census := Census{}
	for kind, args := range map[string][]string{
		"container": {"ps", "--all", "--no-trunc", "--format", "{{.Names}} ({{.Image}})"},
		"volume":    {"volume", "ls", "--format", "{{.Name}}"},
		"network":   {"network", "ls", "--no-trunc", "--format", "{{.Name}}"},
	} {
		list, err := output("docker", args...)
		if err != nil {
			return nil, err
		}
		for _, name := range strings.Fields(strings.ReplaceAll(list, " (", "(")) {
			census[kind+" "+name] = true
		}
	}
	processes, err := runnerProcesses()
	if err != nil {
		return nil, err
	}
	for _, name := range processes {
		census["process "+name] = true
	}
	return census, nil
}

// Since returns what there is now and was not in an earlier census. The seed of the docker plugin, a
// volume that makes later instances start faster, is kept on purpose and not counted.
func (before Census) Since() ([]string, error) {
	now, err := Count()
	if err != nil {
		return nil, err
	}
	seeds, err := output("docker", "volume", "ls", "--filter", "label=com.gitlab.fleeting.seed", "--format", "volume {{.Name}}")
	if err != nil {
		return nil, err
	}
	kept := strings.Split(seeds, "\n")
	var left []string
	for name := range now {
		if !before[name] && !slices.Contains(kept, name) {
			left = append(left, name)
		}
	}
	sort.Strings(left)
	return left, nil
}

// runnerProcesses are the processes of the built programs and of installed plugins.
func runnerProcesses() ([]string, error) {
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil, err
	}
	var found []string
	for _, dir := range dirs {
		program, err := os.Readlink(filepath.Join(dir, "exe"))
		if err != nil {
			continue // it ended, or is the kernel's
		}
		if strings.Contains(program, "/out/binaries/") || strings.Contains(program, "/out/plugins/") {
			found = append(found, fmt.Sprintf("%s (%s)", filepath.Base(dir), program))
		}
	}
	return found, nil
}

// Instances are the containers of a group of the docker plugin, by name.
func Instances(group string) ([]string, error) {
	list, err := output("docker", "ps", "--all", "--filter", "label="+groupLabel+"="+group, "--filter", "label="+instanceLabel, "--format", "{{.Names}}")
	if err != nil {
		return nil, err
	}
	return strings.Fields(list), nil
}

// InInstance runs a command in an instance, past the runner, and returns what it printed.
func InInstance(instance string, command ...string) (string, error) {
	return output("docker", append([]string{"exec", instance}, command...)...)
}

// Inspect is all that the local engine tells of an instance.
func Inspect(instance string) (string, error) { return output("docker", "inspect", instance) }

// KillInstance removes an instance behind the manager's back.
func KillInstance(instance string) error {
	_, err := output("docker", "rm", "--force", "--volumes", instance)
	return err
}

// FreezeInstance stops everything in an instance, so that nothing on it answers, but leaves its connections
// open and the instance in its group. The kernel may refuse to freeze processes that are being made at the moment,
// so that it is tried a few times.
func FreezeInstance(instance string) error {
	const tries = 20
	var err error
	for range tries {
		if _, err = output("docker", "pause", instance); err == nil || !strings.Contains(err.Error(), "unable to freeze") {
			return err
		}
	}
	return err
}

// StopEngine ends the engine of an instance, which stays in the group and can be reached.
func StopEngine(instance string) error {
	keeper, err := output("docker", "inspect", "--format", "{{.State.Pid}}", instance)
	if err != nil {
		return err
	}
	// The instance's first process would end with its engine.
	if _, err := output("kill", "-STOP", strings.TrimSpace(keeper)); err != nil {
		return err
	}
	_, err = InInstance(instance, "pkill", "-KILL", "dockerd")
	return err
}
