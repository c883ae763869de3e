package config

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/docker/go-units"

	"gitlab.com/gitlab-org/fleeting/taskscaler/cron"
)

// review looks for what a file that can be used will not do as it says.
type review struct {
	file       *File
	vocabulary Vocabulary
	findings   []Finding
}

func (r *review) run() {
	if r.file.User != "" {
		r.warn("user", "The key has no effect, as the flag --user of run stands in its place; remove it")
	}
	if e := r.file.Experimental; e != nil && e.UsageLogger != nil {
		r.usage(e.UsageLogger)
	}
	for i, runner := range r.file.Runners {
		path := fmt.Sprintf("runners[%d].", i)
		r.entry(path, runner)
		r.executor(path, runner)
		if runner.Docker != nil {
			r.docker(path+"docker.", runner.Docker)
		}
		if runner.Monitoring != nil {
			r.monitoring(path, runner.Monitoring)
		}
		if runner.Autoscaler != nil {
			r.autoscaler(path, runner)
		}
	}
	r.shared()
	r.longPolling()
}

func (r *review) add(level Level, path, format string, args ...any) {
	f := Finding{Level: level, Key: path, Message: fmt.Sprintf(format, args...)}
	var i int
	if n, _ := fmt.Sscanf(path, "runners[%d]", &i); n == 1 && i < len(r.file.Runners) {
		f.Runner = r.file.Runners[i].Name
	}
	r.findings = append(r.findings, f)
}

func (r *review) warn(path, format string, args ...any) { r.add(LevelWarning, path, format, args...) }
func (r *review) fail(path, format string, args ...any) { r.add(LevelError, path, format, args...) }

// ignored names the keys that are set and that this runner does not honour.
func (r *review) ignored(path string, keys map[string]bool) {
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		if keys[key] {
			r.warn(path+key, "The key is known and not honoured by this runner yet: it has no effect")
		}
	}
}

// rotationFlag is the feature flag that keeps tokens from being exchanged.
const rotationFlag = "FF_DISABLE_AUTOMATIC_TOKEN_ROTATION"

func (r *review) entry(path string, runner *Runner) {
	if strings.TrimSpace(runner.Token) == "" {
		r.fail(path+"token", "The token is empty: this runner asks for no jobs")
	}
	switch {
	case strings.TrimSpace(runner.URL) == "":
		r.fail(path+"url", "The url is empty: write that of GitLab, such as \"https://gitlab.example.com\"")
	case strings.HasSuffix(strings.TrimRight(runner.URL, "/"), "/ci"):
		r.warn(path+"url", "The url ends in /ci, which is no longer needed: remove it")
	}
	if runner.FeatureFlags[rotationFlag] && !runner.TokenExpiresAt.IsZero() {
		r.warn(path+"token_expires_at", "The token expires on %s and is not exchanged before: %s is on", runner.TokenExpiresAt, rotationFlag)
	}
	switch runner.Shell {
	case "", "bash", "sh", "cmd", "pwsh", "powershell":
	default:
		r.fail(path+"shell", "shell %q is unknown: use bash, sh, pwsh or powershell", runner.Shell)
	}
	r.ignored(path, map[string]bool{
		"experimental":      runner.Experimental != nil && runner.Experimental.BootVerify == nil,
		"referees":          runner.Referees != nil,
		"step_runner_image": runner.StepRunnerImage != "",
	})
	if runner.VerifiesAtBoot() && runner.Docker != nil && runner.Docker.Image == "" {
		r.fail(path+"docker.image", "the image is missing: boot_verify runs its job on the entry's default image")
	}
	for _, flag := range slices.Sorted(maps.Keys(runner.FeatureFlags)) {
		switch {
		case flag == "FF_USE_FASTZIP":
			r.warn(path+"feature_flags."+flag, "the feature flag is deprecated and has no effect: remove it")
		case r.vocabulary.FeatureFlags != nil && !slices.Contains(r.vocabulary.FeatureFlags, flag):
			r.warn(path+"feature_flags."+flag, "unknown feature flag%s", didYouMean(flag, r.vocabulary.FeatureFlags))
		}
	}
	if s3 := cacheS3(runner); s3 != nil && s3.UploadRoleARN != "" {
		r.warn(path+"cache.s3.UploadRoleARN", "the key is deprecated: use RoleARN, which serves downloads too")
	}
}

