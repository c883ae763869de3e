package azure

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/compute/armcompute/v7"
	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/require"
	"gitlab.com/gitlab-org/fleeting/fleeting/provider"

	"gitlab.com/gitlab-org/gitlab-runner/plugins/internal/sshkey"
	"gitlab.com/gitlab-org/gitlab-runner/plugins/simulator/azure"
	"gitlab.com/gitlab-org/gitlab-runner/plugins/simulator/faults"
	"gitlab.com/gitlab-org/gitlab-runner/plugins/simulator/machines"
)

const (
	setName       = "my-docker-scale-set"
	subscription  = "9b3c4602-cde2-4089-bed8-889e5a3e7102"
	resourceGroup = "my-resource-group"
)

// operator are the connector settings of the documented example.
var operator = provider.Settings{ConnectorConfig: provider.ConnectorConfig{
	Username: "azureuser", Password: "word", UseStaticCredentials: true, Timeout: time.Minute,
}}

// account is a simulated subscription and the plugin at work on it through the real SDK.
type account struct {
	*InstanceGroup
	t        *testing.T
	cloud    *azure.Cloud
	machines *machines.Memory
	info     provider.ProviderInfo
	log      *buffer
}

// buffer is safe for concurrent use.
type buffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// simulate starts a cloud and makes its managed identity this process's.
func simulate(t *testing.T, options azure.Options) (*azure.Cloud, Config) {
	t.Helper()
	var handler http.Handler
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { handler.ServeHTTP(w, r) }))
	t.Cleanup(server.Close)
	options.Address = server.URL
	if options.Secret == "" {
		options.Secret = "not-for-everybody"
	}
	options.SubscriptionID, options.ResourceGroup, options.Name = subscription, resourceGroup, setName
	if options.User == "" {
		options.User, options.Password = "azureuser", "word"
	}
	if options.MaxSize == 0 {
		options.MaxSize = 1000
	}
	cloud := azure.New(options)
	handler = cloud.Handler()
	t.Setenv("IDENTITY_ENDPOINT", cloud.TokenEndpoint())
	t.Setenv("IDENTITY_HEADER", options.Secret)
	t.Setenv("AZURE_TOKEN_CREDENTIALS", "ManagedIdentityCredential")
	return cloud, Config{Name: setName, SubscriptionID: subscription, ResourceGroupName: resourceGroup, Endpoint: server.URL}
}

func open(t *testing.T, options azure.Options, settings provider.Settings) *account {
	t.Helper()
	a := &account{t: t, machines: &machines.Memory{}, log: &buffer{}}
	options.Machines = a.machines
	var config Config
	a.cloud, config = simulate(t, options)
	a.InstanceGroup = &InstanceGroup{Config: config, Version: "1", BuildInfo: "b", pause: 10 * time.Millisecond, retryDelay: time.Millisecond}
	var err error
	a.info, err = a.Init(t.Context(), hclog.New(&hclog.LoggerOptions{Output: a.log}), settings)
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, a.Shutdown(context.Background()))
		http.DefaultClient.CloseIdleConnections()
	})
	return a
}

// list is what Update tells.
func (a *account) list() map[string]provider.State {
	a.t.Helper()
	found := map[string]provider.State{}
	require.NoError(a.t, a.Update(a.t.Context(), func(id string, state provider.State) { found[id] = state }))
	return found
}

// grow adds machines and returns all ids.
func (a *account) grow(n int) []string {
	a.t.Helper()
	got, err := a.Increase(a.t.Context(), n)
	require.NoError(a.t, err)
	require.Equal(a.t, n, got)
	return a.ids()
}

