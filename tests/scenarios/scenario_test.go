//go:build system

package scenarios

import (
	"bytes"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"gopkg.in/yaml.v3"

	"gitlab.com/gitlab-org/gitlab-runner/tests/coordinator"
)

// scenario is one file: a runner entry of its own, and jobs that run on it one after the other.
type scenario struct {
	name string

	// About says what is shown.
	About  string `yaml:"about"`
	Runner struct {
		Keys   string `yaml:"keys"`
		Docker string `yaml:"docker"`
	} `yaml:"runner"`
	Jobs []job `yaml:"jobs"`
}

// job is one job with what must come of it. Sources are fetched only if it says so.
type job struct {
	Sources      bool                       `yaml:"sources"`
	Image        string                     `yaml:"image"`
	Entrypoint   []string                   `yaml:"entrypoint"`
	User         string                     `yaml:"user"`
	PullPolicy   []string                   `yaml:"pull_policy"`
	Variables    map[string]string          `yaml:"variables"`
	Kinds        map[string]string          `yaml:"kinds"` // of variables: masked, file, raw
	BeforeScript []string                   `yaml:"before_script"`
	Script       []string                   `yaml:"script"`
	AfterScript  []string                   `yaml:"after_script"`
	Services     []service                  `yaml:"services"`
	Artifacts    []coordinator.ArtifactSpec `yaml:"artifacts"`
	Cache        []cache                    `yaml:"cache"`
	Timeout      time.Duration              `yaml:"timeout"`
	// Payload is merged into what is sent.
	Payload map[string]any `yaml:"payload"`
	// Cancel and Abort name a text of the log; once it is there the job is cancelled.
	Cancel string `yaml:"cancel"`
	Abort  string `yaml:"abort"`

	Want outcome `yaml:"want"`
}

type service struct {
	Image   string   `yaml:"image"`
	Alias   string   `yaml:"alias"`
	Command []string `yaml:"command"`
}

type cache struct {
	Key          string   `yaml:"key"`
	Paths        []string `yaml:"paths"`
	Policy       string   `yaml:"policy"`
	When         string   `yaml:"when"`
	FallbackKeys []string `yaml:"fallback_keys"`
}

type outcome struct {
	State    coordinator.State `yaml:"state"`
	Reason   string            `yaml:"reason"`
	ExitCode int               `yaml:"exit_code"`
	// Log has texts that the log contains, where the whole of it differs from run to run. There is no
	// file of such a log.
	Log       []string `yaml:"log"`
	Artifacts []string `yaml:"artifacts"` // types that are uploaded
}

func readScenarios(t *testing.T) []*scenario {
	t.Helper()
	files, err := filepath.Glob("testdata/*.yaml")
	require.NoError(t, err)
	var all []*scenario
	for _, file := range files {
		content, err := os.ReadFile(file)
		require.NoError(t, err)
		s := &scenario{name: strings.TrimSuffix(filepath.Base(file), ".yaml")}
		decoder := yaml.NewDecoder(bytes.NewReader(content))
		decoder.KnownFields(true)
		require.NoError(t, decoder.Decode(s), file)
		require.NotEmpty(t, s.Jobs, file)
		all = append(all, s)
	}
	return all
}

// spec is the job as the stand-in for GitLab takes it.
func (j job) spec(s *scenario) coordinator.JobSpec {
	image := j.Image
	if image == "" {
		image = "busybox:latest"
	}
	spec := coordinator.JobSpec{
		Name: s.name, Tags: []string{s.name}, Timeout: j.Timeout, AllowFailure: true,
		Image:        coordinator.Image{Name: image, Entrypoint: j.Entrypoint, User: j.User, PullPolicy: j.PullPolicy},
		BeforeScript: j.BeforeScript, Script: j.Script, AfterScript: j.AfterScript, Artifacts: j.Artifacts,
	}
	if !j.Sources {
		spec.Variables = append(spec.Variables, coordinator.Variable{Key: "GIT_STRATEGY", Value: "none"})
	}
	for _, key := range slices.Sorted(maps.Keys(j.Variables)) {
		kinds := strings.Fields(j.Kinds[key])
		spec.Variables = append(spec.Variables, coordinator.Variable{
			Key: key, Value: j.Variables[key],
			Masked: slices.Contains(kinds, "masked"), File: slices.Contains(kinds, "file"), Raw: slices.Contains(kinds, "raw"),
		})
	}
	for _, one := range j.Services {
		spec.Services = append(spec.Services, coordinator.Service{
			Image: coordinator.Image{Name: one.Image}, Alias: one.Alias, Command: one.Command,
		})
	}
	for _, one := range j.Cache {
		spec.Cache = append(spec.Cache, coordinator.CacheSpec{
			Key: one.Key, Paths: one.Paths, Policy: one.Policy, When: one.When, FallbackKeys: one.FallbackKeys,
		})
	}
	if j.Payload != nil {
		spec.Patch = func(payload map[string]any) { merge(payload, j.Payload) }
	}
	return spec
}

// merge puts values over others. Only maps are merged; everything else is replaced.
func merge(into, from map[string]any) {
	for key, value := range from {
		below, isMap := value.(map[string]any)
		place, wasMap := into[key].(map[string]any)
		if isMap && wasMap {
			merge(place, below)
			continue
		}
		into[key] = value
	}
}
