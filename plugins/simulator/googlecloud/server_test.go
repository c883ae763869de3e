package googlecloud

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"google.golang.org/api/compute/v1"
	"google.golang.org/api/googleapi"
	"google.golang.org/api/option"

	"gitlab.com/gitlab-org/gitlab-runner/plugins/simulator/faults"
	"gitlab.com/gitlab-org/gitlab-runner/plugins/simulator/machines"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	project = "my-gcp-project"
	zone    = "europe-west1-b"
	group   = "my-group"
)

// client is a simulated project, and Google's SDK that speaks to it over HTTP.
type client struct {
	*Cloud
	*compute.Service
	t        *testing.T
	machines *machines.Memory
}

// serve starts a project.
func serve(t *testing.T, o Options) *client {
	t.Helper()
	c := &client{t: t, machines: &machines.Memory{}}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { c.ServeHTTP(w, r) }))
	t.Cleanup(server.Close)
	o.Machines, o.Project, o.Group, o.Address = c.machines, project, group, server.URL
	if o.Location == "" {
		o.Location = zone
	}
	var err error
	c.Cloud, err = New(o)
	require.NoError(t, err)
	return c
}

// open starts a project and lets its service account in.
func open(t *testing.T, o Options) *client {
	t.Helper()
	c := serve(t, o)
	c.login(c.identity(c.Cloud))
	return c
}

// identity has the SDK use the file of a cloud's service account.
func (c *client) identity(of *Cloud) option.ClientOption {
	c.t.Helper()
	credentials, err := of.Credentials()
	require.NoError(c.t, err)
	return option.WithAuthCredentialsJSON(option.ServiceAccount, credentials)
}

func (c *client) login(how ...option.ClientOption) {
	c.t.Helper()
	var err error
	c.Service, err = compute.NewService(c.t.Context(), append(how, option.WithEndpoint(c.options.Address))...)
	require.NoError(c.t, err)
}

// create asks for instances.
func (c *client) create(names ...string) error {
	request := &compute.InstanceGroupManagersCreateInstancesRequest{}
	for _, name := range names {
		request.Instances = append(request.Instances, &compute.PerInstanceConfig{Name: name})
	}
	_, err := c.InstanceGroupManagers.CreateInstances(project, zone, group, request).Do()
	return err
}

// remove asks for the end of instances.
func (c *client) remove(names ...string) error {
	request := &compute.InstanceGroupManagersDeleteInstancesRequest{}
	for _, name := range names {
		request.Instances = append(request.Instances, c.link("zones", zone, "instances", name))
	}
	_, err := c.InstanceGroupManagers.DeleteInstances(project, zone, group, request).Do()
	return err
}

// list is what the group tells of its instances, as "action status".
func (c *client) list() map[string]string {
	c.t.Helper()
	found := map[string]string{}
	err := c.InstanceGroupManagers.ListManagedInstances(project, zone, group).Pages(c.t.Context(),
		func(page *compute.InstanceGroupManagersListManagedInstancesResponse) error {
			for _, one := range page.ManagedInstances {
				found[one.Name] = one.CurrentAction + " " + one.InstanceStatus
			}
			return nil
		})
	require.NoError(c.t, err)
	return found
}

// settle has the project do what has come due.
func (c *client) settle() {
	c.t.Helper()
	_, err := c.InstanceGroupManagers.Get(project, zone, group).Do()
	require.NoError(c.t, err)
}

// requireRefused requires an answer of Google that is an error.
func requireRefused(t *testing.T, err error, status int, reason, says string) {
	t.Helper()
	var fault *googleapi.Error
	require.ErrorAs(t, err, &fault)
	require.Equal(t, status, fault.Code)
	require.Len(t, fault.Errors, 1)
	require.Equal(t, reason, fault.Errors[0].Reason)
	require.Contains(t, fault.Message, says)
}

// bearer sends a token that was not asked for.
type bearer string

func (b bearer) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+string(b))
	return http.DefaultTransport.RoundTrip(r)
}

