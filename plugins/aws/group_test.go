package aws

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/autoscaling/types"
	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/require"
	"gitlab.com/gitlab-org/fleeting/fleeting/provider"

	"gitlab.com/gitlab-org/gitlab-runner/plugins/simulator/aws"
	"gitlab.com/gitlab-org/gitlab-runner/plugins/simulator/faults"
	"gitlab.com/gitlab-org/gitlab-runner/plugins/simulator/machines"
)

const (
	groupName = "my-docker-asg"
	secret    = "not-for-everybody"
)

// account is a simulated account and the plugin at work on it through the real SDK.
type account struct {
	*InstanceGroup
	t        *testing.T
	cloud    *aws.Cloud
	machines *machines.Memory
	info     provider.ProviderInfo
	log      *bytes.Buffer
}

// files writes the two files of the AWS command line and returns a configuration that names them.
func files(t *testing.T, endpoint, key, secret string) Config {
	t.Helper()
	dir := t.TempDir()
	c := Config{
		Name: groupName, Profile: "default",
		ConfigFile: filepath.Join(dir, "config"), CredentialsFile: filepath.Join(dir, "credentials"),
	}
	require.NoError(t, os.WriteFile(c.ConfigFile, fmt.Appendf(nil, "[default]\nregion = eu-west-1\nendpoint_url = %s\nmax_attempts = 2\n", endpoint), 0o600))
	require.NoError(t, os.WriteFile(c.CredentialsFile, fmt.Appendf(nil, "[default]\naws_access_key_id = %s\naws_secret_access_key = %s\n", key, secret), 0o600))
	return c
}

func open(t *testing.T, options aws.Options, settings provider.Settings) *account {
	t.Helper()
	a := &account{t: t, machines: &machines.Memory{}, log: &bytes.Buffer{}}
	options.Machines, options.Group, options.Region = a.machines, groupName, "eu-west-1"
	options.AccessKey, options.SecretKey = "AKIDEXAMPLE", secret
	if options.MaxSize == 0 {
		options.MaxSize = 10
	}
	a.cloud = aws.New(options)
	server := httptest.NewServer(a.cloud)
	t.Cleanup(server.Close)
	a.InstanceGroup = &InstanceGroup{Config: files(t, server.URL, "AKIDEXAMPLE", secret)}
	var err error
	a.info, err = a.Init(t.Context(), hclog.New(&hclog.LoggerOptions{Output: a.log}), settings)
	require.NoError(t, err)
	return a
}

// list is what Update tells.
func (a *account) list() map[string]provider.State {
	a.t.Helper()
	found := map[string]provider.State{}
	require.NoError(a.t, a.Update(a.t.Context(), func(id string, state provider.State) { found[id] = state }))
	return found
}