func cacheS3(runner *Runner) *CacheS3 {
	if runner.Cache == nil {
		return nil
	}
	return runner.Cache.S3
}

func didYouMean(name string, names []string) string {
	if near := nearest(name, names); near != "" {
		return ": did you mean " + near + "?"
	}
	return ": it has no effect"
}

// foreignExecutors are known, and not those of this program.
var foreignExecutors = []string{"custom", "docker+machine", "docker-windows", "instance", "kubernetes", "parallels", "shell", "ssh", "virtualbox"}

func (r *review) executor(path string, runner *Runner) {
	known := r.vocabulary.Executors
	switch {
	case runner.Executor == "":
		r.fail(path+"executor", "the executor is missing: this runner entry runs no jobs")
	case known == nil || slices.Contains(known, runner.Executor):
	case slices.Contains(foreignExecutors, runner.Executor):
		r.warn(path+"executor", "this runner has no executor %q: jobs of the entry cannot run; it has %s", runner.Executor, strings.Join(known, " and "))
	default:
		r.fail(path+"executor", "unknown executor %q%s", runner.Executor, didYouMean(runner.Executor, known))
	}
	if (runner.Executor == "docker" || runner.Executor == "docker-autoscaler") && runner.Docker == nil {
		r.fail(path+"docker", "the table [runners.docker] is missing: the executor %s needs it", runner.Executor)
	}
	switch {
	case runner.Executor == "docker-autoscaler" && runner.Autoscaler == nil:
		r.fail(path+"autoscaler", "the table [runners.autoscaler] is missing: the executor docker-autoscaler needs it")
	case runner.Executor == "docker" && runner.Autoscaler != nil:
		r.warn(path+"autoscaler", "the table has no effect with the executor docker: docker-autoscaler uses it")
	}
}

func (r *review) docker(path string, d *Docker) {
	policies := []string{"always", "if-not-present", "never"}
	for _, list := range []struct {
		key    string
		values []string
	}{{"pull_policy", d.PullPolicy}, {"allowed_pull_policies", d.AllowedPullPolicies}} {
		for _, policy := range list.values {
			if !slices.Contains(policies, policy) {
				r.fail(path+list.key, "pull policy %q is unknown: use %s", policy, strings.Join(policies, ", "))
			}
		}
	}
	for _, size := range []struct{ key, value string }{
		{"memory", d.Memory}, {"memory_swap", d.MemorySwap}, {"memory_reservation", d.MemoryReservation},
		{"service_memory", d.ServiceMemory}, {"service_memory_swap", d.ServiceMemorySwap}, {"service_memory_reservation", d.ServiceMemoryReservation},
	} {
		if _, err := units.RAMInBytes(size.value); size.value != "" && size.value != "-1" && err != nil {
			r.fail(path+size.key, "%s %q is no size: write a number with a unit, such as \"512m\"", size.key, size.value)
		}
	}
}

// autoscaler looks at settings of an entry's [runners.autoscaler] that will not do what they say.
func (r *review) autoscaler(entry string, runner *Runner) {
	a, path := runner.Autoscaler, entry+"autoscaler."
	if a.Plugin == "" {
		r.fail(path+"plugin", "the plugin is missing: write which one makes the instances, such as plugin = \"aws\"")
	}
	if capacity := a.MaxInstances * max(a.CapacityPerInstance, 1); capacity > 0 {
		if r.file.Concurrent < capacity {
			r.global("concurrent", runner, "concurrent is %d, below max_instances × capacity_per_instance = %d: no more than %d jobs run at once, and instances beyond that are never used",
				r.file.Concurrent, capacity, r.file.Concurrent)
		}
		if runner.Limit > 0 && runner.Limit < capacity {
			r.warn(entry+"limit", "limit is %d, below max_instances × capacity_per_instance = %d: no more than %d jobs of this entry run at once, and instances beyond that are never used",
				runner.Limit, capacity, runner.Limit)
		}
		for i, p := range a.Policy {
			if p.IdleCount > capacity {
				r.warn(fmt.Sprintf("%spolicy[%d].idle_count", path, i), "idle_count is %d, above max_instances × capacity_per_instance = %d: only that many are kept idle",
					p.IdleCount, capacity)
			}
		}
	}
	for i, p := range a.Policy {
		at := fmt.Sprintf("%spolicy[%d].", path, i)
		if p.ScaleFactor > 0 && p.ScaleFactorLimit > 0 && p.ScaleFactorLimit < p.IdleCount {
			r.warn(at+"scale_factor_limit", "scale_factor_limit is %d, below idle_count = %d: scale_factor has no effect", p.ScaleFactorLimit, p.IdleCount)
		}
		if !r.zone(at+"timezone", p.Timezone) {
			continue
		}
		for _, period := range p.Periods {
			if _, err := cron.Parse(period, p.Timezone); err != nil {
				r.fail(at+"periods", "%v", err)
			}
		}
	}
	if a.DeleteInstancesOnShutdown {
		allowed, needed := r.file.ShutdownLimit(), deletionTime(a)
		if allowed <= needed {
			r.global("shutdown_timeout", runner, "shutdown_timeout is %s, not above shutdown_deletion_retries × shutdown_deletion_interval = %s: delete_instances_on_shutdown may not be done in time, and instances may stay; set shutdown_timeout to at least %d",
				allowed, needed, int(needed.Round(time.Second).Seconds())+1)
		}
	}
}

