package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/BurntSushi/toml"
)

// The defaults of keys whose zero value means something else.
const (
	DefaultConcurrent      = 1
	DefaultCheckInterval   = 3 * time.Second
	DefaultShutdownTimeout = 30 * time.Second
	DefaultSessionTimeout  = 30 * time.Minute
	DefaultMaxAge          = 15 * time.Minute
	DefaultOutputLimit     = 4096 << 10 // bytes
)

// File is a configuration together with where it came from.
type File struct {
	Config
	// Path is where the file is, or will be.
	Path string
	// ModTime is that of the file when it was loaded, zero if there was none.
	ModTime time.Time
	// Unknown are the keys that nothing knows, as dotted paths.
	Unknown []string
	// misfits are the keys and values that do not fit the types, as far as the decoder takes them.
	misfits []Finding
	// borrowedDSN says that sentry_dsn is the environment's. It is not saved.
	borrowedDSN bool
}

func defaults() Config {
	return Config{Concurrent: DefaultConcurrent, SessionServer: SessionServer{SessionTimeout: int(DefaultSessionTimeout.Seconds())}}
}

// Load reads a configuration file. One that does not exist is an empty configuration. The error of a
// file that cannot be used names the place and the key.
func Load(path string) (*File, error) {
	file := &File{Path: path, Config: defaults()}
	info, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) {
		file.borrowDSN()
		return file, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the configuration: %w", err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading the configuration: %w", err)
	}
	if err := file.decode(string(data)); err != nil {
		return nil, fmt.Errorf("decoding configuration file %s: %w", path, err)
	}
	if err := file.Validate(); err != nil {
		return nil, fmt.Errorf("invalid config: %w", err)
	}
	file.ModTime = info.ModTime()
	return file, nil
}

func (f *File) decode(text string) error {
	root, err := parseSyntax(text)
	if err == nil {
		f.misfits = checkSchema(root)
	}
	meta, err := toml.Decode(text, &f.Config)
	if err != nil {
		var parse toml.ParseError
		if errors.As(err, &parse) {
			return fmt.Errorf("line %d, column %d (last key %q): %s", parse.Position.Line, parse.Position.Col, parse.LastKey, parse.Message)
		}
		return err
	}
	if !meta.IsDefined("sentry_dsn") {
		f.borrowDSN()
	}
	for _, key := range meta.Undecoded() {
		if !carriedAlong(key) {
			f.Unknown = append(f.Unknown, key.String())
		}
	}
	if err := f.keepForeign(text); err != nil {
		return err
	}
	now := time.Now()
	for _, runner := range f.Runners {
		runner.URL = os.ExpandEnv(runner.URL)
		runner.Token = os.ExpandEnv(runner.Token)
		runner.LoadedAt = now
	}
	return nil
}

// borrowDSN takes the value of a key that is absent from the environment.
func (f *File) borrowDSN() {
	f.SentryDSN, f.borrowedDSN = os.Getenv("SENTRY_DSN"), true
}

// foreignTables are those of executors that are not ours. They are carried along, so that a file that
// serves several runners is not damaged by saving it.
var foreignTables = map[string]bool{
	"ssh": true, "parallels": true, "virtualbox": true, "machine": true, "kubernetes": true, "custom": true,
}

// freeTables hold whatever their owner likes; what stands below them is not ours to know.
var freeTables = map[string]bool{
	"plugin_config": true, "nesting_config": true, "snowplow_billing": true, "machine": true, "referees": true,
}

func carriedAlong(key toml.Key) bool {
	if len(key) > 1 && key[0] == "runners" && foreignTables[key[1]] {
		return true
	}
	return slices.ContainsFunc(key, func(part string) bool { return freeTables[part] })
}

func (f *File) keepForeign(text string) error {
	var raw struct {
		Runners []map[string]any `toml:"runners"`
	}
	if _, err := toml.Decode(text, &raw); err != nil {
		return err
	}
	for i, tables := range raw.Runners {
		for name, table := range tables {
			if !foreignTables[name] {
				continue
			}
			if f.Runners[i].Foreign == nil {
				f.Runners[i].Foreign = map[string]any{}
			}
			f.Runners[i].Foreign[name] = table
		}
	}
	return nil
}

// Validate checks what must hold for the file to be used at all.
func (c *Config) Validate() error {
	all := c.problems()
	switch {
	case len(all) == 0:
		return nil
	case all[0].scope == "":
		return all[0].err
	default:
		return fmt.Errorf("%s: %w", all[0].scope, all[0].err)
	}
}

// Save writes the configuration to its path, whole or not at all. A new file is readable by its owner only. One that is
// there stays what it is: the target of a link, its owner's, readable by its group if that is so.
func (f *File) Save() error {
	var text strings.Builder
	encoder := toml.NewEncoder(&text)
	encoder.Indent = "  "
	if err := encoder.Encode(f.document()); err != nil {
		return fmt.Errorf("encoding the configuration: %w", err)
	}
	dir := filepath.Dir(f.Path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("saving the configuration: %w", err)
	}
	if err := writeFile(f.Path, []byte(text.String())); err != nil {
		return fmt.Errorf("saving the configuration: %w", err)
	}
	info, err := os.Stat(f.Path)
	if err != nil {
		return fmt.Errorf("saving the configuration: %w", err)
	}
	f.ModTime = info.ModTime()
	return nil
}

// document is the configuration with the tables of other executors back in place.
func (f *File) document() any {
	type entry struct {
		*Runner
		SSH        any `toml:"ssh,omitempty"`
		Parallels  any `toml:"parallels,omitempty"`
		VirtualBox any `toml:"virtualbox,omitempty"`
		Machine    any `toml:"machine,omitempty"`
		Kubernetes any `toml:"kubernetes,omitempty"`
		Custom     any `toml:"custom,omitempty"`
	}
	plain := f.Config
	plain.Runners, plain.SentryDSN = nil, ""
	document := struct {
		Config
		// An empty one is kept: it says that the environment's is not wanted.
		SentryDSN *string `toml:"sentry_dsn"`
		Runners   []entry `toml:"runners"`
	}{Config: plain}
	if !f.borrowedDSN {
		document.SentryDSN = &f.SentryDSN
	}
	for _, runner := range f.Runners {
		foreign := runner.Foreign
		document.Runners = append(document.Runners, entry{
			Runner: runner, SSH: foreign["ssh"], Parallels: foreign["parallels"], VirtualBox: foreign["virtualbox"],
			Machine: foreign["machine"], Kubernetes: foreign["kubernetes"], Custom: foreign["custom"],
		})
	}
	return document
}
