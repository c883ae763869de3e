package commands

import (
	"fmt"
	"os"
	"reflect"

	"gitlab.com/gitlab-org/gitlab-runner/common/config"
)

// mergeTemplate fills what the new entry leaves empty from the template's one entry. Its token is not
// taken.
func (r *registration) mergeTemplate() error {
	path := r.command.String("template-config")
	if path == "" {
		return nil
	}
	if _, err := os.Stat(path); err != nil {
		return fmt.Errorf("reading the configuration template: %w", err)
	}
	template, err := config.Load(path)
	if err != nil {
		return fmt.Errorf("reading the configuration template: %w", err)
	}
	if len(template.Runners) != 1 {
		return fmt.Errorf("the configuration template %s has %d [[runners]] entries: it must have exactly one", path, len(template.Runners))
	}
	from := template.Runners[0]
	from.Token = ""
	fillEmpty(reflect.ValueOf(r.runner).Elem(), reflect.ValueOf(from).Elem())
	return nil
}

// fillEmpty copies the keys of from into empty ones of to. Tables that are in both are merged, lists are
// taken as a whole.
func fillEmpty(to, from reflect.Value) {
	for i := range to.NumField() {
		target, source := to.Field(i), from.Field(i)
		switch {
		case !target.CanSet(): // no key
		case target.Kind() == reflect.Pointer && target.Type().Elem().Kind() == reflect.Struct && !target.IsNil() && !source.IsNil():
			fillEmpty(target.Elem(), source.Elem())
		case target.IsZero() || (target.Kind() == reflect.Slice || target.Kind() == reflect.Map) && target.Len() == 0:
			target.Set(source)
		}
	}
}
