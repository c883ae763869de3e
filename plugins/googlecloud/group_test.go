package googlecloud

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/require"
	"gitlab.com/gitlab-org/fleeting/fleeting/provider"
	"go.uber.org/goleak"
	"google.golang.org/api/compute/v1"

	"gitlab.com/gitlab-org/gitlab-runner/plugins/simulator/faults"
	"gitlab.com/gitlab-org/gitlab-runner/plugins/simulator/googlecloud"
	"gitlab.com/gitlab-org/gitlab-runner/plugins/simulator/machines"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

// project is a simulated project and the plugin at work on it through the real SDK.
type project struct {
	*InstanceGroup
	t        *testing.T
	cloud    *googlecloud.Cloud
	machines *machines.Memory
	info     provider.ProviderInfo
	log      *bytes.Buffer
}

// start serves a simulated project and returns a configuration for it.
func start(t *testing.T, o googlecloud.Options) (*googlecloud.Cloud, Config) {
	t.Helper()
	var cloud *googlecloud.Cloud
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { cloud.ServeHTTP(w, r) }))
	t.Cleanup(server.Close)
	o.Project, o.Group, o.Address = "my-gcp-project", "my-group", server.URL
	if o.Location == "" {
		o.Location = "europe-west1-b"
	}
	if o.Machines == nil {
		o.Machines = &machines.Memory{}
	}
	var err error
	cloud, err = googlecloud.New(o)
	require.NoError(t, err)
	credentials, err := cloud.Credentials()
	require.NoError(t, err)
	file := filepath.Join(t.TempDir(), "credentials.json")
	require.NoError(t, os.WriteFile(file, credentials, 0o600))
	return cloud, Config{Name: o.Group, Project: o.Project, Zone: o.Location, CredentialsFile: file, Endpoint: server.URL}
}

func openProject(t *testing.T, o googlecloud.Options, settings provider.Settings) *project {
	t.Helper()
	p := &project{t: t, machines: &machines.Memory{}, log: &bytes.Buffer{}}
	o.Machines = p.machines
	cloud, config := start(t, o)
	p.cloud, p.InstanceGroup = cloud, &InstanceGroup{Config: config}
	var err error
	p.info, err = p.Init(t.Context(), hclog.New(&hclog.LoggerOptions{Output: p.log}), settings)
	require.NoError(t, err)
	return p
}

func (p *project) list() map[string]provider.State {
	p.t.Helper()
	found := map[string]provider.State{}
	require.NoError(p.t, p.Update(p.t.Context(), func(id string, state provider.State) { found[id] = state }))
	return found
}

