package config

import (
	"fmt"
	"time"

	"github.com/sirupsen/logrus"
)

// problem is why a file cannot be used.
type problem struct {
	// path is the key's, scope the part of the file in the words of an error.
	path, scope string
	err         error
}

// problems are all reasons why a file cannot be used.
func (c *Config) problems() []problem {
	var all []problem
	add := func(path, scope string, err error) {
		if err != nil {
			all = append(all, problem{path, scope, err})
		}
	}
	if c.Concurrent < 1 {
		add("concurrent", "", fmt.Errorf("concurrent is %d: it must be at least 1", c.Concurrent))
	}
	if _, err := logrus.ParseLevel(c.LogLevel); c.LogLevel != "" && err != nil {
		add("log_level", "", fmt.Errorf("log_level %q is unknown: use debug, info, warn, error, fatal or panic", c.LogLevel))
	}
	switch c.LogFormat {
	case "", "runner", "text", "json":
	default:
		add("log_format", "", fmt.Errorf("log_format %q is unknown: use runner, text or json", c.LogFormat))
	}
	add("labels", "validating labels", validateLabels(c.Labels))
	for i, runner := range c.Runners {
		path, scope := fmt.Sprintf("runners[%d]", i), "validating runner "+runner.Name
		add(path+".labels", scope+": validating labels", validateLabels(MergeLabels(c.Labels, runner.Labels)))
		if runner.Experimental != nil && runner.Experimental.BootVerify != nil {
			for _, p := range runner.Experimental.BootVerify.problems() {
				add(path+".experimental.boot_verify."+p.path, scope+": experimental.boot_verify", p.err)
			}
		}
		if runner.Autoscaler != nil {
			for _, p := range runner.Autoscaler.problems() {
				add(path+".autoscaler."+p.path, scope+": autoscaler", p.err)
			}
		}
	}
	return all
}

func (a *Autoscaler) problems() []problem {
	var all []problem
	add := func(path, format string, args ...any) {
		all = append(all, problem{path: path, err: fmt.Errorf(format, args...)})
	}
	for _, count := range []struct {
		key   string
		value int
	}{
		{"capacity_per_instance", a.CapacityPerInstance}, {"max_use_count", a.MaxUseCount}, {"max_instances", a.MaxInstances},
		{"prefetch_recent_images", a.PrefetchRecentImages},
	} {
		if count.value < 0 {
			add(count.key, "%s is %d: it must not be negative", count.key, count.value)
		}
	}
	switch a.ConnectorConfig.Protocol {
	case "", "ssh", "winrm", "winrm+https":
	default:
		add("connector_config.protocol", "connector_config.protocol %q is unknown: use ssh, winrm or winrm+https", a.ConnectorConfig.Protocol)
	}
	for i, p := range a.Policy {
		path := fmt.Sprintf("policy[%d].", i)
		if p.IdleTime != 0 && p.IdleTime < time.Second {
			add(path+"idle_time", "policy %d: idle_time is %s: write a duration with its unit, such as \"20m0s\"", i+1, p.IdleTime)
		}
		if p.IdleCount < 0 {
			add(path+"idle_count", "policy %d: idle_count is %d: it must not be negative", i+1, p.IdleCount)
		}
	}
	return all
}
