package pipeline

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"gitlab.com/gitlab-org/gitlab-runner/common/spec"
	"gitlab.com/gitlab-org/gitlab-runner/common/variables"
)

// idleKeys have no effect on a job that runs here, and why.
var idleKeys = map[string]string{
	"interruptible":       "nothing replaces this pipeline",
	"tags":                "all jobs run on the one executor that was asked for",
	"environment":         "there are no environments; its variables are not set",
	"resource_group":      "other pipelines are not waited for",
	"coverage":            "nobody reads the coverage",
	"release":             "no release is made",
	"pages":               "nothing is published",
	"publish":             "nothing is published",
	"start_in":            "delayed jobs start at once",
	"manual_confirmation": "manual jobs do not start by themselves",
	"description":         "it is for readers",
}

// foreignKeys change what a job is, in a way that cannot be had here.
var foreignKeys = []string{"trigger", "secrets", "id_tokens", "identity", "run", "inputs", "dast_configuration"}

// jobKeys are the others.
var jobKeys = []string{
	"stage", "script", "before_script", "after_script", "image", "services", "variables", "rules", "only", "except",
	"needs", "dependencies", "artifacts", "cache", "parallel", "allow_failure", "when", "retry", "timeout", "hooks", "inherit",
}

// job compiles one job of the file, which may have several parts, or none for this pipeline.
func (c *compiler) job(name string) ([]*link, error) {
	own, ok := c.root.values[name].(*mapping)
	if !ok {
		return nil, fmt.Errorf("is neither a keyword nor a job: a job is a mapping, this is %s", describe(c.root.values[name]))
	}
	job := &Job{Name: name, Base: name, Stage: defaultStage, When: OnSuccess}
	if err := c.checkKeys(job, own); err != nil {
		return nil, err
	}
	m, inherited, err := c.inherited(own)
	if err != nil {
		return nil, in("inherit", err)
	}
	for _, key := range m.keys {
		if why, idle := idleKeys[key]; idle {
			c.warn("%s has no effect here: %s", key, why)
		}
		if !own.has(key) && slices.Contains(foreignKeys, key) {
			job.Unsupported = append(job.Unsupported, key)
		}
	}
	jobVariables, err := c.readVariables(m.get("variables"))
	if err != nil {
		return nil, in("variables", err)
	}
	if m.has("stage") {
		if job.Stage, err = text(m.get("stage")); err != nil {
			return nil, in("stage", err)
		}
	}
	if !slices.Contains(c.pipeline.Stages, job.Stage) {
		return nil, fmt.Errorf("stage: there is no stage %q; stages are %s", job.Stage, strings.Join(c.pipeline.Stages, ", "))
	}
	l := &link{job: job}
	if err := c.needs(l, m.get("needs"), m.has("needs")); err != nil {
		return nil, in("needs", err)
	}
	job.Variables = slices.Concat(inherited, jobVariables)
	kept, err := c.decide(l, m)
	if err != nil {
		return nil, err
	}
	if !kept {
		c.pipeline.Excluded = append(c.pipeline.Excluded, name)
		return nil, nil
	}
	if l.hasDeps = m.has("dependencies"); l.hasDeps {
		if l.dependencies, err = texts(m.get("dependencies")); err != nil {
			return nil, in("dependencies", err)
		}
	}
	if err := c.content(job, m); err != nil {
		return nil, err
	}
	return c.parts(l, m)
}

func (c *compiler) checkKeys(job *Job, own *mapping) error {
	for _, key := range own.keys {
		switch {
		case slices.Contains(foreignKeys, key):
			job.Unsupported = append(job.Unsupported, key)
		case idleKeys[key] != "", slices.Contains(jobKeys, key):
		default:
			return fmt.Errorf("%s is not a keyword of jobs", key)
		}
	}
	if !own.has("script") && len(job.Unsupported) == 0 {
		return errors.New("script is missing")
	}
	return nil
}

// inherited is the job with the defaults it takes, and the variables of the file it takes.
func (c *compiler) inherited(own *mapping) (*mapping, variables.List, error) {
	allDefaults, allVariables := true, true
	var defaults, names []string
	if own.has("inherit") {
		m, ok := own.get("inherit").(*mapping)
		if !ok {
			return nil, nil, errors.New("has to be a mapping")
		}
		var err error
		for _, key := range m.keys {
			switch key {
			case "default":
				allDefaults, defaults, err = selection(m.get(key))
			case "variables":
				allVariables, names, err = selection(m.get(key))
			default:
				err = errors.New("is not known")
			}
			if err != nil {
				return nil, nil, in(key, err)
			}
		}
	}
	full := newMapping()
	for _, key := range c.defaults.keys {
		if allDefaults || slices.Contains(defaults, key) {
			full.set(key, c.defaults.values[key])
		}
	}
	for _, key := range own.keys {
		full.set(key, own.values[key])
	}
	var list variables.List
	for _, v := range c.variables {
		if allVariables || slices.Contains(names, v.Key) {
			list = append(list, v)
		}
	}
	return full, list, nil
}