// grow makes instances and returns their names.
func (p *project) grow(n int) []string {
	p.t.Helper()
	made, err := p.Increase(p.t.Context(), n)
	require.NoError(p.t, err)
	require.Equal(p.t, n, made)
	p.list()
	var names []string
	for name, state := range p.list() {
		require.Equal(p.t, provider.StateRunning, state)
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func TestInstancesComeAndGoByTheirNames(t *testing.T) {
	for _, location := range []string{"europe-west1-b", "europe-west1"} {
		t.Run(location, func(t *testing.T) {
			p := openProject(t, googlecloud.Options{Location: location}, provider.Settings{})
			require.Equal(t, "google/my-gcp-project/"+location+"/my-group", p.info.ID)
			require.Empty(t, p.list())
			names := p.grow(3)
			require.Len(t, names, 3)
			require.True(t, strings.HasPrefix(names[0], "my-group-"))

			gone, err := p.Decrease(t.Context(), names[:2])
			require.NoError(t, err)
			require.Equal(t, names[:2], gone)
			require.Equal(t, 1, p.cloud.Calls("deleteInstances"))
			require.Equal(t, map[string]provider.State{names[2]: provider.StateRunning}, p.list())

			gone, err = p.Decrease(t.Context(), []string{names[0]})
			require.NoError(t, err, "an instance that is gone already needs no deletion")
			require.Equal(t, names[:1], gone)
			require.NoError(t, p.Shutdown(t.Context()))
		})
	}
}

func TestAccessIsAskedForOnceByASignedAssertion(t *testing.T) {
	p := openProject(t, googlecloud.Options{}, provider.Settings{})
	p.grow(1)
	require.Equal(t, 1, p.cloud.Calls("token"))
}

func TestAnUpdateIsOneCallForEachPage(t *testing.T) {
	p := openProject(t, googlecloud.Options{}, provider.Settings{})
	p.grow(1200)
	before := p.cloud.Calls("listManagedInstances")
	require.Len(t, p.list(), 1200)
	require.Equal(t, before+3, p.cloud.Calls("listManagedInstances"))
	require.Zero(t, p.cloud.Calls("getInstance"))
}

func TestThrottlingLosesNoInstance(t *testing.T) {
	p := openProject(t, googlecloud.Options{PageSize: 2}, provider.Settings{})
	p.grow(5)
	for _, fault := range []faults.Fault{
		{Status: http.StatusForbidden, Code: "rateLimitExceeded", Message: "Rate Limit Exceeded"},
		{Status: http.StatusTooManyRequests, Code: "rateLimitExceeded", Message: "Rate Limit Exceeded", Skip: 1},
	} {
		fault.Operation = "listManagedInstances"
		p.cloud.Faults.Add(fault)
		told := 0
		err := p.Update(t.Context(), func(string, provider.State) { told++ })
		require.ErrorContains(t, err, "Rate Limit Exceeded")
		require.Zero(t, told, "a snapshot is whole or an error")
	}
	require.Len(t, p.list(), 5)
}

func TestWhatGoogleDoesNotSayIsHeldAgainstNoInstance(t *testing.T) {
	p := openProject(t, googlecloud.Options{}, provider.Settings{})
	name := p.grow(1)[0]
	limit := faults.Fault{Status: http.StatusForbidden, Code: "rateLimitExceeded", Message: "Rate Limit Exceeded"}
	limit.Operation = "getInstance"
	p.cloud.Faults.Add(limit)
	require.NoError(t, p.Heartbeat(t.Context(), name))
	require.Contains(t, p.log.String(), "Rate Limit Exceeded")
	limit.Operation = "listManagedInstances"
	p.cloud.Faults.Add(limit)
	require.NoError(t, p.Heartbeat(t.Context(), "not-listed-yet"))
	require.ErrorIs(t, p.Heartbeat(t.Context(), "nobody"), provider.ErrInstanceUnhealthy)
}

func TestARequestWhoseAnswerIsLostIsNotMadeTwice(t *testing.T) {
	for _, lost := range []int{1, 2} {
		p := openProject(t, googlecloud.Options{}, provider.Settings{})
		p.cloud.Faults.Add(faults.Fault{Operation: "createInstances", Times: lost, Lost: true})
		made, err := p.Increase(t.Context(), 3)
		require.NoError(t, err)
		require.Equal(t, 3, made)
		require.Len(t, p.list(), 3)
	}
}

func TestARefusalAfterALostAnswerDoesNotHideWhatWasMade(t *testing.T) {
	p := openProject(t, googlecloud.Options{}, provider.Settings{})
	p.cloud.Faults.Add(faults.Fault{Operation: "createInstances", Lost: true})
	p.cloud.Faults.Add(faults.Fault{Operation: "createInstances", Status: http.StatusTooManyRequests, Code: "rateLimitExceeded", Message: "Rate Limit Exceeded"})
	made, err := p.Increase(t.Context(), 3)
	require.NoError(t, err)
	require.Equal(t, 3, made)
	require.Equal(t, 1, p.cloud.Calls("createInstances"), "the second was refused")
	require.Len(t, p.list(), 3)
}

func TestMoreThanOneRequestMayNameIsAskedForInSeveral(t *testing.T) {
	p := openProject(t, googlecloud.Options{}, provider.Settings{})
	p.cloud.Faults.Add(faults.Fault{Operation: "createInstances", Skip: 1, Status: http.StatusForbidden, Code: "quotaExceeded", Message: "Quota 'CPUS' exceeded"})
	made, err := p.Increase(t.Context(), createBatch+5)
	require.ErrorContains(t, err, "Quota 'CPUS' exceeded")
	require.Equal(t, createBatch, made, "what was made before the refusal counts")

	p = openProject(t, googlecloud.Options{}, provider.Settings{})
	names := p.grow(createBatch + 5)
	p.cloud.Faults.Add(faults.Fault{Operation: "deleteInstances", Skip: 1, Status: http.StatusInternalServerError, Code: "backendError", Message: "try again"})
	gone, err := p.Decrease(t.Context(), names)
	require.ErrorContains(t, err, "try again")
	require.Equal(t, names[:deleteBatch], gone, "the first request was carried out")
	gone, err = p.Decrease(t.Context(), names[deleteBatch:])
	require.NoError(t, err)
	require.Equal(t, names[deleteBatch:], gone)
	p.list()
	require.Empty(t, p.list())
}

func TestARefusalIsNotRepeated(t *testing.T) {
	p := openProject(t, googlecloud.Options{}, provider.Settings{})
	p.cloud.Faults.Add(faults.Fault{Operation: "createInstances", Status: http.StatusForbidden, Code: "quotaExceeded", Message: "Quota 'CPUS' exceeded"})
	made, err := p.Increase(t.Context(), 3)
	require.Zero(t, made)
	require.ErrorContains(t, err, "Quota 'CPUS' exceeded")
	require.Empty(t, p.list())
}

func TestInstancesMayAppearLate(t *testing.T) {
	p := openProject(t, googlecloud.Options{}, provider.Settings{})
	p.cloud.HideNew(2)
	_, err := p.Increase(t.Context(), 1)
	require.NoError(t, err)
	require.Empty(t, p.list())
	require.Empty(t, p.list())
	require.Len(t, p.list(), 1)
}

func TestWithoutStockTheOperatorIsToldOnceAndTheInstancesComeLater(t *testing.T) {
	p := openProject(t, googlecloud.Options{}, provider.Settings{})
	p.cloud.SetStock(0)
	_, err := p.Increase(t.Context(), 1)
	require.NoError(t, err)
	for range 3 {
		for _, state := range p.list() {
			require.Equal(t, provider.StateCreating, state)
		}
	}
	require.Equal(t, 1, strings.Count(p.log.String(), "ZONE_RESOURCE_POOL_EXHAUSTED"))
	p.cloud.SetStock(-1)
	p.list()
	for _, state := range p.list() {
		require.Equal(t, provider.StateRunning, state)
	}
}

func TestAKilledInstanceIsNotedAndItsDeletionSomethingOfItsOwn(t *testing.T) {
	p := openProject(t, googlecloud.Options{}, provider.Settings{})
	names := p.grow(2)
	require.NoError(t, p.Heartbeat(t.Context(), names[0]))
	require.NoError(t, p.cloud.Kill(t.Context(), names[0]))
	require.Equal(t, map[string]provider.State{names[0]: provider.StateCreating, names[1]: provider.StateRunning}, p.list(),
		"the group makes it anew under its name")
	p.cloud.Faults.Add(faults.Fault{Operation: "deleteInstances", Status: http.StatusInternalServerError, Code: "backendError", Message: "try again"})
	gone, err := p.Decrease(t.Context(), names)
	require.ErrorContains(t, err, "try again")
	require.Empty(t, gone)
	gone, err = p.Decrease(t.Context(), names)
	require.NoError(t, err)
	require.Equal(t, names, gone)
	require.ErrorIs(t, p.Heartbeat(t.Context(), "my-group-0"), provider.ErrInstanceUnhealthy)
}

func TestTheRunnerIsLetInByAKeyInTheMetadata(t *testing.T) {
	p := openProject(t, googlecloud.Options{}, provider.Settings{ConnectorConfig: provider.ConnectorConfig{Username: "me", Timeout: time.Minute}})
	name := p.grow(1)[0]
	p.cloud.Meddle(2)
	info, err := p.ConnectInfo(t.Context(), name)
	require.NoError(t, err)
	require.Equal(t, "linux", info.OS)
	require.Equal(t, "amd64", info.Arch)
	require.Equal(t, provider.ProtocolSSH, info.Protocol)
	require.Equal(t, "me", info.Username)
	require.NotEmpty(t, info.ExternalAddr)
	require.Equal(t, []string{p.key.Public}, p.machines.Keys("machine-00001", "me"))
	require.Equal(t, 3, p.cloud.Calls("setMetadata"), "twice somebody else was faster")

	_, err = p.ConnectInfo(t.Context(), name)
	require.NoError(t, err)
	require.Equal(t, 3, p.cloud.Calls("setMetadata"), "the instance knows the key")
	p.now = func() time.Time { return time.Now().Add(keyLife) }
	_, err = p.ConnectInfo(t.Context(), name)
	require.NoError(t, err)
	require.Equal(t, 4, p.cloud.Calls("setMetadata"), "the key was about to end")

	p.cloud.Meddle(metadataTries)
	p.let = map[string]admission{}
	_, err = p.ConnectInfo(t.Context(), name)
	require.ErrorContains(t, err, "somebody else keeps changing them")
	_, err = p.ConnectInfo(t.Context(), "my-group-0")
	require.ErrorContains(t, err, `no instance "my-group-0"`)
}

func TestAMachineMadeAnewUnderItsNameIsGivenTheKeyToo(t *testing.T) {
	p := openProject(t, googlecloud.Options{}, provider.Settings{})
	name := p.grow(1)[0]
	_, err := p.ConnectInfo(t.Context(), name)
	require.NoError(t, err)
	require.NoError(t, p.cloud.Kill(t.Context(), name))
	for p.list()[name] != provider.StateRunning {
		require.NoError(t, t.Context().Err())
	}
	_, err = p.ConnectInfo(t.Context(), name)
	require.NoError(t, err)
	require.Equal(t, []string{p.key.Public}, p.machines.Keys("machine-00002", defaultUser))
}

func TestKeysOfOthersStay(t *testing.T) {
	p := openProject(t, googlecloud.Options{}, provider.Settings{})
	line, err := keyLine("me", p.key.Public, time.Unix(0, 0))
	require.NoError(t, err)
	require.True(t, strings.HasSuffix(line, ` google-ssh {"expireOn":"1970-01-01T00:00:00+0000","userName":"me"}`))
	once := withKey(nil, "me", p.key.Public, line)
	*once[0].Value = "you:ssh-rsa AAAA you\n" + *once[0].Value
	twice := withKey(once, "me", p.key.Public, line)
	require.Len(t, twice, 1)
	require.Equal(t, "you:ssh-rsa AAAA you\n"+line, *twice[0].Value)
}

func TestWindowsIsEnteredByThePasswordItMakes(t *testing.T) {
	p := openProject(t, googlecloud.Options{Windows: true}, provider.Settings{})
	info, err := p.ConnectInfo(t.Context(), p.grow(1)[0])
	require.NoError(t, err)
	require.Equal(t, "windows", info.OS)
	require.Equal(t, provider.ProtocolWinRMHttps, info.Protocol)
	require.Equal(t, googlecloud.WindowsPassword, info.Password)
}

func TestTheAnswerOfTheAgentIsFoundOnTheSerialPort(t *testing.T) {
	const mine = `{"modulus": "M", "passwordFound": true, "encryptedPassword": "E"}` + "\n"
	for name, c := range map[string]struct {
		text, encrypted, says string
		whole                 int
	}{
		"nothing yet":           {},
		"noise of the start":    {text: "booting\n{\n", whole: len("booting\n{\n")},
		"another's":             {text: strings.Replace(mine, `"M"`, `"N"`, 1), whole: len(mine)},
		"mine":                  {text: "{}\n" + mine + "{", encrypted: "E", whole: len("{}\n" + mine)},
		"mine, not whole yet":   {text: "{}\n" + mine[:len(mine)-1], whole: len("{}\n")},
		"the agent cannot":      {text: `{"modulus": "M", "errorMessage": "no such policy"}` + "\n", whole: 51, says: "no such policy"},
		"line ends of Windows":  {text: strings.Replace(mine, "\n", "\r\n", 1), encrypted: "E", whole: len(mine) + 1},
		"mine after another's":  {text: strings.Replace(mine, `"M"`, `"N"`, 1) + mine, encrypted: "E", whole: 2 * len(mine)},
		"no line of any length": {text: strings.Repeat("x", 1<<20)},
	} {
		t.Run(name, func(t *testing.T) {
			answer, whole, err := findAnswer(c.text, "M")
			if c.says == "" {
				require.NoError(t, err)
			} else {
				require.ErrorContains(t, err, c.says)
			}
			require.Equal(t, c.encrypted, answer.EncryptedPassword)
			require.Equal(t, c.whole, whole)
		})
	}
}

func FuzzTheSerialPort(f *testing.F) {
	f.Add(`{"modulus": "M", "passwordFound": true}`+"\n{", "M")
	f.Add("booting\n", "")
	f.Fuzz(func(t *testing.T, text, modulus string) {
		answer, whole, err := findAnswer(text, modulus)
		require.True(t, whole >= 0 && whole <= len(text))
		require.NotContains(t, text[whole:], "\n")
		if answer.PasswordFound {
			require.NoError(t, err)
			require.Equal(t, modulus, answer.Modulus)
		}
	})
}

func TestStaticCredentialsAreLeftAlone(t *testing.T) {
	p := openProject(t, googlecloud.Options{}, provider.Settings{ConnectorConfig: provider.ConnectorConfig{
		UseStaticCredentials: true, Username: "me", Password: "mine",
	}})
	info, err := p.ConnectInfo(t.Context(), p.grow(1)[0])
	require.NoError(t, err)
	require.Equal(t, "mine", info.Password)
	require.Empty(t, info.Key)
	require.Zero(t, p.cloud.Calls("setMetadata"))
}

func TestSettingsThatHurtAreNamedWithTheirRemedy(t *testing.T) {
	require.NotContains(t, openProject(t, googlecloud.Options{Autoscaler: "OFF"}, provider.Settings{}).log.String(), "WARN")
	loud := openProject(t, googlecloud.Options{Autoscaler: "ON", Autohealing: true, Proactive: true}, provider.Settings{})
	for _, remedy := range []string{"delete it or set its mode to off", "mode=ON", "remove the autohealing policy", "opportunistic"} {
		require.Contains(t, loud.log.String(), remedy)
	}
	require.Empty(t, findings(&compute.InstanceGroupManager{TargetSize: maxSize - 1}))
	full := findings(&compute.InstanceGroupManager{TargetSize: maxSize})
	require.Len(t, full, 1)
	require.Contains(t, full[0], "no room for more")
}

func TestBadConfigurationsAreNamed(t *testing.T) {
	_, good := start(t, googlecloud.Options{})
	other := filepath.Join(t.TempDir(), "other.json")
	require.NoError(t, os.WriteFile(other, []byte("{}"), 0o600))
	_, foreign := start(t, googlecloud.Options{})
	for name, c := range map[string]struct {
		change func(c *Config)
		says   string
	}{
		"no name":        {func(c *Config) { c.Name = "" }, "plugin_config name: "},
		"no project":     {func(c *Config) { c.Project = "" }, "plugin_config project: "},
		"no zone":        {func(c *Config) { c.Zone = "europe" }, `plugin_config zone: "europe" is neither`},
		"another group":  {func(c *Config) { c.Name = "other" }, `plugin_config name: there is no managed instance group "other"`},
		"no file":        {func(c *Config) { c.CredentialsFile = "/nowhere" }, "plugin_config credentials_file: "},
		"no credentials": {func(c *Config) { c.CredentialsFile = other }, "is no file of Google's credentials"},
		"a stranger's rights": {func(c *Config) {
			text, err := os.ReadFile(good.CredentialsFile)
			require.NoError(t, err)
			stranger := filepath.Join(t.TempDir(), "stranger.json")
			require.NoError(t, os.WriteFile(stranger, bytes.ReplaceAll(text, []byte(good.Endpoint), []byte(foreign.Endpoint)), 0o600))
			c.CredentialsFile = stranger
		}, "invalid"},
	} {
		t.Run(name, func(t *testing.T) {
			config := good
			c.change(&config)
			_, err := (&InstanceGroup{Config: config}).Init(t.Context(), hclog.NewNullLogger(), provider.Settings{})
			require.ErrorContains(t, err, c.says)
			require.NotContains(t, err.Error(), "PRIVATE KEY")
		})
	}
}
