package common_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/gitlab-org/gitlab-runner/common"
	"gitlab.com/gitlab-org/gitlab-runner/common/spec"
)

func untilItsEnd(ctx context.Context, _ common.Stage) error {
	<-ctx.Done()
	return context.Cause(ctx)
}

func with(job *spec.Job, pairs ...string) *spec.Job {
	for i := 0; i < len(pairs); i += 2 {
		job.Variables = append(job.Variables, spec.Variable{Key: pairs[i], Value: pairs[i+1]})
	}
	return job
}

func TestAStageThatDoesNotReturnIsLeftToTheCleanUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, tr := newMachine(), &trace{}
		cleaned := make(chan struct{})
		m.on["step_script"] = func(context.Context, common.Stage) error { <-cleaned; return nil }
		m.on["cleanup"] = func(context.Context, common.Stage) error { close(cleaned); return nil }
		started := time.Now()
		result := newBuild(fullJob(), m, tr).Run(context.Background())
		require.Equal(t, common.TimedOut, result.State)
		require.Equal(t, 15*time.Minute, time.Since(started))
		require.Equal(t, "cleanup", m.done()[len(m.done())-1])
		require.NotContains(t, m.done(), "after_script")
	})
}

func TestAStageThatNeverReturnsDoesNotHoldTheJob(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, tr := newMachine(), &trace{}
		forever := make(chan struct{})
		m.on["step_script"] = func(context.Context, common.Stage) error { <-forever; return nil }
		result := newBuild(fullJob(), m, tr).Run(context.Background())
		require.Equal(t, common.TimedOut, result.State)
		close(forever)
	})
}

func TestPanicsAnywhereEndTheJobAndNothingElse(t *testing.T) {
	for _, call := range []string{"connect", "prepare", "get_sources", "step_script", "after_script", "archive_cache"} {
		t.Run(call, func(t *testing.T) {
			m, tr := newMachine(), &trace{}
			m.on[call] = func(context.Context, common.Stage) error { panic("boom") }
			result := newBuild(with(fullJob(), "AFTER_SCRIPT_IGNORE_ERRORS", "false"), m, tr).Run(context.Background())
			require.Equal(t, common.RunnerSystemFailure, result.Reason)
			require.Equal(t, common.Terminated, result.State)
			require.ErrorContains(t, result.Err, "panic: boom")
			require.Equal(t, "cleanup", m.done()[len(m.done())-1])
		})
	}
}

func TestAPanicOfSourcesThatWereBegunEarlyIsAnError(t *testing.T) {
	m, tr := newMachine(), &trace{}
	m.helper = make(chan struct{})
	m.on["prepare"] = func(context.Context, common.Stage) error { close(m.helper); return nil }
	m.on["get_sources"] = func(context.Context, common.Stage) error { panic("boom") }
	result := newBuild(fullJob(), m, tr).Run(context.Background())
	require.ErrorContains(t, result.Err, "panic: boom")
}

func TestALimitLongerThanTheJobIsToldAndIgnored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, tr := newMachine(), &trace{}
		m.on["step_script"] = untilItsEnd
		result := newBuild(with(fullJob(), "RUNNER_SCRIPT_TIMEOUT", "1h"), m, tr).Run(context.Background())
		require.ErrorContains(t, result.Err, "execution took longer than 10m0s seconds")
		require.Contains(t, tr.String(), "RUNNER_SCRIPT_TIMEOUT: 1h0m0s is longer than the 10m0s that are left")
		require.NotContains(t, m.done(), "after_script")
	})
}

func TestAnAfterScriptThatTakesTooLongIsAFailedOne(t *testing.T) {
	for ignore, want := range map[string]common.Result{
		"true":  {State: common.Success},
		"false": {State: common.Failed, Reason: common.ScriptFailure},
	} {
		synctest.Test(t, func(t *testing.T) {
			m, tr := newMachine(), &trace{}
			m.on["after_script"] = untilItsEnd
			started := time.Now()
			result := newBuild(with(fullJob(), "AFTER_SCRIPT_IGNORE_ERRORS", ignore), m, tr).Run(context.Background())
			require.Equal(t, want.State, result.State)
			require.Equal(t, want.Reason, result.Reason)
			require.Equal(t, 5*time.Minute, time.Since(started))
			require.Contains(t, tr.String(), "after_script could not run to completion because the timeout was exceeded")
		})
	}
}