// selection reads true, false or a list of names.
func selection(value any) (bool, []string, error) {
	if names, ok := value.(list); ok {
		list, err := texts(names)
		return false, list, err
	}
	all, err := boolean(value)
	return all, nil, err
}

// decide says whether, and when, the job runs.
func (c *compiler) decide(l *link, m *mapping) (bool, error) {
	job := l.job
	if m.has("when") {
		when, err := whenOf(m.get("when"))
		if err != nil {
			return false, in("when", err)
		}
		job.When = when
	}
	// A manual job holds nobody up, unless rules made it one.
	job.AllowFailure = job.When == Manual && !m.has("rules")
	if m.has("allow_failure") {
		var err error
		if job.AllowFailure, job.AllowCodes, err = allowFailure(m.get("allow_failure")); err != nil {
			return false, in("allow_failure", err)
		}
	}
	visible := c.visible(job.Variables)
	switch {
	case m.has("rules"):
		if m.has("only") || m.has("except") {
			return false, errors.New("rules cannot be used with only and except")
		}
		found, err := c.rules(m.get("rules"), visible, ruleKeys)
		if err != nil {
			return false, in("rules", err)
		}
		if !found.matched || found.when == Never {
			return false, nil
		}
		if found.when != "" {
			job.When = found.when
		}
		if found.allowFailure != nil {
			job.AllowFailure, job.AllowCodes = *found.allowFailure, found.allowCodes
		}
		job.Variables = append(job.Variables, found.variables...)
		job.Unsupported = append(job.Unsupported, found.unsupported...)
		if found.hasNeeds {
			if err := c.needs(l, found.needs, true); err != nil {
				return false, in("rules: needs", err)
			}
		}
	default:
		for _, key := range []string{"only", "except"} {
			if !m.has(key) {
				continue
			}
			holds, unsupported, err := c.refsHold(m.get(key), visible)
			if err != nil {
				return false, in(key, err)
			}
			for _, name := range unsupported {
				job.Unsupported = append(job.Unsupported, key+":"+name)
			}
			if len(unsupported) == 0 && holds != (key == "only") {
				return false, nil
			}
		}
	}
	if job.When == Delayed {
		c.warn("when: delayed has no effect here: such jobs start at once")
		job.When = OnSuccess
	}
	return job.When != Never, nil
}

func (c *compiler) needs(l *link, value any, there bool) error {
	if !there {
		return nil
	}
	l.hasNeeds, l.needs = true, nil
	for _, entry := range flat(value) {
		need := namedNeed{artifacts: true}
		m, detailed := entry.(*mapping)
		if !detailed {
			name, err := text(entry)
			if err != nil {
				return err
			}
			need.name = name
			l.needs = append(l.needs, need)
			continue
		}
		for _, key := range m.keys {
			var err error
			switch key {
			case "job":
				need.name, err = text(m.get(key))
			case "artifacts":
				need.artifacts, err = boolean(m.get(key))
			case "optional":
				need.optional, err = boolean(m.get(key))
			case "parallel":
				need.matrix, err = needMatrix(m.get(key))
			case "pipeline", "project", "ref":
				l.job.Unsupported = append(l.job.Unsupported, "needs:"+key)
			default:
				err = errors.New("is not known")
			}
			if err != nil {
				return in(key, err)
			}
		}
		if m.has("pipeline") || m.has("project") {
			continue
		}
		if need.name == "" {
			return errors.New("job is missing")
		}
		l.needs = append(l.needs, need)
	}
	return nil
}

// content reads what the job does.
func (c *compiler) content(job *Job, m *mapping) error {
	var err error
	if m.has("image") {
		if job.Image, err = image(m.get("image")); err != nil {
			return in("image", err)
		}
	}
	if job.Services, err = c.services(m.get("services")); err != nil {
		return in("services", err)
	}
	if err := scripts(job, m); err != nil {
		return err
	}
	if err := c.artifacts(job, m.get("artifacts")); err != nil {
		return in("artifacts", err)
	}
	if err := c.caches(job, m.get("cache")); err != nil {
		return in("cache", err)
	}
	if err := retries(job, m.get("retry")); err != nil {
		return in("retry", err)
	}
	if m.has("timeout") {
		limit, err := text(m.get("timeout"))
		if err == nil {
			job.Timeout, err = duration(limit)
		}
		return in("timeout", err)
	}
	return nil
}

