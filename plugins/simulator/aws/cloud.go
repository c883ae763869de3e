// Package aws is a simulated AWS: one EC2 Auto Scaling group, the instances in it, and EC2 Instance Connect, as
// the real SDK speaks to them over HTTP. Signatures are checked. Its instances are machines of package machines.
//
// Where AWS does things in its own time, it does them at the next call: instances are started and replaced until
// there are as many as the desired capacity says.
//
// The simulator's main program and tests import it.
package aws

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"sync"

	"gitlab.com/gitlab-org/gitlab-runner/plugins/simulator/faults"
	"gitlab.com/gitlab-org/gitlab-runner/plugins/simulator/machines"
)

// Machines is what instances are made of.
type Machines interface {
	Launch(ctx context.Context) (id string, err error)
	Terminate(ctx context.Context, id string) error
	List(ctx context.Context) ([]machines.Machine, error)
	Authorize(ctx context.Context, id, user, authorizedKey string) error
}

// Options describe an account with one group.
type Options struct {
	Machines Machines
	// Group is the name of the autoscaling group, with MinSize to MaxSize instances.
	Group            string
	MinSize, MaxSize int
	// Region and the key of the one user that there is.
	Region, AccessKey, SecretKey string
	// Platform is that of all instances: empty or "windows".
	Platform string
	// PasswordData is the encrypted password of instances with Windows, in base64.
	PasswordData string
	// Spot says that the group buys spot instances.
	Spot bool
	// Policies are the names of scaling policies, SuspendedProcesses those of the group's processes.
	Policies, SuspendedProcesses []string
	// InstanceTypes are those that the group may choose from; names that begin with "arm." have arm64.
	InstanceTypes []string
	// Unprotected: new instances are not protected from scale-in.
	Unprotected bool
}

// Cloud is the account. It is safe for concurrent use.
type Cloud struct {
	options Options
	// Faults go wrong; operations are the names of AWS's actions.
	Faults faults.List

	mu        sync.Mutex
	desired   int
	instances []*instance
	// stock is how many more instances can be started; negative is any number.
	stock int
	// hidden is in how many descriptions a new instance is missing.
	hidden int
	calls  map[string]int
}

// instance is one instance of the group.
type instance struct {
	id      string
	machine string
	state   string
	address string
	hidden  int
	// reclaimed: a spot instance that was given notice.
	reclaimed bool
}

// The states that instances have here, in the words of the life cycle of a group.
const (
	pending     = "Pending"
	inService   = "InService"
	terminating = "Terminating"
)

const zone = "a"

// New returns an account whose group is empty.
func New(o Options) *Cloud {
	return &Cloud{options: o, stock: -1, calls: map[string]int{}}
}

// Calls is how often an action was asked for.
func (c *Cloud) Calls(action string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.calls[action]
}

// Desired is the desired capacity.
func (c *Cloud) Desired() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.desired
}

// SetStock bounds how many more instances can be started.
func (c *Cloud) SetStock(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stock = n
}

// HideNew makes instances that are started from now on appear late: only after so many descriptions.
func (c *Cloud) HideNew(descriptions int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.hidden = descriptions
}

// Reclaim gives a spot instance notice.
func (c *Cloud) Reclaim(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if found := c.find(id); found != nil {
		found.reclaimed = true
	}
}

// Kill ends the machine of an instance, as a failure of the hardware would.
func (c *Cloud) Kill(ctx context.Context, id string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if found := c.find(id); found != nil {
		return c.options.Machines.Terminate(ctx, found.machine)
	}
	return nil
}

func (c *Cloud) find(id string) *instance {
	for _, one := range c.instances {
		if one.id == id {
			return one
		}
	}
	return nil
}

// reconcile does what has come due: instances whose machine is gone leave the group, and others are started in
// their place.
func (c *Cloud) reconcile(ctx context.Context) error {
	list, err := c.options.Machines.List(ctx)
	if err != nil {
		return err
	}
	known := map[string]machines.Machine{}
	for _, machine := range list {
		known[machine.ID] = machine
	}
	left := c.instances[:0]
	staying := 0
	for _, one := range c.instances {
		machine, there := known[one.machine]
		switch {
		case !there:
			continue
		case one.state == terminating:
		case machine.State == machines.Deleting:
			one.state = terminating
		case machine.State == machines.Running:
			one.state, one.address = inService, machine.Address
		}
		if one.state != terminating {
			staying++
		}
		left = append(left, one)
	}
	c.instances = left
	for ; staying < c.desired && c.stock != 0; staying++ {
		machine, err := c.options.Machines.Launch(ctx)
		if err != nil {
			return err
		}
		if c.stock > 0 {
			c.stock--
		}
		c.instances = append(c.instances, &instance{id: newID(), machine: machine, state: pending, hidden: c.hidden})
	}
	return nil
}

// newID is an id in the form of EC2's.
func newID() string {
	random := make([]byte, 9)
	_, _ = rand.Read(random) // never fails
	return "i-" + hex.EncodeToString(random)[:17]
}
