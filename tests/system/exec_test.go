//go:build system

package system

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/gitlab-org/gitlab-runner/tests/coordinator"
	"gitlab.com/gitlab-org/gitlab-runner/tests/rig"
)

// localPipeline is what the tests of exec run.
const localPipeline = `
include: ci/base.yml
stages: [build, test, deploy]
variables:
  GREETING: hello
default:
  image: busybox:latest
  before_script:
    - echo "begins $CI_JOB_NAME"
compile:
  extends: .base
  stage: build
  script:
    - cat committed.txt changed.txt untracked.txt
    - test ! -e ignored.txt
    - mkdir out
    - echo "$GREETING $LEVEL" > out/file
    - echo HANDED=on > v.env
  artifacts:
    paths: [out/]
    reports: {dotenv: v.env}
unit:
  stage: test
  parallel:
    matrix:
      - KIND: [one, two]
  script:
    - grep "hello base" out/file
    - test "$HANDED" = on
    - echo "kind is $KIND"
fails:
  stage: test
  needs: []
  allow_failure: {exit_codes: [3]}
  script: ["false", "echo not reached"]
  before_script: ["exit 3"]
  after_script: ["echo after $CI_JOB_STATUS"]
web:
  stage: test
  needs:
    - job: compile
      artifacts: false
  services:
    - name: busybox:latest
      alias: web
      command: [sh, -c, "mkdir /w && echo served > /w/index.html && httpd -f -p 80 -h /w"]
  script:
    - test ! -e out/file
    - for i in 1 2 3 4 5 6 7 8 9; do wget -q -O - http://web/ && break || sleep 1; done | grep served
rescue:
  stage: deploy
  when: on_failure
  script: [echo never]
last:
  stage: deploy
  script:
    - grep "hello base" out/file
    - git --version 2>&1 || echo "commit $CI_COMMIT_SHA on $CI_COMMIT_BRANCH"
stopped:
  stage: deploy
  when: manual
  script: [echo sleeping now, sleep 300]
`

