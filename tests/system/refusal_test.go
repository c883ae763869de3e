//go:build system

package system

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/gitlab-org/gitlab-runner/tests/coordinator"
	"gitlab.com/gitlab-org/gitlab-runner/tests/rig"
)

// A runner entry that cannot work is told in the runner's log, at every poll, and takes no job, while the
// entry beside it works.
func TestEntryThatCannotWorkDoesNotStopOthers(t *testing.T) {
	t.Parallel()
	for name, one := range map[string]struct {
		// plugin is the value of the key; SCRIPT stands for a program that prints and ends.
		plugin   string
		executor string
		level    string
		want     []string
	}{
		"plugin not found": {
			plugin: "no-such-plugin", level: "warning",
			want: []string{"Failed to process runner", "plugin not found", "no-such-plugin", "fleeting install"},
		},
		"plugin ends at once": {
			plugin: "/bin/false", level: "warning",
			want: []string{"Failed to process runner", "/bin/false"},
		},
		"plugin crashes with a message": {
			plugin: "SCRIPT", level: "warning",
			want: []string{"Failed to process runner", "crashing-plugin", "out of luck"},
		},
		"executor not known": {
			executor: "no-such-executor", level: "error",
			want: []string{"no-such-executor", "is not known"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStage(t, coordinator.Config{})
			if one.plugin == "SCRIPT" {
				one.plugin = s.file("crashing-plugin", "#!/bin/sh\necho 'out of luck' >&2\nexit 7\n", 0o755)
			}
			broken := s.Autoscaled(rig.Config{IdleCount: 1, Executor: one.executor})
			text := strings.Replace(s.Entry(broken), `plugin = "docker"`, `plugin = "`+one.plugin+`"`, 1)
			// The entry that works is another runner, for jobs with its tag.
			token := s.Coordinator.AddRunner(coordinator.RunnerSpec{Tags: []string{"works"}})
			working := strings.Replace(s.Entry(rig.Config{Executor: "docker"}), s.Coordinator.RunnerToken(), token, 1)
			working = strings.Replace(working, "id = 1", "id = 2", 1)
			s.LaunchText("concurrent = 4\ncheck_interval = 1\n\n" + text + "\n" + working)
			refused := s.Enqueue(coordinator.JobSpec{Script: []string{"true"}})
			entry := s.AwaitLog(one.level, one.want...)
			require.NotEmpty(t, entry.Text("runner"))
			s.Succeeds(coordinator.JobSpec{Tags: []string{"works"}})
			require.Equal(t, coordinator.StatePending, refused.State(), "a job was taken that cannot be run")
			s.Stop()
		})
	}
}

func TestConfigurationThatCannotBeUsedEndsTheStart(t *testing.T) {
	t.Parallel()
	for name, one := range map[string]struct {
		change func(text string) string
		want   []string
	}{
		"bad duration": {
			change: replace(`idle_time = "1m0s"`, `idle_time = "soon"`),
			want:   []string{"idle_time", "soon"},
		},
		"bad duration of the connector": {
			change: replace(`timeout = "1m0s"`, `timeout = "1 minute"`),
			want:   []string{"timeout", "1 minute"},
		},
		"not TOML": {
			change: replace(`[[runners]]`, `[[runners]`),
			want:   []string{"config.toml", "line "},
		},
		"a number that is no number": {
			change: replace(`max_instances = 1`, `max_instances = "many"`),
			want:   []string{"max_instances"},
		},
		"protocol not known": {
			change: replace(`timeout = "1m0s"`, `protocol = "telnet"`),
			want:   []string{"protocol", "telnet"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStage(t, coordinator.Config{})
			text := s.Text(s.Autoscaled(rig.Config{IdleCount: 1}))
			changed := one.change(text)
			require.NotEqual(t, text, changed)
			require.NoError(t, s.WriteConfig(changed))
			ctx, stop := context.WithTimeout(s.Ctx, time.Minute)
			defer stop()
			out, err := s.Runner(ctx, "run", "--config", s.ConfigPath())
			require.Error(t, err)
			require.Equal(t, 1, strings.Count(out, "FATAL"), out)
			for _, text := range one.want {
				require.Contains(t, out, text)
			}
			require.NotContains(t, out, s.Coordinator.RunnerToken())
		})
	}
}

func replace(what, with string) func(string) string {
	return func(text string) string { return strings.Replace(text, what, with, 1) }
}
