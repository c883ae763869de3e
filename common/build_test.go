package common_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/stretchr/testify/require"

	"gitlab.com/gitlab-org/gitlab-runner/common"
	"gitlab.com/gitlab-org/gitlab-runner/common/config"
	"gitlab.com/gitlab-org/gitlab-runner/common/plan"
	"gitlab.com/gitlab-org/gitlab-runner/common/spec"
	"gitlab.com/gitlab-org/gitlab-runner/helpers/version"
	"gitlab.com/gitlab-org/gitlab-runner/tests/transcript"
)

// trace records a job's log and lets a test cancel the job.
type trace struct {
	transcript.Log
	cancel, abort func()
}

func (t *trace) OnCancel(f func()) { t.cancel = f }
func (t *trace) OnAbort(f func())  { t.abort = f }

// machine is a fake of a slot and its executors. It records what it is asked to do, in order.
type machine struct {
	mu    sync.Mutex
	calls []string
	plans map[string]*plan.Plan
	// on holds what a call does; the key is connect, prepare or a stage's name.
	on map[string]func(ctx context.Context, s common.Stage) error
	// helper is closed when the helper is ready; nil means with Prepare.
	helper chan struct{}
	lost   chan error
	// others says that a machine that is lost can be replaced.
	others  bool
	scripts map[string]string
	// shell is bash unless it is named.
	shell string
}

func newMachine() *machine {
	return &machine{
		on: map[string]func(context.Context, common.Stage) error{}, plans: map[string]*plan.Plan{},
		lost: make(chan error, 1), scripts: map[string]string{}, shell: "bash",
	}
}

func (m *machine) record(call string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.calls = append(m.calls, call)
}

func (m *machine) done() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.calls)
}

func (m *machine) do(ctx context.Context, call string, s common.Stage) error {
	m.record(call)
	if f := m.on[call]; f != nil {
		return f(ctx, s)
	}
	return nil
}

func (m *machine) NewExecutor(*common.Job) common.Executor { return &executor{machine: m} }

func (m *machine) Watch(ctx context.Context) (context.Context, context.CancelFunc) {
	watched, cancel := context.WithCancelCause(ctx)
	go func() {
		select {
		case err := <-m.lost:
			cancel(err)
		case <-watched.Done():
		}
	}()
	return watched, func() { cancel(context.Canceled) }
}

func (m *machine) Renew(error) bool {
	m.record("renew")
	return m.others
}

func (m *machine) Release() {}

type executor struct{ machine *machine }

func (e *executor) Connect(ctx context.Context) (common.Machine, error) {
	return common.Machine{OS: "linux", Shell: e.machine.shell, Hostname: "host-1", BuildsDir: "/builds", CacheDir: "/cache"},
		e.machine.do(ctx, "connect", common.Stage{})
}

func (e *executor) Prepare(ctx context.Context) error {
	return e.machine.do(ctx, "prepare", common.Stage{})
}

func (e *executor) HelperReady() <-chan struct{} { return e.machine.helper }

func (e *executor) OpenTerminal(context.Context) (io.ReadWriteCloser, error) {
	return nil, errors.New("there is no terminal here")
}

func (e *executor) Run(ctx context.Context, s common.Stage) error {
	e.machine.mu.Lock()
	e.machine.plans[s.Name] = s.Plan
	e.machine.scripts[s.Name] = s.Script
	e.machine.mu.Unlock()
	return e.machine.do(ctx, s.Name, s)
}

func (e *executor) Cleanup(ctx context.Context) error {
	if ctx.Err() != nil {
		return errors.New("clean-up was given a dead context")
	}
	return e.machine.do(ctx, "cleanup", common.Stage{})
}

