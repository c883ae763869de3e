package pipeline

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"gitlab.com/gitlab-org/gitlab-runner/common/spec"
	"gitlab.com/gitlab-org/gitlab-runner/common/variables"
)

const (
	stageFirst   = ".pre"
	stageLast    = ".post"
	defaultStage = "test"
)

// defaultKeys may stand in default; the older way is to have some of them at the top of the file.
var defaultKeys = []string{
	"image", "services", "before_script", "after_script", "cache", "artifacts", "retry", "timeout", "hooks",
	"interruptible", "tags", "id_tokens", "identity",
}

// topKeys are the keywords at the top of a file; everything else there is a job.
var topKeys = []string{
	"default", "stages", "variables", "workflow", "include", "image", "services", "before_script", "after_script", "cache", "spec",
}

type compiler struct {
	options  Options
	root     *mapping
	pipeline *Pipeline
	told     map[string]bool

	defaults *mapping
	// variables are those of the file.
	variables variables.List
}

// warn notes something once.
func (c *compiler) warn(format string, args ...any) {
	warning := fmt.Sprintf(format, args...)
	if !c.told[warning] {
		c.told[warning] = true
		c.pipeline.Warnings = append(c.pipeline.Warnings, warning)
	}
}

func (c *compiler) compile() error {
	if c.root.has("spec") {
		return errors.New("spec: inputs of a pipeline are not supported")
	}
	if err := c.readStages(); err != nil {
		return in("stages", err)
	}
	if err := c.readDefaults(); err != nil {
		return err
	}
	list, err := c.readVariables(c.root.get("variables"))
	if err != nil {
		return in("variables", err)
	}
	c.variables = list
	if err := c.workflow(); err != nil {
		return in("workflow", err)
	}
	var links []*link
	for _, name := range c.root.keys {
		if strings.HasPrefix(name, ".") || slices.Contains(topKeys, name) {
			continue
		}
		more, err := c.job(name)
		if err != nil {
			return in(name, err)
		}
		links = append(links, more...)
	}
	if len(c.pipeline.Jobs) == 0 && len(c.pipeline.Excluded) == 0 {
		return fmt.Errorf("%s has no jobs", c.options.File)
	}
	for _, l := range links {
		if err := c.connect(l); err != nil {
			return in(l.job.Name, err)
		}
	}
	return c.circles()
}

func (c *compiler) readStages() error {
	names := []string{"build", defaultStage, "deploy"}
	if c.root.has("stages") {
		var err error
		if names, err = texts(c.root.get("stages")); err != nil {
			return err
		}
	}
	c.pipeline.Stages = []string{stageFirst}
	for _, name := range names {
		if name == stageFirst || name == stageLast {
			continue
		}
		if !slices.Contains(c.pipeline.Stages, name) {
			c.pipeline.Stages = append(c.pipeline.Stages, name)
		}
	}
	c.pipeline.Stages = append(c.pipeline.Stages, stageLast)
	return nil
}

func (c *compiler) readDefaults() error {
	c.defaults = newMapping()
	if c.root.has("default") {
		defaults, ok := c.root.get("default").(*mapping)
		if !ok {
			return errors.New("default: has to be a mapping")
		}
		for _, key := range defaults.keys {
			if !slices.Contains(defaultKeys, key) {
				return fmt.Errorf("default: %s cannot stand here; what can: %s", key, strings.Join(defaultKeys, ", "))
			}
			c.defaults.set(key, defaults.values[key])
		}
	}
	for _, key := range []string{"image", "services", "before_script", "after_script", "cache"} {
		if !c.root.has(key) {
			continue
		}
		if c.defaults.has(key) {
			return fmt.Errorf("%s stands both in default and at the top of the file", key)
		}
		c.defaults.set(key, c.root.get(key))
	}
	return nil
}

// readVariables reads a mapping of variables, in the order of the file.
func (c *compiler) readVariables(value any) (variables.List, error) {
	if value == nil {
		return nil, nil
	}
	m, ok := value.(*mapping)
	if !ok {
		return nil, fmt.Errorf("has to be a mapping, is %s", describe(value))
	}
	var out variables.List
	for _, key := range m.keys {
		v := spec.Variable{Key: key, Public: true}
		detailed, nested := m.values[key].(*mapping)
		if !nested {
			var err error
			if v.Value, err = variableText(m.values[key]); err != nil {
				return nil, in(key, err)
			}
			out = append(out, v)
			continue
		}
		for _, option := range detailed.keys {
			var err error
			switch option {
			case "value":
				v.Value, err = variableText(detailed.get(option))
			case "expand":
				var expand bool
				expand, err = boolean(detailed.get(option))
				v.Raw = !expand
			case "description", "options":
			default:
				err = errors.New("is not known")
			}
			if err != nil {
				return nil, in(key+": "+option, err)
			}
		}
		out = append(out, v)
	}
	return out, nil
}

func variableText(value any) (string, error) {
	if value == nil {
		return "", nil
	}
	return text(value)
}

