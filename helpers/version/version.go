// Package version says which build of the product this is. Anything may import it.
package version

import (
	"fmt"
	"runtime"
)

// Set by the linker: go build -ldflags "-X …/helpers/version.version=1.2.3 …".
var (
	version  = "development"
	revision = "HEAD"
	branch   = "HEAD"
	built    = "unknown"
)

// Name is the product's name as servers and logs know it.
const Name = "gitlab-runner"

// Info describes a build.
type Info struct {
	Name      string
	Version   string
	Revision  string
	Branch    string
	GOVersion string
	BuiltAt   string
	OS        string
	Arch      string
}

// Get returns this build's description.
func Get() Info {
	return Info{
		Name: Name, Version: version, Revision: revision, Branch: branch,
		GOVersion: runtime.Version(), BuiltAt: built, OS: runtime.GOOS, Arch: runtime.GOARCH,
	}
}

// Released says whether Version is a number such as 1.2.3, not the placeholder of a local build.
func (i Info) Released() bool {
	return i.Version != "" && i.Version[0] >= '0' && i.Version[0] <= '9'
}

// UserAgent is what HTTP servers are told, for example
// "gitlab-runner 1.2.3 (main; go1.26.0; linux/amd64)".
func (i Info) UserAgent() string {
	return fmt.Sprintf("%s %s (%s; %s; %s/%s)", i.Name, i.Version, i.Branch, i.GOVersion, i.OS, i.Arch)
}

// Extended is the text of --version.
func (i Info) Extended() string {
	return fmt.Sprintf("Version:      %s\nGit revision: %s\nGit branch:   %s\nGO version:   %s\nBuilt:        %s\nOS/Arch:      %s/%s\n",
		i.Version, i.Revision, i.Branch, i.GOVersion, i.BuiltAt, i.OS, i.Arch)
}
