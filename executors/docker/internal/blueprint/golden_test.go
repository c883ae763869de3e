package blueprint

import (
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/BurntSushi/toml"
	"github.com/sirupsen/logrus"
	"github.com/stretchr/testify/require"

	"gitlab.com/gitlab-org/gitlab-runner/common"
	"gitlab.com/gitlab-org/gitlab-runner/common/config"
	"gitlab.com/gitlab-org/gitlab-runner/common/featureflags"
	"gitlab.com/gitlab-org/gitlab-runner/common/joblog"
	"gitlab.com/gitlab-org/gitlab-runner/common/plan"
	"gitlab.com/gitlab-org/gitlab-runner/common/spec"
	"gitlab.com/gitlab-org/gitlab-runner/common/variables"
	"gitlab.com/gitlab-org/gitlab-runner/helpers/docker"
	"gitlab.com/gitlab-org/gitlab-runner/helpers/version"
)

var update = flag.Bool("update", false, "write the golden files anew")

// testInput is a small job on a Linux engine whose configuration is a text of config.toml.
func testInput(t *testing.T, text string) Input {
	t.Helper()
	runner := &config.Runner{
		Name: "test", Token: "glrt-0123456789abcdef", SystemID: "s_abc", Executor: "docker",
		Docker: &config.Docker{Image: "alpine:3"},
	}
	meta, err := toml.Decode(text, runner)
	require.NoError(t, err)
	require.Empty(t, meta.Undecoded(), "keys that the configuration does not know")
	job := &common.Job{
		Spec: &spec.Job{
			ID: 42, Token: "job-token",
			Info:   spec.JobInfo{ProjectID: 7, PipelineID: 9},
			Git:    spec.GitInfo{RepoURL: "https://gitlab-ci-token:secret@gitlab.example.com/group/project.git", Ref: "main", Sha: "c0ffee", BeforeSha: "0ff1ce"},
			Runner: spec.RunnerInfo{Timeout: 3600},
			Image:  &spec.Image{Name: "ruby:3"},
		},
		Runner:              runner,
		Log:                 joblog.Discard(logrus.New()),
		ConcurrentID:        3,
		ConcurrentProjectID: 1,
		Strategy:            plan.StrategyFetch,
		ProjectDir:          "/builds/group/project",
		TmpDir:              "/builds/group/project.tmp",
		Variables: variables.List{
			{Key: "CI_PROJECT_DIR", Value: "/builds/group/project", Internal: true, Public: true},
			{Key: "NAME", Value: "value", Public: true},
			{Key: "SECRET", Value: "hidden"},
			{Key: "FILE", Value: "content", File: true},
		},
	}
	return Input{
		Job:      job,
		Engine:   docker.Server{OS: "linux", Arch: "amd64", Kernel: "6.1", Version: "28.5.2", APIVersion: "1.51"},
		Suffix:   "0011223344556677",
		Manager:  "host/1/a",
		Slot:     -1,
		Version:  version.Info{Version: "1.2.3"},
		ReadFile: func(name string) ([]byte, error) { return nil, fmt.Errorf("open %s: no such file", name) },
	}
}

func withFlags(on ...string) featureflags.Set {
	configured := map[string]bool{}
	for _, name := range on {
		configured[name] = true
	}
	set, _ := featureflags.Resolve(configured, func(string) (string, bool) { return "", false })
	return set
}

// lines flattens a value into lines of the form path = value.
func lines(t *testing.T, value any) []string {
	t.Helper()
	data, err := json.Marshal(value)
	require.NoError(t, err)
	var tree any
	require.NoError(t, json.Unmarshal(data, &tree))
	var out []string
	flatten("", tree, &out)
	return slices.DeleteFunc(out, usualLabel.MatchString)
}

// usualLabel matches the labels that everything of a job carries; TestLabels shows them.
var usualLabel = regexp.MustCompile(`Labels\.com\.gitlab\.gitlab-runner\.(job|project|pipeline|runner|manage)`)

