// Package architecture keeps the arrows between the rooms of the house pointing one way.
package architecture

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const product = "gitlab.com/gitlab-org/gitlab-runner"

// rooms lists, for each folder, the folders of ours that its packages may import. A folder is governed
// by its longest prefix here. Tests may import what they like.
var rooms = map[string][]string{
	"":                            {"commands", "helpers"},
	"apps/gitlab-runner-helper":   {"apps/gitlab-runner-helper", "common/plan", "network", "helpers", "shells"},
	"commands":                    {"commands", "common", "network", "executors", "helpers", "shells"},
	"commands/processwrapper":     {},
	"common":                      {"common", "shells", "helpers"},
	"common/config":               {"helpers"},
	"common/featureflags":         {},
	"common/joblog":               {"helpers"},
	"common/plan":                 {},
	"common/spec":                 {},
	"common/variables":            {"common/spec"},
	"executors":                   {},
	"executors/docker":            {"executors/docker", "executors", "common", "helpers", "shells"},
	"executors/internal":          {"executors", "common", "helpers"},
	"executors/docker/autoscaler": {"executors/docker", "executors/internal/autoscaler"},
	"helpers":                     {"helpers"},
	"network":                     {"network", "common/config", "common/spec", "common/plan", "helpers"},
	"shells":                      {"helpers"},
	"tests":                       {"tests"},
}

// libraries says which of the fleeting modules a folder may import.
var libraries = map[string][]string{
	// The notation of periods, which a review of the configuration has to know.
	"common/config":      {"gitlab.com/gitlab-org/fleeting/taskscaler/cron"},
	"commands":           {"gitlab.com/gitlab-org/fleeting/fleeting/connector"},
	"executors/internal": {"gitlab.com/gitlab-org/fleeting"},
}

type listed struct {
	ImportPath string
	Imports    []string
}

func list(t *testing.T, dir string, patterns ...string) []listed {
	t.Helper()
	cmd := exec.Command("go", append([]string{"list", "-tags", "system", "-json=ImportPath,Imports"}, patterns...)...)
	cmd.Dir = dir
	out, err := cmd.Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		t.Fatalf("go list: %s", exit.Stderr)
	}
	require.NoError(t, err)
	var packages []listed
	for decoder := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p listed
		err := decoder.Decode(&p)
		if errors.Is(err, io.EOF) {
			return packages
		}
		require.NoError(t, err)
		packages = append(packages, p)
	}
}

// room returns the entry that governs a folder.
func room(folder string) string {
	best := ""
	for name := range rooms {
		if within(folder, name) && len(name) > len(best) {
			best = name
		}
	}
	return best
}

func within(folder, name string) bool {
	return name != "" && (folder == name || strings.HasPrefix(folder, name+"/"))
}

func TestArrowsPointOneWay(t *testing.T) {
	packages := list(t, "../..", "./...")
	require.Greater(t, len(packages), 15)
	for _, p := range packages {
		folder := strings.TrimPrefix(strings.TrimPrefix(p.ImportPath, product), "/")
		allowed := rooms[room(folder)]
		for _, imported := range p.Imports {
			if strings.HasPrefix(imported, "gitlab.com/gitlab-org/fleeting/") {
				require.True(t, mayUse(folder, imported), "%s must not import %s", folder, imported)
				continue
			}
			target, ours := strings.CutPrefix(imported, product+"/")
			if !ours {
				continue
			}
			ok := slices.ContainsFunc(allowed, func(name string) bool { return target == name || within(target, name) })
			require.True(t, ok, "%s must not import %s: it may import %v", p.ImportPath, target, allowed)
		}
	}
}

func mayUse(folder, imported string) bool {
	for name, prefixes := range libraries {
		for _, prefix := range prefixes {
			if within(folder, name) && (imported == prefix || strings.HasPrefix(imported, prefix+"/")) {
				return true
			}
		}
	}
	return false
}

func TestFleetingKnowsNoRunnerAndNoTaskscaler(t *testing.T) {
	for _, p := range list(t, "../../fleeting", "./...") {
		for _, imported := range p.Imports {
			require.False(t, strings.HasPrefix(imported, product) || strings.Contains(imported, "/taskscaler"), "%s must not import %s", p.ImportPath, imported)
		}
	}
}

func TestTaskscalerKnowsFleetingAndNothingElseOfOurs(t *testing.T) {
	for _, p := range list(t, "../../taskscaler", "./...") {
		for _, imported := range p.Imports {
			require.False(t, strings.HasPrefix(imported, product), "%s must not import %s", p.ImportPath, imported)
		}
	}
}

// Only one package makes clients of the Docker API, so that another client can take its place in one
// change.
func TestOnlyOnePackageMakesDockerClients(t *testing.T) {
	for _, p := range list(t, "../..", "./...") {
		for _, imported := range p.Imports {
			if imported == "github.com/docker/docker/client" {
				folder := strings.TrimPrefix(p.ImportPath, product+"/")
				require.True(t, folder == "helpers/docker" || within(folder, "tests"), "%s must not make Docker clients", folder)
			}
		}
	}
}

// What a program imports of tests would be built into it.
func TestOnlyTestsSetRigsUpForTests(t *testing.T) {
	for _, p := range list(t, "../..", "./...") {
		require.NotContains(t, p.Imports, product+"/tests/rig/rigtest", "%s is no test", p.ImportPath)
	}
}
