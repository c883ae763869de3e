// Package azure is a simulated Azure: Resource Manager with one virtual machine scale set, of uniform or of
// flexible orchestration, its machines, their networks and its autoscale settings, and a managed identity that
// gives out the tokens, as the real SDK speaks to them over HTTP. Tokens are checked. Its instances are machines
// of package machines.
//
// Where Azure does things in its own time, it does them at the next call: machines are made and deleted, and
// operations end, when they are asked for.
//
// The simulator's main program and tests import it.
package azure

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/compute/armcompute/v7"

	"gitlab.com/gitlab-org/gitlab-runner/plugins/simulator/faults"
	"gitlab.com/gitlab-org/gitlab-runner/plugins/simulator/machines"
	"gitlab.com/gitlab-org/gitlab-runner/plugins/simulator/supply"
)

// Options describe a subscription with one scale set.
type Options struct {
	Machines supply.Machines
	// Address is where the cloud is reached, such as "http://127.0.0.1:1234".
	Address string
	// SubscriptionID, ResourceGroup and Name are those of the scale set.
	SubscriptionID, ResourceGroup, Name string
	// Secret is what a process of the managed identity shows to get a token.
	Secret string
	// Flexible says how machines are orchestrated.
	Flexible bool
	// MaxSize is the quota of the subscription, in machines.
	MaxSize int
	// PageSize is how many machines one page of a list has; 0 selects 100.
	PageSize int
	// Size is the size of the machines; empty selects Standard_D2s_v5.
	Size string
	// User is the administrator of each machine, with either credential.
	User, Password, AuthorizedKey string
	// Private says that machines have no public address.
	Private bool
	// RetryAfter is what answers with status 429 ask for, in seconds; 0 selects 60.
	RetryAfter int
	// Adjust changes the model of the scale set.
	Adjust func(*armcompute.VirtualMachineScaleSetProperties)
	// Autoscale are the names of autoscale settings that are attached.
	Autoscale []string
}

// Cloud is the subscription. It is safe for concurrent use.
type Cloud struct {
	supply.Supply
	options Options
	// Faults go wrong; operations are the names of the SDK's methods without Begin, such as Update.
	Faults faults.List

	token    string
	capacity int64
	version  int
	made     int
	vms      []*vm
	// shortage is the code of the error that new machines fail with whatever the stock; empty: the stock decides.
	shortage   string
	operations map[string]*operation
}

// vm is one machine of the scale set.
type vm struct {
	number  int
	machine string
	// provisioning and power are in Azure's words.
	provisioning, power string
	address             string
	failure             string
	late                supply.Late
}

// operation is a long-running operation: it is over when its machines are as they are to be.
type operation struct {
	vms      []*vm
	deletion bool
}

const (
	creating  = "Creating"
	succeeded = "Succeeded"
	failed    = "Failed"
	deleting  = "Deleting"

	running     = "running"
	deallocated = "deallocated"

	// outOfStock is what Azure says if it has no machine left.
	outOfStock = "AllocationFailed"
)

// New returns a subscription whose scale set is empty.
func New(o Options) *Cloud {
	if o.PageSize == 0 {
		o.PageSize = 100
	}
	if o.Size == "" {
		o.Size = "Standard_D2s_v5"
	}
	if o.RetryAfter == 0 {
		o.RetryAfter = 60
	}
	// The SDK keeps tokens for the whole life of a process: clouds with one secret have one token.
	token := sha256.Sum256([]byte("token " + o.Secret))
	c := &Cloud{options: o, token: hex.EncodeToString(token[:]), operations: map[string]*operation{}}
	c.Open(o.Machines, c.machineOf)
	return c
}

// Capacity is that of the scale set.
func (c *Cloud) Capacity() int {
	c.Mu.Lock()
	defer c.Mu.Unlock()
	return int(c.capacity)
}

// SetShortage has new machines fail, with a code such as AllocationFailed, until it is empty again.
func (c *Cloud) SetShortage(code string) {
	c.Mu.Lock()
	defer c.Mu.Unlock()
	c.shortage = code
}

// Evict stops a machine and keeps it, as Azure does with a spot machine that it wants back.
func (c *Cloud) Evict(id string) {
	c.Mu.Lock()
	defer c.Mu.Unlock()
	if found := c.find(id); found != nil {
		found.power = deallocated
	}
}

// Resize sets the capacity, as somebody else would.
func (c *Cloud) Resize(ctx context.Context, capacity int) error {
	c.Mu.Lock()
	defer c.Mu.Unlock()
	_, err := c.resize(ctx, int64(capacity))
	return err
}

func (c *Cloud) machineOf(id string) string {
	if found := c.find(id); found != nil {
		return found.machine
	}
	return ""
}

func (c *Cloud) find(id string) *vm {
	return supply.Find(c.vms, func(one *vm) bool { return c.id(one) == id })
}

// id is what the SDK is told: the number of a uniform machine, the name of a flexible one.
func (c *Cloud) id(v *vm) string {
	if c.options.Flexible {
		return c.name(v)
	}
	return strconv.Itoa(v.number)
}

func (c *Cloud) name(v *vm) string {
	if c.options.Flexible {
		return fmt.Sprintf("%s_%08x", c.options.Name, v.number)
	}
	return fmt.Sprintf("%s_%d", c.options.Name, v.number)
}

