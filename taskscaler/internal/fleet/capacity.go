package fleet

import (
	"fmt"
	"math"
	"strconv"
)

// CapacityInfo is what the number of instances is computed from.
type CapacityInfo struct {
	// InstanceCount is the number of instances that provide capacity or will: requested, being
	// created and running, and those that were lost under tasks which nobody has released yet.
	InstanceCount int
	// MaxInstanceCount is the maximum of instances; 0 is no limit.
	MaxInstanceCount int
	// Acquired is the number of slots with an active task.
	Acquired int
	// UnavailableCapacity is the number of free slots that never take a task again.
	UnavailableCapacity int
	// Pending is the number of tasks waiting for a slot.
	Pending int
	// Reserved is the number of announced tasks.
	Reserved int
	// IdleCount, ScaleFactor and ScaleFactorLimit are those of the policy.
	IdleCount        int
	ScaleFactor      float64
	ScaleFactorLimit int
	// CapacityPerInstance is the number of slots of an instance.
	CapacityPerInstance int

	// suspended is the number of slots that suspended tasks hold on instances that are not suspended
	// themselves. They are in nobody's use and yet in nobody's reach.
	suspended int
}

// IdleTarget is the number of idle slots that should exist.
func (c CapacityInfo) IdleTarget() int {
	if c.ScaleFactor <= 0 {
		return c.IdleCount
	}
	// The subtraction keeps an error in the last binary digit from asking for one slot more.
	scaled := math.Ceil(c.ScaleFactor*float64(c.Acquired) - 1e-9)
	if c.ScaleFactorLimit > 0 {
		scaled = min(scaled, float64(c.ScaleFactorLimit))
	}
	return max(c.IdleCount, int(min(scaled, math.MaxInt32)))
}

// RequiredInstances is the difference between the instances that are needed and those that are there:
// so many are to be created if it is positive, and may be removed if it is negative.
func (c CapacityInfo) RequiredInstances() int {
	inUse := c.Acquired + c.UnavailableCapacity + c.suspended
	idle := c.IdleTarget()

	if up := c.instancesFor(inUse+c.Pending+idle) - c.InstanceCount; up > 0 {
		if inUse > c.InstanceCount*c.CapacityPerInstance {
			// Some tasks hold slots of instances that are gone. New instances would not help them,
			// and nobody knows how many others will be needed when they are released.
			return 0
		}
		if c.MaxInstanceCount > 0 {
			up = max(0, min(up, c.MaxInstanceCount-c.InstanceCount))
		}
		return up
	}
	return min(0, c.instancesFor(inUse+c.Pending+max(idle, c.Reserved))-c.InstanceCount)
}

func (c CapacityInfo) instancesFor(slots int) int {
	return (slots + c.CapacityPerInstance - 1) / c.CapacityPerInstance
}

// String lists the figures as the log shows them.
func (c CapacityInfo) String() string {
	return fmt.Sprintf("instance_count:%d,max_instance_count:%d,acquired:%d,unavailable_capacity:%d,pending:%d,reserved:%d,"+
		"idle_count:%d,scale_factor:%s,scale_factor_limit:%d,capacity_per_instance:%d",
		c.InstanceCount, c.MaxInstanceCount, c.Acquired, c.UnavailableCapacity, c.Pending, c.Reserved,
		c.IdleCount, strconv.FormatFloat(c.ScaleFactor, 'g', -1, 64), c.ScaleFactorLimit, c.CapacityPerInstance)
}
