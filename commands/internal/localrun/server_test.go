package localrun

import (
	"bytes"
	"compress/gzip"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sirupsen/logrus"
	"github.com/stretchr/testify/require"

	"gitlab.com/gitlab-org/gitlab-runner/common"
	"gitlab.com/gitlab-org/gitlab-runner/common/plan"
	"gitlab.com/gitlab-org/gitlab-runner/helpers/relay"
	"gitlab.com/gitlab-org/gitlab-runner/helpers/version"
	"gitlab.com/gitlab-org/gitlab-runner/network"
)

const testToken = "exec-token"

func serve(t *testing.T, tree *Tree) (*server, *httptest.Server) {
	t.Helper()
	log := logrus.New()
	log.SetOutput(io.Discard)
	s := newServer(tree, t.TempDir(), testToken, log)
	web := httptest.NewServer(s.handler())
	t.Cleanup(web.Close)
	return s, web
}

func TestWorkingTreeIsFetchedWithTheTokenOnly(t *testing.T) {
	dir := newRepository(t)
	write(t, filepath.Join(dir, "new"), "new\n")
	tree := openTree(t, dir)
	_, web := serve(t, tree)
	clone := filepath.Join(t.TempDir(), "clone")
	address := strings.Replace(web.URL, "http://", "http://"+gitUser+":"+testToken+"@", 1) + "/" + tree.Project + ".git"
	for _, protocol := range []string{"0", "2"} {
		git(t, dir, "-c", "protocol.version="+protocol, "clone", "--quiet", "--depth=1", address, clone+protocol)
		require.Equal(t, tree.Sha, git(t, clone+protocol, "rev-parse", "HEAD"))
	}
	for path, status := range map[string]int{
		"/" + tree.Project + ".git/info/refs?service=git-upload-pack": http.StatusUnauthorized,
		"/other/project.git/info/refs?service=git-upload-pack":        http.StatusNotFound,
		"/" + tree.Project + ".git/HEAD":                              http.StatusNotFound,
		"/api/v4/jobs/1/artifacts":                                    http.StatusForbidden,
	} {
		answer, err := http.Get(web.URL + path)
		require.NoError(t, err)
		require.NoError(t, answer.Body.Close())
		require.Equal(t, status, answer.StatusCode, path)
	}
	request, err := http.NewRequest(http.MethodGet, web.URL+"/"+tree.Project+".git/info/refs?service=git-receive-pack", nil)
	require.NoError(t, err)
	request.SetBasicAuth(gitUser, testToken)
	answer, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	require.NoError(t, answer.Body.Close())
	require.Equal(t, http.StatusForbidden, answer.StatusCode)
	http.DefaultClient.CloseIdleConnections()
}

// TestArtifactsGoInAndOut uses the runner's own client, as the helper does.
func TestArtifactsGoInAndOut(t *testing.T) {
	s, web := serve(t, openTree(t, newRepository(t)))
	log := logrus.New()
	log.SetOutput(io.Discard)
	client := network.New(network.Options{Version: version.Get(), Logger: log})
	defer client.Close()
	upload := func(kind string, content []byte) network.UploadState {
		result, _ := client.UploadArtifacts(t.Context(), network.JobCredentials{ID: 5, Token: testToken, URL: web.URL}, network.ArtifactUpload{
			BaseName: "x.zip", Type: kind, Open: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content)), nil },
		})
		return result
	}
	require.Equal(t, network.UploadSucceeded, upload("archive", []byte("the archive")))
	var packed bytes.Buffer
	zipper := gzip.NewWriter(&packed)
	_, err := zipper.Write([]byte("A=1\n\nB=\"two words\"\r\nC='x'\n"))
	require.NoError(t, err)
	require.NoError(t, zipper.Close())
	require.Equal(t, network.UploadSucceeded, upload("dotenv", packed.Bytes()))

	kept, ok := s.artifact(5, "archive")
	require.True(t, ok)
	require.EqualValues(t, len("the archive"), kept.size)
	request, err := http.NewRequest(http.MethodGet, web.URL+"/api/v4/jobs/5/artifacts", nil)
	require.NoError(t, err)
	request.Header.Set("JOB-TOKEN", testToken)
	answer, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	defer http.DefaultClient.CloseIdleConnections()
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	require.NoError(t, err)
	require.Equal(t, "the archive", string(body))

	s.limit = 5
	require.Equal(t, network.UploadTooLarge, upload("archive", []byte("too large")))
	left, err := os.ReadDir(s.dir)
	require.NoError(t, err)
	require.Len(t, left, 2, "what was refused is not kept")

	list, err := s.dotenv(5)
	require.NoError(t, err)
	require.Len(t, list, 3)
	require.Equal(t, "two words", list[1].Value)
	list, err = s.dotenv(6)
	require.NoError(t, err)
	require.Empty(t, list)
}

