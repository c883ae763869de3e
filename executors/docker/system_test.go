//go:build system

package docker

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/stretchr/testify/require"

	"gitlab.com/gitlab-org/gitlab-runner/common"
	"gitlab.com/gitlab-org/gitlab-runner/common/config"
	"gitlab.com/gitlab-org/gitlab-runner/common/featureflags"
	"gitlab.com/gitlab-org/gitlab-runner/common/joblog"
	"gitlab.com/gitlab-org/gitlab-runner/common/plan"
	"gitlab.com/gitlab-org/gitlab-runner/common/spec"
	"gitlab.com/gitlab-org/gitlab-runner/common/variables"
	"gitlab.com/gitlab-org/gitlab-runner/executors/docker/internal/blueprint"
	"gitlab.com/gitlab-org/gitlab-runner/helpers/docker"
	"gitlab.com/gitlab-org/gitlab-runner/helpers/version"
	"gitlab.com/gitlab-org/gitlab-runner/tests/transcript"
)

// trial is one job on the local engine.
type trial struct {
	*testing.T
	job      *common.Job
	log      *transcript.Log
	provider *Provider
	executor common.Executor
}

// bundledImages is where make helper-image puts the helper image.
const bundledImages = "../../out/helper-images"

// bundledVersion is a version of its own for each build of the helper image, so that a test never gets
// an older one from the engine.
func bundledVersion(t *testing.T) string {
	t.Helper()
	recipes, err := filepath.Glob(filepath.Join(bundledImages, "*.recipe"))
	require.NoError(t, err)
	require.NotEmpty(t, recipes, "run make helper-image first")
	digest := sha256.New()
	for _, name := range recipes {
		recipe, err := os.ReadFile(name)
		require.NoError(t, err)
		digest.Write(recipe)
	}
	return "0.0.0-" + hex.EncodeToString(digest.Sum(nil)[:8])
}

// newTrial prepares a job of the given image without sources.
func newTrial(t *testing.T, image string, change func(job *common.Job)) *trial {
	t.Helper()
	process := logrus.New()
	process.SetOutput(io.Discard)
	written := &transcript.Log{}
	job := &common.Job{
		Spec: &spec.Job{
			ID: time.Now().UnixNano(), Token: "job-token",
			Info:  spec.JobInfo{ProjectID: 7},
			Image: &spec.Image{Name: image},
		},
		Runner: &config.Runner{
			Name: "test", Token: "glrt-0123456789abcdef", SystemID: "s_" + randomSuffix(), Executor: "docker",
			Docker: &config.Docker{PullPolicy: config.StringOrArray{"if-not-present"}},
		},
		Log: joblog.New(joblog.Options{
			Open:    func(joblog.Stream) io.WriteCloser { return written },
			Process: process,
			Now:     time.Now,
		}),
		Strategy: plan.StrategyNone,
		Settings: common.Settings{SectionAttempts: 1},
		Deadline: time.Now().Add(time.Minute),
	}
	if change != nil {
		change(job)
	}
	provider := NewProvider(Options{
		Version: version.Info{Version: bundledVersion(t)}, Log: process, HelperImageDirs: []string{bundledImages},
	})
	return &trial{T: t, job: job, log: written, provider: provider, executor: provider.NewExecutor(job, nil)}
}

func (r *trial) prepare() {
	r.Helper()
	r.connect()
	require.NoError(r, r.executor.Prepare(r.Context()))
}

func (r *trial) connect() {
	r.Helper()
	machine, err := r.executor.Connect(r.Context())
	require.NoError(r, err)
	r.job.ProjectDir = machine.BuildsDir + "/group/project"
	r.job.TmpDir = r.job.ProjectDir + ".tmp"
	r.job.Variables = append(r.job.Variables, variables.List{{Key: "CI_PROJECT_DIR", Value: r.job.ProjectDir}}...)
}

func (r *trial) script(ctx context.Context, text string) error {
	return r.executor.Run(ctx, common.Stage{
		Name: "step_script", Where: common.InBuild, Script: text, Stdout: r.log, Stderr: r.log,
	})
}

func (r *trial) cleanup() {
	r.Helper()
	require.NoError(r, r.executor.Cleanup(context.WithoutCancel(r.Context())))
}

func TestTrivialJobCostsLittleMoreThanItsContainer(t *testing.T) {
	for range 5 {
		started := time.Now()
		r := newTrial(t, "busybox:latest", nil)
		r.prepare()
		prepared := time.Since(started)
		require.NoError(t, r.script(t.Context(), "echo hello from $CI_PROJECT_DIR\nexit 0\n"))
		ran := time.Since(started)
		r.cleanup()
		t.Logf("prepared %s, ran %s, clean %s", prepared, ran, time.Since(started))
		require.Contains(t, r.log.String(), "hello from /builds/group/project")
	}
}

// script is a text of a user in the frame that the runner puts around it.
func framed(body string) string {
	return "trap exit 1 TERM\nset -e\n( trap exit 1 TERM\nset -e\n" + body + "\n) </dev/null\nexit 0\n"
}