func TestWhoIsNotTheServiceAccountIsRefused(t *testing.T) {
	for name, how := range map[string]func(c *client) []option.ClientOption{
		"nobody": func(*client) []option.ClientOption {
			return []option.ClientOption{option.WithoutAuthentication()}
		},
		"a token that was guessed": func(*client) []option.ClientOption {
			return []option.ClientOption{option.WithHTTPClient(&http.Client{Transport: bearer("guess")})}
		},
		"an account with another key": func(c *client) []option.ClientOption {
			other, err := New(c.options)
			require.NoError(c.t, err)
			return []option.ClientOption{c.identity(other)}
		},
		"an account of another project": func(c *client) []option.ClientOption {
			other := &Cloud{options: c.options, key: c.key}
			other.options.Project = "other"
			return []option.ClientOption{c.identity(other)}
		},
		"another scope": func(c *client) []option.ClientOption {
			return []option.ClientOption{c.identity(c.Cloud), option.WithScopes("https://www.googleapis.com/auth/logging.read")}
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := serve(t, Options{})
			c.login(how(c)...)
			require.Error(t, c.create("one"))
			require.Zero(t, c.Calls("createInstances"))

			c.login(c.identity(c.Cloud))
			require.Empty(t, c.list())
		})
	}
}

func TestInstancesAreMadeAndDeletedInTheirTime(t *testing.T) {
	c := open(t, Options{})
	c.machines.Hold(true)
	require.NoError(t, c.create("one"))
	for range 3 {
		require.Equal(t, map[string]string{"one": "CREATING "}, c.list())
	}
	_, err := c.Instances.Get(project, zone, "one").Do()
	requireRefused(t, err, http.StatusNotFound, "notFound", "instances/one")

	c.machines.Hold(false)
	require.Equal(t, map[string]string{"one": "NONE RUNNING"}, c.list())
	found, err := c.Instances.Get(project, zone, "one").Do()
	require.NoError(t, err)
	require.Equal(t, "RUNNING", found.Status)
	require.NotEmpty(t, found.NetworkInterfaces[0].NetworkIP)

	c.machines.Hold(true)
	require.NoError(t, c.remove("one"))
	for range 2 {
		require.Equal(t, map[string]string{"one": "DELETING STOPPING"}, c.list())
	}
	c.machines.Hold(false)
	require.Empty(t, c.list())
}

func TestAChangeOfMetadataIsAnOperationToWaitFor(t *testing.T) {
	c := open(t, Options{})
	require.NoError(t, c.create("one"))
	c.settle()
	c.settle()
	value := "ci:ssh-ed25519 AAAA google-ssh {}"
	change := &compute.Metadata{Fingerprint: "0", Items: []*compute.MetadataItems{{Key: "ssh-keys", Value: &value}}}
	operation, err := c.Instances.SetMetadata(project, zone, "one", change).Do()
	require.NoError(t, err)
	require.Equal(t, "RUNNING", operation.Status)
	operation, err = c.ZoneOperations.Wait(project, zone, operation.Name).Do()
	require.NoError(t, err)
	require.Equal(t, "DONE", operation.Status)
	require.Equal(t, []string{"ssh-ed25519 AAAA"}, c.machines.Keys("machine-00001", "ci"))

	_, err = c.Instances.SetMetadata(project, zone, "one", change).Do()
	requireRefused(t, err, http.StatusPreconditionFailed, "conditionNotMet", "fingerprint")
}

func TestThrottledCallsAreNotCarriedOut(t *testing.T) {
	c := open(t, Options{})
	c.Faults.Add(faults.Fault{Operation: "createInstances", Times: 2, Status: http.StatusTooManyRequests, Code: "rateLimitExceeded", Message: "slow down"})
	for range 2 {
		requireRefused(t, c.create("one"), http.StatusTooManyRequests, "rateLimitExceeded", "slow down")
	}
	require.Empty(t, c.list())
	require.NoError(t, c.create("one"))
	require.Len(t, c.list(), 1)
}

