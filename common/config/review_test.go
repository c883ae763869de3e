package config_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/gitlab-org/gitlab-runner/common/config"
)

// scaled is an entry about which there is nothing to be said, in a file for it.
func scaled() (*config.File, *config.Runner) {
	runner := &config.Runner{
		Name: "one", URL: "https://gitlab.example.com", ID: 1, Token: "t1",
		Executor: "docker-autoscaler", RequestConcurrency: 4, Docker: &config.Docker{Image: "busybox"},
		Autoscaler: &config.Autoscaler{
			Plugin: "docker", PluginConfig: map[string]any{"name": "group"},
			CapacityPerInstance: 2, MaxInstances: 3,
			Policy: []config.Policy{{IdleCount: 6}},
		},
	}
	return &config.File{Config: config.Config{Concurrent: 6, Runners: []*config.Runner{runner}}}, runner
}

func TestAutoscalerWarningsNameTheKeyAndWhatWillHappen(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*config.File, *config.Runner)
		want   []string
	}{
		"nothing to say": {change: func(*config.File, *config.Runner) {}},
		"concurrent": {
			change: func(f *config.File, _ *config.Runner) { f.Concurrent = 5 },
			want:   []string{"concurrent is 5, below max_instances × capacity_per_instance = 6"},
		},
		"limit": {
			change: func(_ *config.File, r *config.Runner) { r.Limit = 2 },
			want:   []string{"limit is 2, below max_instances × capacity_per_instance = 6"},
		},
		"idle_count": {
			change: func(_ *config.File, r *config.Runner) { r.Autoscaler.Policy[0].IdleCount = 7 },
			want:   []string{"idle_count is 7, above max_instances × capacity_per_instance = 6: only that many are kept idle"},
		},
		"idle_count without a maximum": {
			change: func(_ *config.File, r *config.Runner) {
				r.Autoscaler.MaxInstances, r.Autoscaler.Policy[0].IdleCount = 0, 700
			},
		},
		"scale_factor_limit": {
			change: func(_ *config.File, r *config.Runner) {
				r.Autoscaler.Policy[0].ScaleFactor, r.Autoscaler.Policy[0].ScaleFactorLimit = 1, 2
			},
			want: []string{"scale_factor_limit is 2, below idle_count = 6"},
		},
		"the defaults of the deletion are too long for that of shutdown_timeout": {
			change: func(_ *config.File, r *config.Runner) { r.Autoscaler.DeleteInstancesOnShutdown = true },
			want:   []string{"shutdown_timeout is 30s, not above shutdown_deletion_retries × shutdown_deletion_interval = 30s"},
		},
		"shutdown_timeout": {
			change: func(f *config.File, r *config.Runner) {
				r.Autoscaler.DeleteInstancesOnShutdown = true
				r.Autoscaler.ShutdownDeletionInterval, r.Autoscaler.ShutdownDeletionRetries = 20*time.Second, 5
				f.ShutdownTimeout = 60
			},
			want: []string{"shutdown_timeout is 1m0s, not above shutdown_deletion_retries × shutdown_deletion_interval = 1m40s"},
		},
		"a long shutdown_timeout": {
			change: func(f *config.File, r *config.Runner) {
				r.Autoscaler.DeleteInstancesOnShutdown = true
				f.ShutdownTimeout = 31
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			file, runner := scaled()
			test.change(file, runner)
			requireEach(t, test.want, file.Findings(config.Vocabulary{}))
		})
	}
}

func TestEntriesInEachOthersWayAreNamed(t *testing.T) {
	for name, test := range map[string]struct {
		change func(other *config.Runner)
		want   []string
	}{
		"one group":            {change: func(*config.Runner) {}, want: []string{`"one", "two" have the same plugin and the same group`}},
		"two groups":           {change: func(o *config.Runner) { o.Autoscaler.PluginConfig["name"] = "other" }},
		"two versions":         {change: func(o *config.Runner) { o.Autoscaler.Plugin = "docker:1.2" }, want: []string{"the same group"}},
		"a legacy name":        {change: func(o *config.Runner) { o.Autoscaler.Plugin = "fleeting-plugin-docker" }, want: []string{"the same group"}},
		"two plugins":          {change: func(o *config.Runner) { o.Autoscaler.Plugin = "aws" }},
		"two zones":            {change: func(o *config.Runner) { o.Autoscaler.PluginConfig["zone"] = "b" }},
		"different sizes":      {change: func(o *config.Runner) { o.Autoscaler.PluginConfig["max_size"] = 3 }, want: []string{"the same group"}},
		"no autoscaler":        {change: func(o *config.Runner) { o.Executor, o.Autoscaler = "docker", nil }},
		"the same identity":    {change: func(o *config.Runner) { o.ID = 1; o.Autoscaler.PluginConfig["name"] = "other" }, want: []string{"the same url and id"}},
		"no name of a group":   {change: func(o *config.Runner) { delete(o.Autoscaler.PluginConfig, "name") }},
		"two GitLab servers":   {change: func(o *config.Runner) { o.ID = 1; o.URL += "/x"; o.Autoscaler.Plugin = "aws" }},
		"two tokens and no id": {change: func(o *config.Runner) { o.ID = 0; o.Autoscaler.Plugin = "aws" }},
	} {
		t.Run(name, func(t *testing.T) {
			file, _ := scaled()
			_, other := scaled()
			other.Name, other.ID, other.Token = "two", 2, "t2"
			test.change(other)
			file.Runners = append(file.Runners, other)
			requireEach(t, test.want, file.Findings(config.Vocabulary{}))
		})
	}
}

// requireEach requires one finding for each text, and no other.
func requireEach(t *testing.T, want []string, findings []config.Finding) {
	t.Helper()
	texts := make([]string, len(findings))
	for i, f := range findings {
		texts[i] = f.String()
	}
	require.Len(t, findings, len(want), strings.Join(texts, "\n"))
	for i, text := range want {
		require.Contains(t, texts[i], text)
	}
}

func TestKeysThatAreNotHonouredAreNamed(t *testing.T) {
	file, runner := scaled()
	runner.StepRunnerImage = "steps:latest"
	var keys []string
	for _, f := range file.Findings(config.Vocabulary{}) {
		require.Contains(t, f.Message, "not honoured")
		keys = append(keys, f.Key)
	}
	require.Equal(t, []string{"runners[0].step_runner_image"}, keys)
}

func TestTheUserOfJobsIsNotTakenFromTheFile(t *testing.T) {
	file, _ := scaled()
	file.SentryDSN = "https://key@sentry.example.com/1"
	file.User = "gitlab-runner"
	requireEach(t, []string{"user: The key has no effect, as the flag --user of run stands in its place"}, file.Findings(config.Vocabulary{}))
}
