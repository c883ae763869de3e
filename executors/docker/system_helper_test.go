//go:build system

package docker

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/gitlab-org/gitlab-runner/common"
	"gitlab.com/gitlab-org/gitlab-runner/common/plan"
	"gitlab.com/gitlab-org/gitlab-runner/common/spec"
)

func (r *trial) stage(work plan.Plan) error {
	work.ProjectDir, work.TmpDir = r.job.ProjectDir, r.job.TmpDir
	return r.executor.Run(r.Context(), common.Stage{
		Name: work.Stage, Where: common.InHelper, Plan: &work, Stdout: r.log, Stderr: r.log,
	})
}

// repository makes a bare repository with one commit and returns its directory and the commit.
func repository(t *testing.T) (dir, commit string) {
	t.Helper()
	work, bare := t.TempDir(), filepath.Join(t.TempDir(), "project.git")
	for _, args := range [][]string{
		{"init", "-q", "-b", "main", work},
		{"-C", work, "-c", "user.name=t", "-c", "user.email=t@example.com", "commit", "-q", "--allow-empty", "-m", "first"},
		{"clone", "-q", "--bare", work, bare},
	} {
		output, err := exec.Command("git", args...).CombinedOutput()
		require.NoError(t, err, string(output))
	}
	output, err := exec.Command("git", "-C", bare, "rev-parse", "HEAD").Output()
	require.NoError(t, err)
	return bare, strings.TrimSpace(string(output))
}

func sourcesOf(url, commit string) plan.Plan {
	return plan.Plan{Stage: "get_sources", Sources: &plan.Sources{
		Strategy: plan.StrategyClone, RemoteURL: url, Refspecs: []string{"+refs/heads/main:refs/remotes/origin/main"},
		Sha: commit, Ref: "main", Checkout: true,
		Submodules: plan.Submodules{Strategy: plan.SubmoduleNone},
	}}
}

func TestSourcesAreThereForEveryUser(t *testing.T) {
	for _, image := range []string{"debian-job:local", "nonroot-job:local"} {
		t.Run(image, func(t *testing.T) {
			repo, commit := repository(t)
			r := newTrial(t, image, func(job *common.Job) {
				job.Strategy = plan.StrategyClone
				job.Runner.Docker.Volumes = []string{repo + ":/repo.git:ro", "/cache"}
			})
			started := time.Now()
			r.prepare()
			t.Logf("prepared after %s", time.Since(started))
			defer r.dropCaches()
			defer r.cleanup()
			<-r.executor.HelperReady()
			require.NoError(t, r.stage(sourcesOf("file:///repo.git", commit)), r.log.String())
			t.Logf("sources after %s", time.Since(started))
			require.NoError(t, r.script(t.Context(), framed("cd $CI_PROJECT_DIR; id -u; ls -la; touch mine /cache/mine-$(id -u) && echo written")), r.log.String())
			t.Logf("script after %s", time.Since(started))
			require.Contains(t, r.log.String(), "written")
			t.Log(r.log.String())
		})
	}
}

func TestAFailedStageOfTheHelperEndsWithItsExitCode(t *testing.T) {
	r := newTrial(t, "busybox:latest", func(job *common.Job) { job.Strategy = plan.StrategyClone })
	r.prepare()
	defer r.cleanup()
	err := r.stage(sourcesOf("file:///nowhere.git", strings.Repeat("a", 40)))
	var failed *common.BuildError
	require.ErrorAs(t, err, &failed, r.log.String())
	require.NotZero(t, failed.ExitCode)
	require.Equal(t, common.ScriptFailure, failed.Reason)
}

func TestServicesAreFoundByTheirAliases(t *testing.T) {
	for _, network := range []string{"", "FF_NETWORK_PER_BUILD"} {
		t.Run("network:"+network, func(t *testing.T) {
			r := newTrial(t, "busybox:latest", func(job *common.Job) {
				job.Flags = flagsOn(network)
				job.Spec.Services = []spec.Image{{
					Name: "busybox:latest", Alias: "web",
					Command:   []string{"sh", "-c", "echo starting; sleep 1; mkdir /www; echo answer > /www/index.html; exec httpd -f -p 8080 -h /www"},
					Variables: []spec.Variable{{Key: "HEALTHCHECK_TCP_PORT", Value: "8080"}},
				}}
			})
			r.prepare()
			defer r.cleanup()
			require.NoError(t, r.script(t.Context(), framed("wget -q -O - http://web:8080/index.html; wget -q -O - http://busybox:8080/")), r.log.String())
			require.Equal(t, 2, strings.Count(r.log.String(), "answer"))
			require.NotContains(t, r.log.String(), "didn't start properly")
			t.Log(r.log.String())
		})
	}
}