// workingTree is a repository with changes that are not committed.
func (s *stage) workingTree() string {
	s.Helper()
	dir := filepath.Join(s.Dir, "tree")
	write := func(name, text string) {
		path := filepath.Join(dir, name)
		require.NoError(s, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(s, os.WriteFile(path, []byte(text), 0o644))
	}
	write(".gitlab-ci.yml", localPipeline)
	write("ci/base.yml", ".base: {variables: {LEVEL: base}}\n")
	write("committed.txt", "committed\n")
	write("changed.txt", "old\n")
	write(".gitignore", "ignored.txt\n")
	for _, args := range [][]string{
		{"init", "--quiet", "--initial-branch=main"}, {"add", "--all"},
		{"-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "--message=first"},
	} {
		s.git(dir, args...)
	}
	write("changed.txt", "changed\n")
	write("untracked.txt", "untracked\n")
	write("ignored.txt", "ignored\n")
	return dir
}

func (s *stage) git(dir string, args ...string) string {
	s.Helper()
	cmd := exec.Command("git", args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	require.NoError(s, err, "%s", out)
	return string(out)
}

// localRun is the command that runs jobs of a working tree.
func (s *stage) localRun(ctx context.Context, dir string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, s.Program("gitlab-runner"), append([]string{"exec"}, args...)...)
	cmd.Dir, cmd.Env = dir, s.Environment()
	return cmd
}

// freshHelper has the local engine forget a helper image that may be of an earlier build.
func (s *stage) freshHelper() {
	s.Helper()
	list, err := exec.Command("docker", "image", "ls", "--format", "{{.Repository}}:{{.Tag}}",
		"registry.gitlab.com/gitlab-org/gitlab-runner/gitlab-runner-helper").Output()
	require.NoError(s, err)
	for _, image := range strings.Fields(string(list)) {
		out, err := exec.Command("docker", "image", "rm", "--force", image).CombinedOutput()
		require.NoError(s, err, "%s", out)
	}
}

var localToken = regexp.MustCompile(`  on \S+ (exec[0-9a-f]{5}),`)

// requireNothingLeft looks for what jobs of exec made on the local engine, and removes their caches.
func (s *stage) requireNothingLeft(log string) {
	s.Helper()
	match := localToken.FindStringSubmatch(log)
	require.NotNil(s, match, "%s", log)
	list := func(args ...string) []string {
		out, err := exec.Command("docker", args...).Output()
		require.NoError(s, err)
		return strings.Fields(string(out))
	}
	label := "label=com.gitlab.gitlab-runner.runner.id=" + match[1]
	volumes := list("volume", "ls", "--quiet", "--filter", label)
	volumes = append(volumes, list("volume", "ls", "--quiet", "--filter", "name=gitlab-runner-"+match[1])...)
	s.Cleanup(func() {
		for _, volume := range volumes {
			_ = exec.Command("docker", "volume", "rm", volume).Run()
		}
	})
	require.Empty(s, list("ps", "--all", "--quiet", "--filter", label))
	require.Empty(s, list("network", "ls", "--quiet", "--filter", label))
	require.Empty(s, list("volume", "ls", "--quiet", "--filter", label, "--filter", "label=com.gitlab.gitlab-runner.reusable=false"))
}

// requireLocalPipeline requires what every run of the pipeline shows.
func (s *stage) requireLocalPipeline(log string) {
	s.Helper()
	for _, want := range []string{
		`compile\s+\| committed`, `compile\s+\| changed`, `compile\s+\| untracked`,
		`unit: \[one\]\s+\| kind is one`, `unit: \[two\]\s+\| kind is two`,
		`fails\s+\| after failed`, `web\s+\| served`, `last\s+\| commit [0-9a-f]{40} on main`,
		`(?m)^compile +build +success +\S+$`, `(?m)^unit: \[one\] +test +success +\S+$`, `(?m)^unit: \[two\] +test +success +\S+$`,
		`(?m)^fails +test +failed \(allowed\) +\S+ +exit code 3$`, `(?m)^web +test +success +\S+$`,
		`(?m)^rescue +deploy +skipped +- +nothing failed$`, `(?m)^last +deploy +success +\S+$`,
		`(?m)^stopped +deploy +manual +- +start it by its name$`,
	} {
		require.Regexp(s, want, log)
	}
	require.NotContains(s, log, "\x1b", "no terminal, no colour")
}

func TestPipelineOfAWorkingTreeRunsOnDocker(t *testing.T) {
	s := newStage(t, coordinator.Config{})
	s.freshHelper()
	dir := s.workingTree()
	status := s.git(dir, "status", "--porcelain")
	objects := s.git(dir, "count-objects", "-v")
	out, err := s.localRun(s.Ctx, dir, "--pipeline").CombinedOutput()
	require.NoError(s, err, "%s", out)
	s.requireLocalPipeline(string(out))
	s.requireNothingLeft(string(out))
	require.Equal(s, status, s.git(dir, "status", "--porcelain"), "the user's repository is as it was")
	require.Equal(s, objects, s.git(dir, "count-objects", "-v"), "the user's repository is as it was")

	// One job, without and with what it needs.
	out, err = s.localRun(s.Ctx, dir, "docker", "unit: [two]").CombinedOutput()
	require.Error(s, err)
	require.Contains(s, string(out), "WARNING: the artifacts of compile are not there: --needs runs such jobs before")
	require.Regexp(s, `(?m)^unit: \[two\] +test +failed +\S+ +exit code [12]$`, string(out))
	out, err = s.localRun(s.Ctx, dir, "docker", "--needs", "--concurrency=1", "unit: [two]").CombinedOutput()
	require.NoError(s, err, "%s", out)
	require.Contains(s, string(out), "\nkind is two\n", "without jobs side by side there are no prefixes")
	s.requireNothingLeft(string(out))
}

func TestPipelineOfAWorkingTreeRunsOnInstances(t *testing.T) {
	s := newStage(t, coordinator.Config{})
	dir := s.workingTree()
	config := s.Autoscaled(rig.Config{Name: "instances", MaxInstances: 2, Capacity: 2, IdleCount: 2})
	require.NoError(s, s.WriteConfig(s.Text(config)))
	out, err := s.localRun(s.Ctx, dir, "docker-autoscaler", "--config", s.ConfigPath(), "--runner", "instances", "--pipeline").CombinedOutput()
	require.NoError(s, err, "%s", out)
	s.requireLocalPipeline(string(out))
	require.Contains(s, string(out), `Preparing the "docker-autoscaler" executor`)
	require.Contains(s, string(out), "Dialing instance "+s.Group)
	require.Empty(s, s.Coordinator.Jobs(), "no GitLab is asked")
	// That the instances are gone is seen at the end of every test.
}

func TestInterruptOfALocalJobCleansUp(t *testing.T) {
	s := newStage(t, coordinator.Config{})
	s.freshHelper()
	dir := s.workingTree()
	ctx, stop := context.WithTimeout(s.Ctx, time.Minute)
	defer stop()
	cmd := s.localRun(ctx, dir, "stopped")
	out, err := cmd.StdoutPipe()
	require.NoError(s, err)
	require.NoError(s, cmd.Start())
	var log bytes.Buffer
	lines := bufio.NewScanner(io.TeeReader(out, &log))
	for lines.Scan() {
		if lines.Text() == "sleeping now" {
			require.NoError(s, cmd.Process.Signal(syscall.SIGINT))
		}
	}
	require.NoError(s, lines.Err())
	require.Error(s, cmd.Wait())
	require.Equal(s, 1, cmd.ProcessState.ExitCode(), "%s", log.String())
	require.Contains(s, log.String(), "cancelling the jobs and cleaning up")
	require.Regexp(s, `(?m)^stopped +deploy +canceled +\S+$`, log.String())
	s.requireNothingLeft(log.String())
}

func TestLocalRunNamesWhatItCannotDo(t *testing.T) {
	s := newStage(t, coordinator.Config{})
	dir := s.workingTree()
	for _, c := range []struct {
		args []string
		says string
	}{
		{nil, "name a job, or use --pipeline"},
		{[]string{"bogus"}, `there is no job "bogus": see gitlab-runner exec --list`},
		{[]string{"docker-autoscaler", "last"}, "docker-autoscaler needs an entry with [runners.autoscaler]"},
		{[]string{"--file", "missing.yml", "last"}, "the pipeline cannot be read: reading missing.yml"},
		{[]string{"--file", "../outside.yml", "last"}, "the pipeline cannot be read: reading ../outside.yml"},
		{[]string{"--env", "=x", "last"}, "is not of the form KEY=VALUE"},
		{[]string{"--config", "missing.toml", "last"}, "reading the configuration"},
	} {
		out, err := s.localRun(s.Ctx, dir, c.args...).CombinedOutput()
		require.Error(s, err, "%q", c.args)
		require.Contains(s, string(out), c.says, "%q", c.args)
	}
	out, err := s.localRun(s.Ctx, s.TempDir(), "last").CombinedOutput()
	require.Error(s, err)
	require.Contains(s, string(out), "is not in a working tree of git")
	out, err = s.localRun(s.Ctx, dir, "--list").CombinedOutput()
	require.NoError(s, err, "%s", out)
	require.Regexp(s, `(?m)^web +test +on_success +compile`, string(out))
}