// grow makes instances and returns their ids.
func (a *account) grow(n int) []string {
	a.t.Helper()
	made, err := a.Increase(a.t.Context(), n)
	require.NoError(a.t, err)
	require.Equal(a.t, n, made)
	var ids []string
	for id, state := range a.list() {
		require.Equal(a.t, provider.StateRunning, state)
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

func TestInstancesComeAndGoWithTheDesiredCapacity(t *testing.T) {
	a := open(t, aws.Options{}, provider.Settings{})
	require.Equal(t, "aws/eu-west-1/my-docker-asg", a.info.ID)
	require.Equal(t, 10, a.info.MaxSize)
	require.Empty(t, a.list())

	ids := a.grow(3)
	require.Len(t, ids, 3)
	require.Equal(t, 3, a.cloud.Desired())

	gone, err := a.Decrease(t.Context(), ids[:2])
	require.NoError(t, err)
	require.ElementsMatch(t, ids[:2], gone)
	require.Equal(t, 1, a.cloud.Desired(), "what is deleted is not replaced")
	require.Equal(t, map[string]provider.State{ids[2]: provider.StateRunning}, a.list())

	gone, err = a.Decrease(t.Context(), []string{ids[0]})
	require.NoError(t, err, "an instance that is gone already needs no deletion")
	require.Equal(t, ids[:1], gone)
	require.Equal(t, 1, a.cloud.Desired())
	require.NoError(t, a.Shutdown(t.Context()))
}

func TestAnUpdateIsOneCallWhateverTheSize(t *testing.T) {
	a := open(t, aws.Options{MaxSize: 500}, provider.Settings{})
	a.grow(300)
	before := a.cloud.Calls("DescribeAutoScalingGroups")
	require.Len(t, a.list(), 300)
	require.Equal(t, before+1, a.cloud.Calls("DescribeAutoScalingGroups"))
	require.Zero(t, a.cloud.Calls("DescribeInstances"))
	require.Zero(t, a.cloud.Calls("DescribeSpotInstanceRequests"))
}

func TestTheGroupsMaximumIsALimitThatIsNamed(t *testing.T) {
	a := open(t, aws.Options{MaxSize: 2}, provider.Settings{})
	made, err := a.Increase(t.Context(), 3)
	require.Equal(t, 2, made)
	require.ErrorContains(t, err, "room for 2 of 3 more instances: raise its maximum capacity (2)")
	made, err = a.Increase(t.Context(), 1)
	require.Zero(t, made)
	require.ErrorContains(t, err, "room for 0 of 1")
}

func TestThrottlingLosesNoInstance(t *testing.T) {
	a := open(t, aws.Options{}, provider.Settings{})
	a.grow(2)
	a.cloud.Faults.Add(faults.Fault{Operation: "DescribeAutoScalingGroups", Times: 2, Status: http.StatusBadRequest, Code: "Throttling", Message: "Rate exceeded"})
	told := 0
	err := a.Update(t.Context(), func(string, provider.State) { told++ })
	require.ErrorContains(t, err, "Rate exceeded")
	require.Zero(t, told, "a snapshot is whole or an error")
	require.Len(t, a.list(), 2)
}

func TestARequestWhoseAnswerIsLostIsNotMadeTwice(t *testing.T) {
	a := open(t, aws.Options{}, provider.Settings{})
	lost := func(operation string) {
		a.cloud.Faults.Add(faults.Fault{Operation: operation, Times: 2, Lost: true})
	}
	lost("SetDesiredCapacity")
	made, err := a.Increase(t.Context(), 2)
	require.NoError(t, err)
	require.Equal(t, 2, made)
	require.Equal(t, 2, a.cloud.Desired())

	var ids []string
	for id := range a.list() {
		ids = append(ids, id)
	}
	a.cloud.Faults.Add(faults.Fault{Operation: "TerminateInstanceInAutoScalingGroup", Lost: true})
	gone, err := a.Decrease(t.Context(), ids[:1])
	require.NoError(t, err)
	require.Equal(t, ids[:1], gone)
	require.Equal(t, 1, a.cloud.Desired())
	require.Equal(t, 1, a.cloud.Calls("TerminateInstanceInAutoScalingGroup"))
}

func TestSomeDeletionsMayFail(t *testing.T) {
	a := open(t, aws.Options{}, provider.Settings{})
	ids := a.grow(3)
	a.cloud.Faults.Add(faults.Fault{Operation: "TerminateInstanceInAutoScalingGroup", Status: http.StatusBadRequest, Code: "ScalingActivityInProgress", Message: "busy"})
	gone, err := a.Decrease(t.Context(), ids)
	require.ErrorContains(t, err, "busy")
	require.Len(t, gone, 2)
	require.Equal(t, 1, a.cloud.Desired())
	require.Len(t, a.list(), 1)
}

func TestInstancesMayAppearLate(t *testing.T) {
	a := open(t, aws.Options{}, provider.Settings{})
	a.cloud.HideNew(2)
	made, err := a.Increase(t.Context(), 1)
	require.NoError(t, err)
	require.Equal(t, 1, made)
	require.Empty(t, a.list())
	require.Empty(t, a.list())
	require.Len(t, a.list(), 1)
}

func TestWithoutStockTheRequestStaysAndTheInstancesComeLater(t *testing.T) {
	a := open(t, aws.Options{}, provider.Settings{})
	a.cloud.SetStock(1)
	made, err := a.Increase(t.Context(), 3)
	require.NoError(t, err)
	require.Equal(t, 3, made, "AWS took the request")
	require.Len(t, a.list(), 1)
	a.cloud.SetStock(-1)
	require.Len(t, a.list(), 3)
}

func TestAKilledInstanceLeavesTheGroupAndAnotherOneComes(t *testing.T) {
	a := open(t, aws.Options{}, provider.Settings{})
	id := a.grow(1)[0]
	require.NoError(t, a.Heartbeat(t.Context(), id))
	require.NoError(t, a.cloud.Kill(t.Context(), id))
	found := a.list()
	require.NotContains(t, found, id)
	require.Len(t, found, 1, "the group replaces what it did not delete itself")
	require.ErrorIs(t, a.Heartbeat(t.Context(), id), provider.ErrInstanceUnhealthy)
}

func TestWhatAWSDoesNotSayIsHeldAgainstNoInstance(t *testing.T) {
	a := open(t, aws.Options{}, provider.Settings{})
	id := a.grow(1)[0]
	for _, fault := range []faults.Fault{
		{Times: 3, Status: http.StatusServiceUnavailable, Code: "RequestLimitExceeded", Message: "Request limit exceeded."},
		{Status: http.StatusForbidden, Code: "UnauthorizedOperation", Message: "You are not authorized."},
	} {
		fault.Operation = "DescribeInstanceStatus"
		a.cloud.Faults.Add(fault)
		require.NoError(t, a.Heartbeat(t.Context(), id))
		require.Contains(t, a.log.String(), fault.Message)
	}
}

func TestASpotInstanceThatWasGivenNoticeIsAsGoodAsGone(t *testing.T) {
	a := open(t, aws.Options{Spot: true}, provider.Settings{})
	ids := a.grow(2)
	a.cloud.Reclaim(ids[1])
	require.Equal(t, map[string]provider.State{ids[0]: provider.StateRunning, ids[1]: provider.StateDeleting}, a.list())

	a.cloud.Faults.Add(faults.Fault{Operation: "DescribeSpotInstanceRequests", Status: http.StatusForbidden, Code: "UnauthorizedOperation", Message: "no"})
	require.Len(t, a.list(), 2)
	require.Len(t, a.list(), 2)
	require.Contains(t, a.log.String(), "allow ec2:DescribeSpotInstanceRequests")
}

func TestASpotInstanceOfALaunchTemplateIsKnownAsSoonAsItIsConnectedTo(t *testing.T) {
	a := open(t, aws.Options{SpotTemplate: true}, provider.Settings{})
	ids := a.grow(2)
	require.Zero(t, a.cloud.Calls("DescribeSpotInstanceRequests"), "nothing tells of spot instances yet")
	_, err := a.ConnectInfo(t.Context(), ids[0])
	require.NoError(t, err)
	a.cloud.Reclaim(ids[1])
	require.Equal(t, map[string]provider.State{ids[0]: provider.StateRunning, ids[1]: provider.StateDeleting}, a.list())
}

func TestTheRunnerIsLetInByAKeyOfItsOwn(t *testing.T) {
	a := open(t, aws.Options{}, provider.Settings{ConnectorConfig: provider.ConnectorConfig{Timeout: time.Minute}})
	id := a.grow(1)[0]
	info, err := a.ConnectInfo(t.Context(), id)
	require.NoError(t, err)
	require.Equal(t, "linux", info.OS)
	require.Equal(t, "amd64", info.Arch)
	require.Equal(t, provider.ProtocolSSH, info.Protocol)
	require.Equal(t, "ec2-user", info.Username)
	require.Equal(t, time.Minute, info.Timeout)
	require.NotEmpty(t, info.InternalAddr)
	require.Equal(t, []string{a.key.Public}, a.machines.Keys("machine-00001", "ec2-user"))
	require.Equal(t, a.key.Private, info.Key)
	require.NotContains(t, a.log.String(), string(info.Key))

	_, err = a.ConnectInfo(t.Context(), "i-0")
	require.ErrorContains(t, err, `instance "i-0"`)
}

func TestStaticCredentialsAreLeftAlone(t *testing.T) {
	a := open(t, aws.Options{}, provider.Settings{ConnectorConfig: provider.ConnectorConfig{
		UseStaticCredentials: true, Username: "me", Password: "mine", OS: "linux",
	}})
	info, err := a.ConnectInfo(t.Context(), a.grow(1)[0])
	require.NoError(t, err)
	require.Equal(t, "me", info.Username)
	require.Equal(t, "mine", info.Password)
	require.Empty(t, info.Key)
	require.Zero(t, a.cloud.Calls("SendSSHPublicKey"))
}

func TestWindowsIsEnteredByThePasswordItMade(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	text := pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})
	//lint:ignore SA1019 EC2 knows no other padding
	encrypted, err := rsa.EncryptPKCS1v15(rand.Reader, &key.PublicKey, []byte("p4ss;word"))
	require.NoError(t, err)
	options := aws.Options{Platform: "windows", PasswordData: base64.StdEncoding.EncodeToString(encrypted)}

	a := open(t, options, provider.Settings{ConnectorConfig: provider.ConnectorConfig{Key: text}})
	info, err := a.ConnectInfo(t.Context(), a.grow(1)[0])
	require.NoError(t, err)
	require.Equal(t, "windows", info.OS)
	require.Equal(t, provider.ProtocolWinRM, info.Protocol)
	require.Equal(t, "Administrator", info.Username)
	require.Equal(t, "p4ss;word", info.Password)

	b := open(t, options, provider.Settings{})
	_, err = b.ConnectInfo(t.Context(), b.grow(1)[0])
	require.ErrorContains(t, err, "set key_path in connector_config")

	options.PasswordData = ""
	c := open(t, options, provider.Settings{ConnectorConfig: provider.ConnectorConfig{Key: text}})
	_, err = c.ConnectInfo(t.Context(), c.grow(1)[0])
	require.ErrorContains(t, err, "has not made its password yet")
}

