// Command fleeting-plugin-docker serves a group of instances that are containers on the local Docker
// Engine.
package main

import (
	"gitlab.com/gitlab-org/fleeting/fleeting/plugin"

	"gitlab.com/gitlab-org/gitlab-runner/plugins/docker"
)

// Set by the linker; what stays empty is taken from the build information.
var version, revision, reference, builtAt string

func main() {
	info := plugin.VersionInfo{
		Name:      "fleeting-plugin-docker",
		Version:   version,
		Revision:  revision,
		Reference: reference,
		BuiltAt:   builtAt,
	}
	plugin.Main(&docker.InstanceGroup{Version: info.String(), BuildInfo: info.BuildInfo()}, info)
}
