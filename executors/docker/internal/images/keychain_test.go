package images

import (
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"gitlab.com/gitlab-org/gitlab-runner/common/spec"
)

// notes is a Log that a test reads.
type notes struct{ lines []string }

func (n *notes) Print(format string, args ...any) { n.add("", format, args) }
func (n *notes) Info(format string, args ...any)  { n.add("info: ", format, args) }
func (n *notes) Warn(format string, args ...any)  { n.add("warning: ", format, args) }

func (n *notes) add(prefix, format string, args []any) {
	n.lines = append(n.lines, prefix+fmt.Sprintf(format, args...))
}

func plain(user string) string {
	return `{"auth":"` + base64.StdEncoding.EncodeToString([]byte(user+":secret")) + `"}`
}

func TestRepositoryPaths(t *testing.T) {
	for image, want := range map[string]string{
		"alpine":                                "docker.io/alpine",
		"alpine:3":                              "docker.io/alpine",
		"library/alpine@sha256:ab":              "docker.io/library/alpine",
		"index.docker.io/library/alpine":        "docker.io/library/alpine",
		"Registry.Example.com/Team/App:1":       "registry.example.com/Team/App",
		"registry.example.com:5000/app:1@sha:x": "registry.example.com:5000/app",
		"localhost/app":                         "localhost/app",
	} {
		require.Equal(t, want, repositoryPath(image), image)
	}
}

func TestRegistryPaths(t *testing.T) {
	for entry, want := range map[string]string{
		"https://index.docker.io/v1/":       "docker.io",
		"https://Registry.example.com/v2/":  "registry.example.com",
		"registry.example.com/Team/App/":    "registry.example.com/Team/App",
		"registry.example.com/team/app:tag": "registry.example.com/team/app",
		"registry.example.com:5000":         "registry.example.com:5000",
		"docker.io":                         "docker.io",
	} {
		require.Equal(t, want, registryPath(entry), entry)
	}
}

func TestTheFirstSourceAndTheLongestPathWin(t *testing.T) {
	home := t.TempDir()
	require.NoError(t, os.MkdirAll(filepath.Join(home, ".docker"), 0o700))
	file := filepath.Join(home, ".docker", "config.json")
	require.NoError(t, os.WriteFile(file, []byte(`{"auths":{
		"both.example.com": `+plain("from-file")+`, "home.example.com": `+plain("home")+`, "empty.example.com": {}}}`), 0o600))
	chain := &Keychain{
		Variable: `{"auths":{"both.example.com": ` + plain("from-variable") + `, "both.example.com/team/app": ` + plain("team") + `}}`,
		Home:     home,
		Payload: []spec.Credential{
			{Type: "registry", URL: "job.example.com:5050", Username: "gitlab-ci-token", Password: "p"},
			{Type: "other", URL: "other.example.com", Username: "x"},
			{Type: "registry", URL: "home.example.com", Username: "loses", Password: "p"},
		},
	}
	for image, want := range map[string][2]string{
		"both.example.com/x:1":            {"from-variable", variableSource},
		"both.example.com/team/app/sub:1": {"team", variableSource},
		"both.example.com/team/other:1":   {"from-variable", variableSource},
		"home.example.com/x":              {"home", file},
		"job.example.com:5050/g/p":        {"gitlab-ci-token", payloadSource},
		"empty.example.com/x":             {"", ""},
		"other.example.com/x":             {"", ""},
		"alpine":                          {"", ""},
	} {
		log := &notes{}
		auth, source, err := chain.Find(t.Context(), log, image)
		require.NoError(t, err)
		require.Empty(t, log.lines)
		require.Equal(t, want[1], source, image)
		if want[0] == "" {
			require.Nil(t, auth, image)
			continue
		}
		require.Equal(t, want[0], auth.Username, image)
	}
}

func TestTheOldFileIsReadWhereThereIsNoNewOne(t *testing.T) {
	home := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(home, ".dockercfg"), []byte(`{"https://index.docker.io/v1/": `+plain("old")+`}`), 0o600))
	auth, source, err := (&Keychain{Home: home}).Find(t.Context(), &notes{}, "alpine")
	require.NoError(t, err)
	require.Equal(t, "old", auth.Username)
	require.Equal(t, filepath.Join(home, ".dockercfg"), source)
}