func TestSettingsThatHurtAreNamedWithTheirRemedy(t *testing.T) {
	quiet := open(t, aws.Options{SuspendedProcesses: []string{"AZRebalance"}}, provider.Settings{})
	require.NotContains(t, quiet.log.String(), "WARN")
	loud := open(t, aws.Options{
		MinSize: 1, Unprotected: true, Policies: []string{"cpu"}, InstanceTypes: []string{"m5.large", "arm.large"},
	}, provider.Settings{})
	for _, remedy := range []string{
		"suspend its process AZRebalance", "turn instance scale-in protection on", "set it to 0",
		"remove them", "policies=cpu", "use a group for each",
	} {
		require.Contains(t, loud.log.String(), remedy)
	}
}

func TestWhatAWSTellsPageByPageIsReadToTheEnd(t *testing.T) {
	a := open(t, aws.Options{
		PageSize: 2, Spot: true, Policies: []string{"cpu", "memory", "network", "night", "weekend"},
		InstanceTypes: []string{"m5.large", "m5.xlarge", "arm.large"},
	}, provider.Settings{})
	require.Contains(t, a.log.String(), `policies="cpu, memory, network, night, weekend"`)
	require.Equal(t, 3, a.cloud.Calls("DescribePolicies"))
	require.Contains(t, a.log.String(), "use a group for each", "only the last page has arm64")
	require.Equal(t, 2, a.cloud.Calls("DescribeInstanceTypes"))

	ids := a.grow(6)
	for _, id := range ids[1:] {
		a.cloud.Reclaim(id)
	}
	before := a.cloud.Calls("DescribeSpotInstanceRequests")
	states := a.list()
	require.Equal(t, before+3, a.cloud.Calls("DescribeSpotInstanceRequests"))
	require.Equal(t, provider.StateRunning, states[ids[0]])
	for _, id := range ids[1:] {
		require.Equal(t, provider.StateDeleting, states[id])
	}
}

