package azure

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/compute/armcompute/v7"
	"golang.org/x/crypto/ssh"
)

const (
	// The largest scale sets that Azure makes.
	maxSize            = 1000
	maxSizeOfPlacement = 100

	autoscaleVersion = "2022-10-01"

	// answerLimit bounds an answer that is read here, in bytes.
	answerLimit = 4 << 20
)

// model is what all machines of a scale set have in common.
type model struct {
	flexible bool
	maxSize  int
	system   string
	arch     string
	admin    string
}

func newModel(set armcompute.VirtualMachineScaleSet) model {
	p := deref(set.Properties)
	profile := deref(p.VirtualMachineProfile)
	m := model{
		flexible: deref(p.OrchestrationMode) == armcompute.OrchestrationModeFlexible,
		maxSize:  maxSize,
		system:   "linux",
		arch:     archOf(deref(deref(set.SKU).Name)),
		admin:    deref(deref(profile.OSProfile).AdminUsername),
	}
	if !m.flexible && deref(p.SinglePlacementGroup) {
		m.maxSize = maxSizeOfPlacement
	}
	disk := deref(deref(profile.StorageProfile).OSDisk)
	if deref(profile.OSProfile).WindowsConfiguration != nil || deref(disk.OSType) == armcompute.OperatingSystemTypesWindows {
		m.system = "windows"
	}
	return m
}

// inspect warns of settings of the scale set that take machines from running jobs, or keep jobs from them.
func (g *InstanceGroup) inspect(ctx context.Context, set armcompute.VirtualMachineScaleSet) {
	for _, finding := range findings(set) {
		g.log.Warn(finding.what, "remedy", finding.remedy)
	}
	for _, finding := range g.credentialFindings(set) {
		g.log.Warn(finding.what, "remedy", finding.remedy)
	}
	names, err := g.autoscaleSettings(ctx, deref(set.ID))
	if err != nil {
		g.log.Debug("it cannot be seen whether autoscale settings are attached", "err", err)
	}
	for _, name := range names {
		g.log.Warn(fmt.Sprintf("autoscale setting %q changes the capacity of the scale set and deletes instances that run jobs", name),
			"remedy", "az monitor autoscale delete --name "+name)
	}
}

type finding struct{ what, remedy string }

func findings(set armcompute.VirtualMachineScaleSet) []finding {
	var out []finding
	add := func(what, remedy string) { out = append(out, finding{what, remedy}) }
	p := deref(set.Properties)
	if mode := deref(deref(p.UpgradePolicy).Mode); mode != "" && mode != armcompute.UpgradeModeManual {
		add(fmt.Sprintf("the upgrade policy is %s: a change of the scale set's model replaces instances that run jobs", mode),
			"az vmss update --set upgradePolicy.mode=Manual")
	}
	if deref(p.Overprovision) {
		add("overprovisioning is on: azure makes more instances than asked for, and deletes some that may run jobs",
			"az vmss update --set overprovision=false")
	}
	if deref(deref(p.AutomaticRepairsPolicy).Enabled) {
		add("automatic repairs are on: azure replaces instances that run jobs", "az vmss update --enable-automatic-repairs false")
	}
	if deref(deref(deref(p.ResiliencyPolicy).AutomaticZoneRebalancingPolicy).Enabled) {
		add("zone rebalancing is on: azure replaces instances that run jobs",
			"az vmss update --set resiliencyPolicy.AutomaticZoneRebalancingPolicy.Enabled=false")
	}
	if deref(deref(p.SpotRestorePolicy).Enabled) {
		add("spot restore is on: azure starts evicted instances again, with what jobs left on them",
			"az vmss update --enable-spot-restore false")
	}
	profile := deref(p.VirtualMachineProfile)
	if deref(profile.Priority) == armcompute.VirtualMachinePriorityTypesSpot && deref(profile.EvictionPolicy) != armcompute.VirtualMachineEvictionPolicyTypesDelete {
		add("evicted spot instances are only stopped, and cost quota and disks until the plugin has deleted them",
			"make the scale set with --eviction-policy Delete")
	}
	if arch := archOf(deref(deref(set.SKU).Name)); p.SKUProfile != nil {
		for _, size := range p.SKUProfile.VMSizes {
			if other := archOf(deref(size.Name)); deref(deref(set.SKU).Name) == "" || strings.EqualFold(deref(deref(set.SKU).Name), "Mix") {
				arch = other
				break
			}
		}
		for _, size := range p.SKUProfile.VMSizes {
			if archOf(deref(size.Name)) != arch {
				add("the scale set mixes machines with and without ARM processors: images of jobs run on one kind only",
					"use sizes of one architecture, and a scale set for each")
				break
			}
		}
	}
	return out
}

// credentialFindings compare the operator's credentials with what the model of the scale set says.
func (g *InstanceGroup) credentialFindings(set armcompute.VirtualMachineScaleSet) []finding {
	profile := deref(deref(deref(set.Properties).VirtualMachineProfile).OSProfile)
	linux := profile.LinuxConfiguration
	if linux == nil {
		return nil
	}
	var out []finding
	if !g.settings.UseStaticCredentials {
		out = append(out, finding{"use_static_credentials is off, but the plugin makes no credentials", "set use_static_credentials = true in connector_config"})
	}
	if deref(linux.DisablePasswordAuthentication) && len(g.settings.Key) == 0 {
		out = append(out, finding{"the scale set's machines take no passwords, and there is no key_path", "set key_path in connector_config"})
	}
	signer, err := ssh.ParsePrivateKey(g.settings.Key)
	if err != nil || linux.SSH == nil || len(linux.SSH.PublicKeys) == 0 ||
		g.settings.Username != "" && g.settings.Username != deref(profile.AdminUsername) {
		return out
	}
	for _, one := range linux.SSH.PublicKeys {
		public, _, _, _, err := ssh.ParseAuthorizedKey([]byte(deref(one.KeyData)))
		if err == nil && bytes.Equal(public.Marshal(), signer.PublicKey().Marshal()) {
			return out
		}
	}
	return append(out, finding{"the key of key_path is not among those of the scale set", "use the key that the scale set was made with"})
}

// autoscaleSettings are the names of the settings that are attached to a scale set and switched on.
func (g *InstanceGroup) autoscaleSettings(ctx context.Context, setID string) ([]string, error) {
	address := runtime.JoinPaths(g.clients.endpoint, "subscriptions", url.PathEscape(g.SubscriptionID), "resourceGroups",
		url.PathEscape(g.ResourceGroupName), "providers/Microsoft.Insights/autoscalesettings")
	req, err := runtime.NewRequest(ctx, http.MethodGet, address)
	if err != nil {
		return nil, err
	}
	req.Raw().URL.RawQuery = url.Values{"api-version": {autoscaleVersion}}.Encode()
	req.Raw().Header.Set("Accept", "application/json")
	runtime.SkipBodyDownload(req)
	resp, err := g.clients.resources.Pipeline().Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, plain(runtime.NewResponseError(resp))
	}
	var answer struct {
		Value []struct {
			Name       string `json:"name"`
			Properties struct {
				Enabled bool   `json:"enabled"`
				Target  string `json:"targetResourceUri"`
			} `json:"properties"`
		} `json:"value"`
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, answerLimit)).Decode(&answer); err != nil {
		return nil, fmt.Errorf("reading autoscale settings: %w", err)
	}
	var names []string
	for _, one := range answer.Value {
		if one.Properties.Enabled && strings.EqualFold(one.Properties.Target, setID) {
			names = append(names, one.Name)
		}
	}
	return names, nil
}
