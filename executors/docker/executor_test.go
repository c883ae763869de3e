package docker

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/image"
	"github.com/docker/go-connections/nat"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/sirupsen/logrus"
	"github.com/stretchr/testify/require"

	"gitlab.com/gitlab-org/gitlab-runner/common"
	"gitlab.com/gitlab-org/gitlab-runner/common/config"
	"gitlab.com/gitlab-org/gitlab-runner/common/joblog"
	"gitlab.com/gitlab-org/gitlab-runner/common/plan"
	"gitlab.com/gitlab-org/gitlab-runner/common/spec"
	"gitlab.com/gitlab-org/gitlab-runner/helpers/docker"
	"gitlab.com/gitlab-org/gitlab-runner/helpers/version"
	"gitlab.com/gitlab-org/gitlab-runner/tests/transcript"
)

const helperName = "registry.gitlab.com/gitlab-org/gitlab-runner/gitlab-runner-helper:x86_64-v1.2.3"

// rehearsal is a job on a fake engine.
type rehearsal struct {
	engine *fakeEngine
	job    *common.Job
	log    *transcript.Log
	*executor
}

// shell is a container that reads its script line by line: "exit N" ends it, anything else is printed.
func shell(args []string, io *fakeIO) int {
	if len(args) <= 1 {
		<-io.killed
		return 137
	}
	if slices.Contains(args, "run-stage") {
		return stageOf(io)
	}
	if strings.Contains(strings.Join(args, " "), "kill -TERM") || args[0] != "sh" {
		return 0
	}
	lines := bufio.NewScanner(io.stdin)
	for lines.Scan() {
		code := 0
		if n, _ := fmt.Sscanf(lines.Text(), "exit %d", &code); n == 1 {
			return code
		}
		if lines.Text() == "sleep" {
			<-io.killed
			return 143
		}
		_, _ = fmt.Fprintln(io.stdout, lines.Text())
	}
	return 0
}

// stageOf reads a plan; one whose stage is "endless" works until its input ends.
func stageOf(streams *fakeIO) int {
	buffer := make([]byte, 64<<10)
	n, _ := streams.stdin.Read(buffer)
	_, _ = fmt.Fprintln(streams.stdout, "stage done")
	if strings.Contains(string(buffer[:n]), "endless") {
		_, _ = io.Copy(io.Discard, streams.stdin)
		return 1
	}
	return 0
}

func rehearse(t *testing.T, engine *fakeEngine, change func(job *common.Job)) *rehearsal {
	t.Helper()
	process := logrus.New()
	process.SetOutput(io.Discard)
	log := &transcript.Log{}
	job := &common.Job{
		Spec: &spec.Job{ID: 42, Token: "t", Info: spec.JobInfo{ProjectID: 7}, Image: &spec.Image{Name: "ruby:3"}},
		Runner: &config.Runner{
			Token: "glrt-0123456789abcdef", SystemID: "s_abc",
			Docker: &config.Docker{PullPolicy: config.StringOrArray{"if-not-present"}},
		},
		Log: joblog.New(joblog.Options{
			Open: func(joblog.Stream) io.WriteCloser { return log }, Process: process, Now: time.Now,
		}),
		Strategy: plan.StrategyNone,
		Settings: common.Settings{SectionAttempts: 1},
	}
	if change != nil {
		change(job)
	}
	provider := NewProvider(Options{Version: version.Info{Version: "1.2.3"}, Log: process, HelperImageDirs: []string{}, HomeDir: t.TempDir()})
	provider.open = func(_, _ context.Context, c *connector) (*link, error) {
		server := docker.Server{OS: "linux", Arch: "amd64", APIVersion: "1.51"}
		if _, _, known := c.machine.known(); !known {
			c.machine.learn(server, direct)
		}
		return &link{engine: engine, server: server}, nil
	}
	e := newExecutor(provider, job, nil)
	machine, err := e.Connect(t.Context())
	require.NoError(t, err)
	require.Equal(t, "/builds", machine.BuildsDir)
	// Sweeping is tested by itself.
	e.machine.untidy = false
	job.ProjectDir, job.TmpDir = "/builds/p", "/builds/p.tmp"
	return &rehearsal{engine: engine, job: job, log: log, executor: e}
}

func (r *rehearsal) script(ctx context.Context, text string) error {
	return r.Run(ctx, common.Stage{Name: "step_script", Where: common.InBuild, Script: text, Stdout: r.log, Stderr: r.log})
}