func fullJob() *spec.Job {
	return &spec.Job{
		ID: 42, Token: "glcbt-job", AllowGitFetch: true,
		Info:         spec.JobInfo{Name: "unit", ProjectID: 7},
		Git:          spec.GitInfo{RepoURL: "https://gitlab-ci-token:glcbt-job@gitlab.example.com/grp/app.git", Ref: "main", Sha: "abc"},
		Runner:       spec.RunnerInfo{Timeout: 600},
		Variables:    []spec.Variable{{Key: "SECRET", Value: "hunter2hunter2", Masked: true}, {Key: "FF_TIMESTAMPS", Value: "false"}},
		Steps:        []spec.Step{{Name: "script", Script: []string{"make"}}, {Name: "after_script", Script: []string{"report"}}},
		Cache:        []spec.Cache{{Key: "k", Paths: []string{"c/"}, When: spec.WhenAlways}},
		Artifacts:    []spec.Artifact{{Paths: []string{"bin/"}, When: spec.WhenAlways}},
		Dependencies: []spec.Dependency{{ID: 1, Name: "build", Token: "t", ArtifactsFile: spec.ArtifactsFile{Filename: "a.zip"}}},
		Features:     spec.GitLabFeatures{TraceSections: true},
	}
}

func newBuild(job *spec.Job, m *machine, t *trace) *common.Build {
	return newBuildOf(job, m, t, func(*common.BuildOptions) {})
}

// newBuildOf returns a build whose options a test changed.
func newBuildOf(job *spec.Job, m *machine, t *trace, change func(*common.BuildOptions)) *common.Build {
	log := logrus.New()
	log.SetOutput(io.Discard)
	options := common.BuildOptions{
		Job: job, Slot: m, Trace: t, Log: log, Hostname: "manager",
		Runner:  &config.Runner{Name: "r", Token: "glrt-t1_abcdefghijk", URL: "https://gitlab.example.com", Executor: "docker-autoscaler", SystemID: "s_0123456789ab"},
		Version: version.Info{Name: "gitlab-runner", Version: "1.2.3", Revision: "abcd", OS: "linux", Arch: "amd64"},
	}
	change(&options)
	return common.NewBuild(options)
}

var wholeJob = []string{
	"connect", "prepare", "get_sources", "restore_cache", "download_artifacts", "step_script", "after_script",
	"archive_cache", "upload_artifacts_on_success", "cleanup_file_variables", "cleanup",
}

func TestAJobRunsItsStagesInOrder(t *testing.T) {
	m, tr := newMachine(), &trace{}
	m.on["step_script"] = func(_ context.Context, s common.Stage) error {
		_, err := fmt.Fprintln(s.Stdout, "the secret is hunter2hunter2")
		return err
	}
	result := newBuild(fullJob(), m, tr).Run(context.Background())

	require.NoError(t, result.Err)
	require.Equal(t, common.Success, result.State)
	require.Equal(t, wholeJob, m.done())
	text := regexp.MustCompile(`:\d{9,}:`).ReplaceAllString(tr.String(), ":T:")
	require.Equal(t, strings.Join([]string{
		"\x1b[0KRunning with gitlab-runner 1.2.3 (abcd)\x1b[0;m\n",
		"\x1b[0K  on r abcdefghi, system ID: s_0123456789ab\x1b[0;m\n",
		"\x1b[0K  feature flags: FF_TIMESTAMPS:false\x1b[0;m\n",
		"section_start:T:prepare_executor\r\x1b[0K\x1b[0K\x1b[36;1mPreparing the \"docker-autoscaler\" executor\x1b[0;m\x1b[0;m\n",
		"section_end:T:prepare_executor\r\x1b[0K",
		"section_start:T:prepare_script\r\x1b[0K\x1b[0K\x1b[36;1mPreparing environment\x1b[0;m\x1b[0;m\n",
		"Running on host-1 via manager...\n",
		"section_end:T:prepare_script\r\x1b[0K",
		"section_start:T:get_sources\r\x1b[0K\x1b[0K\x1b[36;1mGetting source from Git repository\x1b[0;m\x1b[0;m\n",
		"section_end:T:get_sources\r\x1b[0K",
		"section_start:T:restore_cache\r\x1b[0K\x1b[0K\x1b[36;1mRestoring cache\x1b[0;m\x1b[0;m\n",
		"section_end:T:restore_cache\r\x1b[0K",
		"section_start:T:download_artifacts\r\x1b[0K\x1b[0K\x1b[36;1mDownloading artifacts\x1b[0;m\x1b[0;m\n",
		"section_end:T:download_artifacts\r\x1b[0K",
		"section_start:T:step_script\r\x1b[0K\x1b[0K\x1b[36;1mExecuting \"step_script\" stage of the job script\x1b[0;m\x1b[0;m\n",
		"the secret is [MASKED]\n",
		"section_end:T:step_script\r\x1b[0K",
		"section_start:T:after_script\r\x1b[0K\x1b[0K\x1b[36;1mRunning after_script\x1b[0;m\x1b[0;m\n",
		"section_end:T:after_script\r\x1b[0K",
		"section_start:T:archive_cache\r\x1b[0K\x1b[0K\x1b[36;1mSaving cache for successful job\x1b[0;m\x1b[0;m\n",
		"section_end:T:archive_cache\r\x1b[0K",
		"section_start:T:upload_artifacts_on_success\r\x1b[0K\x1b[0K\x1b[36;1mUploading artifacts for successful job\x1b[0;m\x1b[0;m\n",
		"section_end:T:upload_artifacts_on_success\r\x1b[0K",
		"section_start:T:cleanup_file_variables\r\x1b[0K\x1b[0K\x1b[36;1mCleaning up project directory and file based variables\x1b[0;m\x1b[0;m\n",
		"section_end:T:cleanup_file_variables\r\x1b[0K",
		"\x1b[32;1mJob succeeded\x1b[0;m\n",
	}, ""), text)
}

