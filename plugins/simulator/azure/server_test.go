package azure

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/arm"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/compute/armcompute/v7"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"gitlab.com/gitlab-org/gitlab-runner/plugins/simulator/faults"
	"gitlab.com/gitlab-org/gitlab-runner/plugins/simulator/machines"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	subscription  = "9b3c4602-cde2-4089-bed8-889e5a3e7102"
	resourceGroup = "my-resource-group"
	setName       = "my-scale-set"
	secret        = "not-for-everybody"
)

// client is a simulated subscription, and Azure's SDK that speaks to it over HTTP.
type client struct {
	*Cloud
	t        *testing.T
	machines *machines.Memory
	sets     *armcompute.VirtualMachineScaleSetsClient
	setVMs   *armcompute.VirtualMachineScaleSetVMsClient
	vms      *armcompute.VirtualMachinesClient
}

// token is a credential that is known already.
type token string

func (t token) GetToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	return azcore.AccessToken{Token: string(t), ExpiresOn: time.Now().Add(time.Hour)}, nil
}

// open starts a subscription and logs in with its managed identity.
func open(t *testing.T, o Options) *client {
	t.Helper()
	c := serve(t, o)
	t.Setenv("IDENTITY_ENDPOINT", c.TokenEndpoint())
	t.Setenv("IDENTITY_HEADER", secret)
	identity, err := azidentity.NewManagedIdentityCredential(nil)
	require.NoError(t, err)
	c.login(identity)
	return c
}

func serve(t *testing.T, o Options) *client {
	t.Helper()
	var handler http.Handler
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { handler.ServeHTTP(w, r) }))
	t.Cleanup(server.Close)
	c := &client{t: t, machines: &machines.Memory{}}
	o.Machines, o.Address, o.Secret = c.machines, server.URL, secret
	o.SubscriptionID, o.ResourceGroup, o.Name = subscription, resourceGroup, setName
	if o.MaxSize == 0 {
		o.MaxSize = 10
	}
	c.Cloud = New(o)
	handler = c.Handler()
	return c
}

// login has the SDK use a credential. It asks once: what is refused is not tried again.
func (c *client) login(credential azcore.TokenCredential) {
	c.t.Helper()
	c.sets, c.setVMs, c.vms = c.clients(subscription, credential)
}

func (c *client) clients(subscription string, credential azcore.TokenCredential) (*armcompute.VirtualMachineScaleSetsClient, *armcompute.VirtualMachineScaleSetVMsClient, *armcompute.VirtualMachinesClient) {
	c.t.Helper()
	factory, err := armcompute.NewClientFactory(subscription, credential, &arm.ClientOptions{
		ClientOptions: policy.ClientOptions{
			Cloud: cloud.Configuration{
				ActiveDirectoryAuthorityHost: "https://login.microsoftonline.com/",
				Services: map[cloud.ServiceName]cloud.ServiceConfiguration{
					cloud.ResourceManager: {Endpoint: c.options.Address, Audience: "https://management.core.windows.net/"},
				},
			},
			InsecureAllowCredentialWithHTTP: true,
			Retry:                           policy.RetryOptions{MaxRetries: -1},
		},
		DisableRPRegistration: true,
	})
	require.NoError(c.t, err)
	return factory.NewVirtualMachineScaleSetsClient(), factory.NewVirtualMachineScaleSetVMsClient(), factory.NewVirtualMachinesClient()
}

// update begins a change of the capacity.
func (c *client) update(capacity int, match *string) (*runtime.Poller[armcompute.VirtualMachineScaleSetsClientUpdateResponse], error) {
	return c.sets.BeginUpdate(c.t.Context(), resourceGroup, setName, armcompute.VirtualMachineScaleSetUpdate{
		SKU: &armcompute.SKU{Capacity: to.Ptr(int64(capacity))},
	}, &armcompute.VirtualMachineScaleSetsClientBeginUpdateOptions{IfMatch: match})
}

// grow changes the capacity and waits.
func (c *client) grow(capacity int) {
	c.t.Helper()
	change, err := c.update(capacity, nil)
	require.NoError(c.t, err)
	require.NoError(c.t, poll(c.t, change))
}

