// Package plugindir finds the executable of a fleeting plugin by the name that stands in config.toml:
// a path, a legacy name on PATH, or a reference to a plugin installed in the plugin directory, whose
// layout is <dir>/<registry>/<repository>/<name>/<version>/plugin. It asks no network.
//
// The autoscaler starts plugins by it, the fleeting commands list and install by it; it imports nothing
// of ours.
package plugindir

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"strings"

	"golang.org/x/mod/module"
	"golang.org/x/mod/semver"
)

const (
	defaultRegistry   = "registry.gitlab.com"
	defaultRepository = "gitlab-org/fleeting/plugins"
	legacyPrefix      = "fleeting-plugin-"
)

// ErrNotFound says that a plugin is not on this machine.
var ErrNotFound = errors.New("plugin not found")

// Dir is the directory in which plugins are installed: FLEETING_PLUGIN_PATH, else the place that is
// usual on this operating system.
func Dir() (string, error) {
	if dir := os.Getenv("FLEETING_PLUGIN_PATH"); dir != "" {
		return dir, nil
	}
	if runtime.GOOS == "windows" {
		return filepath.Join(os.Getenv("APPDATA"), "fleeting", "plugins"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("finding the plugin directory: %w; set FLEETING_PLUGIN_PATH", err)
	}
	return filepath.Join(home, ".config", "fleeting", "plugins"), nil
}

// Reference is an installed plugin as config.toml names it: [[registry/]repository/]name[:constraint].
type Reference struct {
	Registry   string
	Repository string // with the plugin's name
	// Constraint is empty for the highest release, else 1, 1.2 or a full version.
	Constraint string
}

// Parse reads a reference.
func Parse(name string) (Reference, error) {
	rest, constraint := name, ""
	if i := strings.LastIndex(name, ":"); i >= 0 && !strings.Contains(name[i:], "/") {
		rest, constraint = name[:i], name[i+1:]
	}
	if constraint == "latest" {
		constraint = ""
	}
	ref := Reference{Registry: defaultRegistry, Constraint: constraint}
	first, others, nested := strings.Cut(rest, "/")
	switch {
	case !nested:
		ref.Repository = path.Join(defaultRepository, rest)
	case strings.ContainsAny(first, ".:") || first == "localhost":
		ref.Registry, ref.Repository = first, others
	default:
		ref.Repository = rest
	}
	if rest == "" || ref.Repository == "" || path.Clean(ref.Repository) != ref.Repository ||
		strings.HasPrefix(ref.Repository, "..") || strings.HasPrefix(ref.Registry, ".") {
		return Reference{}, fmt.Errorf("plugin %q is no valid reference: use [[registry/]repository/]name[:version]", name)
	}
	if constraint != "" && !semver.IsValid("v"+constraint) {
		return Reference{}, fmt.Errorf("plugin %q: %q is no version: use latest, 1, 1.2 or 1.2.3", name, constraint)
	}
	return ref, nil
}

// String is the full reference.
func (r Reference) String() string {
	constraint := r.Constraint
	if constraint == "" {
		constraint = "latest"
	}
	return r.Registry + "/" + r.Repository + ":" + constraint
}

// Matches says whether an installed version satisfies the constraint. Pre-releases match only exactly.
func (r Reference) Matches(version string) bool {
	v := "v" + version
	if !semver.IsValid(v) {
		return false
	}
	if r.Constraint == version {
		return true
	}
	if semver.Prerelease(v) != "" {
		return false
	}
	switch strings.Count(r.Constraint, ".") {
	case 1:
		return semver.MajorMinor(v) == "v"+r.Constraint
	case 0:
		return r.Constraint == "" || semver.Major(v) == "v"+r.Constraint
	default:
		return false
	}
}

// Path is the directory below dir that holds the plugin's versions.
func (r Reference) Path(dir string) (string, error) {
	parts := []string{dir}
	for _, part := range strings.Split(r.Registry+"/"+r.Repository, "/") {
		// Escaped as in the module cache, so that names that differ in case only stay apart.
		escaped, err := module.EscapeVersion(part)
		if err != nil {
			return "", fmt.Errorf("plugin %s: %w", r, err)
		}
		parts = append(parts, escaped)
	}
	return filepath.Join(parts...), nil
}

// Find returns the absolute path of the plugin's executable. An error that wraps ErrNotFound says what
// was looked for and how to install it.
func Find(name string) (string, error) {
	if name == "" {
		return "", fmt.Errorf("%w: the key plugin of [runners.autoscaler] is empty", ErrNotFound)
	}
	if info, err := os.Stat(name); err == nil && !info.IsDir() {
		return filepath.Abs(name)
	}
	if strings.HasPrefix(name, legacyPrefix) && !strings.ContainsAny(name, "/:") {
		file, err := exec.LookPath(name)
		if err != nil {
			return "", fmt.Errorf("%w: %s is not on PATH; install it there", ErrNotFound, name)
		}
		return filepath.Abs(file)
	}
	ref, err := Parse(name)
	if err != nil {
		return "", err
	}
	dir, err := Dir()
	if err != nil {
		return "", err
	}
	return installed(ref, dir)
}

func installed(ref Reference, dir string) (string, error) {
	versions, err := ref.Path(dir)
	if err != nil {
		return "", err
	}
	entries, err := os.ReadDir(versions)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("looking for plugin %s: %w", ref, err)
	}
	best := ""
	for _, entry := range entries {
		version, err := module.UnescapeVersion(entry.Name())
		if err != nil || !ref.Matches(version) {
			continue
		}
		if best == "" || semver.Compare("v"+version, "v"+best) > 0 {
			best = version
		}
	}
	if best == "" {
		return "", fmt.Errorf("%w: %s is not in %s; run `gitlab-runner fleeting install`", ErrNotFound, ref, dir)
	}
	escaped, err := module.EscapeVersion(best)
	if err != nil {
		return "", fmt.Errorf("plugin %s: %w", ref, err)
	}
	file := filepath.Join(versions, escaped, Executable())
	if _, err := os.Stat(file); err != nil {
		return "", fmt.Errorf("%w: %s %s is installed without its executable %s; install it again", ErrNotFound, ref, best, file)
	}
	return filepath.Abs(file)
}

// Executable is the name of a plugin's executable in its version's directory.
func Executable() string {
	if runtime.GOOS == "windows" {
		return "plugin.exe"
	}
	return "plugin"
}