func TestAJobOfNothingButAScriptRunsNothingElse(t *testing.T) {
	m, tr := newMachine(), &trace{}
	job := fullJob()
	job.Cache, job.Artifacts, job.Dependencies = nil, nil, nil
	job.Steps = job.Steps[:1]
	job.Variables = append(job.Variables, spec.Variable{Key: "GIT_STRATEGY", Value: "none"})
	result := newBuild(job, m, tr).Run(context.Background())
	require.NoError(t, result.Err)
	require.Equal(t, []string{"connect", "prepare", "step_script", "cleanup"}, m.done())
	require.Contains(t, tr.String(), "Skipping Git repository setup")
}

func TestAFailureIsFollowedByWhatIsDueAfterFailures(t *testing.T) {
	onFailure := []string{"archive_cache_on_failure", "upload_artifacts_on_failure", "cleanup_file_variables", "cleanup"}
	upTo := func(stages ...string) []string {
		return append(append([]string{"connect", "prepare"}, stages...), onFailure...)
	}
	for stage, want := range map[string][]string{
		"get_sources":        upTo("get_sources"),
		"download_artifacts": upTo("get_sources", "restore_cache", "download_artifacts"),
		"step_script":        upTo("get_sources", "restore_cache", "download_artifacts", "step_script", "after_script"),
	} {
		t.Run(stage, func(t *testing.T) {
			m, tr := newMachine(), &trace{}
			m.on[stage] = func(context.Context, common.Stage) error { return common.ExitError(3) }
			result := newBuild(fullJob(), m, tr).Run(context.Background())
			require.Equal(t, common.Failed, result.State)
			require.Equal(t, common.ScriptFailure, result.Reason)
			require.Equal(t, 3, result.ExitCode)
			require.Equal(t, want, m.done())
			require.Contains(t, tr.String(), "\x1b[31;1mERROR: Job failed: exit code 3\x1b[0;m\n")
		})
	}
}

func TestAFailedAfterScriptDoesNotFailTheJobUnlessAsked(t *testing.T) {
	for ignore, want := range map[string]common.State{"true": common.Success, "false": common.Failed} {
		m, tr := newMachine(), &trace{}
		m.on["after_script"] = func(context.Context, common.Stage) error { return common.ExitError(1) }
		job := fullJob()
		job.Variables = append(job.Variables, spec.Variable{Key: "AFTER_SCRIPT_IGNORE_ERRORS", Value: ignore})
		require.Equal(t, want, newBuild(job, m, tr).Run(context.Background()).State)
	}
}