// global warns of a global key because of one entry.
func (r *review) global(key string, runner *Runner, format string, args ...any) {
	r.findings = append(r.findings, Finding{Level: LevelWarning, Key: key, Runner: runner.Name, Message: fmt.Sprintf(format, args...)})
}

// shared looks for entries that get in each other's way.
func (r *review) shared() {
	groups, entries := map[string][]int{}, map[Identity][]int{}
	for i, runner := range r.file.Runners {
		if runner.Autoscaler == nil {
			continue
		}
		groups[runner.Autoscaler.Group()] = append(groups[runner.Autoscaler.Group()], i)
		entries[runner.Identity()] = append(entries[runner.Identity()], i)
	}
	for _, group := range inOrder(groups) {
		r.together(group, ".autoscaler.plugin_config", "The runner entries %s have the same plugin and the same group in plugin_config: each will remove instances of the others, with the jobs on them; give every entry a group of its own")
	}
	for _, entry := range inOrder(entries) {
		r.together(entry, ".id", "The runner entries %s have the same url and id: they share one fleet of instances, made by whichever asks for a job first, and the autoscaler keys of the others have no effect")
	}
}

// together warns of what several entries have in common, at the second of them.
func (r *review) together(entries []int, key, format string) {
	if len(entries) < 2 {
		return
	}
	names := make([]string, len(entries))
	for i, entry := range entries {
		names[i] = fmt.Sprintf("%q", r.file.Runners[entry].Name)
	}
	r.findings = append(r.findings, Finding{
		Level: LevelWarning, Key: fmt.Sprintf("runners[%d]%s", entries[1], key), Message: fmt.Sprintf(format, strings.Join(names, ", ")),
	})
}

func inOrder[K comparable](sets map[K][]int) [][]int {
	return slices.SortedFunc(maps.Values(sets), func(a, b []int) int { return a[0] - b[0] })
}

// longPolling looks for settings with which one held request keeps others from being made.
func (r *review) longPolling() {
	var reasons []string
	key := "concurrent"
	if r.file.Concurrent < len(r.file.Runners) {
		reasons = append(reasons, "concurrent is smaller than the number of runners")
	}
	few := func(runner *Runner) bool { return runner.RequestConcurrency <= 1 }
	if i := slices.IndexFunc(r.file.Runners, few); i >= 0 && len(r.file.Runners) > 1 {
		reasons = append(reasons, "request_concurrency of "+r.file.Runners[i].Name+" is 1")
	}
	small := func(runner *Runner) bool { return runner.Limit > 0 && runner.Limit <= 2 && few(runner) }
	if i := slices.IndexFunc(r.file.Runners, small); i >= 0 {
		reasons = append(reasons, "limit of "+r.file.Runners[i].Name+" is small while its request_concurrency is 1")
	}
	if len(reasons) > 0 {
		r.warn(key, "CONFIGURATION: Long polling issues detected. Jobs may wait while a request is held: %s", strings.Join(reasons, "; "))
	}
}

// deletionTime is how long the deletion of an entry's instances at the end may take, as it is
// configured.
func deletionTime(a *Autoscaler) time.Duration {
	const (
		defaultInterval = 10 * time.Second
		defaultRetries  = 3
	)
	interval, retries := a.ShutdownDeletionInterval, a.ShutdownDeletionRetries
	if interval <= 0 {
		interval = defaultInterval
	}
	if retries <= 0 {
		retries = defaultRetries
	}
	return time.Duration(retries) * interval
}