func TestPoliciesThatWereFoundAreNamedThoughTheNextPageFails(t *testing.T) {
	options := aws.Options{PageSize: 1, Policies: []string{"cpu", "memory"}}
	a := open(t, options, provider.Settings{})
	a.cloud.Faults.Add(faults.Fault{Operation: "DescribePolicies", Skip: 1, Status: http.StatusForbidden, Code: "AccessDenied", Message: "no"})
	a.log.Reset()
	_, err := a.Init(t.Context(), hclog.New(&hclog.LoggerOptions{Output: a.log}), provider.Settings{})
	require.NoError(t, err)
	require.Contains(t, a.log.String(), "allow autoscaling:DescribePolicies")
	require.Contains(t, a.log.String(), "policies=cpu")
}

func TestBadConfigurationsAreNamed(t *testing.T) {
	cloud := aws.New(aws.Options{Machines: &machines.Memory{}, Group: "another", Region: "eu-west-1", AccessKey: "AKIDEXAMPLE", SecretKey: secret})
	server := httptest.NewServer(cloud)
	defer server.Close()
	for name, c := range map[string]struct {
		change func(c *Config)
		says   string
	}{
		"no name":        {func(c *Config) { c.Name = "" }, "plugin_config name: "},
		"another group":  {func(*Config) {}, `plugin_config name: there is no autoscaling group "my-docker-asg"`},
		"no file":        {func(c *Config) { c.CredentialsFile = "/nowhere" }, "plugin_config credentials_file: "},
		"no profile":     {func(c *Config) { c.Profile = "other" }, "plugin_config profile: "},
		"no endpoint":    {func(c *Config) { c.Endpoint = "localhost:80" }, `plugin_config endpoint: "localhost:80" is no address`},
		"another region": {func(c *Config) { c.Region = "us-east-1" }, `credential should be scoped to "eu-west-1"`},
		"wrong secret": {func(c *Config) {
			require.NoError(t, os.WriteFile(c.CredentialsFile, []byte("[default]\naws_access_key_id = AKIDEXAMPLE\naws_secret_access_key = guess\n"), 0o600))
		}, "does not match the signature"},
	} {
		t.Run(name, func(t *testing.T) {
			config := files(t, server.URL, "AKIDEXAMPLE", secret)
			c.change(&config)
			_, err := (&InstanceGroup{Config: config}).Init(t.Context(), hclog.NewNullLogger(), provider.Settings{})
			require.ErrorContains(t, err, c.says)
			require.NotContains(t, err.Error(), secret)
		})
	}
}