func TestAfterScriptLearnsHowTheScriptEnded(t *testing.T) {
	m, tr := newMachine(), &trace{}
	m.on["step_script"] = func(context.Context, common.Stage) error { return common.ExitError(1) }
	newBuild(fullJob(), m, tr).Run(context.Background())
	require.Contains(t, m.scripts["after_script"], `export CI_JOB_STATUS='\''failed'\''`)
	require.Contains(t, m.scripts["step_script"], `export CI_JOB_STATUS='\''running'\''`)
}

func TestAFailedUploadFailsTheJob(t *testing.T) {
	m, tr := newMachine(), &trace{}
	m.on["upload_artifacts_on_success"] = func(context.Context, common.Stage) error { return common.ExitError(1) }
	require.Equal(t, common.Failed, newBuild(fullJob(), m, tr).Run(context.Background()).State)
}

func TestPreparationIsTriedThreeTimesWithACleanUpAfterEach(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, tr := newMachine(), &trace{}
		m.on["prepare"] = func(context.Context, common.Stage) error { return errors.New("no route to engine") }
		started := time.Now()
		result := newBuild(fullJob(), m, tr).Run(context.Background())
		require.Equal(t, common.RunnerSystemFailure, result.Reason)
		require.Equal(t, []string{"connect", "prepare", "cleanup", "connect", "prepare", "cleanup", "connect", "prepare", "cleanup"}, m.done())
		require.Equal(t, 6*time.Second, time.Since(started))
		require.Equal(t, 3, strings.Count(tr.String(), "ERROR: Preparation failed: no route to engine"))
		require.Contains(t, tr.String(), "Will be retried in 3s ...")
		require.Contains(t, tr.String(), "ERROR: Job failed (system failure): no route to engine")
	})
}

func TestAPreparationThatFailedForAKnownReasonIsNotRepeated(t *testing.T) {
	m, tr := newMachine(), &trace{}
	m.on["prepare"] = func(context.Context, common.Stage) error {
		return common.Fail(common.ImagePullFailure, errors.New("manifest is broken"))
	}
	result := newBuild(fullJob(), m, tr).Run(context.Background())
	require.Equal(t, common.ImagePullFailure, result.Reason)
	require.Equal(t, []string{"connect", "prepare", "cleanup"}, m.done())
}

func TestACancelledScriptIsStillFollowedByAfterScript(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, tr := newMachine(), &trace{}
		m.on["step_script"] = func(ctx context.Context, _ common.Stage) error {
			tr.cancel()
			<-ctx.Done()
			return context.Cause(ctx)
		}
		result := newBuild(fullJob(), m, tr).Run(context.Background())
		require.Equal(t, common.Canceled, result.State)
		require.Equal(t, common.JobCanceled, result.Reason)
		require.Equal(t, []string{
			"connect", "prepare", "get_sources", "restore_cache", "download_artifacts", "step_script", "after_script",
			"archive_cache_on_failure", "upload_artifacts_on_failure", "cleanup_file_variables", "cleanup",
		}, m.done())
		require.Contains(t, tr.String(), "script canceled externally (UI, API)")
		require.Contains(t, tr.String(), "ERROR: Job failed: canceled")
		require.Contains(t, m.scripts["after_script"], "canceled")
	})
}

func TestACancelBeforeTheScriptEndsTheJob(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, tr := newMachine(), &trace{}
		m.on["get_sources"] = func(ctx context.Context, _ common.Stage) error {
			tr.cancel()
			<-ctx.Done()
			return context.Cause(ctx)
		}
		result := newBuild(fullJob(), m, tr).Run(context.Background())
		require.Equal(t, common.Canceled, result.State)
		require.Equal(t, []string{"connect", "prepare", "get_sources", "cleanup"}, m.done())
	})
}

