// Command fleeting-plugin-static serves a group whose instances are a fixed list of hosts.
package main

import (
	"gitlab.com/gitlab-org/fleeting/fleeting/plugin"

	"gitlab.com/gitlab-org/gitlab-runner/plugins/static"
)

// Set by the linker; what stays empty is taken from the build information.
var version, revision, reference, builtAt string

func main() {
	info := plugin.VersionInfo{
		Name:      "fleeting-plugin-static",
		Version:   version,
		Revision:  revision,
		Reference: reference,
		BuiltAt:   builtAt,
	}
	plugin.Main(&static.InstanceGroup{Version: info.String(), BuildInfo: info.BuildInfo()}, info)
}
