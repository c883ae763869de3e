package azure

import (
	"context"
	"fmt"
	"regexp"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/arm"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/compute/armcompute/v7"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/network/armnetwork/v7"
	"gitlab.com/gitlab-org/fleeting/fleeting/provider"
)

// ConnectInfo returns how to reach an instance: the addresses of its network interface, and the operator's
// credentials.
func (g *InstanceGroup) ConnectInfo(ctx context.Context, instance string) (provider.ConnectInfo, error) {
	at, err := g.members.place(ctx, instance)
	if err != nil {
		return provider.ConnectInfo{}, fmt.Errorf("finding the address of instance %q: %w", instance, err)
	}
	if at.internal == "" && at.external == "" {
		return provider.ConnectInfo{}, fmt.Errorf("instance %q has no address yet", instance)
	}
	info := provider.ConnectInfo{
		ConnectorConfig: g.settings.ConnectorConfig,
		ID:              instance,
		InternalAddr:    at.internal,
		ExternalAddr:    at.external,
	}
	if info.OS == "" {
		info.OS = g.model.system
	}
	if info.Arch == "" {
		info.Arch = g.model.arch
		if at.size != "" {
			info.Arch = archOf(at.size)
		}
	}
	if info.Username == "" {
		info.Username = g.model.admin
	}
	if info.Protocol == "" {
		info.Protocol = provider.ProtocolSSH
		// Without a key it has to be WinRM: SSH servers on Windows are the exception.
		if info.OS == "windows" && len(info.Key) == 0 {
			info.Protocol = provider.ProtocolWinRM
		}
	}
	if info.ProtocolPort == 0 {
		info.ProtocolPort = provider.DefaultProtocolPorts[info.Protocol]
	}
	return info, nil
}

// place of a uniform machine: both its interfaces and its public addresses belong to the scale set.
func (u *uniform) place(ctx context.Context, id string) (place, error) {
	var nics []*armnetwork.Interface
	pager := u.interfaces.NewListVirtualMachineScaleSetVMNetworkInterfacesPager(u.group, u.name, id, nil)
	for pager.More() {
		page, err := pager.NextPage(ctx)
		if err != nil {
			return place{}, plain(err)
		}
		nics = append(nics, page.Value...)
	}
	nic, ip := choose(nics)
	if ip == nil || ip.Properties == nil {
		return place{}, nil
	}
	at := place{internal: deref(ip.Properties.PrivateIPAddress)}
	if ip.Properties.PublicIPAddress == nil {
		return at, nil
	}
	addresses := u.publicIPs.NewListVirtualMachineScaleSetVMPublicIPAddressesPager(u.group, u.name, id, deref(nic.Name), deref(ip.Name), nil)
	for addresses.More() {
		page, err := addresses.NextPage(ctx)
		if err != nil {
			return place{}, plain(err)
		}
		for _, address := range page.Value {
			if found := deref(deref(address.Properties).IPAddress); found != "" {
				at.external = found
				return at, nil
			}
		}
	}
	return at, nil
}

// place of a flexible machine: it names its interfaces, and those their public addresses.
func (f *flexible) place(ctx context.Context, id string) (place, error) {
	vm, err := f.vms.Get(ctx, f.group, id, nil)
	if err != nil {
		return place{}, plain(err)
	}
	p := deref(vm.Properties)
	at := place{size: string(deref(deref(p.HardwareProfile).VMSize))}
	ref := primary(deref(p.NetworkProfile).NetworkInterfaces)
	if ref == "" {
		return at, nil
	}
	rid, err := arm.ParseResourceID(ref)
	if err != nil {
		return place{}, fmt.Errorf("network interface: %w", err)
	}
	nic, err := f.interfaces.Get(ctx, rid.ResourceGroupName, rid.Name, nil)
	if err != nil {
		return place{}, plain(err)
	}
	_, ip := choose([]*armnetwork.Interface{&nic.Interface})
	if ip == nil || ip.Properties == nil {
		return at, nil
	}
	at.internal = deref(ip.Properties.PrivateIPAddress)
	if ip.Properties.PublicIPAddress == nil {
		return at, nil
	}
	if rid, err = arm.ParseResourceID(deref(ip.Properties.PublicIPAddress.ID)); err != nil {
		return place{}, fmt.Errorf("public address: %w", err)
	}
	public, err := f.publicIPs.Get(ctx, rid.ResourceGroupName, rid.Name, nil)
	if err != nil {
		return place{}, plain(err)
	}
	at.external = deref(deref(public.Properties).IPAddress)
	return at, nil
}

// primary is the id of the interface that is the first by Azure's word, or by order.
func primary(refs []*armcompute.NetworkInterfaceReference) string {
	for _, ref := range refs {
		if deref(deref(ref.Properties).Primary) {
			return deref(ref.ID)
		}
	}
	if len(refs) > 0 {
		return deref(refs[0].ID)
	}
	return ""
}

// choose returns the address to use and its interface: the primary of both if one is.
func choose(nics []*armnetwork.Interface) (*armnetwork.Interface, *armnetwork.InterfaceIPConfiguration) {
	var nic *armnetwork.Interface
	for _, one := range nics {
		if nic == nil || deref(deref(one.Properties).Primary) {
			nic = one
		}
	}
	if nic == nil {
		return nil, nil
	}
	var ip *armnetwork.InterfaceIPConfiguration
	for _, one := range deref(nic.Properties).IPConfigurations {
		if ip == nil || deref(deref(one.Properties).Primary) {
			ip = one
		}
	}
	return nic, ip
}

// sizePattern takes the additive features out of the name of a machine's size: Standard_D2ps_v5 has "ps".
var sizePattern = regexp.MustCompile(`^[A-Za-z]+_[A-Z]+[0-9]+(?:-[0-9]+)?([a-z]*)`)

// archOf is the architecture of a size of machines: those with an ARM processor have a p among their features.
func archOf(size string) string {
	if found := sizePattern.FindStringSubmatch(size); found != nil && strings.Contains(found[1], "p") {
		return "arm64"
	}
	return "amd64"
}
