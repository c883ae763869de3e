package pipeline

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"gitlab.com/gitlab-org/gitlab-runner/common/variables"
)

// verdict is what rules say.
type verdict struct {
	matched      bool
	when         When
	allowFailure *bool
	allowCodes   []int
	variables    variables.List
	// needs are those of the rule, if it has any.
	needs       any
	hasNeeds    bool
	unsupported []string
}

// ruleKeys are what a rule of a job may say.
var ruleKeys = []string{"if", "exists", "changes", "when", "allow_failure", "variables", "needs", "interruptible", "start_in"}

// rules finds the first rule that holds.
func (c *compiler) rules(value any, visible variables.List, known []string) (verdict, error) {
	for i, entry := range flat(value) {
		rule, ok := entry.(*mapping)
		if !ok {
			return verdict{}, fmt.Errorf("rule %d is not a mapping, but %s", i+1, describe(entry))
		}
		for _, key := range rule.keys {
			if !slices.Contains(known, key) {
				return verdict{}, fmt.Errorf("rule %d: %s is not known", i+1, key)
			}
		}
		if rule.has("changes") {
			// It cannot be said which rule would hold.
			return verdict{matched: true, when: OnSuccess, unsupported: []string{"rules:changes"}}, nil
		}
		holds, err := c.holds(rule, visible)
		if err != nil {
			return verdict{}, fmt.Errorf("rule %d: %w", i+1, err)
		}
		if !holds {
			continue
		}
		found, err := c.verdict(rule)
		if err != nil {
			return verdict{}, fmt.Errorf("rule %d: %w", i+1, err)
		}
		return found, nil
	}
	return verdict{when: Never}, nil
}

func flat(value any) list {
	var out list
	for _, item := range items(value) {
		if nested, ok := item.(list); ok {
			out = append(out, flat(nested)...)
			continue
		}
		out = append(out, item)
	}
	return out
}

func (c *compiler) holds(rule *mapping, visible variables.List) (bool, error) {
	if rule.has("if") {
		condition, err := text(rule.get("if"))
		if err != nil {
			return false, in("if", err)
		}
		holds, err := evaluate(condition, visible.Lookup)
		if err != nil || !holds {
			return false, in("if", err)
		}
	}
	if !rule.has("exists") {
		return true, nil
	}
	value := rule.get("exists")
	if detailed, ok := value.(*mapping); ok {
		for _, key := range detailed.keys {
			if key != "paths" {
				return false, fmt.Errorf("exists:%s is not supported", key)
			}
		}
		value = detailed.get("paths")
	}
	patterns, err := texts(value)
	if err != nil {
		return false, in("exists", err)
	}
	for _, pattern := range patterns {
		found, err := c.options.Exists(visible.ExpandValue(pattern))
		if err != nil {
			return false, in("exists", err)
		}
		if found {
			return true, nil
		}
	}
	return false, nil
}

// verdict is what a rule that holds says.
func (c *compiler) verdict(rule *mapping) (verdict, error) {
	out := verdict{matched: true}
	if rule.has("when") {
		when, err := whenOf(rule.get("when"))
		if err != nil {
			return verdict{}, in("when", err)
		}
		out.when = when
	}
	if rule.has("allow_failure") {
		allowed, codes, err := allowFailure(rule.get("allow_failure"))
		if err != nil {
			return verdict{}, in("allow_failure", err)
		}
		out.allowFailure, out.allowCodes = &allowed, codes
	}
	list, err := c.readVariables(rule.get("variables"))
	if err != nil {
		return verdict{}, in("variables", err)
	}
	out.variables = list
	out.needs, out.hasNeeds = rule.get("needs"), rule.has("needs")
	if rule.has("interruptible") {
		c.warn("interruptible has no effect here: nothing replaces this pipeline")
	}
	return out, nil
}

func whenOf(value any) (When, error) {
	name, err := text(value)
	if err != nil {
		return "", err
	}
	switch when := When(name); when {
	case OnSuccess, OnFailure, Always, Manual, Delayed, Never:
		return when, nil
	}
	return "", fmt.Errorf("%q is not known: use on_success, on_failure, always, manual, delayed or never", name)
}

func allowFailure(value any) (bool, []int, error) {
	detailed, ok := value.(*mapping)
	if !ok {
		allowed, err := boolean(value)
		return allowed, nil, err
	}
	for _, key := range detailed.keys {
		if key != "exit_codes" {
			return false, nil, fmt.Errorf("%s is not known", key)
		}
	}
	codes, err := integers(detailed.get("exit_codes"))
	return false, codes, in("exit_codes", err)
}

// refsHold says whether only, or except, names this ref.
func (c *compiler) refsHold(value any, visible variables.List) (holds bool, unsupported []string, err error) {
	detailed, ok := value.(*mapping)
	if !ok {
		holds, err := c.anyRef(value)
		return holds, nil, err
	}
	holds = true
	for _, key := range detailed.keys {
		switch key {
		case "refs":
			found, err := c.anyRef(detailed.get(key))
			if err != nil {
				return false, nil, in(key, err)
			}
			holds = holds && found
		case "variables":
			conditions, err := texts(detailed.get(key))
			if err != nil {
				return false, nil, in(key, err)
			}
			found := false
			for _, condition := range conditions {
				met, err := evaluate(condition, visible.Lookup)
				if err != nil {
					return false, nil, in(key, err)
				}
				found = found || met
			}
			holds = holds && found
		case "changes", "kubernetes":
			unsupported = append(unsupported, key)
		default:
			return false, nil, fmt.Errorf("%s is not known", key)
		}
	}
	return holds, unsupported, nil
}

func (c *compiler) anyRef(value any) (bool, error) {
	refs, err := texts(value)
	if err != nil {
		return false, err
	}
	for _, ref := range refs {
		holds, err := c.refHolds(ref)
		if err != nil {
			return false, err
		}
		if holds {
			return true, nil
		}
	}
	return false, nil
}

// refHolds knows the names of kinds of pipelines; all others are those of branches and tags.
func (c *compiler) refHolds(ref string) (bool, error) {
	source, _ := slices.Concat(c.options.Predefined, c.options.Overrides).Lookup("CI_PIPELINE_SOURCE")
	switch ref {
	case "branches":
		return !c.options.Tag, nil
	case "tags":
		return c.options.Tag, nil
	case "pushes":
		return source == "push", nil
	case "merge_requests":
		return source == "merge_request_event", nil
	case "api", "chat", "external", "external_pull_requests", "pipelines", "schedules", "triggers", "web":
		return source == strings.TrimSuffix(ref, "s"), nil
	}
	if strings.HasPrefix(ref, "/") {
		pattern, err := compilePattern(ref)
		if err != nil {
			return false, err
		}
		return pattern.MatchString(c.options.Ref), nil
	}
	if strings.Contains(ref, "@") {
		return false, errors.New("refs of other projects are not supported: " + ref)
	}
	return ref == c.options.Ref, nil
}
