//go:build system

package docker

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/gitlab-org/gitlab-runner/common"
	"gitlab.com/gitlab-org/gitlab-runner/common/plan"
	"gitlab.com/gitlab-org/gitlab-runner/common/spec"
)

// TestACancelAtAnyStageLeavesNothingBehind gives a job up while it does each of the things a job does.
func TestACancelAtAnyStageLeavesNothingBehind(t *testing.T) {
	const patience = 400 * time.Millisecond
	registry := startRegistry(t)
	slow := registry.push(t, "busybox:latest", "team/cancel:1")
	credentials := registry.credentials(registry.store.Password)
	repo, commit := repository(t)
	withSources := func(job *common.Job) {
		job.Strategy = plan.StrategyClone
		job.Runner.Docker.Volumes = []string{repo + ":/repo.git:ro"}
	}
	stages := map[string]struct {
		image  string
		change func(job *common.Job)
		run    func(ctx context.Context, r *trial) error
	}{
		"preparing the image": {
			image: slow,
			change: func(job *common.Job) {
				always(job)
				job.Spec.Credentials = credentials
				registry.delay.Store(int64(10 * time.Second))
			},
			run: func(ctx context.Context, r *trial) error { return r.executor.Prepare(ctx) },
		},
		"preparing services": {
			image: "busybox:latest",
			change: func(job *common.Job) {
				job.Flags = flagsOn("FF_NETWORK_PER_BUILD")
				job.Spec.Services = []spec.Image{{Name: "busybox:latest", Alias: "mute", Command: []string{"sleep", "100"},
					Variables: []spec.Variable{{Key: "HEALTHCHECK_TCP_PORT", Value: "1"}}}}
			},
			run: func(ctx context.Context, r *trial) error { return r.executor.Prepare(ctx) },
		},
		"getting sources": {
			image: "busybox:latest", change: withSources,
			run: func(ctx context.Context, r *trial) error {
				require.NoError(r, r.executor.Prepare(r.Context()))
				work := sourcesOf("file:///repo.git", commit)
				work.Sources.PreHooks = []string{"sleep 100"}
				work.ProjectDir, work.TmpDir = r.job.ProjectDir, r.job.TmpDir
				return r.executor.Run(ctx, common.Stage{Name: "get_sources", Where: common.InHelper, Plan: &work, Stdout: r.log, Stderr: r.log})
			},
		},
		"getting sources with a hook that ignores TERM": {
			image: "busybox:latest", change: withSources,
			run: func(ctx context.Context, r *trial) error {
				require.NoError(r, r.executor.Prepare(r.Context()))
				work := sourcesOf("file:///repo.git", commit)
				work.Sources.PreHooks = []string{"trap '' TERM; sleep 100; sleep 100"}
				work.ProjectDir, work.TmpDir = r.job.ProjectDir, r.job.TmpDir
				return r.executor.Run(ctx, common.Stage{Name: "get_sources", Where: common.InHelper, Plan: &work, Stdout: r.log, Stderr: r.log})
			},
		},
		"the script": {
			image: "debian-job:local",
			run: func(ctx context.Context, r *trial) error {
				require.NoError(r, r.executor.Prepare(r.Context()))
				return r.script(ctx, framed("sleep 100"))
			},
		},
		"a script that ignores TERM": {
			image: "debian-job:local",
			run: func(ctx context.Context, r *trial) error {
				require.NoError(r, r.executor.Prepare(r.Context()))
				return r.script(ctx, framed("trap '' TERM; sleep 100 & wait; sleep 100"))
			},
		},
	}
	for name, c := range stages {
		t.Run(name, func(t *testing.T) {
			defer registry.delay.Store(0)
			r := newTrial(t, c.image, c.change)
			r.connect()
			ctx, cancel := context.WithCancelCause(t.Context())
			cause := common.Fail(common.JobCanceled, common.ErrJobCanceled)
			canceled := make(chan time.Time, 1)
			timer := time.AfterFunc(4*patience, func() {
				canceled <- time.Now()
				cancel(cause)
			})
			defer timer.Stop()
			require.ErrorIs(t, c.run(ctx, r), common.ErrJobCanceled, r.log.String())
			r.cleanup()
			took := time.Since(<-canceled)
			t.Logf("all was gone %s after the cancel", took)
			require.Less(t, took, 10*time.Second)
			require.Empty(t, r.leftovers())
			client := r.engineClient()
			networks, err := client.NetworkList(t.Context(), "com.gitlab.gitlab-runner.runner.system_id="+r.job.Runner.SystemID)
			require.NoError(t, err)
			require.Empty(t, networks)
			volumes, err := client.VolumeList(t.Context(), "com.gitlab.gitlab-runner.runner.system_id="+r.job.Runner.SystemID)
			require.NoError(t, err)
			require.Empty(t, volumes)
		})
	}
}
