package manager

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"gitlab.com/gitlab-org/gitlab-runner/common/config"
)

// autoscalerWarnings are about settings of an entry's [runners.autoscaler] that will not do what they
// say, each with the key and with what will happen.
func autoscalerWarnings(file *config.File, runner *config.Runner) []string {
	a := runner.Autoscaler
	if a == nil {
		return nil
	}
	var warnings []string
	warn := func(format string, args ...any) { warnings = append(warnings, fmt.Sprintf(format, args...)) }

	if capacity := a.MaxInstances * max(a.CapacityPerInstance, 1); capacity > 0 {
		if file.Concurrent < capacity {
			warn("concurrent is %d, below max_instances × capacity_per_instance = %d: no more than %d jobs run at once, and instances beyond that are never used",
				file.Concurrent, capacity, file.Concurrent)
		}
		if runner.Limit > 0 && runner.Limit < capacity {
			warn("limit is %d, below max_instances × capacity_per_instance = %d: no more than %d jobs of this entry run at once, and instances beyond that are never used",
				runner.Limit, capacity, runner.Limit)
		}
		for _, p := range a.Policy {
			if p.IdleCount > capacity {
				warn("idle_count is %d, above max_instances × capacity_per_instance = %d: only that many are kept idle",
					p.IdleCount, capacity)
			}
			if p.ScaleFactor > 0 && p.ScaleFactorLimit > 0 && p.ScaleFactorLimit < p.IdleCount {
				warn("scale_factor_limit is %d, below idle_count = %d: scale_factor has no effect", p.ScaleFactorLimit, p.IdleCount)
			}
		}
	}
	if a.DeleteInstancesOnShutdown {
		allowed, needed := shutdownTimeout(file), deletionTime(a)
		if allowed <= needed {
			warn("shutdown_timeout is %s, not above shutdown_deletion_retries × shutdown_deletion_interval = %s: delete_instances_on_shutdown may not be done in time, and instances may stay; set shutdown_timeout to at least %d",
				allowed, needed, int(needed.Round(time.Second).Seconds())+1)
		}
	}
	return warnings
}

// ignoredGlobally and ignored are the keys that are set and that this runner does not honour.
func ignoredGlobally(file *config.File) []string {
	return set(map[string]bool{
		"[experimental]": file.Experimental != nil,
		"sentry_dsn":     file.SentryDSN != "",
		"user":           file.User != "",
	})
}

func ignored(runner *config.Runner) []string {
	return set(map[string]bool{
		"[runners.experimental]": runner.Experimental != nil,
		"[runners.referees]":     runner.Referees != nil,
		"[runners.monitoring]":   runner.Monitoring != nil,
		"proxy_exec":             runner.ProxyExec != nil && *runner.ProxyExec,
		"step_runner_image":      runner.StepRunnerImage != "",
	})
}

func set(keys map[string]bool) []string {
	var names []string
	for _, name := range slices.Sorted(maps.Keys(keys)) {
		if keys[name] {
			names = append(names, name)
		}
	}
	return names
}

// sharedWarnings are about entries that get in each other's way.
func sharedWarnings(file *config.File) []string {
	var warnings []string
	type identity struct{ url, name string }
	groups, entries := map[string][]string{}, map[identity][]string{}
	var groupOrder []string
	var entryOrder []identity
	for _, runner := range file.Runners {
		if runner.Autoscaler == nil {
			continue
		}
		group := runner.Autoscaler.Group()
		if groups[group] == nil {
			groupOrder = append(groupOrder, group)
		}
		groups[group] = append(groups[group], fmt.Sprintf("%q", runner.Name))
		entry := identity{runner.URL, runner.Token}
		if runner.ID != 0 {
			entry.name = fmt.Sprint(runner.ID)
		}
		if entries[entry] == nil {
			entryOrder = append(entryOrder, entry)
		}
		entries[entry] = append(entries[entry], fmt.Sprintf("%q", runner.Name))
	}
	for _, group := range groupOrder {
		if names := groups[group]; len(names) > 1 {
			warnings = append(warnings, fmt.Sprintf("The runner entries %s have the same plugin and the same group in plugin_config: each will remove instances of the others, with the jobs on them; give every entry a group of its own",
				strings.Join(names, ", ")))
		}
	}
	for _, entry := range entryOrder {
		if names := entries[entry]; len(names) > 1 {
			warnings = append(warnings, fmt.Sprintf("The runner entries %s have the same url and id: they share one fleet of instances, made by whichever asks for a job first, and the autoscaler keys of the others have no effect",
				strings.Join(names, ", ")))
		}
	}
	return warnings
}

// deletionTime is how long the deletion of an entry's instances at the end may take, as it is
// configured.
func deletionTime(a *config.Autoscaler) time.Duration {
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

func shutdownTimeout(file *config.File) time.Duration {
	if file.ShutdownTimeout > 0 {
		return time.Duration(file.ShutdownTimeout) * time.Second
	}
	return config.DefaultShutdownTimeout
}