func (r *rehearsal) stage(ctx context.Context, name string) error {
	return r.Run(ctx, common.Stage{Name: name, Where: common.InHelper, Plan: &plan.Plan{Stage: name}, Stdout: r.log, Stderr: r.log})
}

func has(engine *fakeEngine, names ...string) *fakeEngine {
	for _, name := range names {
		engine.images[name] = image.InspectResponse{ID: "sha256:" + name}
	}
	return engine
}

func configured(user string, ports ...string) *dockerspec.DockerOCIImageConfig {
	set := map[string]struct{}{}
	for _, port := range ports {
		set[port] = struct{}{}
	}
	return &dockerspec.DockerOCIImageConfig{ImageConfig: ocispec.ImageConfig{User: user, ExposedPorts: set}}
}

func TestATrivialJobAsksTheEngineForAlmostNothing(t *testing.T) {
	engine := has(newFakeEngine(shell), "ruby:3")
	r := rehearse(t, engine, nil)
	require.NoError(t, r.Prepare(t.Context()))
	require.NoError(t, r.script(t.Context(), "hello\nexit 0\n"))
	require.NoError(t, r.script(t.Context(), "again\nexit 0\n"))
	require.NoError(t, r.Cleanup(t.Context()))
	require.Equal(t, []string{
		"inspect image ruby:3", "create build", "start build", "start build", "remove build", "remove volume",
	}, engine.log())
	require.Empty(t, engine.containers)
	require.Contains(t, r.log.String(), "hello\n")
	require.Contains(t, r.log.String(), "again\n")
}

func TestTheJobLogKeepsItsLines(t *testing.T) {
	engine := has(newFakeEngine(shell), "ruby:3", "redis:7", helperName)
	r := rehearse(t, engine, func(job *common.Job) {
		job.Strategy = plan.StrategyFetch
		job.Spec.Services = []spec.Image{{Name: "redis:7", Variables: []spec.Variable{{Key: "HEALTHCHECK_TCP_PORT", Value: "6379"}}}}
	})
	require.NoError(t, r.Prepare(t.Context()))
	require.NoError(t, r.script(t.Context(), "exit 0\n"))
	require.NoError(t, r.Cleanup(t.Context()))
	plain := strings.NewReplacer("\x1b[0K", "", "\x1b[0;m", "").Replace(r.log.String())
	require.Equal(t, strings.TrimPrefix(`
Using Docker executor with image ruby:3 ...
Using effective pull policy of [if-not-present] for container sha256:`+helperName+`
Starting service redis:7...
Using effective pull policy of [if-not-present] for container redis:7
Using locally found image version due to "if-not-present" pull policy
Using docker image sha256:redis:7 for redis:7 ...
Waiting for services to be up and running (timeout 30 seconds)...
Services are up after 0.0s
Using effective pull policy of [if-not-present] for container ruby:3
Using locally found image version due to "if-not-present" pull policy
Using docker image sha256:ruby:3 for ruby:3 ...
Using effective pull policy of [if-not-present] for container ruby:3
Using docker image sha256:ruby:3 for ruby:3 ...
`, "\n"), plain)
}

func TestSourcesNeedNotWaitForTheJobsImage(t *testing.T) {
	engine := has(newFakeEngine(shell), helperName)
	release := make(chan struct{})
	engine.pull = func(context.Context, string) error { <-release; return nil }
	r := rehearse(t, engine, func(job *common.Job) { job.Strategy = plan.StrategyFetch })
	prepared := make(chan error, 1)
	go func() { prepared <- r.Prepare(t.Context()) }()
	<-r.HelperReady()
	require.NoError(t, r.stage(t.Context(), "get_sources"))
	require.Empty(t, prepared)
	close(release)
	require.NoError(t, <-prepared)
	require.NoError(t, r.Cleanup(t.Context()))
}

func TestAHelperIsStartedOnceAndOnlyWhenItIsNeeded(t *testing.T) {
	engine := has(newFakeEngine(shell), "ruby:3", helperName)
	r := rehearse(t, engine, nil)
	require.NoError(t, r.Prepare(t.Context()))
	require.NotContains(t, engine.log(), "create predefined")
	require.NoError(t, r.stage(t.Context(), "restore_cache"))
	require.NoError(t, r.stage(t.Context(), "archive_cache"))
	require.NoError(t, r.Cleanup(t.Context()))
	created := 0
	for _, call := range engine.log() {
		if call == "create predefined" {
			created++
		}
	}
	require.Equal(t, 1, created)
}