func TestACallWhoseAnswerIsLostIsCarriedOutOnce(t *testing.T) {
	c := open(t, Options{})
	c.Faults.Add(faults.Fault{Operation: "createInstances", Lost: true})
	request := &compute.InstanceGroupManagersCreateInstancesRequest{Instances: []*compute.PerInstanceConfig{{Name: "one"}}}
	const id = "3b241101-e2bb-4255-8caf-4136c566a962"
	_, err := c.InstanceGroupManagers.CreateInstances(project, zone, group, request).RequestId(id).Do()
	requireRefused(t, err, http.StatusServiceUnavailable, "backendError", "lost")
	operation, err := c.InstanceGroupManagers.CreateInstances(project, zone, group, request).RequestId(id).Do()
	require.NoError(t, err, "the same request again is no other one")
	require.Equal(t, "DONE", operation.Status)
	require.Len(t, c.list(), 1)
	requireRefused(t, c.create("one"), http.StatusBadRequest, "invalid", "instance one exists")
}

func TestInstancesBeyondTheStockSayWhyTheyAreNotMade(t *testing.T) {
	c := open(t, Options{})
	c.SetStock(1)
	require.NoError(t, c.create("one", "two", "three"))
	c.settle()
	states := map[string]int{}
	answer, err := c.InstanceGroupManagers.ListManagedInstances(project, zone, group).Do()
	require.NoError(t, err)
	for _, one := range answer.ManagedInstances {
		reason := ""
		if one.LastAttempt != nil {
			reason = one.LastAttempt.Errors.Errors[0].Code
		}
		states[one.CurrentAction+" "+reason]++
	}
	require.Equal(t, map[string]int{"NONE ": 1, "CREATING ZONE_RESOURCE_POOL_EXHAUSTED": 2}, states)

	require.NoError(t, c.remove("three"), "what was never made can be deleted")
	c.SetStock(-1)
	c.settle()
	require.Equal(t, map[string]string{"one": "NONE RUNNING", "two": "NONE RUNNING"}, c.list())
}

func TestNewInstancesAppearAfterAsManyListsAsAskedFor(t *testing.T) {
	c := open(t, Options{PageSize: 1})
	require.NoError(t, c.create("early"))
	c.HideNew(2)
	require.NoError(t, c.create("late-1", "late-2"))
	for range 2 {
		require.Len(t, c.list(), 1)
	}
	require.Len(t, c.list(), 3)
	managers, err := c.InstanceGroupManagers.Get(project, zone, group).Do()
	require.NoError(t, err)
	require.EqualValues(t, 3, managers.TargetSize, "the group counts what it does not list yet")
}

func TestAListIsToldPageByPage(t *testing.T) {
	c := open(t, Options{PageSize: 2})
	require.NoError(t, c.create("a", "b", "c", "d", "e"))
	before := c.Calls("listManagedInstances")
	require.Len(t, c.list(), 5)
	require.Equal(t, before+3, c.Calls("listManagedInstances"))
}

func TestAKilledInstanceIsMadeAnewUnderItsName(t *testing.T) {
	c := open(t, Options{})
	require.NoError(t, c.create("one"))
	c.settle()
	c.settle()
	before, err := c.Instances.Get(project, zone, "one").Do()
	require.NoError(t, err)
	require.NoError(t, c.Kill(t.Context(), "one"))
	require.Equal(t, map[string]string{"one": "CREATING "}, c.list())
	c.settle()
	require.Equal(t, map[string]string{"one": "NONE RUNNING"}, c.list())
	after, err := c.Instances.Get(project, zone, "one").Do()
	require.NoError(t, err)
	require.NotEqual(t, before.Id, after.Id)
}

