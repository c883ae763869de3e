package example_test

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"gitlab.com/gitlab-org/fleeting/fleeting/provider"
	"gitlab.com/gitlab-org/gitlab-runner/plugins/example"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newGroup(t *testing.T) (*example.InstanceGroup, *fakeCloud) {
	t.Helper()
	cloud := newCloud(t)
	server := httptest.NewServer(cloud)
	t.Cleanup(func() {
		server.Close()
		http.DefaultClient.CloseIdleConnections()
	})
	token := filepath.Join(t.TempDir(), "token")
	require.NoError(t, os.WriteFile(token, []byte(cloudToken), 0o600))
	return &example.InstanceGroup{Endpoint: server.URL, Name: "builders", TokenFile: token, MaxSize: 5}, cloud
}

func TestInitNamesTheKeyThatIsWrong(t *testing.T) {
	for key, change := range map[string]func(*example.InstanceGroup){
		"endpoint":   func(g *example.InstanceGroup) { g.Endpoint = "" },
		"name":       func(g *example.InstanceGroup) { g.Name = "" },
		"token_file": func(g *example.InstanceGroup) { g.TokenFile = "/no/such/file" },
		`"others"`:   func(g *example.InstanceGroup) { g.Name = "others" },
	} {
		g, _ := newGroup(t)
		change(g)
		_, err := g.Init(t.Context(), hclog.NewNullLogger(), provider.Settings{})
		require.ErrorContains(t, err, key)
	}
}

func TestAGroupKeepsTheContract(t *testing.T) {
	g, cloud := newGroup(t)
	info, err := g.Init(t.Context(), hclog.NewNullLogger(), provider.Settings{ConnectorConfig: provider.ConnectorConfig{Username: "operator"}})
	require.NoError(t, err)
	require.Equal(t, provider.ProviderInfo{ID: "example/builders", MaxSize: 5}, info)
	n, err := g.Increase(t.Context(), 2)
	require.NoError(t, err)
	require.Equal(t, 2, n)

	list := func() map[string]provider.State {
		states := map[string]provider.State{}
		require.NoError(t, g.Update(t.Context(), func(id string, s provider.State) { states[id] = s }))
		return states
	}
	require.Equal(t, map[string]provider.State{"machine-1": provider.StateCreating, "machine-2": provider.StateCreating}, list())
	require.Equal(t, map[string]provider.State{"machine-1": provider.StateRunning, "machine-2": provider.StateRunning}, list())
	require.NoError(t, g.Heartbeat(t.Context(), "machine-1"))
	connect, err := g.ConnectInfo(t.Context(), "machine-1")
	require.NoError(t, err)
	require.Equal(t, "operator", connect.Username, "the operator's settings win")
	require.Equal(t, password, connect.Password)

	deleted, err := g.Decrease(t.Context(), []string{"machine-1", "gone-already"})
	require.NoError(t, err)
	require.Equal(t, []string{"machine-1", "gone-already"}, deleted)
	require.ErrorIs(t, g.Heartbeat(t.Context(), "machine-1"), provider.ErrInstanceUnhealthy)
	require.Equal(t, map[string]provider.State{"machine-1": provider.StateDeleting, "machine-2": provider.StateRunning}, list())

	cloud.fail = http.StatusTooManyRequests
	require.NoError(t, g.Heartbeat(t.Context(), "machine-2"), "it is not the machine that is throttled")
	require.ErrorContains(t, g.Update(t.Context(), func(string, provider.State) { t.Error("half a list") }), "429")
	n, err = g.Increase(t.Context(), 1)
	require.Error(t, err)
	require.Zero(t, n)
	deleted, err = g.Decrease(t.Context(), []string{"machine-2"})
	require.Error(t, err)
	require.Empty(t, deleted)
	require.NoError(t, g.Shutdown(t.Context()))
}

var quoted = regexp.MustCompile("(?s)<!-- (plugins/[^ ]+) -->\n```go\n(.*?)```\n")

func TestTheGuideShowsThisCode(t *testing.T) {
	root := filepath.Join("..", "..")
	guide, err := os.ReadFile(filepath.Join(root, "docs", "write-a-plugin.md"))
	require.NoError(t, err)
	shown := map[string]int{}
	for _, block := range quoted.FindAllSubmatch(guide, -1) {
		code, err := os.ReadFile(filepath.Join(root, string(block[1])))
		require.NoError(t, err)
		require.Contains(t, string(code), string(block[2]), "the guide's code of %s", block[1])
		shown[string(block[1])]++
	}
	require.Len(t, shown, 3)
	require.Len(t, quoted.FindAll(guide, -1), len(regexp.MustCompile("(?m)^```go$").FindAll(guide, -1)), "all code in the guide is from here")
}