func (a *account) ids() []string {
	a.t.Helper()
	var ids []string
	for id, state := range a.list() {
		require.Equal(a.t, provider.StateRunning, state)
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// modes runs a test on a scale set of either orchestration.
func modes(t *testing.T, test func(t *testing.T, options azure.Options)) {
	for name, flexible := range map[string]bool{"uniform": false, "flexible": true} {
		t.Run(name, func(t *testing.T) { test(t, azure.Options{Flexible: flexible}) })
	}
}

func TestInstancesComeAndGo(t *testing.T) {
	modes(t, func(t *testing.T, options azure.Options) {
		a := open(t, options, operator)
		require.Equal(t, provider.ProviderInfo{
			ID: "azure/" + subscription + "/" + resourceGroup + "/" + setName, MaxSize: 1000, Version: "1", BuildInfo: "b",
		}, a.info)
		require.Empty(t, a.list())
		ids := a.grow(3)
		require.Len(t, ids, 3)
		require.Equal(t, 3, a.cloud.Capacity())
		for _, id := range ids {
			require.NoError(t, a.Heartbeat(t.Context(), id))
		}

		before := a.cloud.Calls("DeleteInstances")
		gone, err := a.Decrease(t.Context(), ids[:2])
		require.NoError(t, err)
		require.Equal(t, ids[:2], gone)
		require.Equal(t, before+1, a.cloud.Calls("DeleteInstances"), "one request for all of them")
		require.Equal(t, ids[2:], a.ids())
		require.Equal(t, 1, a.cloud.Capacity())
		require.ErrorIs(t, a.Heartbeat(t.Context(), ids[0]), provider.ErrInstanceUnhealthy)
		_, err = a.ConnectInfo(t.Context(), ids[0])
		require.ErrorContains(t, err, ids[0])

		none, err := a.Decrease(t.Context(), nil)
		require.NoError(t, err)
		require.Empty(t, none)
		require.Equal(t, before+1, a.cloud.Calls("DeleteInstances"))
	})
}

func TestConnectInfo(t *testing.T) {
	pair, err := sshkey.New()
	require.NoError(t, err)
	modes(t, func(t *testing.T, options azure.Options) {
		t.Run("as the example has it", func(t *testing.T) {
			a := open(t, options, operator)
			id := a.grow(1)[0]
			info, err := a.ConnectInfo(t.Context(), id)
			require.NoError(t, err)
			require.Equal(t, provider.ConnectInfo{
				ID: id, InternalAddr: "192.0.2.2", ExternalAddr: "192.0.2.2",
				ConnectorConfig: provider.ConnectorConfig{
					OS: "linux", Arch: "amd64", Protocol: provider.ProtocolSSH, ProtocolPort: 22,
					Username: "azureuser", Password: "word", UseStaticCredentials: true, Timeout: time.Minute,
				},
			}, info)
			require.Equal(t, []string{"password word"}, a.machines.Keys("machine-00001", "azureuser"))
		})
		t.Run("with a key, private, arm64, and the scale set's administrator", func(t *testing.T) {
			options := options
			options.User, options.AuthorizedKey, options.Private, options.Size = "boss", pair.Public, true, "Standard_D2pds_v5"
			a := open(t, options, provider.Settings{ConnectorConfig: provider.ConnectorConfig{Key: pair.Private, UseStaticCredentials: true}})
			info, err := a.ConnectInfo(t.Context(), a.grow(1)[0])
			require.NoError(t, err)
			require.Empty(t, info.ExternalAddr)
			require.Equal(t, "192.0.2.2", info.InternalAddr)
			require.Equal(t, "arm64", info.Arch)
			require.Equal(t, "boss", info.Username)
			require.Equal(t, pair.Private, info.Key)
			require.NotContains(t, a.log.String(), "WARN")
		})
		t.Run("windows", func(t *testing.T) {
			options := options
			options.Adjust = func(p *armcompute.VirtualMachineScaleSetProperties) {
				p.VirtualMachineProfile.OSProfile.LinuxConfiguration = nil
				p.VirtualMachineProfile.OSProfile.WindowsConfiguration = &armcompute.WindowsConfiguration{}
			}
			a := open(t, options, operator)
			info, err := a.ConnectInfo(t.Context(), a.grow(1)[0])
			require.NoError(t, err)
			require.Equal(t, "windows", info.OS)
			require.Equal(t, provider.ProtocolWinRM, info.Protocol)
			require.Equal(t, 5985, info.ProtocolPort)
		})
	})
}

func TestAnUpdateIsOneListWhateverTheSize(t *testing.T) {
	modes(t, func(t *testing.T, options azure.Options) {
		a := open(t, options, operator)
		a.grow(250)
		before := a.cloud.Calls("List")
		require.Len(t, a.list(), 250)
		require.Equal(t, before+3, a.cloud.Calls("List"), "three pages of 100")

		a.cloud.Faults.Add(faults.Fault{Operation: "List", Skip: 1, Times: 10, Status: 500, Code: "InternalServerError"})
		err := a.Update(t.Context(), func(string, provider.State) {})
		require.ErrorContains(t, err, "listing the instances", "half a list is none")
	})
}

func TestThrottlingLosesNoInstance(t *testing.T) {
	modes(t, func(t *testing.T, options azure.Options) {
		options.RetryAfter = 30
		a := open(t, options, operator)
		a.grow(2)
		before := a.cloud.Calls("List")
		a.cloud.Faults.Add(faults.Fault{Operation: "List", Status: http.StatusTooManyRequests, Code: "TooManyRequests", Message: "slow down"})
		for i := range 3 {
			reported := 0
			err := a.Update(t.Context(), func(string, provider.State) { reported++ })
			require.Error(t, err)
			require.Zero(t, reported)
			require.ErrorContains(t, err, []string{
				"azure answered 429 TooManyRequests: slow down", "azure asked to be left alone", "azure asked to be left alone",
			}[i])
		}
		require.Equal(t, before+1, a.cloud.Calls("List"), "azure is left alone for as long as it asks")
		n, err := a.Increase(t.Context(), 1)
		require.Zero(t, n)
		require.ErrorContains(t, err, "azure asked to be left alone")
		require.Equal(t, 2, a.cloud.Capacity())
	})
	t.Run("a short one is waited for", func(t *testing.T) {
		a := open(t, azure.Options{RetryAfter: 1}, operator)
		a.grow(2)
		a.cloud.Faults.Add(faults.Fault{Operation: "List", Status: http.StatusTooManyRequests, Code: "TooManyRequests"})
		require.Len(t, a.list(), 2)
	})
}

func TestWhatAzureDoesNotSayIsHeldAgainstNoInstance(t *testing.T) {
	modes(t, func(t *testing.T, options azure.Options) {
		options.RetryAfter = 30
		a := open(t, options, operator)
		id := a.grow(1)[0]
		a.cloud.Faults.Add(faults.Fault{Operation: "InstanceView", Status: http.StatusTooManyRequests, Code: "TooManyRequests", Message: "slow down"})
		for range 3 {
			require.NoError(t, a.Heartbeat(t.Context(), id))
		}
		require.Contains(t, a.log.String(), "slow down")
		require.Contains(t, a.log.String(), "azure asked to be left alone")
	})
}

func TestALostAnswerIsNotCarriedOutTwice(t *testing.T) {
	modes(t, func(t *testing.T, options azure.Options) {
		t.Run("increase, repeated by the SDK", func(t *testing.T) {
			a := open(t, options, operator)
			a.cloud.Faults.Add(faults.Fault{Operation: "Update", Lost: true})
			require.Len(t, a.grow(2), 2)
			require.Equal(t, 2, a.cloud.Capacity())
		})
		t.Run("increase, never answered", func(t *testing.T) {
			a := open(t, options, operator)
			a.cloud.Faults.Add(faults.Fault{Operation: "Update", Lost: true, Times: 1 + maxRetries})
			require.Len(t, a.grow(2), 2)
			require.Equal(t, 2, a.cloud.Capacity())
		})
		t.Run("increase, with nothing to be seen after it", func(t *testing.T) {
			a := open(t, options, operator)
			a.cloud.Faults.Add(faults.Fault{Operation: "Update", Lost: true, Times: 1 + maxRetries})
			// Of the five looks at the scale set the first is before the change.
			a.cloud.Faults.Add(faults.Fault{Operation: "Get", Skip: 1, Times: 1 + maxRetries, Status: 503, Code: "ServerBusy"})
			n, err := a.Increase(t.Context(), 2)
			require.Error(t, err)
			require.Zero(t, n)
			n, err = a.Increase(t.Context(), 3)
			require.NoError(t, err)
			require.Equal(t, 3, n)
			require.Equal(t, 3, a.cloud.Capacity(), "two of the three are there from before")
		})
		t.Run("increase, seen in the meantime", func(t *testing.T) {
			a := open(t, options, operator)
			a.cloud.Faults.Add(faults.Fault{Operation: "Update", Lost: true, Times: 1 + maxRetries})
			a.cloud.Faults.Add(faults.Fault{Operation: "Get", Skip: 1, Times: 1 + maxRetries, Status: 503, Code: "ServerBusy"})
			_, err := a.Increase(t.Context(), 2)
			require.Error(t, err)
			require.Len(t, a.ids(), 2)
			require.Len(t, a.grow(1), 3, "these are more than those that were seen")
		})
		t.Run("decrease", func(t *testing.T) {
			a := open(t, options, operator)
			ids := a.grow(3)
			a.cloud.Faults.Add(faults.Fault{Operation: "DeleteInstances", Lost: true})
			gone, err := a.Decrease(t.Context(), ids[:2])
			require.NoError(t, err)
			require.Equal(t, ids[:2], gone)
			require.Equal(t, ids[2:], a.ids())
			require.Equal(t, 1, a.cloud.Capacity())
		})
	})
}

func TestAnIncreaseSparesTheChangesOfOthers(t *testing.T) {
	a := open(t, azure.Options{}, operator)
	a.grow(1)
	a.cloud.Faults.Add(faults.Fault{Operation: "Update", Times: 2, Status: http.StatusPreconditionFailed, Code: "PreconditionFailed"})
	require.Len(t, a.grow(2), 3)
	a.cloud.Faults.Add(faults.Fault{Operation: "Update", Times: 100, Status: http.StatusPreconditionFailed, Code: "PreconditionFailed"})
	n, err := a.Increase(t.Context(), 1)
	require.Zero(t, n)
	require.ErrorContains(t, err, "changed by others all the time")
}

func TestInstancesThatAreGoneAreNoErrorAndSpoilNothing(t *testing.T) {
	modes(t, func(t *testing.T, options azure.Options) {
		a := open(t, options, operator)
		ids := a.grow(3)
		require.NoError(t, a.cloud.Kill(t.Context(), ids[0]))
		require.Equal(t, ids[1:], a.ids())
		require.ErrorIs(t, a.Heartbeat(t.Context(), ids[0]), provider.ErrInstanceUnhealthy)

		gone, err := a.Decrease(t.Context(), ids[:2])
		require.NoError(t, err)
		require.Equal(t, ids[:2], gone)
		require.Equal(t, ids[2:], a.ids())

		gone, err = a.Decrease(t.Context(), ids[:2])
		require.NoError(t, err)
		require.Equal(t, ids[:2], gone)
		require.Equal(t, 1, a.cloud.Capacity())
	})
}

func TestADeletionThatIsRefusedInPartSaysSo(t *testing.T) {
	a := open(t, azure.Options{}, operator)
	ids := a.grow(2)
	require.NoError(t, a.cloud.Kill(t.Context(), ids[0]))
	a.cloud.Faults.Add(faults.Fault{Operation: "DeleteInstances", Times: 2, Status: http.StatusConflict, Code: "Conflict", Message: "busy"})
	gone, err := a.Decrease(t.Context(), ids)
	require.ErrorContains(t, err, "busy")
	require.Equal(t, ids[:1], gone)
	require.Equal(t, ids[1:], a.ids())
}

func TestNewInstancesMayAppearLate(t *testing.T) {
	modes(t, func(t *testing.T, options azure.Options) {
		a := open(t, options, operator)
		a.cloud.HideNew(2)
		n, err := a.Increase(t.Context(), 2)
		require.NoError(t, err)
		require.Equal(t, 2, n)
		require.Empty(t, a.list())
		n, err = a.Increase(t.Context(), 1)
		require.NoError(t, err)
		require.Equal(t, 1, n)
		require.Equal(t, 3, a.cloud.Capacity())
		require.Empty(t, a.list())
		require.Len(t, a.list(), 2)
		require.Len(t, a.list(), 3)
	})
}

func TestAShortageIsToldAndNotPressedOn(t *testing.T) {
	for code, advice := range map[string]string{
		"AllocationFailed":                 "allow more zones or another size",
		"OverconstrainedAllocationRequest": "ask for less in zones",
	} {
		t.Run(code, func(t *testing.T) {
			modes(t, func(t *testing.T, options azure.Options) {
				a := open(t, options, operator)
				ids := a.grow(1)
				a.cloud.SetShortage(code)
				n, err := a.Increase(t.Context(), 2)
				require.NoError(t, err, "azure says so only later")
				require.Equal(t, 2, n)
				require.Eventually(t, func() bool { return a.growth.held(time.Now()) != nil }, 10*time.Second, 10*time.Millisecond)
				require.Contains(t, a.log.String(), advice)

				n, err = a.Increase(t.Context(), 1)
				require.Zero(t, n)
				require.ErrorContains(t, err, code)
				require.ErrorContains(t, err, "it is asked again in")

				// What could not be made is told, so that it is not waited for, and deleted.
				states := a.list()
				require.Len(t, states, 3)
				require.Equal(t, provider.StateRunning, states[ids[0]])
				require.Equal(t, 1, a.cloud.Capacity())
				require.Equal(t, ids, a.ids())

				a.cloud.SetShortage("")
				a.growth.until = time.Now()
				require.Len(t, a.grow(2), 3)
				require.Eventually(t, func() bool {
					a.growth.mu.Lock()
					defer a.growth.mu.Unlock()
					return a.growth.failure == nil
				}, 10*time.Second, 10*time.Millisecond)
			})
		})
	}
}

func TestTheQuotaIsNamed(t *testing.T) {
	a := open(t, azure.Options{MaxSize: 3}, operator)
	a.grow(2)
	n, err := a.Increase(t.Context(), 2)
	require.Zero(t, n)
	require.ErrorContains(t, err, "have the quota of the subscription raised")
	require.Len(t, a.grow(1), 3)
}

func TestAScaleSetOfOnePlacementGroupHasRoomForAHundred(t *testing.T) {
	a := open(t, azure.Options{Adjust: func(p *armcompute.VirtualMachineScaleSetProperties) {
		p.SinglePlacementGroup = to.Ptr(true)
	}}, operator)
	require.Equal(t, 100, a.info.MaxSize)
	a.grow(98)
	n, err := a.Increase(t.Context(), 5)
	require.Equal(t, 2, n)
	require.ErrorContains(t, err, "has room for 2 of 5 more instances")
	n, err = a.Increase(t.Context(), 5)
	require.Zero(t, n)
	require.ErrorContains(t, err, "has room for 0 of 5")
}

func TestEvictedInstancesAreDeleted(t *testing.T) {
	modes(t, func(t *testing.T, options azure.Options) {
		a := open(t, options, operator)
		ids := a.grow(2)
		a.cloud.Evict(ids[0])
		require.ErrorContains(t, a.Heartbeat(t.Context(), ids[0]), `its power is "deallocated"`)
		a.cloud.Faults.Add(faults.Fault{Operation: "DeleteInstances", Status: http.StatusConflict, Code: "Conflict"})
		for range 2 {
			require.Equal(t, map[string]provider.State{ids[0]: provider.StateDeleting, ids[1]: provider.StateRunning}, a.list())
		}
		require.Equal(t, ids[1:], a.ids())
		require.Equal(t, 2, a.cloud.Calls("DeleteInstances"), "the first was refused")
		require.Contains(t, a.log.String(), "an instance does not run and is deleted")
	})
}

func TestInitFindsWhatIsWrong(t *testing.T) {
	tests := map[string]struct {
		change   func(*Config, *provider.Settings)
		override func(*testing.T)
		want     string
	}{
		"nothing set":      {change: func(c *Config, _ *provider.Settings) { *c = Config{} }, want: "plugin_config subscription_id: must be set"},
		"odd name":         {change: func(c *Config, _ *provider.Settings) { c.Name = "a/b" }, want: `plugin_config name: "a/b" is no name`},
		"no scale set":     {change: func(c *Config, _ *provider.Settings) { c.Name = "other" }, want: `plugin_config name: there is no scale set "other"`},
		"no group":         {change: func(c *Config, _ *provider.Settings) { c.ResourceGroupName = "other" }, want: "ResourceGroupNotFound"},
		"no subscription":  {change: func(c *Config, _ *provider.Settings) { c.SubscriptionID = "other" }, want: "SubscriptionNotFound"},
		"odd cloud":        {change: func(c *Config, _ *provider.Settings) { c.Cloud = "moon" }, want: `plugin_config cloud: "moon" is not one of`},
		"open endpoint":    {change: func(c *Config, _ *provider.Settings) { c.Endpoint = "http://azure.example" }, want: "plugin_config endpoint:"},
		"no credential":    {change: func(_ *Config, s *provider.Settings) { s.Password = "" }, want: "connector_config: set key_path or password"},
		"odd key":          {change: func(_ *Config, s *provider.Settings) { s.Key = []byte("x") }, want: "connector_config key_path: ssh: no key found"},
		"identity missing": {override: func(t *testing.T) { t.Setenv("AZURE_TOKEN_CREDENTIALS", "EnvironmentCredential") }, want: "EnvironmentCredential"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			_, config := simulate(t, azure.Options{Machines: &machines.Memory{}})
			settings := operator
			if tt.change != nil {
				tt.change(&config, &settings)
			}
			if tt.override != nil {
				tt.override(t)
			}
			g := &InstanceGroup{Config: config, retryDelay: time.Millisecond}
			_, err := g.Init(t.Context(), hclog.NewNullLogger(), settings)
			require.ErrorContains(t, err, tt.want)
			require.NotContains(t, err.Error(), "not-for-everybody")
		})
	}
}

func TestAnIdentityThatAzureRefusesIsTold(t *testing.T) {
	_, config := simulate(t, azure.Options{Machines: &machines.Memory{}, Secret: "of another"})
	t.Setenv("IDENTITY_HEADER", "guessed")
	g := &InstanceGroup{Config: config, retryDelay: time.Millisecond}
	_, err := g.Init(t.Context(), hclog.NewNullLogger(), operator)
	// A token that the SDK got for another test is refused just so.
	require.ErrorContains(t, err, "401")
}

func TestInitWarnsOfWhatWillHurt(t *testing.T) {
	other, err := sshkey.New()
	require.NoError(t, err)
	yes := to.Ptr(true)
	tests := map[string]struct {
		options  azure.Options
		settings func(*provider.Settings)
		adjust   func(*armcompute.VirtualMachineScaleSetProperties)
		want     []string
	}{
		"upgrade policy": {adjust: func(p *armcompute.VirtualMachineScaleSetProperties) {
			p.UpgradePolicy.Mode = to.Ptr(armcompute.UpgradeModeAutomatic)
		}, want: []string{"the upgrade policy is Automatic", "az vmss update --set upgradePolicy.mode=Manual"}},
		"overprovisioning": {adjust: func(p *armcompute.VirtualMachineScaleSetProperties) { p.Overprovision = yes },
			want: []string{"overprovisioning is on", "az vmss update --set overprovision=false"}},
		"repairs": {adjust: func(p *armcompute.VirtualMachineScaleSetProperties) {
			p.AutomaticRepairsPolicy = &armcompute.AutomaticRepairsPolicy{Enabled: yes}
		}, want: []string{"automatic repairs are on", "az vmss update --enable-automatic-repairs false"}},
		"zones": {adjust: func(p *armcompute.VirtualMachineScaleSetProperties) {
			p.ResiliencyPolicy = &armcompute.ResiliencyPolicy{AutomaticZoneRebalancingPolicy: &armcompute.AutomaticZoneRebalancingPolicy{Enabled: yes}}
		}, want: []string{"zone rebalancing is on"}},
		"spot": {adjust: func(p *armcompute.VirtualMachineScaleSetProperties) {
			p.VirtualMachineProfile.Priority = to.Ptr(armcompute.VirtualMachinePriorityTypesSpot)
			p.VirtualMachineProfile.EvictionPolicy = to.Ptr(armcompute.VirtualMachineEvictionPolicyTypesDeallocate)
			p.SpotRestorePolicy = &armcompute.SpotRestorePolicy{Enabled: yes}
		}, want: []string{"evicted spot instances are only stopped", "--eviction-policy Delete", "spot restore is on"}},
		"architectures": {options: azure.Options{Size: "Mix"}, adjust: func(p *armcompute.VirtualMachineScaleSetProperties) {
			p.SKUProfile = &armcompute.SKUProfile{VMSizes: []*armcompute.SKUProfileVMSize{
				{Name: to.Ptr("Standard_D2s_v5")}, {Name: to.Ptr("Standard_D2ps_v5")},
			}}
		}, want: []string{"with and without ARM processors"}},
		"autoscale": {options: azure.Options{Autoscale: []string{"by-cpu"}},
			want: []string{`autoscale setting "by-cpu" changes the capacity`, "az monitor autoscale delete --name by-cpu"}},
		"not static": {settings: func(s *provider.Settings) { s.UseStaticCredentials = false },
			want: []string{"use_static_credentials is off"}},
		"no passwords": {options: azure.Options{User: "azureuser", AuthorizedKey: other.Public},
			want: []string{"take no passwords"}},
		"other key": {options: azure.Options{User: "azureuser", AuthorizedKey: newPair(t).Public},
			settings: func(s *provider.Settings) { s.Key = other.Private }, want: []string{"the key of key_path is not among those"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			tt.options.Adjust = tt.adjust
			settings := operator
			if tt.settings != nil {
				tt.settings(&settings)
			}
			a := open(t, tt.options, settings)
			for _, text := range tt.want {
				require.Contains(t, a.log.String(), text)
			}
			require.NotContains(t, a.log.String(), "somebody-elses")
		})
	}
	t.Run("nothing", func(t *testing.T) {
		a := open(t, azure.Options{}, operator)
		require.NotContains(t, a.log.String(), "WARN")
	})
	t.Run("autoscale that cannot be seen", func(t *testing.T) {
		machines := &machines.Memory{}
		cloud, config := simulate(t, azure.Options{Machines: machines, Autoscale: []string{"x"}})
		cloud.Faults.Add(faults.Fault{Operation: "Autoscale", Status: http.StatusForbidden, Code: "AuthorizationFailed"})
		log := &buffer{}
		g := &InstanceGroup{Config: config}
		_, err := g.Init(t.Context(), hclog.New(&hclog.LoggerOptions{Output: log}), operator)
		require.NoError(t, err)
		require.NotContains(t, log.String(), "WARN")
		require.NoError(t, g.Shutdown(t.Context()))
	})
}

func newPair(t *testing.T) sshkey.Pair {
	t.Helper()
	pair, err := sshkey.New()
	require.NoError(t, err)
	return pair
}

func TestAMissingPermissionIsExplained(t *testing.T) {
	a := open(t, azure.Options{}, operator)
	a.cloud.Faults.Add(faults.Fault{Operation: "Update", Status: http.StatusForbidden, Code: "AuthorizationFailed", Message: "write"})
	_, err := a.Increase(t.Context(), 1)
	require.ErrorContains(t, err, "the runner's identity lacks a permission")
}

func TestCallsEndWithTheirContext(t *testing.T) {
	a := open(t, azure.Options{}, operator)
	ids := a.grow(1)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, a.Update(ctx, func(string, provider.State) {}), context.Canceled)
	n, err := a.Increase(ctx, 1)
	require.Zero(t, n)
	require.ErrorIs(t, err, context.Canceled)
	gone, err := a.Decrease(ctx, ids)
	require.Empty(t, gone)
	require.ErrorIs(t, err, context.Canceled)
	_, err = a.ConnectInfo(ctx, ids[0])
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorIs(t, a.Heartbeat(ctx, ids[0]), context.Canceled)
	require.Equal(t, ids, a.ids())
}