func TestVolumesAreOpenedForUsersThatAreNotRoot(t *testing.T) {
	for user, opened := range map[string]bool{"": false, "0:0": false, "root": false, "1000": true, "app:root": true} {
		engine := has(newFakeEngine(shell), helperName)
		engine.images["ruby:3"] = image.InspectResponse{ID: "sha256:ruby", Config: configured(user)}
		r := rehearse(t, engine, nil)
		require.NoError(t, r.Prepare(t.Context()))
		require.NoError(t, r.script(t.Context(), "exit 0\n"))
		require.NoError(t, r.Cleanup(t.Context()))
		require.Equal(t, opened, slices.Contains(engine.log(), "exec predefined gitlab-runner-helper cache-init"), "user %q", user)
	}
}

func TestAScriptFailsWithItsExitCode(t *testing.T) {
	engine := has(newFakeEngine(shell), "ruby:3")
	r := rehearse(t, engine, nil)
	require.NoError(t, r.Prepare(t.Context()))
	err := r.script(t.Context(), "exit 7\n")
	var failed *common.BuildError
	require.ErrorAs(t, err, &failed)
	require.Equal(t, 7, failed.ExitCode)
	require.NoError(t, r.Cleanup(t.Context()))
}

func TestACancelledScriptIsStoppedAndItsContainerReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		engine := has(newFakeEngine(shell), "ruby:3")
		r := rehearse(t, engine, nil)
		require.NoError(t, r.Prepare(t.Context()))
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Minute, func() { cancel(common.ErrJobCanceled) })
		require.ErrorIs(t, r.script(ctx, "sleep\n"), common.ErrJobCanceled)
		require.NoError(t, r.script(t.Context(), "after\nexit 0\n"))
		require.NoError(t, r.Cleanup(t.Context()))
		require.Equal(t, []string{
			"inspect image ruby:3", "create build", "start build",
			"exec build sh -c", "stop build", "remove build",
			"create build", "start build", "remove build", "remove volume",
		}, engine.log())
	})
}

func TestAScriptWhoseContainerIsStillBeingMadeIsCancelledAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		engine := has(newFakeEngine(shell), "ruby:3")
		made := make(chan struct{})
		engine.create = func(string) { <-made }
		r := rehearse(t, engine, nil)
		require.NoError(t, r.Prepare(t.Context()))
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Minute, func() { cancel(common.ErrJobCanceled) })
		time.AfterFunc(2*time.Minute, func() { close(made) })
		begin := time.Now()
		require.ErrorIs(t, r.script(ctx, "exit 0\n"), common.ErrJobCanceled)
		require.Equal(t, time.Minute, time.Since(begin))
		require.NoError(t, r.script(t.Context(), "after\nexit 0\n"))
		require.NoError(t, r.Cleanup(t.Context()))
		require.Equal(t, []string{"inspect image ruby:3", "create build", "start build", "remove build", "remove volume"}, engine.log())
	})
}

func TestAContainerIsStoppedWhoseOutputEndedAndThatIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		engine := has(newFakeEngine(func(args []string, streams *fakeIO) int {
			if out, attached := streams.stdout.(frames); attached && !strings.Contains(strings.Join(args, " "), "kill -TERM") {
				_ = out.out.(net.Conn).Close()
				<-streams.killed
				return 143
			}
			return shell(args, streams)
		}), "ruby:3")
		r := rehearse(t, engine, nil)
		require.NoError(t, r.Prepare(t.Context()))
		require.EqualError(t, r.script(t.Context(), "exit 0\n"), "exit code 143")
		require.Contains(t, r.log.String(), "it closed it, or the connection was lost. The container is stopped.")
		require.NoError(t, r.Cleanup(t.Context()))
	})
}

func TestProcessesOfOthersAreNotAskedToEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		engine := has(newFakeEngine(shell), "ruby:3")
		r := rehearse(t, engine, func(job *common.Job) { job.Runner.Docker.PidMode = "host" })
		require.NoError(t, r.Prepare(t.Context()))
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Minute, func() { cancel(common.ErrJobCanceled) })
		require.ErrorIs(t, r.script(ctx, "sleep\n"), common.ErrJobCanceled)
		require.NoError(t, r.Cleanup(t.Context()))
		require.NotContains(t, engine.log(), "exec build sh -c")
		require.Contains(t, engine.log(), "stop build")
	})
}