func TestScriptsEndWithTheirExitCode(t *testing.T) {
	for _, image := range []string{"busybox:latest", "debian-job:local", "nonroot-job:local", "entrypoint-job:local"} {
		t.Run(image, func(t *testing.T) {
			r := newTrial(t, image, func(job *common.Job) {
				// Without a volume that must be opened no helper is needed.
				job.Runner.BuildsDir = "/tmp/builds"
				job.Runner.Docker.Volumes = []string{"/tmp:/tmp/builds"}
			})
			r.prepare()
			defer r.cleanup()
			require.NoError(t, r.script(t.Context(), framed("echo first")))
			err := r.script(t.Context(), framed("echo second >&2; exit 42"))
			var failed *common.BuildError
			require.ErrorAs(t, err, &failed)
			require.Equal(t, 42, failed.ExitCode)
			require.Equal(t, common.ScriptFailure, failed.Reason)
			require.Contains(t, r.log.String(), "first\n")
			require.Contains(t, r.log.String(), "second\n")
		})
	}
}

func TestFilesStayBetweenScripts(t *testing.T) {
	r := newTrial(t, "busybox:latest", nil)
	r.prepare()
	defer r.cleanup()
	require.NoError(t, r.script(t.Context(), framed("echo kept > /file")))
	require.NoError(t, r.script(t.Context(), framed("cat /file")))
	require.Contains(t, r.log.String(), "kept")
}

func TestCancelLetsTrapsRunAndGivesTheNextScriptANewContainer(t *testing.T) {
	r := newTrial(t, "debian-job:local", nil)
	r.prepare()
	defer r.cleanup()
	ctx, cancel := context.WithCancelCause(t.Context())
	cause := common.Fail(common.JobCanceled, common.ErrJobCanceled)
	go func() {
		for !bytes.Contains([]byte(r.log.String()), []byte("running")) {
			time.Sleep(10 * time.Millisecond)
		}
		cancel(cause)
	}()
	started := time.Now()
	err := r.script(ctx, framed(`touch /file; trap 'echo trapped; exit 1' EXIT; echo running; sleep 1000`))
	t.Logf("cancelled after %s", time.Since(started))
	require.ErrorIs(t, err, cause)
	require.Contains(t, r.log.String(), "trapped")
	require.Less(t, time.Since(started), 10*time.Second)
	require.NoError(t, r.script(t.Context(), framed("[ ! -e /file ] && echo fresh")))
	require.Contains(t, r.log.String(), "fresh")
}

func TestOutOfMemoryIsTold(t *testing.T) {
	r := newTrial(t, "debian-job:local", func(job *common.Job) { job.Runner.Docker.Memory = "32m" })
	r.prepare()
	defer r.cleanup()
	err := r.script(t.Context(), framed(`head -c 400m /dev/zero | tail -c 390m >/dev/null`))
	require.Error(t, err)
	require.Contains(t, r.log.String(), "ran out of memory")
}

func TestOutputWithoutEndCostsLittleMemory(t *testing.T) {
	r := newTrial(t, "busybox:latest", nil)
	r.prepare()
	defer r.cleanup()
	counted := &counter{}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	err := r.executor.Run(t.Context(), common.Stage{
		Name: "step_script", Where: common.InBuild, Stdout: counted, Stderr: counted,
		Script: framed(`yes | tr -d '\n' | head -c 134217728`),
	})
	runtime.ReadMemStats(&after)
	require.NoError(t, err)
	require.EqualValues(t, 128<<20, counted.n.Load())
	require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(64<<20))
}

type counter struct{ n atomic.Int64 }

func (c *counter) Write(data []byte) (int, error) {
	c.n.Add(int64(len(data)))
	return len(data), nil
}

func flagsOn(names ...string) featureflags.Set {
	configured := map[string]bool{}
	for _, name := range names {
		configured[name] = true
	}
	set, _ := featureflags.Resolve(configured, func(string) (string, bool) { return "", false })
	return set
}

// engineClient is a connection of the test's own.
func (r *trial) engineClient() *docker.Client {
	r.Helper()
	client, err := docker.New(docker.Options{})
	require.NoError(r, err)
	r.Cleanup(func() { _ = client.Close() })
	_, err = client.Server(context.WithoutCancel(r.Context()))
	require.NoError(r, err)
	return client
}

// leftovers are the containers of the test's runner.
func (r *trial) leftovers() []string {
	r.Helper()
	found, err := r.engineClient().ContainerList(r.Context(), blueprint.LabelSystem+"="+r.job.Runner.SystemID)
	require.NoError(r, err)
	var names []string
	for _, one := range found {
		names = append(names, one.Names...)
	}
	return names
}

// dropCaches removes the volumes that are kept for later jobs.
func (r *trial) dropCaches() {
	r.Helper()
	client := r.engineClient()
	kept, err := client.VolumeList(r.Context(), blueprint.LabelSystem+"="+r.job.Runner.SystemID)
	require.NoError(r, err)
	for _, volume := range kept {
		require.NoError(r, client.VolumeRemove(r.Context(), volume.Name))
	}
}
