package azure

import (
	"context"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/network/armnetwork/v7"
)

const (
	interfaceSuffix = "-nic"
	addressSuffix   = "-ip"
	configuration   = "ipconfig1"
)

func (c *Cloud) interfacePath(v *vm) string {
	return c.groupPath() + "/providers/Microsoft.Network/networkInterfaces/" + c.name(v) + interfaceSuffix
}

// networkInterface is the one of a machine, whose private and public address are the same.
func (c *Cloud) networkInterface(v *vm) *armnetwork.Interface {
	p := &armnetwork.InterfaceIPConfigurationPropertiesFormat{Primary: to.Ptr(true)}
	if v.address != "" {
		p.PrivateIPAddress = &v.address
	}
	if !c.options.Private {
		p.PublicIPAddress = &armnetwork.PublicIPAddress{
			ID: to.Ptr(c.groupPath() + "/providers/Microsoft.Network/publicIPAddresses/" + c.name(v) + addressSuffix),
		}
	}
	return &armnetwork.Interface{
		ID: to.Ptr(c.interfacePath(v)), Name: to.Ptr(c.name(v) + interfaceSuffix),
		Properties: &armnetwork.InterfacePropertiesFormat{
			Primary:          to.Ptr(true),
			IPConfigurations: []*armnetwork.InterfaceIPConfiguration{{Name: to.Ptr(configuration), Properties: p}},
		},
	}
}

func (c *Cloud) publicAddress(v *vm) *armnetwork.PublicIPAddress {
	p := &armnetwork.PublicIPAddressPropertiesFormat{}
	if v.address != "" {
		p.IPAddress = &v.address
	}
	return &armnetwork.PublicIPAddress{Name: to.Ptr(c.name(v) + addressSuffix), Properties: p}
}

func (c *Cloud) interfacesOf(_ context.Context, r request) (answer, error) {
	found := c.find(r.PathValue("id"))
	if found == nil || c.options.Flexible {
		return answer{}, notFound("Resource", r.PathValue("id"))
	}
	return ok(armnetwork.InterfaceListResult{Value: []*armnetwork.Interface{c.networkInterface(found)}})
}

func (c *Cloud) addressesOf(_ context.Context, r request) (answer, error) {
	found := c.find(r.PathValue("id"))
	if found == nil || c.options.Flexible || r.PathValue("nic") != c.name(found)+interfaceSuffix || r.PathValue("ip") != configuration {
		return answer{}, notFound("Resource", r.PathValue("id"))
	}
	return ok(armnetwork.PublicIPAddressListResult{Value: []*armnetwork.PublicIPAddress{c.publicAddress(found)}})
}

func (c *Cloud) getInterface(_ context.Context, r request) (answer, error) {
	name, _ := strings.CutSuffix(r.PathValue("nic"), interfaceSuffix)
	found := c.find(name)
	if found == nil || !c.options.Flexible {
		return answer{}, notFound("Resource", r.PathValue("nic"))
	}
	return ok(c.networkInterface(found))
}

func (c *Cloud) getAddress(_ context.Context, r request) (answer, error) {
	name, _ := strings.CutSuffix(r.PathValue("ip"), addressSuffix)
	found := c.find(name)
	if found == nil || !c.options.Flexible || c.options.Private {
		return answer{}, notFound("Resource", r.PathValue("ip"))
	}
	return ok(c.publicAddress(found))
}

func (c *Cloud) autoscale(context.Context, request) (answer, error) {
	settings := []map[string]any{{
		"name": "somebody-elses", "properties": map[string]any{"enabled": true, "targetResourceUri": c.setPath() + "-2"},
	}}
	for _, name := range c.options.Autoscale {
		settings = append(settings, map[string]any{
			"name": name, "properties": map[string]any{"enabled": true, "targetResourceUri": strings.ToLower(c.setPath())},
		})
	}
	return ok(map[string]any{"value": settings})
}
