package commands

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v3"

	"gitlab.com/gitlab-org/gitlab-runner/common/config"
)

// entryFlag is a flag that sets one key of a runner entry, which is given as a path of the file's keys.
// The value is applied only if the flag or its environment variable is there.
type entryFlag struct{ name, env, key, usage string }

// field finds the key in an entry; tables on the way that are not there are made.
func (f entryFlag) field(runner *config.Runner) reflect.Value {
	value := reflect.ValueOf(runner).Elem()
	for _, part := range strings.Split(f.key, ".") {
		if value.Kind() == reflect.Pointer {
			if value.IsNil() {
				value.Set(reflect.New(value.Type().Elem()))
			}
			value = value.Elem()
		}
		value = fieldOf(value, part)
	}
	return value
}

// fieldOf returns the field of a key. The tables of flags name existing ones, as a test makes sure.
func fieldOf(table reflect.Value, key string) reflect.Value {
	for i := range table.NumField() {
		name, _, _ := strings.Cut(table.Type().Field(i).Tag.Get("toml"), ",")
		if name == key {
			return table.Field(i)
		}
	}
	return reflect.Value{}
}

// flag is the flag for the command line.
func (f entryFlag) flag() cli.Flag {
	kind := f.field(new(config.Runner)).Type()
	if kind.Kind() == reflect.Pointer {
		kind = kind.Elem()
	}
	switch kind.Kind() {
	case reflect.Bool:
		return &cli.BoolFlag{Name: f.name, Usage: f.usage, Sources: fromEnv(f.env), HideDefault: true}
	case reflect.Slice, reflect.Map:
		return &cli.StringSliceFlag{Name: f.name, Usage: f.usage, Sources: fromEnv(f.env)}
	default:
		return &cli.StringFlag{Name: f.name, Usage: f.usage, Sources: fromEnv(f.env)}
	}
}

// foreignFlag is a flag whose value is not looked at.
func (f entryFlag) foreignFlag() cli.Flag {
	return &cli.StringFlag{Name: f.name, Usage: f.usage, Sources: fromEnv(f.env), Hidden: true}
}

// apply stores what the user gave in the entry.
func (f entryFlag) apply(c *cli.Command, runner *config.Runner) error {
	if !c.IsSet(f.name) {
		return nil
	}
	if err := f.set(c, f.field(runner)); err != nil {
		return fmt.Errorf("--%s: %w", f.name, err)
	}
	return nil
}

func (f entryFlag) set(c *cli.Command, field reflect.Value) error {
	if field.Kind() == reflect.Pointer {
		field.Set(reflect.New(field.Type().Elem()))
		field = field.Elem()
	}
	switch {
	case field.Type() == reflect.TypeFor[time.Duration]():
		value, err := time.ParseDuration(c.String(f.name))
		if err != nil {
			return fmt.Errorf("%q is no duration: write it like 90s or 1h30m", c.String(f.name))
		}
		field.SetInt(int64(value))
	case field.Type() == reflect.TypeFor[config.StringOrArray]():
		field.Set(reflect.ValueOf(config.StringOrArray(strings.Split(strings.Join(c.StringSlice(f.name), ","), ","))))
	case field.Kind() == reflect.String:
		field.SetString(c.String(f.name))
	case field.Kind() == reflect.Bool:
		field.SetBool(c.Bool(f.name))
	case field.CanInt():
		value, err := strconv.ParseInt(c.String(f.name), 10, field.Type().Bits())
		if err != nil {
			return fmt.Errorf("%q is no whole number, or too large", c.String(f.name))
		}
		field.SetInt(value)
	case field.Kind() == reflect.Slice:
		field.Set(reflect.ValueOf(c.StringSlice(f.name)))
	default:
		return setPairs(field, c.StringSlice(f.name))
	}
	return nil
}

// setPairs fills a map of pairs, or of one JSON object.
func setPairs(field reflect.Value, pairs []string) error {
	field.Set(reflect.MakeMap(field.Type()))
	for _, pair := range pairs {
		if strings.HasPrefix(pair, "{") {
			if err := json.Unmarshal([]byte(pair), field.Addr().Interface()); err != nil {
				return fmt.Errorf("%q is no JSON object for this key: %w", pair, err)
			}
			continue
		}
		key, text, ok := strings.Cut(pair, ":")
		if !ok {
			return fmt.Errorf("%q is no pair: write it like KEY:VALUE", pair)
		}
		value := reflect.New(field.Type().Elem()).Elem()
		switch value.Kind() {
		case reflect.Bool:
			on, err := strconv.ParseBool(text)
			if err != nil {
				return fmt.Errorf("%q: %q is neither true nor false", pair, text)
			}
			value.SetBool(on)
		case reflect.Slice:
			value.Set(reflect.ValueOf([]string{text}))
		default:
			value.SetString(text)
		}
		field.SetMapIndex(reflect.ValueOf(key), value)
	}
	return nil
}

// entryFlagsOf returns the flags of an entry for a command line, foreign ones included.
func entryFlagsOf() []cli.Flag {
	var flags []cli.Flag
	for _, f := range entryFlags() {
		flags = append(flags, f.flag())
	}
	for _, f := range foreignFlags() {
		flags = append(flags, f.foreignFlag())
	}
	return flags
}

// applyEntryFlags stores what the user gave in an entry, and names the flags that have no effect.
func applyEntryFlags(c *cli.Command, runner *config.Runner) (ignored []string, err error) {
	for _, f := range entryFlags() {
		if err := f.apply(c, runner); err != nil {
			return nil, err
		}
	}
	for _, f := range foreignFlags() {
		if c.IsSet(f.name) {
			ignored = append(ignored, "--"+f.name)
		}
	}
	return ignored, nil
}
