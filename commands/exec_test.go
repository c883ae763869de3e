package commands_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// enterTree makes a repository with a pipeline and goes there.
func enterTree(t *testing.T, pipeline string) {
	t.Helper()
	dir := t.TempDir()
	out, err := exec.Command("git", "init", "--quiet", "--initial-branch=main", dir).CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.NoError(t, os.WriteFile(filepath.Join(dir, ".gitlab-ci.yml"), []byte(pipeline), 0o644))
	t.Chdir(dir)
}

const localJobs = `
build: {stage: build, script: x, artifacts: {paths: [a]}}
test: {script: x, parallel: {matrix: [{A: [1, 2]}]}, needs: [build]}
may: {script: x, allow_failure: true, tags: [y]}
out: {script: x, rules: [{if: $ASKED}]}
far: {stage: deploy, trigger: x}
`

func TestExecListsTheJobs(t *testing.T) {
	enterTree(t, localJobs)
	stdout, _, err := run(t, "", "exec", "--list")
	require.NoError(t, err)
	var lines []string
	for line := range strings.Lines(stdout) {
		lines = append(lines, strings.TrimRight(line, " \n"))
	}
	require.Equal(t, strings.Split(`WARNING: tags has no effect here: all jobs run on the one executor that was asked for
JOB        STAGE   WHEN        NEEDS          NOTE
build      build   on_success  stages before
test: [1]  test    on_success  build
test: [2]  test    on_success  build
may        test    on_success  stages before  may fail
far        deploy  on_success  stages before  not supported: trigger

Not in this pipeline, by their rules: out`, "\n"), lines)

	stdout, _, err = run(t, "", "exec", "--list", "--env", "ASKED=1")
	require.NoError(t, err)
	require.Contains(t, stdout, "out        test    on_success")
}

func TestExecRefusesWhatMakesNoSense(t *testing.T) {
	entries := write(t, `
[[runners]]
  name = "plain"
  executor = "docker"
[[runners]]
  name = "foreign"
  executor = "shell"
`)
	enterTree(t, localJobs)
	for message, args := range map[string][]string{
		"name a job, or use --pipeline":                       {},
		"exec takes one job, not 2: build test":               {"build", "test"},
		"--pipeline runs all jobs":                            {"--pipeline", "build"},
		`there is no job "docker"`:                            {"docker"},
		"--concurrency is 0":                                  {"--concurrency", "0", "build"},
		"--timeout is 1ms":                                    {"--timeout", "1ms", "build"},
		`--env "=x" is not of the form KEY=VALUE`:             {"--env", "=x", "build"},
		"--env NOT_THERE_AT_ALL: the environment has no such": {"--env", "NOT_THERE_AT_ALL", "build"},
		`the rules of "out" keep it out of this pipeline`:     {"out"},
		"reading missing.yml":                                 {"--file", "missing.yml", "build"},
		"far uses trigger; --skip-unsupported leaves":         {"--pipeline"},
		"--runner names an entry of the configuration":        {"--runner", "x", "build"},
		"docker-autoscaler needs an entry":                    {"docker-autoscaler", "build"},
		"reading the configuration":                           {"--config", "missing.toml", "build"},
		`has no entry called "other"`:                         {"--config", entries, "--runner", "other", "build"},
		`is for the executor "shell"`:                         {"--config", entries, "--runner", "foreign", "build"},
		`has no entry for the executor`:                       {"docker-autoscaler", "--config", entries, "build"},
		`entry "plain" has no [runners.autoscaler]`:           {"docker-autoscaler", "--config", entries, "--runner", "plain", "build"},
	} {
		_, _, err := run(t, "", append([]string{"exec"}, args...)...)
		require.ErrorContains(t, err, message, "%q", args)
	}
	t.Chdir(t.TempDir())
	_, _, err := run(t, "", "exec", "--list")
	require.ErrorContains(t, err, "is not in a working tree of git")
}
