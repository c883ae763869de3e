package blueprint

import (
	"maps"
	"os"
	"slices"
	"strconv"

	"gitlab.com/gitlab-org/gitlab-runner/common/config"
)

// defaultSlotCgroup is the template of slot cgroups when the configuration has none.
const defaultSlotCgroup = "gitlab-runner/slot-${slot}"

// SlotCgroup is the parent of the control groups of a slot's containers, empty if there is none.
func SlotCgroup(runner *config.Runner, slot int) string {
	return slotCgroup(runner, slot, runner.SlotCgroupTemplate)
}

func serviceSlotCgroup(runner *config.Runner, slot int) string {
	template := runner.SlotCgroupTemplate
	if runner.Docker != nil && runner.Docker.ServiceSlotCgroupTemplate != "" {
		template = runner.Docker.ServiceSlotCgroupTemplate
	}
	return slotCgroup(runner, slot, template)
}

func slotCgroup(runner *config.Runner, slot int, template string) string {
	if !runner.UseSlotCgroups || slot < 0 {
		return ""
	}
	if template == "" {
		template = defaultSlotCgroup
	}
	return os.Expand(template, func(name string) string {
		if name == "slot" {
			return strconv.Itoa(slot)
		}
		return ""
	})
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
