package autoscaler_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	dummy "gitlab.com/gitlab-org/fleeting/fleeting/plugin/fleeting-plugin-dummy"
	"gitlab.com/gitlab-org/fleeting/fleeting/provider"
	"gitlab.com/gitlab-org/gitlab-runner/common/config"
	"gitlab.com/gitlab-org/gitlab-runner/helpers/diagnosis"
	"gitlab.com/gitlab-org/gitlab-runner/helpers/plugindir"
)

func TestAnExaminationSaysHowFarJobsWouldCome(t *testing.T) {
	for name, test := range map[string]struct {
		prepare func(*fleet, *config.Runner)
		create  bool
		want    []string
	}{
		"all is well": {
			prepare: func(f *fleet, _ *config.Runner) { f.group.Add("i-1", provider.StateRunning) },
			want:    []string{"ok plugin", "ok group: instances: 1 running", "ok instance: connected to i-1", "ok fake: examined on i-1"},
		},
		"no autoscaler": {
			prepare: func(_ *fleet, r *config.Runner) { r.Autoscaler = nil },
			want:    []string{"fail plugin: the table [runners.autoscaler] is missing"},
		},
		"no plugin": {
			prepare: func(f *fleet, _ *config.Runner) { f.launch = fmt.Errorf("loading: %w", plugindir.ErrNotFound) },
			want:    []string{"fail plugin: loading: plugin not found -> run gitlab-runner fleeting install"},
		},
		"a plugin that does not start": {
			prepare: func(f *fleet, _ *config.Runner) { f.launch = errors.New("exec format error") },
			want:    []string{"fail plugin: exec format error -> run the plugin by hand"},
		},
		"a small group": {
			prepare: func(_ *fleet, r *config.Runner) { r.Autoscaler.MaxInstances = 50 },
			want:    []string{"ok plugin", "warn group: ", "ok group: no instances", "warn instance: no instance is running"},
		},
		"an unreadable group": {
			prepare: func(f *fleet, _ *config.Runner) { f.group.SetFault("Update", dummy.Fault{Error: "access denied"}) },
			want:    []string{"ok plugin", "fail group: listing the instances: access denied -> check the plugin's credentials"},
		},
		"an unreachable instance": {
			prepare: func(f *fleet, _ *config.Runner) { f.group.Add("i-1", provider.StateRunning); f.dead["i-1"] = true },
			want:    []string{"ok plugin", "ok group", "fail instance: connecting to i-1: dial ssh: connection refused -> check that this machine reaches"},
		},
		"an instance that nobody tells the way to": {
			prepare: func(f *fleet, _ *config.Runner) {
				f.group.Add("i-1", provider.StateRunning)
				f.group.SetFault("ConnectInfo", dummy.Fault{Error: "no address"})
			},
			want: []string{"ok plugin", "ok group", "fail instance: i-1: asking the plugin how to connect: no address"},
		},
		"an instance of its own": {
			prepare: func(*fleet, *config.Runner) {},
			create:  true,
			want:    []string{"ok plugin", "ok group: no instances", "ok instance: connected to ", "ok fake: examined on "},
		},
		"no stock": {
			prepare: func(f *fleet, _ *config.Runner) { f.group.SetFault("Increase", dummy.Fault{Error: "no stock"}) },
			create:  true,
			want:    []string{"ok plugin", "ok group: no instances", "fail instance: creating an instance: no stock -> look at the group"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFleet(t, 10)
			runner := entry(0, 1, 10)
			test.prepare(f, runner)
			var steps []string
			f.provider.Examine(t.Context(), runner, test.create, func(s diagnosis.Step) {
				steps = append(steps, fmt.Sprintf("%s %s: %s -> %s", s.State, s.Name, s.Detail, s.Remedy))
				require.Equal(t, s.State == diagnosis.OK, s.Remedy == "", "what is not ok has a remedy: %v", s)
			})
			require.Len(t, steps, len(test.want), "%q", steps)
			for i, want := range test.want {
				require.Contains(t, steps[i], want)
			}
			if test.create {
				require.NoError(t, f.group.Update(t.Context(), func(string, provider.State) {}))
				for _, left := range f.group.List() {
					require.Contains(t, []provider.State{provider.StateDeleting, provider.StateDeleted}, left.State)
				}
			}
			f.provider.Shutdown(t.Context())
		})
	}
}

func TestAnExaminationThatIsInterruptedRemovesWhatItMade(t *testing.T) {
	f := newFleet(t, 10)
	ctx, stop := context.WithCancelCause(t.Context())
	// The listing before the creation is the second call; the next one, which would show the instance, fails.
	f.group.SetFault("Update", dummy.Fault{Skip: 2, Calls: 1, Hang: true})
	time.AfterFunc(200*time.Millisecond, func() { stop(errors.New("interrupted")) })
	var failed string
	f.provider.Examine(ctx, entry(0, 1, 10), true, func(s diagnosis.Step) {
		if s.State == diagnosis.Fail {
			failed = s.Detail
		}
	})
	require.Contains(t, failed, "interrupted")
	require.NotEmpty(t, f.group.List())
	for _, left := range f.group.List() {
		require.Equal(t, provider.StateDeleting, left.State)
	}
}
