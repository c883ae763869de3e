package images

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/docker/docker/api/types/registry"

	"gitlab.com/gitlab-org/gitlab-runner/common/spec"
)

// Log is where the user is told what happens to images.
type Log interface {
	Print(format string, args ...any)
	Info(format string, args ...any)
	Warn(format string, args ...any)
}

// Keychain finds the credentials for registries of one job. Files are read and credential helpers are
// run on this machine, when the first image is looked up. It is safe for concurrent use.
type Keychain struct {
	// Variable is the value of DOCKER_AUTH_CONFIG, empty for none.
	Variable string
	// Home has the docker command line's own files, empty for none.
	Home string
	// Payload are the credentials that came with the job.
	Payload []spec.Credential

	mu      sync.Mutex
	loaded  bool
	sources []*source
}

// source is one origin of credentials.
type source struct {
	// name is how the user is told of it.
	name    string
	entries map[string]entry
}

// entry is the credentials for one registry path, or how to get them.
type entry struct {
	auth registry.AuthConfig
	// helper is the suffix of a program that has the credentials of server, empty if auth has them.
	helper string
	server string
}

const (
	variableSource = "$DOCKER_AUTH_CONFIG"
	payloadSource  = "job payload (GitLab Registry)"
	// configLimit bounds a file of credentials.
	configLimit = 1 << 20
)

// Find returns the credentials for an image and where they came from; nil if there are none. A source
// that cannot be used is told of and left out. The only error is a helper name that would leave the
// search path of programs.
func (k *Keychain) Find(ctx context.Context, log Log, image string) (*registry.AuthConfig, string, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.load(ctx, log); err != nil {
		return nil, "", err
	}
	for {
		found, from := k.lookUp(repositoryPath(image))
		if from == nil {
			return nil, "", nil
		}
		if found.helper == "" {
			return &found.auth, from.name, nil
		}
		auth, err := helperGet(ctx, found.helper, found.server)
		if err == nil {
			auth.ServerAddress = found.server
			return auth, from.name, nil
		}
		if errors.Is(err, errPathTraversal) {
			return nil, "", err
		}
		k.drop(log, from, err)
	}
}

// lookUp walks from the whole path up. On each level the first source that has it wins.
func (k *Keychain) lookUp(path string) (entry, *source) {
	for _, parent := range parents(path) {
		for _, s := range k.sources {
			if found, ok := s.entries[parent]; ok {
				return found, s
			}
		}
	}
	return entry{}, nil
}

func (k *Keychain) drop(log Log, dropped *source, err error) {
	log.Warn("Failed to resolve credentials from %s: %v. Credentials from this source will not be used.", dropped.name, err)
	for i, s := range k.sources {
		if s == dropped {
			k.sources = append(k.sources[:i:i], k.sources[i+1:]...)
			return
		}
	}
}

func (k *Keychain) load(ctx context.Context, log Log) error {
	if k.loaded {
		return nil
	}
	add := func(name string, config dockerConfig) error {
		s := &source{name: name}
		var err error
		if s.entries, err = config.entries(ctx); err != nil {
			if errors.Is(err, errPathTraversal) {
				return err
			}
			k.drop(log, s, err)
			return nil
		}
		k.sources = append(k.sources, s)
		return nil
	}
	if k.Variable != "" {
		config, err := parseConfig([]byte(k.Variable))
		if err != nil {
			k.drop(log, &source{name: variableSource}, err)
		} else if err := add(variableSource, config); err != nil {
			return err
		}
	}
	name, config, err := homeConfig(k.Home)
	switch {
	case err != nil:
		k.drop(log, &source{name: name}, err)
	case name != "":
		if err := add(name, config); err != nil {
			return err
		}
	}
	if payload := payloadEntries(k.Payload); len(payload) > 0 {
		k.sources = append(k.sources, &source{name: payloadSource, entries: payload})
	}
	k.loaded = true
	return nil
}

