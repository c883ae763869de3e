package azure

import (
	"context"
	"fmt"
	"net/http"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/compute/armcompute/v7"
	"gitlab.com/gitlab-org/fleeting/fleeting/provider"
)

// member is one machine of a scale set.
type member struct {
	id string
	// provisioning is what Azure does with it: Creating, Updating, Succeeded, Failed, Deleting.
	provisioning string
	// power is starting, running, stopping, stopped, deallocating, deallocated; empty before it was started.
	power string
	// reason is Azure's word for a failure.
	reason string
}

func newMember(id, provisioning string, statuses []*armcompute.InstanceViewStatus) member {
	m := member{id: id, provisioning: provisioning}
	for _, status := range statuses {
		kind, value, _ := strings.Cut(deref(status.Code), "/")
		switch kind {
		case "PowerState":
			m.power = value
		case "ProvisioningState":
			if m.provisioning == "" {
				m.provisioning, _, _ = strings.Cut(value, "/")
			}
			if rest, failed := strings.CutPrefix(value, "failed"); failed {
				m.provisioning = "Failed"
				m.reason = strings.TrimPrefix(rest, "/")
				if message := deref(status.Message); message != "" {
					m.reason = strings.TrimSpace(m.reason + " " + message)
				}
			}
		}
	}
	return m
}

// state is the member's state, and whether it is one that does not run and never will by itself.
func (m member) state() (s provider.State, stranded bool) {
	if strings.EqualFold(m.provisioning, "Deleting") {
		return provider.StateDeleting, false
	}
	switch m.power {
	case "stopping", "deallocating":
		return provider.StateDeleting, false
	case "stopped", "deallocated":
		return provider.StateDeleting, true
	case "running":
		if strings.EqualFold(m.provisioning, "Creating") {
			return provider.StateCreating, false
		}
		return provider.StateRunning, false
	}
	if strings.EqualFold(m.provisioning, "Failed") || strings.EqualFold(m.provisioning, "Canceled") {
		return provider.StateDeleting, true
	}
	return provider.StateCreating, false
}

// fit is nil for a member that can take work.
func (m member) fit() error {
	state, _ := m.state()
	if state == provider.StateRunning && !strings.EqualFold(m.provisioning, "Failed") {
		return nil
	}
	if m.reason != "" {
		return fmt.Errorf("it is %q, its power is %q: %s", m.provisioning, m.power, m.reason)
	}
	return fmt.Errorf("it is %q, its power is %q", m.provisioning, m.power)
}

// members are the machines of one scale set. What an id is depends on the orchestration.
type members interface {
	// list returns all of them.
	list(ctx context.Context) ([]member, error)
	// member looks at one of them.
	member(ctx context.Context, id string) (member, error)
	// place returns how one of them is reached, and the size of its machine if that is known.
	place(ctx context.Context, id string) (place, error)
}

// place is where a machine is reached.
type place struct{ internal, external, size string }

// uniform are machines that exist only as part of their scale set. Their ids are its numbers.
type uniform struct {
	*clients
	group, name string
}

func (u *uniform) list(ctx context.Context) ([]member, error) {
	var out []member
	pager := u.setVMs.NewListPager(u.group, u.name, &armcompute.VirtualMachineScaleSetVMsClientListOptions{Expand: to.Ptr("instanceView")})
	for pager.More() {
		page, err := pager.NextPage(ctx)
		if err != nil {
			return nil, plain(err)
		}
		for _, vm := range page.Value {
			p := deref(vm.Properties)
			out = append(out, newMember(deref(vm.InstanceID), deref(p.ProvisioningState), deref(p.InstanceView).Statuses))
		}
	}
	return out, nil
}

func (u *uniform) member(ctx context.Context, id string) (member, error) {
	view, err := u.setVMs.GetInstanceView(ctx, u.group, u.name, id, nil)
	if err != nil {
		return member{}, plain(err)
	}
	return newMember(id, "", view.Statuses), nil
}

// flexible are machines of their own that know of their scale set. Their ids are their names.
type flexible struct {
	*clients
	group, setID string
}

func (f *flexible) list(ctx context.Context) ([]member, error) {
	var out []member
	pager := f.vms.NewListPager(f.group, &armcompute.VirtualMachinesClientListOptions{
		Filter: to.Ptr("'virtualMachineScaleSet/id' eq '" + f.setID + "'"),
		Expand: to.Ptr(armcompute.ExpandTypeForListVMsInstanceView),
	})
	for pager.More() {
		page, err := pager.NextPage(ctx)
		if err != nil {
			return nil, plain(err)
		}
		for _, vm := range page.Value {
			p := deref(vm.Properties)
			out = append(out, newMember(deref(vm.Name), deref(p.ProvisioningState), deref(p.InstanceView).Statuses))
		}
	}
	return out, nil
}

func (f *flexible) member(ctx context.Context, id string) (member, error) {
	view, err := f.vms.InstanceView(ctx, f.group, id, nil)
	if err != nil {
		return member{}, plain(err)
	}
	return newMember(id, "", view.Statuses), nil
}

// gone tells whether an error says that there is no such machine.
func gone(err error) bool { return statusOf(err) == http.StatusNotFound }