func TestWhatEndsTheWholeJobLeavesOnlyTheCleanUp(t *testing.T) {
	interrupted := common.Fail(common.RunnerInterrupted, errors.New("aborted: terminated"))
	tests := map[string]struct {
		end    func(m *machine, tr *trace, stop context.CancelCauseFunc)
		reason common.FailureReason
		state  common.State
		text   string
	}{
		"abort":     {func(_ *machine, tr *trace, _ context.CancelCauseFunc) { tr.abort() }, common.JobCanceled, common.Canceled, "Job failed: canceled"},
		"timeout":   {func(*machine, *trace, context.CancelCauseFunc) {}, common.JobExecutionTimeout, common.TimedOut, "Job failed: execution took longer than 10m0s seconds"},
		"interrupt": {func(_ *machine, _ *trace, stop context.CancelCauseFunc) { stop(interrupted) }, common.RunnerInterrupted, common.Terminated, "Job failed: aborted: terminated"},
		"lost":      {func(m *machine, _ *trace, _ context.CancelCauseFunc) { m.lost <- errors.New("instance i-1 was lost") }, common.RunnerSystemFailure, common.Failed, "Job failed (system failure): instance i-1 was lost"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, stop := context.WithCancelCause(context.Background())
				defer stop(nil)
				m, tr := newMachine(), &trace{}
				m.on["step_script"] = func(ctx context.Context, _ common.Stage) error {
					test.end(m, tr, stop)
					<-ctx.Done()
					return fmt.Errorf("stage was stopped: %w", context.Cause(ctx))
				}
				result := newBuild(fullJob(), m, tr).Run(ctx)
				require.Equal(t, test.reason, result.Reason)
				require.Equal(t, test.state, result.State)
				require.Equal(t, []string{"connect", "prepare", "get_sources", "restore_cache", "download_artifacts", "step_script", "cleanup"}, m.done())
				require.Contains(t, tr.String(), test.text)
			})
		})
	}
}

func TestSourcesAreFetchedWhileTheImageIsStillBeingPulled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, tr := newMachine(), &trace{}
		m.helper = make(chan struct{})
		m.on["prepare"] = func(context.Context, common.Stage) error {
			close(m.helper)
			time.Sleep(10 * time.Second)
			return nil
		}
		m.on["get_sources"] = func(_ context.Context, s common.Stage) error {
			_, _ = fmt.Fprintln(s.Stdout, "first half")
			time.Sleep(11 * time.Second)
			_, err := fmt.Fprintln(s.Stdout, "second half")
			return err
		}
		started := time.Now()
		result := newBuild(fullJob(), m, tr).Run(context.Background())
		require.NoError(t, result.Err)
		require.Equal(t, 11*time.Second, time.Since(started))
		require.Regexp(t, `(?s)section_end:\d+:prepare_executor.*section_end:\d+:prepare_script.*section_start:\d+:get_sources.*first half\nsecond half\n.*section_end:\d+:get_sources`, tr.String())
	})
}

func TestSourcesThatWereBegunEarlyAreForgottenWhenThePreparationFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, tr := newMachine(), &trace{}
		m.helper = make(chan struct{})
		close(m.helper)
		m.on["prepare"] = func(context.Context, common.Stage) error {
			time.Sleep(time.Second)
			return common.Fail(common.ImagePullFailure, errors.New("no such image"))
		}
		m.on["get_sources"] = func(ctx context.Context, s common.Stage) error {
			_, _ = fmt.Fprintln(s.Stdout, "cloning")
			<-ctx.Done()
			return context.Cause(ctx)
		}
		result := newBuild(fullJob(), m, tr).Run(context.Background())
		require.Equal(t, common.ImagePullFailure, result.Reason)
		require.NotContains(t, tr.String(), "cloning")
		require.Equal(t, "cleanup", m.done()[len(m.done())-1])
	})
}

func TestASecondAttemptAtSourcesClearsTheWorktreeFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, tr := newMachine(), &trace{}
		tries := 0
		m.on["get_sources"] = func(context.Context, common.Stage) error {
			if tries++; tries < 3 {
				return common.ExitError(128)
			}
			return nil
		}
		job := fullJob()
		job.Variables = append(job.Variables, spec.Variable{Key: "GET_SOURCES_ATTEMPTS", Value: "3"})
		result := newBuild(job, m, tr).Run(context.Background())
		require.NoError(t, result.Err)
		require.Equal(t, []string{"get_sources", "clear_worktree", "get_sources", "get_sources"}, m.done()[2:6])
	})
}