// homeConfig reads the file of the docker command line, the current one or its ancestor.
func homeConfig(home string) (string, dockerConfig, error) {
	if home == "" {
		return "", dockerConfig{}, nil
	}
	current, old := filepath.Join(home, ".docker", "config.json"), filepath.Join(home, ".dockercfg")
	data, err := readBounded(current)
	if err == nil {
		config, err := parseConfig(data)
		return current, config, err
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return current, dockerConfig{}, err
	}
	data, err = readBounded(old)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", dockerConfig{}, nil
	case err != nil:
		return old, dockerConfig{}, err
	}
	config := dockerConfig{}
	if err := json.Unmarshal(data, &config.Auths); err != nil {
		return old, dockerConfig{}, fmt.Errorf("decoding %s: %w", old, syntaxOnly(err))
	}
	return old, config, nil
}

func readBounded(name string) ([]byte, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if info.Size() > configLimit {
		return nil, fmt.Errorf("%s is larger than %d bytes", name, configLimit)
	}
	return os.ReadFile(name)
}

func payloadEntries(credentials []spec.Credential) map[string]entry {
	entries := map[string]entry{}
	for _, c := range credentials {
		if c.Type != "registry" {
			continue
		}
		path := registryPath(c.URL)
		if _, taken := entries[path]; !taken {
			entries[path] = entry{auth: registry.AuthConfig{Username: c.Username, Password: c.Password, ServerAddress: c.URL}}
		}
	}
	return entries
}

// dockerConfig is the part of the docker command line's config.json that is about credentials.
type dockerConfig struct {
	Auths       map[string]authEntry `json:"auths"`
	CredsStore  string               `json:"credsStore"`
	CredHelpers map[string]string    `json:"credHelpers"`
}

type authEntry struct {
	Auth          string `json:"auth"`
	Username      string `json:"username"`
	Password      string `json:"password"`
	IdentityToken string `json:"identitytoken"`
	RegistryToken string `json:"registrytoken"`
}

func parseConfig(data []byte) (dockerConfig, error) {
	var config dockerConfig
	if err := json.Unmarshal(data, &config); err != nil {
		return config, fmt.Errorf("decoding credentials: %w", syntaxOnly(err))
	}
	return config, nil
}

// syntaxOnly keeps the values of a file out of an error about it.
func syntaxOnly(err error) error {
	var wrongType *json.UnmarshalTypeError
	if errors.As(err, &wrongType) {
		return fmt.Errorf("field %q is not of the expected type", wrongType.Field)
	}
	return errors.New("not valid JSON")
}

// entries lists what a configuration has. Entries of a store win over plain ones, helpers of one
// registry over both.
func (c dockerConfig) entries(ctx context.Context) (map[string]entry, error) {
	entries := map[string]entry{}
	for server, plain := range c.Auths {
		auth, err := plain.decode(server)
		if err != nil {
			return nil, err
		}
		if auth != nil {
			entries[registryPath(server)] = entry{auth: *auth}
		}
	}
	if c.CredsStore != "" {
		servers, err := helperList(ctx, c.CredsStore)
		if err != nil {
			return nil, err
		}
		for server := range servers {
			entries[registryPath(server)] = entry{helper: c.CredsStore, server: server}
		}
	}
	for server, helper := range c.CredHelpers {
		if err := checkHelperName(helper); err != nil {
			return nil, err
		}
		entries[registryPath(server)] = entry{helper: helper, server: server}
	}
	return entries, nil
}

// decode returns nil for an entry without content, as the docker command line leaves them beside a
// store.
func (e authEntry) decode(server string) (*registry.AuthConfig, error) {
	auth := &registry.AuthConfig{
		Username: e.Username, Password: e.Password, ServerAddress: server,
		IdentityToken: e.IdentityToken, RegistryToken: e.RegistryToken,
	}
	if e.Auth != "" {
		data, err := base64.StdEncoding.DecodeString(e.Auth)
		if err != nil {
			return nil, fmt.Errorf("auth of %s is not valid base64", server)
		}
		user, password, found := strings.Cut(string(data), ":")
		if !found {
			return nil, fmt.Errorf("auth of %s has no colon between user and password", server)
		}
		auth.Username, auth.Password = user, strings.Trim(password, "\x00")
	}
	if auth.Username == "" && auth.IdentityToken == "" && auth.RegistryToken == "" {
		return nil, nil
	}
	return auth, nil
}
