package blueprint

import (
	"fmt"
	"slices"
	"strings"

	"github.com/docker/docker/api/types/container"

	"gitlab.com/gitlab-org/gitlab-runner/common/spec"
	"gitlab.com/gitlab-org/gitlab-runner/common/variables"
	"gitlab.com/gitlab-org/gitlab-runner/executors/docker/internal/images"
	"gitlab.com/gitlab-org/gitlab-runner/helpers/docker"
)

// services describes the service containers: those of the configuration, then those of the job.
func (c *compiler) services() error {
	definitions, err := c.serviceDefinitions()
	if err != nil {
		return err
	}
	if limit := c.docker.ServicesLimit; limit != nil && *limit >= 0 && len(definitions) > *limit {
		return configurationError("too many services requested: %d, only %d allowed", len(definitions), *limit)
	}
	taken := map[string]bool{}
	for index, definition := range definitions {
		service, err := c.service(index, definition, taken)
		if err != nil {
			return err
		}
		if service != nil {
			c.plan.Services = append(c.plan.Services, *service)
		}
	}
	return nil
}

// serviceDefinitions lists the services in the job's own form, names and aliases expanded.
func (c *compiler) serviceDefinitions() ([]spec.Image, error) {
	var definitions []spec.Image
	var configured []string
	for _, s := range c.docker.Services {
		name := c.vars.ExpandValue(s.Name)
		if name == "" {
			continue
		}
		configured = append(configured, name)
		definitions = append(definitions, spec.Image{
			Name: name, Alias: c.vars.ExpandValue(s.Alias),
			Command: s.Command, Entrypoint: s.Entrypoint,
			Variables: variables.Parse(s.Environment),
		})
	}
	for _, s := range c.Job.Spec.Services {
		if err := refuseUnsupported(s.Name, s.ExecutorOpts.Unsupported); err != nil {
			return nil, err
		}
		s.Name, s.Alias = c.vars.ExpandValue(s.Name), c.vars.ExpandValue(s.Alias)
		if s.Name == "" {
			continue
		}
		if err := c.allowed(s.Name, "services", c.docker.AllowedServices, configured); err != nil {
			return nil, err
		}
		if len(s.Entrypoint) > 0 {
			s.Entrypoint = c.entrypoint(s.Entrypoint)
		}
		definitions = append(definitions, s)
	}
	return definitions, nil
}

// service describes one service. It returns nil when every alias of it is taken by an earlier one.
func (c *compiler) service(index int, definition spec.Image, taken map[string]bool) (*Service, error) {
	name, tag, ok := splitReference(definition.Name)
	if !ok {
		return nil, configurationError("invalid service image name: %q", definition.Name)
	}
	service := &Service{Name: name, Version: tag, Index: index}
	for _, alias := range serviceAliases(name, definition.Alias) {
		if taken[alias] {
			c.warn("Skipping alias %q for service %q (services[%d]): alias is already in use by another service.",
				alias, definition.Name, index)
			continue
		}
		taken[alias] = true
		service.Aliases = append(service.Aliases, alias)
	}
	if len(service.Aliases) == 0 {
		return nil, nil
	}
	if err := c.serviceImage(service, definition); err != nil {
		return nil, err
	}
	host, err := c.serviceHost(definition.Name)
	if err != nil {
		return nil, err
	}
	service.Container = docker.Container{
		Name: fmt.Sprintf("%s-%s-%d", c.unique, strings.ReplaceAll(name, "/", "__"), index),
		Config: &container.Config{
			Env:        c.serviceEnvironment(definition.Variables),
			Cmd:        definition.Command,
			Entrypoint: definition.Entrypoint,
			User:       c.vars.ExpandValue(definition.ExecutorOpts.Docker.User),
			Labels:     c.serviceLabels(service),
		},
		Host:     host,
		Network:  c.endpoint("", service.Aliases...),
		Platform: service.Image.Platform,
	}
	return service, nil
}

func (c *compiler) serviceImage(service *Service, definition spec.Image) error {
	platform, warning, err := parsePlatform(c.vars.ExpandValue(definition.ExecutorOpts.Docker.Platform), c.Engine.OS)
	if err != nil {
		return err
	}
	if warning != "" {
		c.warn("%s", warning)
	}
	service.Image = images.Request{Name: definition.Name, Platform: platform}
	service.Image.Policies, err = images.Policies(definition.Name, definition.PullPolicies, c.docker)
	return err
}

// serviceLabels carry the configured labels a second time, below the prefix.
func (c *compiler) serviceLabels(service *Service) map[string]string {
	extra := map[string]string{}
	for key, value := range c.docker.ContainerLabels {
		extra[key] = c.vars.ExpandValue(value)
	}
	extra["service"], extra["service.version"] = service.Name, service.Version
	return c.containerLabels("service", extra)
}

// serviceEnvironment is what a service is given: variables of the job that are no secret, and its own.
func (c *compiler) serviceEnvironment(own []spec.Variable) []string {
	all := make(variables.List, 0, len(c.Job.Variables)+len(own))
	for _, v := range c.Job.Variables {
		// They are expanded already; a second time would eat their dollar signs.
		v.Raw = true
		all = append(all, v)
	}
	all = append(all, own...).Expand(c.Job.TmpDir)
	own = all[len(c.Job.Variables):]
	return append(c.Job.Variables.PublicOrInternal(), own...).Environment(c.Job.TmpDir)
}

// serviceAliases are the names of a service: two forms of its image's name, and the user's own.
func serviceAliases(name, own string) []string {
	aliases := []string{strings.ReplaceAll(name, "/", "__")}
	for _, alias := range append([]string{strings.ReplaceAll(name, "/", "-")}, strings.FieldsFunc(own, func(r rune) bool {
		return r == ' ' || r == ',' || r == '\t' || r == '\n'
	})...) {
		if !slices.Contains(aliases, alias) {
			aliases = append(aliases, alias)
		}
	}
	return aliases
}

// splitReference splits an image's name into the name without the registry's port and the tag or
// digest, "latest" without one.
func splitReference(reference string) (name, tag string, ok bool) {
	if !images.ValidName(reference) {
		return "", "", false
	}
	name, digest, _ := strings.Cut(reference, "@")
	slash := strings.LastIndex(name, "/")
	if colon := strings.LastIndex(name, ":"); colon > slash {
		name, tag = name[:colon], name[colon+1:]
	}
	if digest != "" {
		tag = digest
	}
	if tag == "" {
		tag = "latest"
	}
	if registry, rest, found := strings.Cut(name, "/"); found {
		host, _, _ := strings.Cut(registry, ":")
		name = host + "/" + rest
	}
	return name, tag, true
}