// TestAJobUsesARealServer lets a job's commands keep something in Redis, by each way to find a service.
func TestAJobUsesARealServer(t *testing.T) {
	for _, flag := range []string{"", "FF_NETWORK_PER_BUILD"} {
		t.Run("network:"+flag, func(t *testing.T) {
			r := newTrial(t, "redis-service:local", func(job *common.Job) {
				job.Flags = flagsOn(flag)
				job.Settings.DebugServices = true
				job.Spec.Services = []spec.Image{{
					Name: "redis-service:local", Alias: "store, cache",
					Command:   []string{"sh", "-c", "exec redis-server --bind 0.0.0.0 --requirepass $STORE_PASSWORD"},
					Variables: []spec.Variable{{Key: "STORE_PASSWORD", Value: "open-sesame"}},
				}}
			})
			r.prepare()
			defer r.cleanup()
			require.NotContains(t, r.log.String(), "didn't start properly")
			require.NoError(t, r.script(t.Context(), framed(
				"export REDISCLI_AUTH=open-sesame; redis-cli -h store set key value; redis-cli -h cache get key; redis-cli -h store --no-auth-warning -a wrong ping || true")), r.log.String())
			require.Contains(t, r.log.String(), "OK\nvalue\n")
			require.Contains(t, r.log.String(), "WRONGPASS")
			require.Contains(t, r.log.String(), "Ready to accept connections", "the service's own log")
		})
	}
}

func TestAServiceThatDoesNotAnswerIsTold(t *testing.T) {
	r := newTrial(t, "busybox:latest", func(job *common.Job) {
		job.Runner.Docker.WaitForServicesTimeout = 2
		job.Settings.DebugServices = true
		job.Spec.Services = []spec.Image{
			{Name: "busybox:latest", Alias: "mute", Command: []string{"sh", "-c", "echo I am mute; sleep 100"},
				Variables: []spec.Variable{{Key: "HEALTHCHECK_TCP_PORT", Value: "8080"}}},
			{Name: "debian-job:local", Alias: "portless", Command: []string{"sleep", "100"}},
		}
	})
	r.prepare()
	defer r.cleanup()
	log := r.log.String()
	t.Log(log)
	require.Contains(t, log, "probably didn't start properly")
	require.Contains(t, log, "-wait-for-service\" timeout")
	require.Contains(t, log, "has no exposed ports")
	require.Contains(t, log, "I am mute")
	require.Contains(t, log, "[service:busybox-mute] ")
}

func TestAServiceThatEndsIsToldSoon(t *testing.T) {
	r := newTrial(t, "busybox:latest", func(job *common.Job) {
		job.Spec.Services = []spec.Image{{
			Name: "busybox:latest", Alias: "database",
			Command:   []string{"sh", "-c", "sleep 1; echo no password is set; exit 3"},
			Variables: []spec.Variable{{Key: "HEALTHCHECK_TCP_PORT", Value: "5432"}},
		}}
	})
	defer r.cleanup()
	started := time.Now()
	r.prepare()
	require.Less(t, time.Since(started), 10*time.Second)
	log := r.log.String()
	require.Contains(t, log, "ended with exit code 3")
	require.Contains(t, log, "no password is set")
	require.NoError(t, r.script(t.Context(), framed("true")))
}

func TestAHelperImageOfTheUsersGetsTheRunnersOwnHelper(t *testing.T) {
	r := newTrial(t, "busybox:latest", func(job *common.Job) {
		job.Runner.Docker.HelperImage = "busybox:latest"
		job.Settings.SectionAttempts = 1
		job.Spec.Cache = []spec.Cache{{Key: "k"}}
	})
	for range 2 {
		started := time.Now()
		r.executor = r.provider.NewExecutor(r.job, nil)
		r.prepare()
		t.Logf("prepared after %s", time.Since(started))
		require.NoError(t, r.stage(plan.Plan{
			Stage: "restore_cache", RestoreCaches: []plan.CacheRestore{{Notice: "nothing to restore"}},
		}), r.log.String())
		r.cleanup()
	}
	require.Contains(t, r.log.String(), "(overridden, default would be  ")
	require.Contains(t, r.log.String(), "nothing to restore")
}

func TestWithoutTheUmaskFilesBelongToTheJobsUser(t *testing.T) {
	repo, commit := repository(t)
	r := newTrial(t, "nonroot-job:local", func(job *common.Job) {
		job.Flags = flagsOn("FF_DISABLE_UMASK_FOR_DOCKER_EXECUTOR")
		job.Strategy = plan.StrategyClone
		job.Runner.Docker.Volumes = []string{repo + ":/repo.git:ro"}
	})
	r.prepare()
	defer r.cleanup()
	work := sourcesOf("file:///repo.git", commit)
	work.KeepUmask = true
	require.NoError(t, r.stage(work), r.log.String())
	require.NoError(t, r.script(t.Context(), framed("stat -c 'owner %u:%g mode %a' $CI_PROJECT_DIR")), r.log.String())
	require.Contains(t, r.log.String(), "Not using umask - FF_DISABLE_UMASK_FOR_DOCKER_EXECUTOR is set!")
	require.Contains(t, r.log.String(), `Changing ownership of files at "/builds/group/project" to 1000:1000`)
	require.Contains(t, r.log.String(), "owner 1000:1000 mode 755")
}
