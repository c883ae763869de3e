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

	"gitlab.com/gitlab-org/gitlab-runner/plugins/simulator/faults"
	"gitlab.com/gitlab-org/gitlab-runner/plugins/simulator/machines"
	"gitlab.com/gitlab-org/gitlab-runner/plugins/simulator/supply"
)

// Options describe an account with one group.
type Options struct {
	Machines supply.Machines
	// Group is the name of the autoscaling group, with MinSize to MaxSize instances.
	Group            string
	MinSize, MaxSize int
	// Region and the key of the one user that there is.
	Region, AccessKey, SecretKey string
	// Platform is that of all instances: empty or "windows".
	Platform string
	// PasswordData is the encrypted password of instances with Windows, in base64.
	PasswordData string
	// Spot says that the group buys spot instances, SpotTemplate that its launch template does, of which the group
	// itself tells nothing.
	Spot, SpotTemplate bool
	// Policies are the names of scaling policies, SuspendedProcesses those of the group's processes.
	Policies, SuspendedProcesses []string
	// InstanceTypes are those that the group may choose from; names that begin with "arm." have arm64.
	InstanceTypes []string
	// PageSize is how many scaling policies, instance types or spot requests one answer has at most; 0 is any number.
	PageSize int
	// Unprotected: new instances are not protected from scale-in.
	Unprotected bool
}

// Cloud is the account. It is safe for concurrent use.
type Cloud struct {
	supply.Supply
	options Options
	// Faults go wrong; operations are the names of AWS's actions.
	Faults faults.List

	desired   int
	instances []*instance
	// counted is the latest call of each action that was counted, by the id that the SDK gives it.
	counted map[string]string
}

// instance is one instance of the group.
type instance struct {
	id      string
	machine string
	state   string
	address string
	late    supply.Late
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
	c := &Cloud{options: o, counted: map[string]string{}}
	c.Open(o.Machines, c.machineOf)
	return c
}

// Desired is the desired capacity.
func (c *Cloud) Desired() int {
	c.Mu.Lock()
	defer c.Mu.Unlock()
	return c.desired
}

// Reclaim gives a spot instance notice.
func (c *Cloud) Reclaim(id string) {
	c.Mu.Lock()
	defer c.Mu.Unlock()
	if found := c.find(id); found != nil {
		found.reclaimed = true
	}
}

func (c *Cloud) machineOf(id string) string {
	if found := c.find(id); found != nil {
		return found.machine
	}
	return ""
}

func (c *Cloud) find(id string) *instance {
	return supply.Find(c.instances, func(one *instance) bool { return one.id == id })
}

// reconcile does what has come due: instances whose machine is gone leave the group, and others are started in
// their place.
func (c *Cloud) reconcile(ctx context.Context) error {
	known, err := c.Machines(ctx)
	if err != nil {
		return err
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
	for ; staying < c.desired && c.InStock(); staying++ {
		machine, err := c.Launch(ctx)
		if err != nil {
			return err
		}
		c.instances = append(c.instances, &instance{id: newID(), machine: machine, state: pending, late: c.Late()})
	}
	return nil
}

// newID is an id in the form of EC2's.
func newID() string {
	random := make([]byte, 9)
	_, _ = rand.Read(random) // never fails
	return "i-" + hex.EncodeToString(random)[:17]
}
