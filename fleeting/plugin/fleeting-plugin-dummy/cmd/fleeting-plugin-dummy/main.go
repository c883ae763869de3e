// Command fleeting-plugin-dummy serves the dummy group as a plugin.
package main

import (
	"gitlab.com/gitlab-org/fleeting/fleeting/plugin"
	dummy "gitlab.com/gitlab-org/fleeting/fleeting/plugin/fleeting-plugin-dummy"
)

func main() {
	plugin.Main(&dummy.InstanceGroup{}, plugin.VersionInfo{Name: "fleeting-plugin-dummy"})
}