func TestTheEndpointOfTheConfigurationWins(t *testing.T) {
	cloud := aws.New(aws.Options{Machines: &machines.Memory{}, Group: groupName, MaxSize: 1, Region: "eu-west-1", AccessKey: "AKIDEXAMPLE", SecretKey: secret})
	server := httptest.NewServer(cloud)
	defer server.Close()
	config := files(t, "http://127.0.0.1:1", "AKIDEXAMPLE", secret)
	config.Endpoint = server.URL
	_, err := (&InstanceGroup{Config: config}).Init(t.Context(), hclog.NewNullLogger(), provider.Settings{})
	require.NoError(t, err)
	require.Equal(t, 1, cloud.Calls("DescribeAutoScalingGroups"))
}

func TestEachPlaceInTheLifeCycleIsAState(t *testing.T) {
	for _, c := range []struct {
		place  types.LifecycleState
		health string
		want   provider.State
	}{
		{types.LifecycleStatePending, "Healthy", provider.StateCreating},
		{types.LifecycleStatePendingWait, "Healthy", provider.StateCreating},
		{types.LifecycleStatePendingProceed, "Healthy", provider.StateCreating},
		{types.LifecycleStateInService, "Healthy", provider.StateRunning},
		{types.LifecycleStateInService, "Unhealthy", provider.StateDeleting},
		{types.LifecycleStateTerminating, "Healthy", provider.StateDeleting},
		{types.LifecycleStateTerminatingWait, "Healthy", provider.StateDeleting},
		{types.LifecycleStateTerminatingProceed, "Healthy", provider.StateDeleting},
		{types.LifecycleStateDetaching, "Healthy", provider.StateDeleting},
		{types.LifecycleStateDetached, "Healthy", provider.StateDeleted},
		{types.LifecycleStateTerminated, "Unhealthy", provider.StateDeleted},
		{types.LifecycleStateStandby, "Healthy", provider.StateCreating},
		{"NotThoughtOfYet", "Healthy", provider.StateCreating},
	} {
		t.Run(string(c.place)+" "+c.health, func(t *testing.T) {
			require.Equal(t, c.want, stateOf(types.Instance{LifecycleState: c.place, HealthStatus: &c.health}))
		})
	}
}

func TestCallsEndWithTheirContext(t *testing.T) {
	a := open(t, aws.Options{}, provider.Settings{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, a.Update(ctx, func(string, provider.State) {}), context.Canceled)
	_, err := a.Increase(ctx, 1)
	require.ErrorIs(t, err, context.Canceled)
}