func TestTheLimitsOfTheConfiguration(t *testing.T) {
	second, hour := time.Second, time.Hour
	tests := map[string]struct {
		prepare, sources *time.Duration
		slow             string
		text             string
		calls            []string
	}{
		"prepare":             {prepare: &second, slow: "prepare", text: "prepare timeout: exceeded timeout of 1s", calls: []string{"connect", "prepare", "cleanup"}},
		"get_sources":         {sources: &second, slow: "get_sources", text: "get sources timeout: exceeded timeout of 1s", calls: []string{"connect", "prepare", "get_sources", "cleanup"}},
		"longer than the job": {sources: &hour, slow: "get_sources", text: "execution took longer than 10m0s seconds", calls: []string{"connect", "prepare", "get_sources", "cleanup"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m, tr := newMachine(), &trace{}
				m.on[test.slow] = untilItsEnd
				b := newBuildOf(fullJob(), m, tr, func(o *common.BuildOptions) {
					o.Runner.PrepareTimeout, o.Runner.GetSourcesTimeout = test.prepare, test.sources
				})
				result := b.Run(context.Background())
				require.Equal(t, common.JobExecutionTimeout, result.Reason)
				require.ErrorContains(t, result.Err, test.text)
				require.Equal(t, test.calls, m.done())
			})
		})
	}
}

func TestPausesBetweenAttemptsGrow(t *testing.T) {
	for flag, limits := range map[string][2]time.Duration{
		"true":  {(5 + 10 + 20) * time.Second, (5 + 10 + 20) * time.Second * 5 / 4},
		"false": {(1 + 2 + 4) * time.Second, (1 + 2 + 5) * time.Second * 5 / 4},
	} {
		synctest.Test(t, func(t *testing.T) {
			m, tr := newMachine(), &trace{}
			m.on["restore_cache"] = func(context.Context, common.Stage) error { return errors.New("no") }
			started := time.Now()
			job := with(fullJob(), "RESTORE_CACHE_ATTEMPTS", "4", "FF_USE_EXPONENTIAL_BACKOFF_STAGE_RETRY", flag)
			newBuild(job, m, tr).Run(context.Background())
			require.GreaterOrEqual(t, time.Since(started), limits[0])
			require.LessOrEqual(t, time.Since(started), limits[1])
		})
	}
}

func TestAMachineThatIsLostWhileItIsPreparedIsReplaced(t *testing.T) {
	lost := errors.New("instance i-1 was lost")
	for name, c := range map[string]struct {
		// losses is how many machines are lost, one after the other.
		losses int
		others bool
		hooks  bool
		// sources says that get_sources had begun.
		sources bool
		want    common.FailureReason
		calls   []string
	}{
		"and the job goes on":                     {losses: 1, others: true, calls: []string{"connect", "prepare", "cleanup", "renew", "connect", "prepare", "step_script"}},
		"twice":                                   {losses: 2, others: true, calls: []string{"prepare", "cleanup", "renew", "prepare", "cleanup", "renew", "prepare", "step_script"}},
		"but not for ever":                        {losses: 3, others: true, want: common.RunnerSystemFailure, calls: []string{"renew", "renew", "prepare", "cleanup"}},
		"unless there is no other":                {losses: 1, want: common.RunnerSystemFailure, calls: []string{"prepare", "cleanup", "renew"}},
		"while sources are fetched":               {losses: 1, others: true, sources: true, calls: []string{"get_sources", "cleanup", "renew", "prepare", "step_script"}},
		"unless hooks of the user's may have run": {losses: 1, others: true, sources: true, hooks: true, want: common.RunnerSystemFailure, calls: []string{"get_sources", "cleanup"}},
	} {
		t.Run(name, func(t *testing.T) {
			m, tr := newMachine(), &trace{}
			m.others = c.others
			begun := make(chan struct{}, 9)
			m.on["get_sources"] = func(ctx context.Context, _ common.Stage) error {
				begun <- struct{}{}
				return nil
			}
			losses := 0
			m.on["prepare"] = func(ctx context.Context, _ common.Stage) error {
				if c.sources {
					<-begun
				}
				if losses++; losses > c.losses {
					return nil
				}
				m.lost <- lost
				<-ctx.Done()
				return context.Cause(ctx)
			}
			if c.sources {
				m.helper = make(chan struct{})
				close(m.helper)
			}
			job := fullJob()
			if c.hooks {
				job.Hooks = []spec.Hook{{Name: "pre_get_sources_script", Script: []string{"true"}}}
			}
			result := newBuild(job, m, tr).Run(context.Background())
			require.Equal(t, c.want, result.Reason, tr.String())
			if c.want == "" {
				require.NoError(t, result.Err)
				require.Contains(t, tr.String(), "The machine was lost before anything of the job had run on it, trying another one: instance i-1 was lost")
			} else {
				require.ErrorIs(t, result.Err, lost)
			}
			require.Empty(t, missing(m.done(), c.calls))
		})
	}
}

// missing is what of want does not follow in this order among the calls.
func missing(calls, want []string) []string {
	for _, call := range calls {
		if len(want) > 0 && call == want[0] {
			want = want[1:]
		}
	}
	return want
}
