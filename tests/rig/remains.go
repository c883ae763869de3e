package rig

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"sort"
	"strings"
)

// The labels of what the docker executor makes.
const (
	runnerLabel   = "com.gitlab.gitlab-runner.runner.id"
	reusableLabel = "com.gitlab.gitlab-runner.reusable"
)

// Remains are the containers, volumes, networks and processes that this rig's managers and the groups it
// follows have made and that are still there. Unlike a Census it can be asked while others work on the
// same engine. Caches that the docker executor keeps for later jobs do not count; see RemoveCaches.
func (r *Rig) Remains() ([]string, error) {
	var left []string
	for _, fleet := range r.fleets {
		found, err := fleet.remains()
		if err != nil {
			return nil, err
		}
		left = append(left, found...)
	}
	for _, token := range r.shortTokens() {
		filter := "label=" + runnerLabel + "=" + token
		for _, args := range [][]string{
			{"container", "ps", "--all", "--filter", filter, "--format", "{{.Names}}"},
			{"volume", "volume", "ls", "--filter", filter, "--filter", "label=" + reusableLabel + "=false", "--format", "{{.Name}}"},
			{"network", "network", "ls", "--filter", filter, "--format", "{{.Name}}"},
		} {
			found, err := listed(args[0], args[1:]...)
			if err != nil {
				return nil, err
			}
			left = append(left, found...)
		}
	}
	processes, err := r.Processes()
	if err != nil {
		return nil, err
	}
	for pid, program := range processes {
		left = append(left, fmt.Sprintf("process %d (%s)", pid, program))
	}
	sort.Strings(left)
	return left, nil
}

// RemoveCaches removes the volumes that the docker executor keeps on the local engine for later jobs.
func (r *Rig) RemoveCaches() error {
	var errs []error
	for _, token := range r.shortTokens() {
		list, err := output("docker", "volume", "ls", "--filter", "label="+runnerLabel+"="+token, "--format", "{{.Name}}")
		if err == nil && list != "" {
			_, err = output("docker", append([]string{"volume", "rm"}, strings.Fields(list)...)...)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// Processes are the rig's programs that run, with what they started, as program files by process id.
func (r *Rig) Processes() (map[int]string, error) {
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil, err
	}
	found := map[int]string{}
	for _, dir := range dirs {
		environment, err := os.ReadFile(filepath.Join(dir, "environ"))
		if err != nil || !bytes.Contains(environment, []byte(r.mark)) {
			continue // it ended, or is another's
		}
		program, err := os.Readlink(filepath.Join(dir, "exe"))
		if err != nil {
			continue
		}
		var pid int
		if _, err := fmt.Sscan(filepath.Base(dir), &pid); err != nil {
			return nil, err
		}
		found[pid] = program
	}
	return found, nil
}

// tokenPrefix is what tokens have in common, and is not part of their short form.
var tokenPrefix = regexp.MustCompile(`^(glrt-t3_|glrtr-)`)

// shortTokens are the shown parts of the tokens of all runners.
func (r *Rig) shortTokens() []string {
	const length = 9
	var tokens []string
	for _, runner := range r.Coordinator.Runners() {
		token := tokenPrefix.ReplaceAllString(runner.Token, "")
		tokens = append(tokens, token[:min(length, len(token))])
	}
	return tokens
}