// remove begins the deletion of machines.
func (c *client) remove(ids ...string) (*runtime.Poller[armcompute.VirtualMachineScaleSetsClientDeleteInstancesResponse], error) {
	return c.sets.BeginDeleteInstances(c.t.Context(), resourceGroup, setName,
		armcompute.VirtualMachineScaleSetVMInstanceRequiredIDs{InstanceIDs: to.SliceOfPtrs(ids...)}, nil)
}

// poll looks at an operation once and returns how it ended. It must have ended.
func poll[T any](t *testing.T, operation *runtime.Poller[T]) error {
	t.Helper()
	_, err := operation.Poll(t.Context())
	require.NoError(t, err)
	require.True(t, operation.Done())
	_, err = operation.Result(t.Context())
	return err
}

// list is the machines with their states, "provisioning power", in whatever orchestration.
func (c *client) list() map[string]string {
	c.t.Helper()
	found := map[string]string{}
	if c.options.Flexible {
		pages := c.vms.NewListPager(resourceGroup, &armcompute.VirtualMachinesClientListOptions{
			Filter: to.Ptr("'virtualMachineScaleSet/id' eq '" + c.setPath() + "'"), Expand: to.Ptr(armcompute.ExpandTypeForListVMsInstanceView),
		})
		for pages.More() {
			page, err := pages.NextPage(c.t.Context())
			require.NoError(c.t, err)
			for _, one := range page.Value {
				found[*one.Name] = stateOf(one.Properties.InstanceView.Statuses)
			}
		}
		return found
	}
	pages := c.setVMs.NewListPager(resourceGroup, setName, &armcompute.VirtualMachineScaleSetVMsClientListOptions{Expand: to.Ptr("instanceView")})
	for pages.More() {
		page, err := pages.NextPage(c.t.Context())
		require.NoError(c.t, err)
		for _, one := range page.Value {
			found[*one.InstanceID] = stateOf(one.Properties.InstanceView.Statuses)
		}
	}
	return found
}

func stateOf(statuses []*armcompute.InstanceViewStatus) string {
	text := ""
	for _, one := range statuses {
		text += *one.Code + " "
	}
	return text
}

const (
	isCreating = "ProvisioningState/creating "
	isRunning  = "ProvisioningState/succeeded PowerState/running "
	isDeleting = "ProvisioningState/deleting PowerState/running "
	isLacking  = "ProvisioningState/failed/AllocationFailed "
)

// ids are those of the first machines, in either orchestration.
func (c *client) ids(n int) []string {
	var ids []string
	for number := range n {
		ids = append(ids, c.id(&vm{number: number}))
	}
	return ids
}

// modes runs a test on a scale set of either orchestration.
func modes(t *testing.T, test func(t *testing.T, o Options)) {
	for name, flexible := range map[string]bool{"uniform": false, "flexible": true} {
		t.Run(name, func(t *testing.T) { test(t, Options{Flexible: flexible}) })
	}
}

// requireRefused requires an answer of Azure that is an error.
func requireRefused(t *testing.T, err error, status int, code, says string) {
	t.Helper()
	var answer *azcore.ResponseError
	require.ErrorAs(t, err, &answer)
	require.Equal(t, status, answer.StatusCode)
	require.Equal(t, code, answer.ErrorCode)
	require.ErrorContains(t, err, says)
}

func TestOnlyTheManagedIdentityGetsAToken(t *testing.T) {
	for name, c := range map[string]struct {
		header, resource string
		status           int
	}{
		"nobody":           {"", "https://management.core.windows.net/", http.StatusUnauthorized},
		"a guess":          {"guess", "https://management.core.windows.net/", http.StatusUnauthorized},
		"another resource": {secret, "https://vault.azure.net", http.StatusBadRequest},
		"the identity":     {secret, "https://management.core.windows.net/", http.StatusOK},
	} {
		t.Run(name, func(t *testing.T) {
			cloud := serve(t, Options{})
			ask, err := http.NewRequestWithContext(t.Context(), http.MethodGet, cloud.TokenEndpoint()+"?resource="+c.resource, nil)
			require.NoError(t, err)
			ask.Header.Set("X-IDENTITY-HEADER", c.header)
			answer, err := http.DefaultClient.Do(ask)
			require.NoError(t, err)
			require.NoError(t, answer.Body.Close())
			require.Equal(t, c.status, answer.StatusCode)
		})
	}
}