func TestSuspendIsNotOffered(t *testing.T) {
	g := &InstanceGroup{}
	_, err := g.Suspend(t.Context(), nil)
	require.ErrorIs(t, err, provider.ErrSuspendResumeNotSupported)
	_, err = g.Resume(t.Context(), nil)
	require.ErrorIs(t, err, provider.ErrSuspendResumeNotSupported)
}

func TestArchitectureOfSizes(t *testing.T) {
	for size, arch := range map[string]string{
		"Standard_D2s_v5": "amd64", "Standard_D4ps_v5": "arm64", "Standard_D4pls_v5": "arm64", "Standard_E2pds_v5": "arm64",
		"Standard_B2pts_v2": "arm64", "Standard_D2plds_v6": "arm64", "Standard_NP10s": "amd64", "Standard_E4-2s_v5": "amd64",
		"Standard_B1s": "amd64", "Standard_DS2_v2": "amd64", "Standard_L8as_v3": "amd64", "Basic_A1": "amd64", "": "amd64",
	} {
		require.Equal(t, arch, archOf(size), size)
	}
}

func TestStatesOfMembers(t *testing.T) {
	tests := []struct {
		provisioning, power string
		want                provider.State
		stranded, fit       bool
	}{
		{"Creating", "", provider.StateCreating, false, false},
		{"Creating", "running", provider.StateCreating, false, false},
		{"Creating", "starting", provider.StateCreating, false, false},
		{"Succeeded", "running", provider.StateRunning, false, true},
		{"Updating", "running", provider.StateRunning, false, true},
		{"Succeeded", "", provider.StateCreating, false, false},
		{"Failed", "running", provider.StateRunning, false, false},
		{"Failed", "", provider.StateDeleting, true, false},
		{"Succeeded", "deallocated", provider.StateDeleting, true, false},
		{"Succeeded", "stopped", provider.StateDeleting, true, false},
		{"Updating", "deallocating", provider.StateDeleting, false, false},
		{"Deleting", "running", provider.StateDeleting, false, false},
		{"deleting", "", provider.StateDeleting, false, false},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprintf("%s %s", tt.provisioning, tt.power), func(t *testing.T) {
			m := member{provisioning: tt.provisioning, power: tt.power}
			state, stranded := m.state()
			require.Equal(t, tt.want, state)
			require.Equal(t, tt.stranded, stranded)
			require.Equal(t, tt.fit, m.fit() == nil)
		})
	}
}

func TestRetryAfterIsRead(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for text, want := range map[string]time.Duration{
		"": 0, "17": 17 * time.Second, "x": 0, "Fri, 02 Jan 2026 03:05:05 GMT": time.Minute, "99999999999999": 10 * time.Minute,
	} {
		h := http.Header{"Retry-After": {text}}
		require.Equal(t, want, retryAfter(h, now), text)
	}
}