func scripts(job *Job, m *mapping) error {
	lines := map[string][]string{}
	for _, key := range []string{"before_script", "script", "after_script"} {
		var err error
		if lines[key], err = texts(m.get(key)); err != nil {
			return in(key, err)
		}
	}
	if m.has("script") && len(lines["script"]) == 0 {
		return errors.New("script is empty")
	}
	job.Steps = []spec.Step{{Name: spec.StepScript, Script: append(lines["before_script"], lines["script"]...)}}
	if after := lines["after_script"]; len(after) > 0 {
		job.Steps = append(job.Steps, spec.Step{Name: spec.StepAfterScript, Script: after})
	}
	if !m.has("hooks") {
		return nil
	}
	hooks, ok := m.get("hooks").(*mapping)
	if !ok {
		return errors.New("hooks: has to be a mapping")
	}
	for _, key := range hooks.keys {
		if key != spec.HookPreGetSources {
			return fmt.Errorf("hooks: %s is not known", key)
		}
		script, err := texts(hooks.get(key))
		if err != nil {
			return in("hooks: "+key, err)
		}
		job.Hooks = append(job.Hooks, spec.Hook{Name: key, Script: script})
	}
	return nil
}

const maxRetry = 2

func retries(job *Job, value any) error {
	m, ok := value.(*mapping)
	if !ok {
		if value == nil {
			return nil
		}
		m = newMapping()
		m.set("max", value)
	}
	for _, key := range m.keys {
		var err error
		switch key {
		case "max":
			job.Retry, err = integer(m.get(key))
			if err == nil && (job.Retry < 0 || job.Retry > maxRetry) {
				err = fmt.Errorf("has to be between 0 and %d", maxRetry)
			}
		case "when":
			job.RetryWhen, err = texts(m.get(key))
		case "exit_codes":
			job.RetryCodes, err = integers(m.get(key))
		default:
			err = errors.New("is not known")
		}
		if err != nil {
			return in(key, err)
		}
	}
	return nil
}

// units are those of a timeout, by their first letters.
var units = []struct {
	names []string
	unit  time.Duration
}{
	{[]string{"s", "sec", "secs", "second", "seconds"}, time.Second},
	{[]string{"m", "min", "mins", "minute", "minutes"}, time.Minute},
	{[]string{"h", "hr", "hrs", "hour", "hours"}, time.Hour},
	{[]string{"d", "day", "days"}, 24 * time.Hour},
	{[]string{"w", "week", "weeks"}, 7 * 24 * time.Hour},
}

const maxDuration = 30 * 24 * time.Hour

// duration reads times such as "1h 30m", "3 hours 20 minutes" or "3600", which is in seconds.
func duration(text string) (time.Duration, error) {
	rest := strings.ToLower(strings.NewReplacer(" and ", " ", ",", " ").Replace(text))
	total := time.Duration(0)
	parts := 0
	for rest = strings.TrimSpace(rest); rest != ""; rest = strings.TrimSpace(rest) {
		digits := len(rest) - len(strings.TrimLeft(rest, "0123456789"))
		if digits == 0 || digits > 9 {
			return 0, fmt.Errorf("%q is not a time such as 1h 30m", text)
		}
		number := 0
		for _, digit := range rest[:digits] {
			number = number*10 + int(digit-'0')
		}
		rest = strings.TrimSpace(rest[digits:])
		letters := len(rest) - len(strings.TrimLeft(rest, "abcdefghijklmnopqrstuvwxyz"))
		unit := unitOf(rest[:letters])
		if unit == 0 {
			return 0, fmt.Errorf("%q is not a time such as 1h 30m", text)
		}
		rest = rest[letters:]
		total += time.Duration(number) * unit
		if total > maxDuration || total < 0 {
			return 0, fmt.Errorf("%q is longer than 30 days", text)
		}
		parts++
	}
	if parts == 0 || total == 0 {
		return 0, fmt.Errorf("%q is not a time such as 1h 30m", text)
	}
	return total, nil
}

func unitOf(name string) time.Duration {
	if name == "" {
		return time.Second
	}
	for _, u := range units {
		if slices.Contains(u.names, name) {
			return u.unit
		}
	}
	return 0
}
