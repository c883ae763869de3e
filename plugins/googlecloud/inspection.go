package googlecloud

import (
	"context"
	"fmt"

	"google.golang.org/api/compute/v1"
)

// inspect looks at the group for settings that will hurt, and warns of each with its remedy. Nothing of it stops
// the plugin.
func (g *InstanceGroup) inspect(ctx context.Context, group *compute.InstanceGroupManager) {
	for _, finding := range findings(group) {
		g.log.Warn(finding)
	}
	if group.Status == nil || group.Status.Autoscaler == "" {
		return
	}
	mode, err := g.calls.mode(ctx, group.Status.Autoscaler)
	if err != nil {
		g.log.Info("cannot look at the autoscaler of the group: allow compute.autoscalers.get to be told of its mode", "err", err)
		mode = "unknown"
	}
	if mode != "OFF" {
		g.log.Warn("an autoscaler changes the size of the instance group against the runner's decisions: delete it or set its mode to off", "mode", mode)
	}
}

// findings is what the group itself tells.
func findings(group *compute.InstanceGroupManager) []string {
	var found []string
	if len(group.AutoHealingPolicies) > 0 {
		found = append(found, "the instance group recreates instances that fail its health check, with the jobs on them: remove the autohealing policy")
	}
	if group.UpdatePolicy != nil && group.UpdatePolicy.Type == "PROACTIVE" {
		found = append(found, "the instance group replaces instances, with the jobs on them, when its template changes: set its update type to opportunistic")
	}
	if group.UpdatePolicy != nil && group.UpdatePolicy.InstanceRedistributionType == "PROACTIVE" {
		found = append(found, "the instance group deletes instances, with the jobs on them, to spread them evenly over its zones: set its instance redistribution type to none")
	}
	if group.TargetSize >= maxSize {
		found = append(found, fmt.Sprintf("the instance group has as many instances as it can have, %d, and no room for more: resize it to 0, or delete those that nobody uses", group.TargetSize))
	}
	return found
}