func TestDotenvReportsAreBounded(t *testing.T) {
	for text, message := range map[string]string{
		"no assignment":                  "is not of the form KEY=value",
		"1A=x":                           "is not of the form KEY=value",
		strings.Repeat("A=x\n", 200):     "more than 150 variables",
		"A=" + strings.Repeat("x", 6000): "larger than 5 KiB",
	} {
		_, err := readDotenv(strings.NewReader(text))
		require.ErrorContains(t, err, message)
	}
}

func FuzzDotenvIsReadOrRefused(f *testing.F) {
	f.Add("A=1\nB='x'\n")
	f.Fuzz(func(t *testing.T, text string) {
		list, err := readDotenv(strings.NewReader(text))
		require.True(t, err == nil || list == nil)
		for _, v := range list {
			require.Regexp(t, dotenvKey, v.Key)
		}
	})
}

// helperStandIn is an executor whose helper asks the server one thing.
type helperStandIn struct {
	common.Executor
	t     *testing.T
	stage common.Stage
}

func (e *helperStandIn) Run(ctx context.Context, stage common.Stage) error {
	e.stage = stage
	if stage.Input == nil {
		return nil
	}
	defer stage.Input.Close()
	listen, err := relay.Listen(ctx, "127.0.0.1:0", stream{Reader: stage.Input, Writer: stage.Stdout, ends: []io.Closer{stage.Input}})
	require.NoError(e.t, err)
	answer, err := http.Get("http://" + listen.Address() + "/hello")
	require.NoError(e.t, err)
	body, err := io.ReadAll(answer.Body)
	require.NoError(e.t, err)
	require.NoError(e.t, answer.Body.Close())
	http.DefaultClient.CloseIdleConnections()
	_, err = stage.Stderr.Write(body)
	require.NoError(e.t, err)
	return listen.Close()
}

type slotOf struct {
	common.Slot
	executor common.Executor
}

func (s slotOf) NewExecutor(*common.Job) common.Executor { return s.executor }

func TestOnlyStagesThatAskTheServerAreLinked(t *testing.T) {
	inner := &helperStandIn{t: t}
	address := net.JoinHostPort("127.0.0.1", "1234")
	slot := linkedSlot{Slot: slotOf{executor: inner}, address: address, server: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "answer to "+r.URL.Path)
	})}
	executor := slot.NewExecutor(nil)
	var out, errs bytes.Buffer
	require.NoError(t, executor.Run(t.Context(), common.Stage{
		Where: common.InHelper, Plan: &plan.Plan{Sources: &plan.Sources{}}, Stdout: &out, Stderr: &errs,
	}))
	require.Equal(t, "answer to /hello", errs.String())
	require.Equal(t, address, inner.stage.Plan.Relay)
	for _, stage := range []common.Stage{
		{Where: common.InBuild, Script: "x"},
		{Where: common.InHelper, Plan: &plan.Plan{RestoreCaches: []plan.CacheRestore{{}}}},
		{Where: common.InHelper, Plan: &plan.Plan{Cleanup: &plan.Cleanup{}}},
	} {
		require.NoError(t, executor.Run(t.Context(), stage))
		require.Nil(t, inner.stage.Input)
	}
}