func TestWhatThereIsNotIsNamed(t *testing.T) {
	c := open(t, Options{})
	regional := open(t, Options{Location: "europe-west1"})
	for name, call := range map[string]struct {
		do   func(ctx context.Context) error
		says string
	}{
		"another group": {func(ctx context.Context) error {
			_, err := c.InstanceGroupManagers.Get(project, zone, "other").Context(ctx).Do()
			return err
		}, "instanceGroupManagers/other"},
		"another zone": {func(ctx context.Context) error {
			_, err := c.InstanceGroupManagers.Get(project, "europe-west1-c", group).Context(ctx).Do()
			return err
		}, "zones/europe-west1-c"},
		"another project": {func(ctx context.Context) error {
			_, err := c.InstanceGroupManagers.Get("other", zone, group).Context(ctx).Do()
			return err
		}, "projects/other"},
		"a group of the region in a zone": {func(ctx context.Context) error {
			_, err := regional.InstanceGroupManagers.Get(project, zone, group).Context(ctx).Do()
			return err
		}, "zones/" + zone},
		"another instance": {func(ctx context.Context) error {
			_, err := c.Instances.Get(project, zone, "nobody").Context(ctx).Do()
			return err
		}, "instances/nobody"},
		"the port of another instance": {func(ctx context.Context) error {
			_, err := c.Instances.GetSerialPortOutput(project, zone, "nobody").Port(4).Context(ctx).Do()
			return err
		}, "instances/nobody"},
		"an autoscaler": {func(ctx context.Context) error {
			_, err := c.Autoscalers.Get(project, zone, "scaler").Context(ctx).Do()
			return err
		}, "autoscalers/scaler"},
		"what the simulator cannot do": {func(ctx context.Context) error {
			_, err := c.InstanceGroupManagers.Resize(project, zone, group, 3).Context(ctx).Do()
			return err
		}, group + "/resize"},
	} {
		t.Run(name, func(t *testing.T) {
			requireRefused(t, call.do(t.Context()), http.StatusNotFound, "notFound", call.says)
		})
	}
	found, err := regional.RegionInstanceGroupManagers.Get(project, "europe-west1", group).Do()
	require.NoError(t, err)
	require.Equal(t, group, found.Name)
}

func TestARequestThatIsRefusedChangesNothing(t *testing.T) {
	c := open(t, Options{})
	require.NoError(t, c.create("one", "two"))
	c.settle()
	want := map[string]string{"one": "NONE RUNNING", "two": "NONE RUNNING"}
	var many []string
	for i := range batchLimit + 1 {
		many = append(many, fmt.Sprintf("more-%d", i))
	}
	for name, call := range map[string]struct {
		err  error
		says string
	}{
		"a name that is taken":  {c.create("three", "two"), "instance two exists"},
		"too many to make":      {c.create(many...), "more than 1000 instances"},
		"too many to delete":    {c.remove(many...), "more than 1000 instances"},
		"another one to delete": {c.remove("one", "nobody"), "nobody is not a member"},
	} {
		t.Run(name, func(t *testing.T) {
			requireRefused(t, call.err, http.StatusBadRequest, "invalid", call.says)
			require.Equal(t, want, c.list())
		})
	}
	_, err := c.InstanceGroupManagers.DeleteInstances(project, zone, group, &compute.InstanceGroupManagersDeleteInstancesRequest{
		Instances: []string{c.link("zones", zone, "instances", "nobody"), c.link("zones", zone, "instances", "one")}, SkipInstancesOnValidationError: true,
	}).Do()
	require.NoError(t, err)
	require.Equal(t, map[string]string{"two": "NONE RUNNING"}, c.list())
}

func TestTheGroupTellsTheSettingsThatHurt(t *testing.T) {
	c := open(t, Options{Autohealing: true, Proactive: true, Autoscaler: "ON"})
	found, err := c.InstanceGroupManagers.Get(project, zone, group).Do()
	require.NoError(t, err)
	require.Len(t, found.AutoHealingPolicies, 1)
	require.Equal(t, "PROACTIVE", found.UpdatePolicy.Type)
	require.Contains(t, found.Status.Autoscaler, "autoscalers/scaler")
	scaler, err := c.Autoscalers.Get(project, zone, "scaler").Do()
	require.NoError(t, err)
	require.Equal(t, "ON", scaler.AutoscalingPolicy.Mode)
}
