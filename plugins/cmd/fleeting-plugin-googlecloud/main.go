// Command fleeting-plugin-googlecloud serves a managed instance group of Compute Engine as a group of instances.
package main

import (
	"gitlab.com/gitlab-org/fleeting/fleeting/plugin"

	"gitlab.com/gitlab-org/gitlab-runner/plugins/googlecloud"
)

// Set by the linker; what stays empty is taken from the build information.
var version, revision, reference, builtAt string

func main() {
	info := plugin.VersionInfo{
		Name:      "fleeting-plugin-googlecloud",
		Version:   version,
		Revision:  revision,
		Reference: reference,
		BuiltAt:   builtAt,
	}
	plugin.Main(&googlecloud.InstanceGroup{Version: info.String(), BuildInfo: info.BuildInfo()}, info)
}