func TestWhoHasNoTokenIsRefused(t *testing.T) {
	c := serve(t, Options{})
	c.login(token("guess"))
	_, err := c.update(1, nil)
	requireRefused(t, err, http.StatusUnauthorized, "AuthenticationFailed", "Authentication failed")
	require.Zero(t, c.Capacity())
	require.Zero(t, c.Calls("Update"))
}

func TestMachinesAreMadeAndDeletedInTheirTime(t *testing.T) {
	modes(t, func(t *testing.T, o Options) {
		o.User, o.Password, o.AuthorizedKey = "azureuser", "word", "ssh-ed25519 AAAA"
		c := open(t, o)
		id := c.ids(1)[0]
		c.machines.Hold(true)
		change, err := c.update(1, nil)
		require.NoError(t, err)
		for range 3 {
			_, err = change.Poll(t.Context())
			require.NoError(t, err)
			require.False(t, change.Done())
			require.Equal(t, map[string]string{id: isCreating}, c.list())
		}
		c.machines.Hold(false)
		require.NoError(t, poll(t, change))
		require.Equal(t, map[string]string{id: isRunning}, c.list())
		require.Equal(t, []string{"ssh-ed25519 AAAA", "password word"}, c.machines.Keys("machine-00001", "azureuser"))

		c.machines.Hold(true)
		deletion, err := c.remove(id)
		require.NoError(t, err)
		require.Zero(t, c.Capacity())
		_, err = deletion.Poll(t.Context())
		require.NoError(t, err)
		require.False(t, deletion.Done())
		require.Equal(t, map[string]string{id: isDeleting}, c.list())
		c.machines.Hold(false)
		require.NoError(t, poll(t, deletion))
		require.Empty(t, c.list())
	})
}

func TestMachinesBeyondTheStockFailAndTakeTheOperationWithThem(t *testing.T) {
	modes(t, func(t *testing.T, o Options) {
		c := open(t, o)
		ids := c.ids(4)
		c.SetStock(1)
		change, err := c.update(3, nil)
		require.NoError(t, err, "azure says so only later")
		require.ErrorContains(t, poll(t, change), outOfStock)
		require.Equal(t, map[string]string{ids[0]: isRunning, ids[1]: isLacking, ids[2]: isLacking}, c.list())

		deletion, err := c.remove(ids[1:3]...)
		require.NoError(t, err)
		require.NoError(t, poll(t, deletion))
		c.SetStock(-1)
		c.grow(2)
		require.Equal(t, map[string]string{ids[0]: isRunning, ids[3]: isRunning}, c.list())
	})
}

func TestAShortageNamesItsOwnCodeWhateverTheStock(t *testing.T) {
	c := open(t, Options{})
	c.SetStock(0)
	c.SetShortage("OverconstrainedAllocationRequest")
	change, err := c.update(1, nil)
	require.NoError(t, err)
	require.ErrorContains(t, poll(t, change), "OverconstrainedAllocationRequest")
}

func TestThrottledCallsAreNotCarriedOutAndSayForHowLong(t *testing.T) {
	c := open(t, Options{RetryAfter: 7})
	c.Faults.Add(faults.Fault{Operation: "Update", Status: http.StatusTooManyRequests, Code: "TooManyRequests", Message: "slow down"})
	_, err := c.update(1, nil)
	requireRefused(t, err, http.StatusTooManyRequests, "TooManyRequests", "slow down")
	var answer *azcore.ResponseError
	require.ErrorAs(t, err, &answer)
	require.Equal(t, "7", answer.RawResponse.Header.Get("Retry-After"))
	require.Zero(t, c.Capacity())
	c.grow(1)
	require.Len(t, c.list(), 1)
}

func TestACallWhoseAnswerIsLostIsCarriedOut(t *testing.T) {
	c := open(t, Options{})
	c.Faults.Add(faults.Fault{Operation: "Update", Lost: true})
	_, err := c.update(2, nil)
	require.Error(t, err)
	require.Equal(t, 2, c.Capacity())
	require.Len(t, c.list(), 2)
}

func TestNewMachinesAppearAfterAsManyListsAsAskedFor(t *testing.T) {
	modes(t, func(t *testing.T, o Options) {
		o.PageSize = 1
		c := open(t, o)
		c.grow(2)
		c.HideNew(2)
		c.grow(4)
		for range 2 {
			require.Len(t, c.list(), 2, "the pages of one list count once")
		}
		require.Len(t, c.list(), 4)
	})
}