// reconcile does what has come due: machines that booted run and let the administrator in, and those that are
// gone leave the scale set.
func (c *Cloud) reconcile(ctx context.Context) error {
	known, err := c.Machines(ctx)
	if err != nil {
		return err
	}
	left := c.vms[:0]
	for _, one := range c.vms {
		machine, there := known[one.machine]
		switch {
		case one.machine == "" && one.provisioning == deleting:
			continue
		case one.machine == "":
		case !there:
			if one.provisioning != deleting {
				c.capacity--
				c.version++
				one.provisioning = deleting
			}
			continue
		case one.provisioning == creating && machine.State == machines.Running:
			if err := c.welcome(ctx, one); err != nil {
				return err
			}
			one.provisioning, one.power, one.address = succeeded, running, machine.Address
		}
		left = append(left, one)
	}
	c.vms = left
	return nil
}

// welcome lets the administrator in.
func (c *Cloud) welcome(ctx context.Context, v *vm) error {
	o := c.options
	if o.AuthorizedKey != "" {
		if err := o.Machines.Authorize(ctx, v.machine, o.User, o.AuthorizedKey); err != nil {
			return err
		}
	}
	if o.Password != "" {
		return o.Machines.SetPassword(ctx, v.machine, o.User, o.Password)
	}
	return nil
}

// resize makes machines up to a capacity, or deletes the newest ones.
func (c *Cloud) resize(ctx context.Context, capacity int64) (*operation, error) {
	op := &operation{}
	for ; c.capacity < capacity; c.capacity++ {
		one := &vm{number: c.made, provisioning: creating, late: c.Late()}
		c.made++
		if code := c.lacking(); code != "" {
			one.provisioning, one.failure = failed, code
		} else {
			machine, err := c.Launch(ctx)
			if err != nil {
				return nil, err
			}
			one.machine = machine
		}
		c.vms = append(c.vms, one)
		op.vms = append(op.vms, one)
	}
	for i := len(c.vms) - 1; i >= 0 && c.capacity > capacity; i-- {
		if c.vms[i].provisioning != deleting {
			if err := c.remove(ctx, c.vms[i]); err != nil {
				return nil, err
			}
		}
	}
	c.version++
	return op, nil
}

// lacking is the code of the error that a new machine fails with; empty: there is one.
func (c *Cloud) lacking() string {
	if c.shortage == "" && !c.InStock() {
		return outOfStock
	}
	return c.shortage
}

func (c *Cloud) remove(ctx context.Context, one *vm) error {
	if one.machine != "" {
		if err := c.options.Machines.Terminate(ctx, one.machine); err != nil {
			return err
		}
	}
	one.provisioning = deleting
	c.capacity--
	c.version++
	return nil
}

// begin registers an operation and returns its id.
func (c *Cloud) begin(op *operation) string {
	id := rand.Text()
	c.operations[id] = op
	return id
}

// outcome is the state of an operation: empty while it runs, or succeeded, or failed with a code.
func (c *Cloud) outcome(op *operation) (state, code string) {
	for _, one := range op.vms {
		switch {
		case op.deletion && c.find(c.id(one)) == one:
			return "", ""
		case !op.deletion && one.provisioning == creating:
			return "", ""
		case !op.deletion && one.failure != "":
			return failed, one.failure
		}
	}
	return succeeded, ""
}

// model is the scale set, as Resource Manager tells it.
func (c *Cloud) model() armcompute.VirtualMachineScaleSet {
	mode := armcompute.OrchestrationModeUniform
	if c.options.Flexible {
		mode = armcompute.OrchestrationModeFlexible
	}
	p := &armcompute.VirtualMachineScaleSetProperties{
		OrchestrationMode:    &mode,
		ProvisioningState:    to.Ptr(succeeded),
		SinglePlacementGroup: to.Ptr(false),
		Overprovision:        to.Ptr(false),
		UpgradePolicy:        &armcompute.UpgradePolicy{Mode: to.Ptr(armcompute.UpgradeModeManual)},
		VirtualMachineProfile: &armcompute.VirtualMachineScaleSetVMProfile{
			OSProfile: &armcompute.VirtualMachineScaleSetOSProfile{
				AdminUsername: &c.options.User,
				LinuxConfiguration: &armcompute.LinuxConfiguration{
					DisablePasswordAuthentication: to.Ptr(c.options.Password == ""),
				},
			},
		},
	}
	if c.options.AuthorizedKey != "" {
		p.VirtualMachineProfile.OSProfile.LinuxConfiguration.SSH = &armcompute.SSHConfiguration{
			PublicKeys: []*armcompute.SSHPublicKey{{KeyData: &c.options.AuthorizedKey}},
		}
	}
	if c.options.Adjust != nil {
		c.options.Adjust(p)
	}
	return armcompute.VirtualMachineScaleSet{
		ID: to.Ptr(c.setPath()), Name: &c.options.Name, Location: to.Ptr("westeurope"), Etag: to.Ptr(c.etag()),
		SKU:        &armcompute.SKU{Name: &c.options.Size, Tier: to.Ptr("Standard"), Capacity: to.Ptr(c.capacity)},
		Properties: p,
	}
}

func (c *Cloud) etag() string { return fmt.Sprintf(`"%d"`, c.version) }

func (c *Cloud) groupPath() string {
	return "/subscriptions/" + c.options.SubscriptionID + "/resourceGroups/" + c.options.ResourceGroup
}

func (c *Cloud) setPath() string {
	return c.groupPath() + "/providers/Microsoft.Compute/virtualMachineScaleSets/" + c.options.Name
}

func (c *Cloud) machinePath(v *vm) string {
	return c.groupPath() + "/providers/Microsoft.Compute/virtualMachines/" + c.name(v)
}
