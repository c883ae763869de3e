// Command fleeting-plugin-aws serves an EC2 Auto Scaling group as a group of instances.
package main

import (
	"gitlab.com/gitlab-org/fleeting/fleeting/plugin"

	"gitlab.com/gitlab-org/gitlab-runner/plugins/aws"
)

// Set by the linker; what stays empty is taken from the build information.
var version, revision, reference, builtAt string

func main() {
	info := plugin.VersionInfo{
		Name:      "fleeting-plugin-aws",
		Version:   version,
		Revision:  revision,
		Reference: reference,
		BuiltAt:   builtAt,
	}
	plugin.Main(&aws.InstanceGroup{Version: info.String(), BuildInfo: info.BuildInfo()}, info)
}
