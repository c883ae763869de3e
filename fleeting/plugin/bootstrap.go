package plugin

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"time"

	"golang.org/x/mod/module"
	"golang.org/x/mod/semver"
)

// bootstrap installs the running executable as
// <plugin directory>/<registry>/<repository>/<version>/plugin, where GitLab Runner finds it.
func bootstrap(repository string, out io.Writer, version VersionInfo) error {
	executable, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this executable: %w", err)
	}
	dir, err := pluginDir()
	if err != nil {
		return err
	}
	target, err := installPath(dir, repository, version)
	if err != nil {
		return err
	}
	if err := installFile(executable, target); err != nil {
		return fmt.Errorf("install plugin: %w", err)
	}
	_, err = fmt.Fprintln(out, target)
	return err
}

// pluginDir is the directory that GitLab Runner and the plugins agree on.
func pluginDir() (string, error) {
	if dir := os.Getenv("FLEETING_PLUGIN_PATH"); dir != "" {
		return dir, nil
	}
	if runtime.GOOS == "windows" {
		if dir := os.Getenv("APPDATA"); dir != "" {
			return filepath.Join(dir, "fleeting", "plugins"), nil
		}
		return "", errors.New("find the plugin directory: APPDATA is not set; set FLEETING_PLUGIN_PATH")
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("find the plugin directory: %w; set FLEETING_PLUGIN_PATH", err)
	}
	return filepath.Join(home, ".config", "fleeting", "plugins"), nil
}

// installPath is where a plugin of that name and version belongs.
func installPath(dir, repository string, version VersionInfo) (string, error) {
	number, err := installVersion(version)
	if err != nil {
		return "", err
	}
	registry, path, _ := strings.Cut(expandRepository(repository), "/")
	if !hostName.MatchString(registry) {
		return "", invalidRepository(repository)
	}
	parts := []string{dir, registryDir(registry)}
	for _, part := range append(strings.Split(path, "/"), number) {
		// Escaped, so that names which differ in case only stay apart everywhere.
		escaped, err := module.EscapeVersion(part)
		if err != nil || part == ".." || part == "." {
			return "", invalidRepository(repository)
		}
		parts = append(parts, escaped)
	}
	name := "plugin"
	if runtime.GOOS == "windows" {
		name += ".exe"
	}
	return filepath.Join(append(parts, name)...), nil
}

// hostName is a registry: a host, by name or address, with a port perhaps.
var hostName = regexp.MustCompile(`^([a-zA-Z0-9][a-zA-Z0-9.-]*|\[[0-9a-fA-F:]+\])(:[0-9]{1,5})?$`)

func invalidRepository(repository string) error {
	return fmt.Errorf("plugin repository path %q is not valid: use <registry>/<repository>/<name> without a tag", repository)
}

// registryDir is the directory of a registry, as GitLab Runner looks for it.
func registryDir(registry string) string {
	registry = strings.ToLower(registry)
	if runtime.GOOS == "windows" {
		registry = strings.ReplaceAll(registry, ":", "_")
	}
	return registry
}

// expandRepository fills in what GitLab Runner fills in when a plugin is named in its configuration.
func expandRepository(repository string) string {
	first, _, nested := strings.Cut(repository, "/")
	switch {
	case !nested:
		return "registry.gitlab.com/gitlab-org/fleeting/plugins/" + repository
	case strings.ContainsAny(first, ".:") || first == "localhost":
		return repository
	default:
		return "registry.gitlab.com/" + repository
	}
}

// installVersion is the version without its v, or one made of the build's time and revision.
func installVersion(version VersionInfo) (string, error) {
	v := "v" + strings.TrimPrefix(version.Version, "v")
	if semver.IsValid(v) {
		return strings.TrimPrefix(semver.Canonical(v), "v"), nil
	}
	builtAt, err := time.Parse(time.RFC3339, version.BuiltAt)
	if err != nil {
		return "", fmt.Errorf("the version %q is not a semantic version and the time of the build %q is not in RFC 3339 form: build the plugin with one of them", version.Version, version.BuiltAt)
	}
	revision := version.Revision
	if len(revision) > 12 {
		revision = revision[:12]
	}
	if revision == "" {
		revision = "unknown"
	}
	return strings.TrimPrefix(module.PseudoVersion("", "", builtAt.UTC(), revision), "v"), nil
}

// installFile copies an executable to its place at once, so that nobody can start half of it.
func installFile(source, target string) (err error) {
	in, err := os.Open(source)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
		return err
	}
	tmp, err := os.CreateTemp(filepath.Dir(target), ".plugin-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(tmp.Name()))
		}
	}()
	_, err = io.Copy(tmp, in)
	if err == nil {
		err = tmp.Sync()
	}
	if err = errors.Join(err, tmp.Close()); err != nil {
		return err
	}
	if err := os.Chmod(tmp.Name(), 0o755); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), target)
}