func TestASourceThatCannotBeUsedIsToldOfAndLeftOut(t *testing.T) {
	for name, variable := range map[string]string{
		"not JSON":  `{"auths": secret`,
		"not a map": `{"auths": "secret"}`,
		"no base64": `{"auths":{"a.example.com":{"auth":"§secret"}}}`,
		"no colon":  `{"auths":{"a.example.com":{"auth":"c2VjcmV0"}}}`,
		"no helper": `{"credsStore":"none-of-that-name"}`,
	} {
		t.Run(name, func(t *testing.T) {
			log := &notes{}
			chain := &Keychain{Variable: variable, Payload: []spec.Credential{{Type: "registry", URL: "a.example.com", Username: "u", Password: "p"}}}
			auth, source, err := chain.Find(t.Context(), log, "a.example.com/x")
			require.NoError(t, err)
			require.Equal(t, payloadSource, source)
			require.Equal(t, "u", auth.Username)
			require.Len(t, log.lines, 1)
			require.Contains(t, log.lines[0], "warning: Failed to resolve credentials from $DOCKER_AUTH_CONFIG: ")
			require.Contains(t, log.lines[0], "Credentials from this source will not be used.")
			require.NotContains(t, log.lines[0], "secret")
		})
	}
}

// installHelper puts a credential helper into the search path.
func installHelper(t *testing.T, name, script string) {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Skip("the helper of this test is a shell script")
	}
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, helperPrefix+name), []byte("#!/bin/sh\n"+script), 0o700))
	t.Setenv("PATH", dir+string(os.PathListSeparator)+os.Getenv("PATH"))
}

const helperScript = `case $1 in
list) echo '{"https://store.example.com/v1/":"a","plain.example.com":"b"}' ;;
get)
	read -r server
	case $server in
	*token*) echo '{"Username":"<token>","Secret":"identity"}' ;;
	*broken*) echo "locked"; exit 1 ;;
	*) echo "{\"Username\":\"helped\",\"Secret\":\"for $server\"}" ;;
	esac ;;
esac
`

func TestCredentialHelpersWinOverPlainEntries(t *testing.T) {
	installHelper(t, "test", helperScript)
	chain := &Keychain{Variable: `{
		"auths": {"plain.example.com": ` + plain("plain") + `, "other.example.com": ` + plain("other") + `},
		"credsStore": "test",
		"credHelpers": {"token.example.com": "test"}}`}
	log := &notes{}
	for image, want := range map[string]string{
		"store.example.com/x": "for https://store.example.com/v1/",
		"plain.example.com/x": "for plain.example.com",
		"other.example.com/x": "secret",
	} {
		auth, _, err := chain.Find(t.Context(), log, image)
		require.NoError(t, err)
		require.Equal(t, want, auth.Password, image)
	}
	auth, _, err := chain.Find(t.Context(), log, "token.example.com/x")
	require.NoError(t, err)
	require.Equal(t, "identity", auth.IdentityToken)
	require.Empty(t, log.lines)
}

func TestAHelperThatFailsDropsItsSource(t *testing.T) {
	installHelper(t, "test", helperScript)
	log := &notes{}
	chain := &Keychain{
		Variable: `{"credHelpers": {"broken.example.com": "test"}}`,
		Payload:  []spec.Credential{{Type: "registry", URL: "broken.example.com", Username: "u", Password: "p"}},
	}
	auth, _, err := chain.Find(t.Context(), log, "broken.example.com/x")
	require.NoError(t, err)
	require.Equal(t, "u", auth.Username)
	require.Len(t, log.lines, 1)
}

func TestAHelperOutsideTheSearchPathIsRefused(t *testing.T) {
	for _, variable := range []string{`{"credsStore": "../evil"}`, `{"credHelpers": {"a.example.com": "x/evil"}}`, `{"credsStore": "..\\evil"}`} {
		_, _, err := (&Keychain{Variable: variable}).Find(t.Context(), &notes{}, "a.example.com/x")
		require.ErrorContains(t, err, "path traversal is not allowed")
	}
}

func FuzzCredentialsOfAnyTextAreHarmless(f *testing.F) {
	f.Add(`{"auths":{"a/b:c":{"auth":"YTpi"}}}`)
	f.Add(`{"auths":{"https://[":{"username":"u"}}}`)
	f.Fuzz(func(t *testing.T, text string) {
		config, err := parseConfig([]byte(text))
		if err != nil {
			return
		}
		config.CredsStore = ""
		_, _ = config.entries(t.Context())
		_ = repositoryPath(text)
	})
}