// workflow decides whether there is a pipeline at all.
func (c *compiler) workflow() error {
	if !c.root.has("workflow") {
		return nil
	}
	m, ok := c.root.get("workflow").(*mapping)
	if !ok {
		return errors.New("has to be a mapping")
	}
	for _, key := range m.keys {
		switch key {
		case "rules":
		case "name":
			name, err := text(m.get(key))
			if err != nil {
				return in(key, err)
			}
			c.pipeline.Name = name
		default:
			c.warn("workflow:%s has no effect here", key)
		}
	}
	if !m.has("rules") {
		return nil
	}
	found, err := c.rules(m.get("rules"), c.visible(nil), []string{"if", "when", "variables", "exists", "changes"})
	if err != nil {
		return in("rules", err)
	}
	if len(found.unsupported) > 0 {
		return fmt.Errorf("%s is not supported", strings.Join(found.unsupported, ", "))
	}
	if !found.matched || found.when == Never {
		return errors.New("its rules say that there is no pipeline here; set the variables they look at with --env")
	}
	c.variables = append(c.variables, found.variables...)
	return nil
}

// visible are the variables that rules of a job see.
func (c *compiler) visible(job variables.List) variables.List {
	all := slices.Concat(c.options.Predefined, c.variables, job, c.options.Overrides)
	return all.Expand("")
}

// link is a job whose needs and dependencies still are names.
type link struct {
	job *Job
	// needs is nil without the keyword.
	needs        []namedNeed
	hasNeeds     bool
	dependencies []string
	hasDeps      bool
}

type namedNeed struct {
	name      string
	artifacts bool
	optional  bool
	matrix    []map[string]string
}

// connect turns names into jobs.
func (c *compiler) connect(l *link) error {
	job := l.job
	job.Staged = !l.hasNeeds
	own := slices.Index(c.pipeline.Stages, job.Stage)
	if l.hasNeeds {
		for _, need := range l.needs {
			parts, err := c.named("needs", need.name, need.optional)
			if err != nil {
				return err
			}
			for _, part := range parts {
				switch {
				case part == job:
					return errors.New("needs: the job needs itself")
				case slices.Index(c.pipeline.Stages, part.Stage) > own:
					return fmt.Errorf("needs: %q is of a later stage", need.name)
				case part.ofMatrix(need.matrix):
					job.Needs = append(job.Needs, Need{Job: part, Artifacts: need.artifacts, Order: true})
				}
			}
		}
		if !l.hasDeps {
			return nil
		}
		for i := range job.Needs {
			need := job.Needs[i].Job
			job.Needs[i].Artifacts = slices.Contains(l.dependencies, need.Name) || slices.Contains(l.dependencies, need.Base)
		}
		return nil
	}
	if !l.hasDeps {
		for _, other := range c.pipeline.Jobs {
			if slices.Index(c.pipeline.Stages, other.Stage) < own {
				job.Needs = append(job.Needs, Need{Job: other, Artifacts: true})
			}
		}
		return nil
	}
	for _, name := range l.dependencies {
		parts, err := c.named("dependencies", name, false)
		if err != nil {
			return err
		}
		for _, part := range parts {
			if slices.Index(c.pipeline.Stages, part.Stage) >= own {
				return fmt.Errorf("dependencies: %q is not of an earlier stage", name)
			}
			job.Needs = append(job.Needs, Need{Job: part, Artifacts: true})
		}
	}
	return nil
}

// named finds the jobs that a name means. One that rules keep out is missing for needs.
func (c *compiler) named(key, name string, optional bool) ([]*Job, error) {
	parts := c.pipeline.Job(name)
	if len(parts) > 0 || optional {
		return parts, nil
	}
	if slices.Contains(c.pipeline.Excluded, name) {
		if key == "dependencies" {
			return nil, nil
		}
		return nil, fmt.Errorf("%s: the rules of %q keep it out of this pipeline; say optional: true to do without", key, name)
	}
	return nil, fmt.Errorf("%s: there is no job %q", key, name)
}

func (j *Job) ofMatrix(wanted []map[string]string) bool {
	if len(wanted) == 0 {
		return true
	}
	own := map[string]string{}
	for _, v := range j.matrix {
		own[v.Key] = v.Value
	}
	return slices.ContainsFunc(wanted, func(w map[string]string) bool { return maps.Equal(own, w) })
}

// circles refuses needs that nobody can begin with.
func (c *compiler) circles() error {
	const (
		unseen = iota
		open
		closed
	)
	state := map[*Job]int{}
	var visit func(job *Job) error
	visit = func(job *Job) error {
		switch state[job] {
		case open:
			return fmt.Errorf("%s: needs go in a circle", job.Name)
		case closed:
			return nil
		}
		state[job] = open
		for _, need := range job.Needs {
			if err := visit(need.Job); err != nil {
				return err
			}
		}
		state[job] = closed
		return nil
	}
	for _, job := range c.pipeline.Jobs {
		if err := visit(job); err != nil {
			return err
		}
	}
	return nil
}
