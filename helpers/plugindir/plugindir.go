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
	"regexp"
	"runtime"
	"strings"

	"golang.org/x/mod/module"
	"golang.org/x/mod/semver"
)

const (
	defaultRegistry   = "registry.gitlab.com"
	defaultRepository = "gitlab-org/fleeting/plugins"
	legacyPrefix      = "fleeting-plugin-"

	// A configuration from before the plugin for Google Cloud got its present name has the former one.
	formerGoogle  = "fleeting-plugin-googlecompute"
	presentGoogle = "fleeting-plugin-googlecloud"
)

// hostName is a registry: a host, by name or address, with a port perhaps.
var hostName = regexp.MustCompile(`^([a-zA-Z0-9][a-zA-Z0-9.-]*|\[[0-9a-fA-F:]+\])(:[0-9]{1,5})?$`)

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
	if isPath(name) {
		return Reference{}, fmt.Errorf("%w: there is no file %s", ErrNotFound, name)
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
		strings.HasPrefix(ref.Repository, ".") || !hostName.MatchString(ref.Registry) {
		return Reference{}, fmt.Errorf("plugin %q is no valid reference: use [[registry/]repository/]name[:version]", name)
	}
	if _, err := ref.Path(""); err != nil {
		return Reference{}, fmt.Errorf("plugin %q is no valid reference: %w", name, err)
	}
	if constraint != "" && (!semver.IsValid("v"+constraint) || semver.Build("v"+constraint) != "") {
		return Reference{}, fmt.Errorf("plugin %q: %q is no version: use latest, 1, 1.2 or 1.2.3", name, constraint)
	}
	return ref, nil
}

// isPath says whether a name can only be meant as the path of a file.
func isPath(name string) bool {
	return strings.ContainsRune(name, '\\') || filepath.IsAbs(name) ||
		strings.HasPrefix(name, "/") || strings.HasPrefix(name, "./") || strings.HasPrefix(name, "../")
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
	parts := []string{dir, place(r.Registry)}
	for _, part := range strings.Split(r.Repository, "/") {
		// Escaped as in the module cache, so that names that differ in case only stay apart.
		escaped, err := module.EscapeVersion(part)
		if err != nil {
			return "", fmt.Errorf("plugin %s: %w", r, err)
		}
		parts = append(parts, escaped)
	}
	return filepath.Join(parts...), nil
}

// place is the directory of a registry. Names of hosts do not differ in case.
func place(registry string) string {
	registry = strings.ToLower(registry)
	if runtime.GOOS == "windows" {
		// A colon is not for names of files there, and an underscore not for names of hosts.
		registry = strings.ReplaceAll(registry, ":", "_")
	}
	return registry
}

// VersionPath is the directory below dir in which a version of the plugin belongs.
func (r Reference) VersionPath(dir, version string) (string, error) {
	versions, err := r.Path(dir)
	if err != nil {
		return "", err
	}
	escaped, err := module.EscapeVersion(version)
	if err != nil {
		return "", fmt.Errorf("plugin %s: version %q: %w", r, version, err)
	}
	return filepath.Join(versions, escaped), nil
}

// Highest is the highest of the versions that satisfy the constraint, empty if none does. What is no
// version is passed over.
func (r Reference) Highest(versions []string) string {
	best := ""
	for _, version := range versions {
		if r.Matches(version) && (best == "" || semver.Compare("v"+version, "v"+best) > 0) {
			best = version
		}
	}
	return best
}

// IsVersion says whether a text is a full version, such as 1.2.3 or 1.2.3-rc.1.
func IsVersion(text string) bool {
	v := "v" + text
	return semver.IsValid(v) && semver.Canonical(v) == v
}

// Installable reads the name of a plugin that can be installed from a registry. The error for paths and
// names on PATH says what else to do.
func Installable(name string) (Reference, error) {
	if legacy(name) {
		return Reference{}, fmt.Errorf("plugin %q is a program on PATH, which no registry has: put it there, or write plugin = %q", name, NameOf(name))
	}
	return Parse(name)
}

// IsInstalled says whether a name that Find finds is that of an installed plugin, and not that of a file
// or of a program on PATH.
func IsInstalled(name string) bool {
	info, err := os.Stat(name)
	return (err != nil || info.IsDir()) && !legacy(name)
}

// legacy says whether a name is that of a program on PATH.
func legacy(name string) bool {
	return strings.HasPrefix(name, legacyPrefix) && !strings.ContainsAny(name, "/:")
}

// NameOf is the name in the registry of a plugin's program, such as aws for fleeting-plugin-aws.
func NameOf(program string) string {
	name := strings.TrimPrefix(program, legacyPrefix)
	if name == "googlecompute" {
		return "googlecloud"
	}
	return name
}

// Bare is a plugin's name without a version, the same for all names of a plugin where that can be told
// without looking: aws for aws:1.2 and for fleeting-plugin-aws.
func Bare(name string) string {
	if i := strings.LastIndex(name, ":"); i >= 0 && !strings.Contains(name[i:], "/") {
		name = name[:i]
	}
	return NameOf(strings.TrimPrefix(name, defaultRegistry+"/"+defaultRepository+"/"))
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
	if legacy(name) {
		file, err := exec.LookPath(name)
		if err != nil && name == formerGoogle {
			file, err = exec.LookPath(presentGoogle)
		}
		if err != nil {
			return "", fmt.Errorf("%w: %s is not on PATH; install it there, or write plugin = %q and run `gitlab-runner fleeting install`", ErrNotFound, name, NameOf(name))
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
	var names []string
	for _, entry := range entries {
		if version, err := module.UnescapeVersion(entry.Name()); err == nil {
			names = append(names, version)
		}
	}
	best := ref.Highest(names)
	if best == "" {
		return "", fmt.Errorf("%w: %s is not in %s; run `gitlab-runner fleeting install`", ErrNotFound, ref, dir)
	}
	version, err := ref.VersionPath(dir, best)
	if err != nil {
		return "", err
	}
	file := filepath.Join(version, Executable())
	if _, err := os.Stat(file); err != nil {
		return "", fmt.Errorf("%w: %s %s is installed without its executable %s; run `gitlab-runner fleeting install`", ErrNotFound, ref, best, file)
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
