package plugin

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"
)

// VersionInfo describes a plugin's binary. Main fills Version, Revision and BuiltAt from what the Go
// toolchain recorded where they are empty.
type VersionInfo struct {
	// Name is the plugin's name, such as fleeting-plugin-example.
	Name string
	// Version is a semantic version, such as v1.2.3.
	Version string
	// Revision is the version control revision.
	Revision string
	// Reference is the version control branch or tag.
	Reference string
	// BuiltAt is the time of the build, RFC 3339.
	BuiltAt string
}

// String returns the version alone.
func (v VersionInfo) String() string { return v.Version }

// BuildInfo returns one line for logs.
func (v VersionInfo) BuildInfo() string {
	return fmt.Sprintf("sha=%s; ref=%s; go=%s; built_at=%s; os_arch=%s/%s",
		v.Revision, v.Reference, runtime.Version(), v.BuiltAt, runtime.GOOS, runtime.GOARCH)
}

// Full returns several lines for people, without a newline at the end.
func (v VersionInfo) Full() string {
	return strings.Join([]string{
		v.Name,
		"Version:      " + v.Version,
		"Git revision: " + v.Revision,
		"Git ref:      " + v.Reference,
		"GO version:   " + runtime.Version(),
		"Built:        " + v.BuiltAt,
		"OS/Arch:      " + runtime.GOOS + "/" + runtime.GOARCH,
	}, "\n")
}

// completed returns v with its empty fields filled from what the Go toolchain recorded.
func (v VersionInfo) completed(info *debug.BuildInfo) VersionInfo {
	if info == nil {
		return v
	}
	fill := func(field *string, value string) {
		if *field == "" {
			*field = value
		}
	}
	fill(&v.Version, info.Main.Version)
	for _, setting := range info.Settings {
		switch setting.Key {
		case "vcs.revision":
			fill(&v.Revision, setting.Value)
		case "vcs.time":
			fill(&v.BuiltAt, setting.Value)
		}
	}
	return v
}
