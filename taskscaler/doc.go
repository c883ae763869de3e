// Package taskscaler keeps as many instances as tasks need. A task is announced (Reserve), gets a slot
// on an instance (Acquire), works there and gives the slot back (Release). The instances come from a
// provider.InstanceGroup through a fleeting.Provisioner that New starts; schedules say how many idle
// slots to keep in reserve.
//
// The package guarantees, and tests over random histories check, that an instance with a task on it is
// never deleted, that a slot has one owner and a task keeps its slot number, that no more instances
// exist or are asked for than the configured maximum, counted in every state, and that none of them
// gets more tasks than its use count allows. Every instance that is asked for or removed is logged with
// the reason.
//
// One goroutine owns the state. It takes in events, asks the pure planner of package internal/fleet what
// follows from them, and carries that out without ever waiting: functions that connect to instances and
// writes to the storage have goroutines of their own. Shutdown waits for all of them.
//
//	     events                          one goroutine                         effects
//	                        +-------------------------------------+
//	Reserve, Acquire,  ---> |  event --> fleet.State              | ---> slot offered to an Acquire
//	Release, Suspend, ...   |               |          ^          | ---> UpFunc or health check begins
//	instance seen,     ---> |          Plan(now)     Apply        | ---> provisioner: Request, Delete,
//	ready, lost             |               |          |          |      Suspend
//	schedule, tick     ---> |               v          |          | ---> contexts of lost tasks end
//	                        |        decisions, each with a reason | ---> storage, log, metrics
//	                        +-------------------------------------+
//
// Any program that runs tasks on instances may import it; it knows nothing of CI jobs.
package taskscaler
