package rig

import (
	"fmt"
	"strings"
	"time"
)

// Config is a manager's configuration with one runner entry. The zero value of a field leaves its key
// out, but for those whose comment says otherwise.
type Config struct {
	// Executor is docker-autoscaler unless it is named.
	Executor string
	// Concurrent is 8 unless it is named.
	Concurrent int
	// RequestConcurrency is 4 unless it is named.
	RequestConcurrency int
	// Group names the instances of this configuration.
	Group string
	// Capacity, MaxUseCount, MaxInstances and IdleCount are those of the autoscaler.
	Capacity, MaxUseCount, MaxInstances, IdleCount int
	// IdleTime is one minute unless it is named.
	IdleTime time.Duration
	// DialTimeout is how long connecting to an instance is tried, one minute unless it is named.
	DialTimeout time.Duration
	// Images are those that every instance starts with.
	Images []string
	// DeleteOnShutdown removes the instances when the manager ends.
	DeleteOnShutdown bool

	// Name and Token are those of the first runner unless they are named.
	Name, Token string
	// ID is 1 unless it is named.
	ID int

	// Keys, Docker, Autoscaler, Plugin, Connector and Cache are further lines of [[runners]] and of its
	// tables, Policy those after the policy, further tables among them.
	Keys, Docker, Autoscaler, Plugin, Connector, Cache, Policy string
}

// JobImages are the images of the sample's jobs.
var JobImages = []string{"busybox:latest", "debian-job:local", "entrypoint-job:local", "nonroot-job:local"}

// Text is the configuration as a file, for the stand-in of the rig.
func (r *Rig) Text(c Config) string {
	return fmt.Sprintf("concurrent = %d\ncheck_interval = 1\nshutdown_timeout = 60\n\n", either(c.Concurrent, 8)) + r.Entry(c)
}

// Entry is one runner entry.
func (r *Rig) Entry(c Config) string {
	var out strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&out, format+"\n", args...) }
	executor := either(c.Executor, "docker-autoscaler")
	line("[[runners]]")
	line("  name = %q", either(c.Name, "rig-"+executor))
	line("  url = %q", r.Coordinator.URL())
	line("  id = %d", either(c.ID, 1))
	line("  token = %q", either(c.Token, r.Coordinator.RunnerToken()))
	line("  executor = %q", executor)
	line("  request_concurrency = %d", either(c.RequestConcurrency, 4))
	line("%s", c.Keys)
	r.Tables(&out, c)
	return out.String()
}

// Tables are the tables of an entry.
func (r *Rig) Tables(out *strings.Builder, c Config) {
	line := func(format string, args ...any) { fmt.Fprintf(out, format+"\n", args...) }
	if c.Cache != "" {
		line("  [runners.cache]\n%s", c.Cache)
	}
	line("  [runners.docker]")
	line("    image = \"busybox:latest\"")
	line("    pull_policy = [\"if-not-present\"]")
	line("%s", c.Docker)
	if either(c.Executor, "docker-autoscaler") != "docker-autoscaler" {
		return
	}
	line("  [runners.autoscaler]")
	line("    plugin = \"docker\"")
	line("    capacity_per_instance = %d", either(c.Capacity, 1))
	line("    max_use_count = %d", c.MaxUseCount)
	line("    max_instances = %d", c.MaxInstances)
	line("    delete_instances_on_shutdown = %t", c.DeleteOnShutdown)
	line("    update_interval_when_expecting = \"250ms\"")
	line("    shutdown_deletion_interval = \"500ms\"")
	line("    shutdown_deletion_retries = 30")
	line("%s", c.Autoscaler)
	line("    [runners.autoscaler.plugin_config]")
	line("      name = %q", c.Group)
	if len(c.Images) > 0 {
		line("      images = [%s]", quoted(c.Images))
	}
	line("%s", c.Plugin)
	line("    [runners.autoscaler.connector_config]")
	line("      timeout = %q", either(c.DialTimeout, time.Minute))
	line("%s", c.Connector)
	line("    [[runners.autoscaler.policy]]")
	line("      idle_count = %d", c.IdleCount)
	line("      idle_time = %q", either(c.IdleTime, time.Minute))
	line("%s", c.Policy)
}

func either[T comparable](value, fallback T) T {
	var zero T
	if value == zero {
		return fallback
	}
	return value
}

func quoted(texts []string) string {
	out := make([]string, len(texts))
	for i, text := range texts {
		out[i] = fmt.Sprintf("%q", text)
	}
	return strings.Join(out, ", ")
}
