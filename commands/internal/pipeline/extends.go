package pipeline

import (
	"fmt"
	"slices"
	"strings"
)

const (
	maxExtends    = 11
	maxReferences = 10
)

// resolveExtends puts into each job what it extends.
func resolveExtends(root *mapping) error {
	done := map[string]*mapping{}
	for _, name := range root.keys {
		if job, ok := root.values[name].(*mapping); ok && job.has("extends") {
			full, err := extended(root, name, nil, done)
			if err != nil {
				return err
			}
			root.values[name] = full
		}
	}
	return nil
}

func extended(root *mapping, name string, below []string, done map[string]*mapping) (*mapping, error) {
	if full, ok := done[name]; ok {
		return full, nil
	}
	if slices.Contains(below, name) {
		return nil, fmt.Errorf("%s: extends goes in a circle: %s", below[0], strings.Join(append(below, name), " → "))
	}
	if len(below) >= maxExtends {
		return nil, fmt.Errorf("%s: extends is more than %d deep", below[0], maxExtends)
	}
	job, ok := root.values[name].(*mapping)
	if !ok {
		return nil, fmt.Errorf("%s: extends: there is no job %q", below[len(below)-1], name)
	}
	if !job.has("extends") {
		return job, nil
	}
	parents, err := texts(job.get("extends"))
	if err != nil {
		return nil, in(name+": extends", err)
	}
	full := newMapping()
	for _, parent := range parents {
		more, err := extended(root, parent, append(slices.Clone(below), name), done)
		if err != nil {
			return nil, err
		}
		full = merged(full, more)
	}
	full = merged(full, job.without("extends"))
	done[name] = full
	return full, nil
}

// resolveReferences puts what each !reference names in its place.
func resolveReferences(root *mapping) error {
	r := &referrer{root: root, left: maxValues}
	for _, key := range root.keys {
		value, err := r.resolve(root.values[key], nil)
		if err != nil {
			return in(key, err)
		}
		root.values[key] = value
	}
	return nil
}

type referrer struct {
	root *mapping
	left int
}

func (r *referrer) resolve(value any, trail []string) (any, error) {
	if r.left--; r.left < 0 {
		return nil, fmt.Errorf("the file has more than %d values after its references are resolved", maxValues)
	}
	switch v := value.(type) {
	case reference:
		return r.follow(v, trail)
	case list:
		out := make(list, len(v))
		for i, item := range v {
			var err error
			if out[i], err = r.resolve(item, trail); err != nil {
				return nil, err
			}
		}
		return out, nil
	case *mapping:
		out := newMapping()
		for _, key := range v.keys {
			item, err := r.resolve(v.values[key], trail)
			if err != nil {
				return nil, in(key, err)
			}
			out.set(key, item)
		}
		return out, nil
	default:
		return value, nil
	}
}

func (r *referrer) follow(path reference, trail []string) (any, error) {
	name := "[" + strings.Join(path, ", ") + "]"
	if slices.Contains(trail, name) {
		return nil, fmt.Errorf("!reference %s goes in a circle", name)
	}
	if len(trail) >= maxReferences {
		return nil, fmt.Errorf("!reference %s: references are more than %d deep", name, maxReferences)
	}
	var value any = r.root
	for _, part := range path {
		place, ok := value.(*mapping)
		if !ok || !place.has(part) {
			return nil, fmt.Errorf("!reference %s: there is no %q", name, part)
		}
		value = place.get(part)
	}
	return r.resolve(value, append(slices.Clone(trail), name))
}