func TestAStageThatIsGivenUpIsToldByTheEndOfItsInput(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		engine := has(newFakeEngine(shell), "ruby:3", helperName)
		r := rehearse(t, engine, nil)
		require.NoError(t, r.Prepare(t.Context()))
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Minute, func() { cancel(common.ErrJobCanceled) })
		require.ErrorIs(t, r.stage(ctx, "endless"), common.ErrJobCanceled)
		require.NoError(t, r.stage(t.Context(), "cleanup_file_variables"))
		require.NoError(t, r.Cleanup(t.Context()))
		require.NotContains(t, engine.log(), "stop predefined")
	})
}

func TestAContainerThatIsGoneIsMadeAnewForTheNextStage(t *testing.T) {
	engine := has(newFakeEngine(shell), "ruby:3", helperName)
	r := rehearse(t, engine, nil)
	require.NoError(t, r.Prepare(t.Context()))
	require.NoError(t, r.script(t.Context(), "exit 0\n"))
	require.NoError(t, engine.ContainerRemove(t.Context(), r.build.id, true))
	require.NoError(t, r.script(t.Context(), "exit 0\n"))
	require.NoError(t, r.Cleanup(t.Context()))
}

func TestAContainerThatIsGoneBeforeItsFirstUseIsMadeAnew(t *testing.T) {
	engine := has(newFakeEngine(shell), "ruby:3")
	r := rehearse(t, engine, nil)
	require.NoError(t, r.Prepare(t.Context()))
	<-r.build.ahead.done
	require.NoError(t, engine.ContainerRemove(t.Context(), r.build.ahead.value.id, true))
	require.NoError(t, r.script(t.Context(), "exit 0\n"))
	require.NoError(t, r.Cleanup(t.Context()))
}

func TestAContainerWhoseStartFailedIsNotTakenForTheNextStage(t *testing.T) {
	engine := has(newFakeEngine(shell), "ruby:3")
	engine.fail["start build"] = context.DeadlineExceeded
	r := rehearse(t, engine, nil)
	require.NoError(t, r.Prepare(t.Context()))
	require.ErrorIs(t, r.script(t.Context(), "exit 0\n"), context.DeadlineExceeded)
	engine.mu.Lock()
	delete(engine.fail, "start build")
	engine.mu.Unlock()
	require.NoError(t, r.script(t.Context(), "after\nexit 0\n"))
	require.NoError(t, r.Cleanup(t.Context()))
	require.Equal(t, []string{
		"inspect image ruby:3", "create build", "start build", "remove build",
		"create build", "start build", "remove build", "remove volume",
	}, engine.log())
}

func TestAHelperThatIsGoneIsMadeAnewAsOftenAsTheJobAllows(t *testing.T) {
	for attempts, works := range map[int]bool{1: false, 2: true} {
		engine := has(newFakeEngine(shell), "ruby:3", helperName)
		r := rehearse(t, engine, func(job *common.Job) { job.Settings.SectionAttempts = attempts })
		require.NoError(t, r.Prepare(t.Context()))
		require.NoError(t, r.stage(t.Context(), "restore_cache"))
		require.NoError(t, engine.ContainerRemove(t.Context(), r.helper.id, true))
		err := r.stage(t.Context(), "archive_cache")
		if works {
			require.NoError(t, err)
			require.Contains(t, r.log.String(), "not found or removed. Will retry...")
		} else {
			require.ErrorContains(t, err, "execution attempts exceeded")
		}
		require.NoError(t, r.Cleanup(t.Context()))
	}
}

func TestAFailedPreparationEndsWhatRunsBesideIt(t *testing.T) {
	engine := has(newFakeEngine(shell), helperName)
	engine.fail["pull redis:7"] = errors.New("manifest unknown")
	blocked := make(chan struct{})
	engine.pull = func(ctx context.Context, _ string) error {
		<-ctx.Done()
		close(blocked)
		return ctx.Err()
	}
	r := rehearse(t, engine, func(job *common.Job) { job.Spec.Services = []spec.Image{{Name: "redis:7"}} })
	err := r.Prepare(t.Context())
	require.ErrorContains(t, err, "manifest unknown")
	require.Equal(t, common.RunnerConfigurationError, common.ReasonOf(err))
	<-blocked
	require.NoError(t, r.Cleanup(t.Context()))
	require.Empty(t, engine.containers)
}

