// Package googlecloud is a simulated Google Cloud: one managed instance group of Compute Engine, the instances in
// it, and the service account that may work on them, as the real SDK speaks to them over HTTP. Access tokens are
// asked for as from Google, by a signed assertion, and checked. Its instances are machines of package machines; what
// is put into their metadata is done as the agent on an instance does it.
//
// Where Google does things in its own time, it does them at the next call.
//
// The simulator's main program and tests import it.
package googlecloud

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"fmt"

	"google.golang.org/api/compute/v1"

	"gitlab.com/gitlab-org/gitlab-runner/plugins/simulator/faults"
	"gitlab.com/gitlab-org/gitlab-runner/plugins/simulator/machines"
	"gitlab.com/gitlab-org/gitlab-runner/plugins/simulator/supply"
)

// Options describe a project with one group.
type Options struct {
	Machines supply.Machines
	Project  string
	// Location is the group's zone or region.
	Location string
	Group    string
	// Address is where the project is served, for the addresses in its answers.
	Address string
	// Autoscaler is the mode of an autoscaler on the group; empty is none.
	Autoscaler string
	// Autohealing, Proactive: settings of the group that hurt.
	Autohealing, Proactive bool
	// Windows says what instances run.
	Windows bool
	// PageSize is how many instances one answer has at most; 0 is as many as were asked for.
	PageSize int
}

// Cloud is the project. It is safe for concurrent use.
type Cloud struct {
	supply.Supply
	options Options
	key     *rsa.PrivateKey
	// Faults go wrong; operations are the last part of the method's name in the API, such as "createInstances".
	Faults faults.List

	instances []*instance
	// requests are those of creations that were carried out.
	requests map[string]bool
	// tokens are the access tokens that were given out.
	tokens map[string]bool
	// meddle is how often somebody else changes the metadata before a change of ours.
	meddle int
	// launched is how many machines there were.
	launched uint64
}

// instance is one instance of the group.
type instance struct {
	name    string
	machine string
	// number is the machine's id in the API: one made anew under the same name has another.
	number uint64
	// action is what the group does with it, status the state of its machine.
	action, status string
	address        string
	late           supply.Late
	generation     int
	metadata       []*compute.MetadataItems
	// known are the keys that were handed to the machine.
	known map[string]bool
	// serial is what the agent wrote to port 4.
	serial string
	// fault is why it could not be made.
	fault string
}

// New returns a project whose group is empty.
func New(o Options) (*Cloud, error) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, fmt.Errorf("making the key of the service account: %w", err)
	}
	c := &Cloud{options: o, key: key, requests: map[string]bool{}, tokens: map[string]bool{}}
	c.Open(o.Machines, c.machineOf)
	return c, nil
}

// Meddle changes the metadata of instances before each of the next changes.
func (c *Cloud) Meddle(times int) {
	c.Mu.Lock()
	defer c.Mu.Unlock()
	c.meddle = times
}

func (c *Cloud) machineOf(name string) string {
	if found := c.find(name); found != nil {
		return found.machine
	}
	return ""
}

func (c *Cloud) find(name string) *instance {
	return supply.Find(c.instances, func(one *instance) bool { return one.name == name })
}

// reconcile does what has come due.
func (c *Cloud) reconcile(ctx context.Context) error {
	known, err := c.Machines(ctx)
	if err != nil {
		return err
	}
	left := c.instances[:0]
	for _, one := range c.instances {
		if one.machine == "" && one.action == "CREATING" && c.InStock() {
			if one.machine, err = c.Launch(ctx); err != nil {
				return err
			}
			c.launched++
			one.number, one.fault = c.launched, ""
			left = append(left, one)
			continue
		}
		machine, there := known[one.machine]
		switch {
		case one.machine == "":
			if one.action == "DELETING" {
				continue
			}
			one.fault = "ZONE_RESOURCE_POOL_EXHAUSTED"
		case !there && one.action == "DELETING":
			continue
		case !there:
			// The group makes it anew, under its name.
			one.machine, one.action, one.status, one.known, one.metadata = "", "CREATING", "", nil, nil
		case machine.State == machines.Running:
			one.status, one.address = "RUNNING", machine.Address
			if one.action == "CREATING" {
				one.action = "NONE"
			}
		case machine.State == machines.Deleting:
			one.status = "STOPPING"
		}
		left = append(left, one)
	}
	c.instances = left
	return nil
}
