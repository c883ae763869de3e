package fleeting

import "gitlab.com/gitlab-org/fleeting/fleeting/internal/pool"

// Capacity is the number of instances of a group.
type Capacity struct {
	// Max is the maximum number of instances, counted regardless of their state.
	Max int
	// Requested instances were asked for by Request and not yet requested from the group.
	Requested int
	// Pending instances were accepted by the group and not seen yet.
	Pending int
	// Creating, Running and Deleting instances are in these states.
	Creating, Running, Deleting int
	// Suspended instances are suspending, suspended or resuming.
	Suspended int
}

func newCapacity(c pool.Counts) Capacity {
	return Capacity{
		Max:       c.Max,
		Requested: c.Requested,
		Pending:   c.Pending,
		Creating:  c.Creating,
		Running:   c.Running,
		Deleting:  c.Deleting,
		Suspended: c.Suspending + c.Suspended + c.Resuming,
	}
}
