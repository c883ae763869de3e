// Command fleeting-plugin-example serves the example's group as a plugin.
package main

import (
	"gitlab.com/gitlab-org/fleeting/fleeting/plugin"

	"gitlab.com/gitlab-org/gitlab-runner/plugins/example"
)

// Set by the linker; what stays empty is taken from the build information.
var version, revision, reference, builtAt string

func main() {
	plugin.Main(&example.InstanceGroup{}, plugin.VersionInfo{
		Name: "fleeting-plugin-example", Version: version, Revision: revision, Reference: reference, BuiltAt: builtAt,
	})
}
