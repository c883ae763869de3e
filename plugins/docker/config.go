package docker

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"time"

	"github.com/docker/go-units"
	"gitlab.com/gitlab-org/fleeting/fleeting/provider"
)

const (
	defaultName     = "gitlab-runner"
	defaultImage    = "gitlab-runner-instance:local"
	defaultMaxSize  = 10
	defaultUsername = "runner"

	// maxBootDelay keeps a typing error from looking like a group that never boots.
	maxBootDelay = 10 * time.Minute

	// minMemory is what the engine of an instance needs to start at all.
	minMemory = 64 << 20
)

// namePattern leaves room for the random part: an instance's name is its host name too.
var namePattern = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,39}$`)

// Config is the plugin's part of the runner's configuration.
type Config struct {
	// Name identifies the group on the engine. Two plugins at work at the same time need two names.
	// Empty selects "gitlab-runner".
	Name string `json:"name"`
	// Image is the image of an instance; it must be on the engine. Empty selects
	// "gitlab-runner-instance:local".
	Image string `json:"image"`
	// MaxSize is the largest number of instances; 0 selects 10.
	MaxSize int `json:"max_size"`
	// Network is the network of the instances; empty selects the engine's default bridge.
	Network string `json:"network"`
	// Memory bounds the memory of one instance, with a unit, for example "2g"; empty is no bound.
	Memory string `json:"memory"`
	// CPUs bounds the processor time of one instance, in processors; 0 is no bound.
	CPUs float64 `json:"cpus"`
	// Privileged says whether instances are privileged containers or containers with all
	// capabilities but CAP_SYS_RESOURCE. Absent, the plugin tries the first and then the second.
	Privileged *bool `json:"privileged"`
	// Images are images of this machine's engine that every instance starts with.
	Images []string `json:"images"`
	// EngineConfig is the daemon.json of the instances' engines, for example to name a registry
	// mirror.
	EngineConfig json.RawMessage `json:"engine_config"`
	// BootDelay makes instances slow, for tests: a duration such as "5s" to wait before booting.
	BootDelay string `json:"boot_delay"`
}

// shape is a checked configuration: what the instances of a group have in common.
type shape struct {
	name         string
	image        string
	maxSize      int
	network      string
	memory       int64
	nanoCPUs     int64
	privileged   *bool
	images       []string
	engineConfig []byte
	bootDelay    time.Duration
}

// shape checks the configuration. An error names each bad key.
func (c Config) shape() (shape, error) {
	s := shape{
		name:       c.Name,
		image:      c.Image,
		maxSize:    c.MaxSize,
		network:    c.Network,
		privileged: c.Privileged,
		images:     slices.Compact(slices.Sorted(slices.Values(c.Images))),
	}
	if s.name == "" {
		s.name = defaultName
	}
	if s.image == "" {
		s.image = defaultImage
	}
	if s.maxSize == 0 {
		s.maxSize = defaultMaxSize
	}

	var errs []error
	bad := func(key, format string, args ...any) {
		errs = append(errs, fmt.Errorf("plugin_config %s: %s", key, fmt.Sprintf(format, args...)))
	}

	if !namePattern.MatchString(s.name) {
		bad("name", "%q must start with a letter or digit, go on with those or _ . - and have at most 40 characters", s.name)
	}
	if s.maxSize < 0 {
		bad("max_size", "%d is negative", s.maxSize)
	}
	if c.Memory != "" {
		memory, err := units.RAMInBytes(c.Memory)
		switch {
		case err != nil:
			bad("memory", "%q is not a size such as 512m or 2g", c.Memory)
		case memory < minMemory:
			bad("memory", "%q is less than an engine needs (64m)", c.Memory)
		}
		s.memory = memory
	}
	switch {
	case c.CPUs < 0 || c.CPUs > 1<<20:
		bad("cpus", "%v is not a number of processors", c.CPUs)
	case c.CPUs > 0 && c.CPUs < 0.01:
		bad("cpus", "%v is less than the engine can give (0.01)", c.CPUs)
	}
	s.nanoCPUs = int64(c.CPUs * 1e9)
	if slices.Contains(s.images, "") {
		bad("images", "an image without a name")
	}
	if c.BootDelay != "" {
		delay, err := time.ParseDuration(c.BootDelay)
		switch {
		case err != nil:
			bad("boot_delay", "%q is not a duration such as 500ms or 5s", c.BootDelay)
		case delay < 0 || delay > maxBootDelay:
			bad("boot_delay", "%q is not between 0s and %v", c.BootDelay, maxBootDelay)
		}
		s.bootDelay = delay
	}
	if len(c.EngineConfig) > 0 && !bytes.Equal(c.EngineConfig, []byte("null")) {
		var object map[string]json.RawMessage
		if err := json.Unmarshal(c.EngineConfig, &object); err != nil {
			bad("engine_config", "not a JSON object: %v", err)
		}
		s.engineConfig = c.EngineConfig
	}
	return s, errors.Join(errs...)
}

// checkConnector refuses connector settings that no instance of this plugin can satisfy.
func checkConnector(c provider.ConnectorConfig) error {
	if c.Protocol != "" && c.Protocol != provider.ProtocolSSH {
		return fmt.Errorf("connector_config protocol: %q is not possible, instances of the docker plugin are reached by ssh", c.Protocol)
	}
	if c.OS != "" && c.OS != "linux" {
		return fmt.Errorf("connector_config os: %q is not possible, instances of the docker plugin run linux", c.OS)
	}
	return nil
}