func flatten(path string, value any, out *[]string) {
	switch v := value.(type) {
	case nil:
	case map[string]any:
		for _, key := range slices.Sorted(maps.Keys(v)) {
			flatten(path+"."+key, v[key], out)
		}
	case []any:
		for i, element := range v {
			flatten(fmt.Sprintf("%s[%d]", path, i), element, out)
		}
	case bool:
		if v {
			*out = append(*out, path+" = true")
		}
	case float64:
		if v != 0 {
			*out = append(*out, fmt.Sprintf("%s = %.0f", path, v))
		}
	case string:
		if v != "" {
			*out = append(*out, fmt.Sprintf("%s = %q", path, v))
		}
	}
}

// difference shows what is in one list of lines and not in the other.
func difference(base, changed []string) string {
	var out strings.Builder
	for _, line := range base {
		if !slices.Contains(changed, line) {
			out.WriteString("- " + line + "\n")
		}
	}
	for _, line := range changed {
		if !slices.Contains(base, line) {
			out.WriteString("+ " + line + "\n")
		}
	}
	return out.String()
}

func compareGolden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		require.NoError(t, os.WriteFile(path, []byte(got), 0o600))
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, string(want), got)
}

func TestPlanOfASmallJob(t *testing.T) {
	made, err := Compile(testInput(t, ""))
	require.NoError(t, err)
	compareGolden(t, "small.golden", strings.Join(lines(t, made), "\n")+"\n")
}

func TestLabels(t *testing.T) {
	made, err := Compile(testInput(t, ""))
	require.NoError(t, err)
	require.Equal(t, map[string]string{
		LabelPrefix + ".job.id":            "42",
		LabelPrefix + ".job.url":           "https://gitlab.example.com/group/project/-/jobs/42",
		LabelPrefix + ".job.sha":           "c0ffee",
		LabelPrefix + ".job.before_sha":    "0ff1ce",
		LabelPrefix + ".job.ref":           "main",
		LabelPrefix + ".job.timeout":       "1h0m0s",
		LabelPrefix + ".project.id":        "7",
		LabelPrefix + ".project.runner_id": "1",
		LabelPrefix + ".pipeline.id":       "9",
		LabelPrefix + ".runner.id":         "012345678",
		LabelPrefix + ".runner.local_id":   "3",
		LabelPrefix + ".runner.system_id":  "s_abc",
		LabelPrefix + ".manager":           "host/1/a",
		LabelPrefix + ".managed":           "true",
		LabelPrefix + ".type":              "build",
	}, made.Build.Config.Labels)
}

func TestPlanOfAJobWithEverything(t *testing.T) {
	in := testInput(t, `
[docker]
volumes = ["/cache", "/host:/container:ro"]
[[docker.services]]
name = "redis:7"
alias = "store,cache"
environment = ["GREETING=hello $NAME"]
`)
	in.Job.Flags = withFlags(featureflags.NetworkPerBuild, featureflags.UseInit)
	in.Job.Spec.Image.Entrypoint = []string{""}
	in.Job.Spec.Image.PullPolicies = []string{"always"}
	in.Job.Spec.Image.ExecutorOpts.Docker = spec.DockerOpts{Platform: "arm64", User: "app"}
	in.Job.Spec.Services = []spec.Image{{
		Name: "registry.example.com:5000/team/db@sha256:" + strings.Repeat("ab", 32), Alias: "db",
		Command: []string{"serve"}, Entrypoint: []string{"/init"},
		Variables: []spec.Variable{{Key: "URL", Value: "http://$NAME/$SECRET"}},
	}}
	made, err := Compile(in)
	require.NoError(t, err)
	compareGolden(t, "everything.golden", strings.Join(lines(t, made), "\n")+"\n")
}

func TestPlanForWindows(t *testing.T) {
	in := testInput(t, `
shell = "pwsh"
[docker]
volumes = ['C:\cache', '\\.\pipe\docker_engine:\\.\pipe\docker_engine']
isolation = "process"
`)
	in.Engine = docker.Server{OS: "windows", Arch: "amd64", Kernel: "10.0 20348 (20348.1.amd64fre)", APIVersion: "1.51"}
	in.Job.ProjectDir, in.Job.TmpDir = `C:\builds\group\project`, `C:\builds\group\project.tmp`
	made, err := Compile(in)
	require.NoError(t, err)
	compareGolden(t, "windows.golden", strings.Join(lines(t, made), "\n")+"\n")
}