func TestAScriptTimeoutIsFollowedByAfterScript(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, tr := newMachine(), &trace{}
		m.on["step_script"] = func(ctx context.Context, _ common.Stage) error {
			<-ctx.Done()
			return context.Cause(ctx)
		}
		job := fullJob()
		job.Variables = append(job.Variables, spec.Variable{Key: "RUNNER_SCRIPT_TIMEOUT", Value: "90s"})
		result := newBuild(job, m, tr).Run(context.Background())
		require.Equal(t, common.JobExecutionTimeout, result.Reason)
		require.Contains(t, m.done(), "after_script")
		require.Contains(t, tr.String(), "step_script could not run to completion because the timeout was exceeded")
		require.Contains(t, tr.String(), "Job failed: script timeout: exceeded timeout of 1m30s")
	})
}

func TestAPanicFailsTheJobAndStillCleansUp(t *testing.T) {
	m, tr := newMachine(), &trace{}
	m.on["step_script"] = func(context.Context, common.Stage) error { panic("boom") }
	result := newBuild(fullJob(), m, tr).Run(context.Background())
	require.Equal(t, common.RunnerSystemFailure, result.Reason)
	require.ErrorContains(t, result.Err, "panic: boom")
	require.Equal(t, "cleanup", m.done()[len(m.done())-1])
}

func TestWhatCannotBeDoneIsRefusedBeforeAnythingIsMade(t *testing.T) {
	for name, change := range map[string]func(*spec.Job){
		"unsupported image option": func(j *spec.Job) {
			j.Image = &spec.Image{ExecutorOpts: spec.ExecutorOpts{Unsupported: []string{"docker.foo"}}}
		},
		"script and run": func(j *spec.Job) { j.Run = `[{"name":"x"}]` },
	} {
		t.Run(name, func(t *testing.T) {
			m, tr := newMachine(), &trace{}
			job := fullJob()
			change(job)
			result := newBuild(job, m, tr).Run(context.Background())
			require.Equal(t, common.RunnerSystemFailure, result.Reason)
			require.Equal(t, 3, result.ExitCode)
			require.Empty(t, m.done())
		})
	}
}

func TestPlansCarryNoCredentialWhereItCouldBeSeen(t *testing.T) {
	m, tr := newMachine(), &trace{}
	newBuild(fullJob(), m, tr).Run(context.Background())
	s := m.plans["get_sources"].Sources
	require.Equal(t, "https://gitlab.example.com/grp/app.git", s.RemoteURL)
	require.Equal(t, "https://gitlab-ci-token:glcbt-job@gitlab.example.com/grp/app.git", s.RemoteURLWithCredentials)
	require.Equal(t, []string{"https://gitlab.example.com"}, s.CredentialHosts)
	require.Equal(t, "/builds/grp/app", m.plans["get_sources"].ProjectDir)
	require.Equal(t, "/builds/grp/app.tmp", m.plans["get_sources"].TmpDir)
	require.Equal(t, "/cache/grp/app/k/cache.zip", m.plans["restore_cache"].RestoreCaches[0].Keys[0].File)
}

func TestWhatAScriptNamesIsHiddenInTheRestOfTheJob(t *testing.T) {
	for _, on := range []bool{true, false} {
		m, tr := newMachine(), &trace{}
		m.on["step_script"] = func(_ context.Context, s common.Stage) error {
			_, err := fmt.Fprint(s.Stdout, "::add-mask::made-up-token\nlogged in with made-up-token\n")
			return err
		}
		m.on["after_script"] = func(_ context.Context, s common.Stage) error {
			_, err := fmt.Fprint(s.Stderr, "logged out with made-up-token\n")
			return err
		}
		build := newBuildOf(fullJob(), m, tr, func(o *common.BuildOptions) { o.Runner.ProxyExec = &on })
		require.NoError(t, build.Run(context.Background()).Err)
		log := tr.String()
		if on {
			require.Contains(t, log, "logged in with [MASKED]\n")
			require.Contains(t, log, "logged out with [MASKED]\n")
			require.NotContains(t, log, "made-up-token")
		} else {
			require.Contains(t, log, "::add-mask::made-up-token\nlogged in with made-up-token\n")
		}
	}
}
