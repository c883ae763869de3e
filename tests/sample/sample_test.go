package sample_test

import (
	"net/http"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"gitlab.com/gitlab-org/gitlab-runner/tests/coordinator"
	"gitlab.com/gitlab-org/gitlab-runner/tests/sample"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func gitOutput(t *testing.T, args ...string) string {
	t.Helper()
	output, err := exec.CommandContext(t.Context(), "git", args...).CombinedOutput()
	require.NoError(t, err, string(output))
	return string(output)
}

func TestRepositoryIsSoundAndAlwaysTheSame(t *testing.T) {
	bare, head, err := sample.Create(t.TempDir())
	require.NoError(t, err)
	_, again, err := sample.Create(t.TempDir())
	require.NoError(t, err)
	require.Equal(t, head, again)

	gitOutput(t, "--git-dir="+bare, "fsck", "--strict")
	require.Equal(t, head+"\n", gitOutput(t, "--git-dir="+bare, "rev-parse", "refs/heads/"+sample.Branch))
	gitOutput(t, "--git-dir="+bare, "merge-base", "--is-ancestor", "refs/tags/"+sample.Tag, sample.Branch)
	require.True(t, strings.HasPrefix(gitOutput(t, "--git-dir="+bare, "ls-tree", sample.Branch, "build.sh"), "100755"))
}

func TestCreateNeedsAnEmptyFolder(t *testing.T) {
	dir := t.TempDir()
	_, _, err := sample.Create(dir)
	require.NoError(t, err)
	_, _, err = sample.Create(dir)
	require.ErrorContains(t, err, "create sample repository")
	_, _, err = sample.Create(filepath.Join(dir, "nowhere"))
	require.ErrorContains(t, err, "create sample repository")
}

func TestPullPolicyReachesEveryImage(t *testing.T) {
	for _, one := range sample.Cases("if-not-present") {
		require.Equal(t, []string{"if-not-present"}, one.Spec.Image.PullPolicy, one.Spec.Name)
	}
}

// The table is fulfilled by the simplest of all runners, one that runs each script in a local shell: what a real runner
// gets wrong is then the runner's fault.
func TestCasesAreFulfilledByAPlainShell(t *testing.T) {
	run := runPlainly(t, sample.Cases())
	require.Empty(t, run.Mismatches())
	require.Equal(t, coordinator.StateSuccess, run.Pipeline.State())
}

func TestMismatchesAreTold(t *testing.T) {
	cases := slices.DeleteFunc(sample.Cases(), func(one sample.Case) bool { return one.Spec.Name != "exit 3" && one.Spec.Name != "build" })
	cases[0].Want.Log = []string{"no such text"}
	cases[0].Want.NotInLog = []string{"built greeter"}
	cases[0].Want.Artifacts = map[string][]string{"archive": {"dist/none"}, "junit": nil}
	cases[1].Want = sample.Outcome{State: coordinator.StateSuccess, Log: nil}
	require.ElementsMatch(t, []string{
		`build: the log lacks "no such text"`,
		`build: the log contains "built greeter"`,
		`build: artifact of type archive lacks dist/none`,
		`build: no artifact of type junit was uploaded`,
		`exit 3: ended as failed (script_failure), want success`,
		`exit 3: failure reason is "script_failure", want ""`,
		`exit 3: exit code is 3, want 0`,
		`exit 3: uploaded an artifact of type archive that is not wanted`,
	}, runPlainly(t, cases).Mismatches())
}

func TestStartRefusesABrokenTable(t *testing.T) {
	c := serve(t)
	cases := sample.Cases()
	slices.Reverse(cases)
	_, err := sample.Start(c, sample.Project, cases)
	require.ErrorContains(t, err, `depends on "build"`)
	_, err = sample.Start(c, "group/none", sample.Cases())
	require.ErrorContains(t, err, "group/none")
}

func serve(t *testing.T) *coordinator.Coordinator {
	t.Helper()
	bare, _, err := sample.Create(t.TempDir())
	require.NoError(t, err)
	c, err := coordinator.Start(coordinator.Config{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, c.Close()) })
	require.NoError(t, c.AddRepository(sample.Project, bare))
	return c
}

// runPlainly runs the cases, but for the one with a service, which takes containers.
func runPlainly(t *testing.T, cases []sample.Case) *sample.Run {
	t.Helper()
	cases = slices.DeleteFunc(cases, func(one sample.Case) bool { return len(one.Spec.Services) > 0 })
	c := serve(t)
	run, err := sample.Start(c, sample.Project, cases)
	require.NoError(t, err)
	runner := plainRunner{t: t, c: c, cache: t.TempDir(), client: &http.Client{Transport: &http.Transport{}}}
	defer runner.client.CloseIdleConnections()
	for runner.runOne() {
	}
	require.NoError(t, run.Pipeline.Wait(t.Context()))
	require.Empty(t, c.Violations())
	return run
}
