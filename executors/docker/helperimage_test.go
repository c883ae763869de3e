package docker

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/sirupsen/logrus"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"gitlab.com/gitlab-org/gitlab-runner/common"
	"gitlab.com/gitlab-org/gitlab-runner/common/config"
	"gitlab.com/gitlab-org/gitlab-runner/common/plan"
	"gitlab.com/gitlab-org/gitlab-runner/helpers/docker"
	"gitlab.com/gitlab-org/gitlab-runner/helpers/version"
)

// bundle writes an archive whose only content is the name that a fake engine says it loaded.
func bundle(t *testing.T, name string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	var compressed bytes.Buffer
	writer, err := zstd.NewWriter(&compressed)
	require.NoError(t, err)
	_, err = io.WriteString(writer, name)
	require.NoError(t, err)
	require.NoError(t, writer.Close())
	require.NoError(t, os.WriteFile(filepath.Join(dir, "prebuilt-alpine-x86_64.docker.tar.zst"), compressed.Bytes(), 0o600))
	return dir
}

func counted(calls []string, call string) int {
	n := 0
	for _, other := range calls {
		if other == call {
			n++
		}
	}
	return n
}

func TestABundledHelperImageIsLoadedOnce(t *testing.T) {
	engine := has(newFakeEngine(shell), "ruby:3")
	dir := bundle(t, "helper:built")
	first := rehearse(t, engine, func(job *common.Job) { job.Strategy = plan.StrategyFetch })
	first.provider.helperDirs = []string{t.TempDir(), dir}
	second := newExecutor(first.provider, first.job, nil)
	_, err := second.Connect(t.Context())
	require.NoError(t, err)
	var group errgroup.Group
	group.Go(func() error { return first.Prepare(t.Context()) })
	group.Go(func() error { return second.Prepare(t.Context()) })
	require.NoError(t, group.Wait())
	require.NoError(t, first.Cleanup(t.Context()))
	require.NoError(t, second.Cleanup(t.Context()))
	require.Equal(t, 1, counted(engine.log(), "load"))
	require.Contains(t, engine.log(), "tag helper:built "+helperName)
	require.NotContains(t, engine.log(), "pull "+helperName)
	require.NotContains(t, first.log.String(), "Using helper image")
}

func TestAHelperImageThatIsNowhereIsPulled(t *testing.T) {
	engine := has(newFakeEngine(shell), "ruby:3")
	r := rehearse(t, engine, func(job *common.Job) { job.Strategy = plan.StrategyFetch })
	require.NoError(t, r.Prepare(t.Context()))
	require.NoError(t, r.Cleanup(t.Context()))
	require.Contains(t, engine.log(), "pull "+helperName)
	require.Contains(t, r.log.String(), "Using helper image:  "+helperName)
}

func TestAHelperImageThatVanishedIsGotAgain(t *testing.T) {
	engine := has(newFakeEngine(shell), "ruby:3", helperName)
	r := rehearse(t, engine, func(job *common.Job) { job.Strategy = plan.StrategyFetch })
	require.NoError(t, r.Prepare(t.Context()))
	require.NoError(t, r.Cleanup(t.Context()))
	require.Equal(t, 1, counted(engine.log(), "inspect image "+helperName))

	again := newExecutor(r.provider, r.job, nil)
	_, err := again.Connect(t.Context())
	require.NoError(t, err)
	engine.vanished = true
	require.NoError(t, again.Prepare(t.Context()))
	require.NoError(t, again.Cleanup(t.Context()))
	require.Equal(t, 2, counted(engine.log(), "inspect image "+helperName))
}

func TestAnImageOfTheUsersCarriesTheRunnersHelperWhereThatIsAtHand(t *testing.T) {
	for name, c := range map[string]struct {
		images  []string
		program string
	}{
		"at hand":     {images: []string{"ruby:3", "my/helper", helperName}, program: "/opt/gitlab-runner-helper/gitlab-runner-helper"},
		"not at hand": {images: []string{"ruby:3", "my/helper"}, program: "gitlab-runner-helper"},
	} {
		t.Run(name, func(t *testing.T) {
			engine := has(newFakeEngine(shell), c.images...)
			r := rehearse(t, engine, func(job *common.Job) { job.Runner.Docker.HelperImage = "my/helper" })
			require.NoError(t, r.Prepare(t.Context()))
			require.NoError(t, r.stage(t.Context(), "restore_cache"))
			require.NoError(t, r.Cleanup(t.Context()))
			require.Contains(t, engine.log(), "exec predefined "+c.program+" run-stage")
			require.NotContains(t, engine.log(), "pull "+helperName)
			require.Contains(t, r.log.String(), "Using helper image:  my/helper  (overridden, default would be  "+helperName+" )")
		})
	}
}

func TestAWarmMachineHasTheHelperImage(t *testing.T) {
	engine := newFakeEngine(shell)
	log := logrus.New()
	log.SetOutput(io.Discard)
	p := NewProvider(Options{Version: version.Info{Version: "1.2.3"}, Log: log, HelperImageDirs: []string{bundle(t, helperName)}})
	p.open = func(_, _ context.Context, c *connector) (*link, error) {
		server := docker.Server{OS: "linux", Arch: "amd64", APIVersion: "1.51"}
		if _, _, known := c.machine.known(); !known {
			c.machine.learn(server, direct)
		}
		return &link{engine: engine, server: server}, nil
	}
	runner := &config.Runner{Docker: &config.Docker{}}
	engine.loads = func(name string) { has(engine, name) }
	require.NoError(t, p.Warm(t.Context(), runner, nil))
	calls := slices.Clone(engine.log())
	require.Contains(t, calls, "load")
	require.NoError(t, p.Warm(t.Context(), runner, nil))
	require.Equal(t, 1, counted(engine.log(), "load"))

	require.ErrorContains(t, p.Warm(t.Context(), &config.Runner{}, nil), "missing docker configuration")
}
