// Command fleeting-plugin-azure serves a group of instances that are virtual machines of an Azure scale set.
package main

import (
	"gitlab.com/gitlab-org/fleeting/fleeting/plugin"

	"gitlab.com/gitlab-org/gitlab-runner/plugins/azure"
)

// Set by the linker; what stays empty is taken from the build information.
var version, revision, reference, builtAt string

func main() {
	info := plugin.VersionInfo{
		Name:      "fleeting-plugin-azure",
		Version:   version,
		Revision:  revision,
		Reference: reference,
		BuiltAt:   builtAt,
	}
	plugin.Main(&azure.InstanceGroup{Version: info.String(), BuildInfo: info.BuildInfo()}, info)
}