func TestARefusedContainerIsAFaultOfTheConfiguration(t *testing.T) {
	engine := has(newFakeEngine(shell), "ruby:3")
	engine.fail["create build"] = fmt.Errorf("unknown runtime: %w", errdefs.ErrInvalidArgument)
	r := rehearse(t, engine, nil)
	require.NoError(t, r.Prepare(t.Context()))
	require.Equal(t, common.RunnerConfigurationError, common.ReasonOf(r.script(t.Context(), "exit 0\n")))
	require.NoError(t, r.Cleanup(t.Context()))
}

func TestCleanupGoesOnAfterAFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		engine := has(newFakeEngine(shell), "ruby:3")
		r := rehearse(t, engine, nil)
		require.NoError(t, r.Prepare(t.Context()))
		require.NoError(t, r.script(t.Context(), "exit 0\n"))
		engine.fail["remove build"] = errors.New("busy")
		time.AfterFunc(500*time.Millisecond, func() {
			engine.mu.Lock()
			defer engine.mu.Unlock()
			delete(engine.fail, "remove build")
		})
		require.NoError(t, r.Cleanup(t.Context()))
		require.Empty(t, engine.containers)
	})
}

func TestAMachineIsUntidyAfterAFailedCleanup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		engine := has(newFakeEngine(shell), "ruby:3")
		r := rehearse(t, engine, nil)
		require.NoError(t, r.Prepare(t.Context()))
		require.NoError(t, r.script(t.Context(), "exit 0\n"))
		engine.fail["remove build"] = errors.New("busy")
		require.ErrorContains(t, r.Cleanup(t.Context()), "failed to remove container")
		require.True(t, r.machine.untidy)
	})
}

func TestAServiceThatEndsIsNotWaitedForAnyLonger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		engine := has(newFakeEngine(func(args []string, streams *fakeIO) int {
			switch {
			case slices.Contains(args, "health-check"):
				_, _ = io.Copy(io.Discard, streams.stdin)
				return 1
			case slices.Contains(args, "crash"):
				time.Sleep(time.Second)
				return 3
			default:
				return shell(args, streams)
			}
		}), "ruby:3", "redis:7", helperName)
		r := rehearse(t, engine, func(job *common.Job) {
			job.Spec.Services = []spec.Image{{
				Name: "redis:7", Command: []string{"soon", "crash"},
				Variables: []spec.Variable{{Key: healthPort, Value: "6379"}},
			}}
		})
		begin := time.Now()
		require.NoError(t, r.Prepare(t.Context()))
		require.Equal(t, time.Second, time.Since(begin))
		require.Contains(t, r.log.String(), "-redis-0\" ended with exit code 3\n\nService container logs:\nwhat the service printed")
		require.NoError(t, r.Cleanup(t.Context()))
	})
}

func TestServicePorts(t *testing.T) {
	cases := map[string]struct {
		image container.Config
		own   []string
		want  []int
		err   string
	}{
		"exposed":        {image: container.Config{ExposedPorts: nat.PortSet{"6379/tcp": {}, "53/udp": {}, "80/tcp": {}}}, want: []int{80, 6379}},
		"selected":       {image: container.Config{ExposedPorts: nat.PortSet{"80/tcp": {}}}, own: []string{"healthcheck_tcp_port=8080"}, want: []int{8080}},
		"by the image":   {image: container.Config{Env: []string{"HEALTHCHECK_TCP_PORT=81"}}, want: []int{81}},
		"own wins":       {image: container.Config{Env: []string{"HEALTHCHECK_TCP_PORT=81"}}, own: []string{"HEALTHCHECK_TCP_PORT=82"}, want: []int{82}},
		"not a number":   {own: []string{"HEALTHCHECK_TCP_PORT=http"}, err: "invalid health check tcp port: http"},
		"nothing at all": {},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			one := &service{}
			one.Container.Config = &container.Config{Env: c.own}
			one.image.Env = c.image.Env
			for port := range c.image.ExposedPorts {
				one.image.Ports = append(one.image.Ports, string(port))
			}
			ports, err := one.ports()
			if c.err != "" {
				require.EqualError(t, err, c.err)
				return
			}
			require.NoError(t, err)
			require.ElementsMatch(t, c.want, ports)
		})
	}
}
