package pipeline

import (
	"errors"
	"fmt"

	"gitlab.com/gitlab-org/gitlab-runner/common/spec"
)

// image reads image, or one of services.
func image(value any) (*spec.Image, error) {
	m, ok := value.(*mapping)
	if !ok {
		name, err := text(value)
		if err == nil && name == "" {
			err = errors.New("is empty")
		}
		return &spec.Image{Name: name}, err
	}
	out := &spec.Image{}
	for _, key := range m.keys {
		if err := imageKey(out, key, m.get(key)); err != nil {
			return nil, in(key, err)
		}
	}
	if out.Name == "" {
		return nil, errors.New("name is missing")
	}
	return out, nil
}

func imageKey(out *spec.Image, key string, value any) (err error) {
	switch key {
	case "name":
		out.Name, err = text(value)
	case "alias":
		out.Alias, err = text(value)
	case "entrypoint":
		out.Entrypoint, err = texts(value)
	case "command":
		out.Command, err = texts(value)
	case "pull_policy":
		out.PullPolicies, err = texts(value)
	case "docker":
		err = dockerOptions(out, value)
	case "kubernetes":
	case "variables":
		var m *mapping
		var ok bool
		if m, ok = value.(*mapping); !ok {
			return errors.New("has to be a mapping")
		}
		for _, name := range m.keys {
			v, err := variableText(m.get(name))
			if err != nil {
				return in(name, err)
			}
			out.Variables = append(out.Variables, spec.Variable{Key: name, Value: v, Public: true})
		}
	default:
		err = errors.New("is not known")
	}
	return err
}

func dockerOptions(out *spec.Image, value any) error {
	m, ok := value.(*mapping)
	if !ok {
		return errors.New("has to be a mapping")
	}
	for _, key := range m.keys {
		option, err := text(m.get(key))
		if err != nil {
			return in(key, err)
		}
		switch key {
		case "platform":
			out.ExecutorOpts.Docker.Platform = option
		case "user":
			out.ExecutorOpts.Docker.User = option
		default:
			return fmt.Errorf("%s is not known", key)
		}
	}
	return nil
}

func (c *compiler) services(value any) ([]spec.Image, error) {
	var out []spec.Image
	for i, entry := range flat(value) {
		service, err := image(entry)
		if err != nil {
			return nil, fmt.Errorf("service %d: %w", i+1, err)
		}
		out = append(out, *service)
	}
	return out, nil
}