func TestAListIsToldPageByPage(t *testing.T) {
	modes(t, func(t *testing.T, o Options) {
		o.PageSize = 2
		c := open(t, o)
		c.grow(5)
		require.Len(t, c.list(), 5)
		require.Equal(t, 3, c.Calls("List"))
	})
}

func TestAKilledMachineLeavesTheScaleSet(t *testing.T) {
	modes(t, func(t *testing.T, o Options) {
		c := open(t, o)
		c.grow(2)
		ids := c.ids(2)
		require.NoError(t, c.Kill(t.Context(), ids[0]))
		require.Equal(t, map[string]string{ids[1]: isRunning}, c.list())
		require.Equal(t, 1, c.Capacity())
	})
}

func TestARequestThatIsRefusedChangesNothing(t *testing.T) {
	c := open(t, Options{MaxSize: 3})
	c.grow(2)
	set, err := c.sets.Get(t.Context(), resourceGroup, setName, nil)
	require.NoError(t, err)
	c.grow(1)
	c.grow(2)
	before := c.list()
	for name, call := range map[string]struct {
		do         func() error
		status     int
		code, says string
	}{
		"beyond the quota": {func() error {
			_, err := c.update(4, nil)
			return err
		}, http.StatusConflict, "OperationNotAllowed", "quota"},
		"below nothing": {func() error {
			_, err := c.update(-1, nil)
			return err
		}, http.StatusBadRequest, "InvalidParameter", "capacity"},
		"a change of what was changed since": {func() error {
			_, err := c.update(3, set.Etag)
			return err
		}, http.StatusPreconditionFailed, "PreconditionFailed", "etag"},
		"a deletion of another machine too": {func() error {
			_, err := c.remove("0", "99")
			return err
		}, http.StatusBadRequest, "InvalidParameter", "instanceId 99"},
	} {
		t.Run(name, func(t *testing.T) {
			requireRefused(t, call.do(), call.status, call.code, call.says)
			require.Equal(t, before, c.list())
			require.Equal(t, 2, c.Capacity())
		})
	}
}

func TestWhatThereIsNotIsNamed(t *testing.T) {
	c := open(t, Options{})
	flexible := open(t, Options{Flexible: true})
	others, _, _ := c.clients("f3f0d0f5-0000-4000-8000-000000000000", token(c.token))
	for name, call := range map[string]struct {
		do         func(ctx context.Context) error
		status     int
		code, says string
	}{
		"another scale set": {func(ctx context.Context) error {
			_, err := c.sets.Get(ctx, resourceGroup, "other", nil)
			return err
		}, http.StatusNotFound, "ResourceNotFound", "virtualMachineScaleSets/other"},
		"another resource group": {func(ctx context.Context) error {
			_, err := c.sets.Get(ctx, "other", setName, nil)
			return err
		}, http.StatusNotFound, "ResourceGroupNotFound", "'other'"},
		"another subscription": {func(ctx context.Context) error {
			_, err := others.Get(ctx, resourceGroup, setName, nil)
			return err
		}, http.StatusNotFound, "SubscriptionNotFound", "f3f0d0f5"},
		"another machine": {func(ctx context.Context) error {
			_, err := c.setVMs.GetInstanceView(ctx, resourceGroup, setName, "99", nil)
			return err
		}, http.StatusNotFound, "ResourceNotFound", "'99'"},
		"a machine by its name where there are numbers": {func(ctx context.Context) error {
			_, err := c.vms.Get(ctx, resourceGroup, "machine", nil)
			return err
		}, http.StatusNotFound, "ResourceNotFound", "'machine'"},
		"numbers where there are names": {func(ctx context.Context) error {
			_, err := flexible.setVMs.NewListPager(resourceGroup, setName, nil).NextPage(ctx)
			return err
		}, http.StatusBadRequest, "BadRequest", "flexible"},
		"what the simulator cannot do": {func(ctx context.Context) error {
			_, err := c.sets.BeginReimage(ctx, resourceGroup, setName, nil)
			return err
		}, http.StatusNotFound, "InvalidResourceType", "/reimage"},
	} {
		t.Run(name, func(t *testing.T) {
			requireRefused(t, call.do(t.Context()), call.status, call.code, call.says)
		})
	}
	require.Empty(t, flexible.list())
}
