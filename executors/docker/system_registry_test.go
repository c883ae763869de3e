//go:build system

package docker

import (
	"encoding/base64"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"gitlab.com/gitlab-org/gitlab-runner/common"
	"gitlab.com/gitlab-org/gitlab-runner/common/config"
	"gitlab.com/gitlab-org/gitlab-runner/common/plan"
	"gitlab.com/gitlab-org/gitlab-runner/common/spec"
	"gitlab.com/gitlab-org/gitlab-runner/tests/rig"
)

// privateRegistry is a real registry behind a password, with a proxy in front of it that counts and
// delays requests for manifests.
type privateRegistry struct {
	store *rig.PrivateRegistry
	// host is the proxy's.
	host      string
	delay     atomic.Int64
	manifests atomic.Int64
}

func startRegistry(t *testing.T) *privateRegistry {
	t.Helper()
	store, err := rig.StartPrivateRegistry(t.Context(), t.TempDir())
	require.NoError(t, err)
	t.Cleanup(store.Close)
	r := &privateRegistry{store: store}
	target := &url.URL{Scheme: "http", Host: store.Host}
	forward := &httputil.ReverseProxy{
		ErrorLog: log.New(io.Discard, "", 0),
		Rewrite: func(request *httputil.ProxyRequest) {
			request.SetURL(target)
			request.Out.Host = request.In.Host
		},
	}
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		if request.Method != http.MethodPut && strings.Contains(request.URL.Path, "/manifests/") {
			if _, _, ok := request.BasicAuth(); ok {
				r.manifests.Add(1)
			}
			select {
			case <-time.After(time.Duration(r.delay.Load())):
			case <-request.Context().Done():
			}
		}
		forward.ServeHTTP(w, request)
	}))
	t.Cleanup(proxy.Close)
	r.host = strings.TrimPrefix(proxy.URL, "http://")
	return r
}

func (r *privateRegistry) auths() string {
	auth := base64.StdEncoding.EncodeToString([]byte(r.store.Username + ":" + r.store.Password))
	return fmt.Sprintf(`{"auths":{%q:{"auth":%q}}}`, r.host, auth)
}

// credentials are those of a job that knows a password.
func (r *privateRegistry) credentials(password string) []spec.Credential {
	return []spec.Credential{{Type: "registry", URL: r.host, Username: r.store.Username, Password: password}}
}

// push puts a local image into the registry and returns its name there.
func (r *privateRegistry) push(t *testing.T, image, as string) string {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "config.json"), []byte(r.auths()), 0o600))
	name := r.host + "/" + as
	for _, args := range [][]string{{"tag", image, name}, {"push", name}, {"rmi", name}} {
		output, err := exec.Command("docker", append([]string{"--config", dir}, args...)...).CombinedOutput()
		require.NoError(t, err, string(output))
	}
	t.Cleanup(func() { _ = exec.Command("docker", "rmi", name).Run() })
	return name
}

func always(job *common.Job) { job.Runner.Docker.PullPolicy = config.StringOrArray{"always"} }

func TestImagesOfAPrivateRegistryNeedCredentials(t *testing.T) {
	registry := startRegistry(t)
	name := registry.push(t, "busybox:latest", "team/app:1")
	sources := map[string]struct {
		change func(job *common.Job)
		told   string
		fails  string
	}{
		"none": {change: always, fails: "no basic auth credentials"},
		"variable": {
			change: func(job *common.Job) {
				always(job)
				job.Variables = append(job.Variables, spec.Variable{Key: "DOCKER_AUTH_CONFIG", Value: registry.auths()})
			},
			told: "Authenticating with credentials from $DOCKER_AUTH_CONFIG",
		},
		"job": {
			change: func(job *common.Job) {
				always(job)
				job.Spec.Credentials = registry.credentials(registry.store.Password)
			},
			told: "Authenticating with credentials from job payload (GitLab Registry)",
		},
		"wrong": {
			change: func(job *common.Job) {
				always(job)
				job.Spec.Credentials = registry.credentials("guess")
			},
			fails: "unauthorized",
		},
	}
	for from, c := range sources {
		t.Run(from, func(t *testing.T) {
			r := newTrial(t, name, c.change)
			_, err := r.executor.Connect(t.Context())
			require.NoError(t, err)
			err = r.executor.Prepare(t.Context())
			r.cleanup()
			require.NotContains(t, r.log.String(), registry.store.Password)
			if c.fails != "" {
				require.ErrorContains(t, err, c.fails)
				require.Equal(t, common.RunnerConfigurationError, common.ReasonOf(err))
				return
			}
			require.NoError(t, err, r.log.String())
			require.Contains(t, r.log.String(), c.told)
			require.Contains(t, r.log.String(), "with digest "+registry.host+"/team/app@sha256:")
		})
	}
}

func TestConcurrentJobsPullAnImageOnce(t *testing.T) {
	registry := startRegistry(t)
	name := registry.push(t, "busybox:latest", "team/shared:1")
	registry.delay.Store(int64(500 * time.Millisecond))
	before := registry.manifests.Load()
	first := newTrial(t, name, always)
	var group errgroup.Group
	for range 4 {
		r := newTrial(t, name, always)
		r.executor = first.provider.NewExecutor(r.job, nil)
		r.job.Spec.Credentials = registry.credentials(registry.store.Password)
		_, err := r.executor.Connect(t.Context())
		require.NoError(t, err)
		defer r.cleanup()
		group.Go(func() error { return r.executor.Prepare(t.Context()) })
	}
	require.NoError(t, group.Wait())
	one := registry.manifests.Load() - before
	require.LessOrEqual(t, one, int64(2), "one pull asks for the manifest and for what it lists")
}

func TestSourcesAndASlowPullTakeTheTimeOfOne(t *testing.T) {
	registry := startRegistry(t)
	name := registry.push(t, "busybox:latest", "team/slow:1")
	const each = 3 * time.Second
	registry.delay.Store(int64(each))
	repo, commit := repository(t)
	r := newTrial(t, name, func(job *common.Job) {
		always(job)
		job.Strategy = plan.StrategyClone
		job.Runner.Docker.Volumes = []string{repo + ":/repo.git:ro"}
		job.Spec.Credentials = registry.credentials(registry.store.Password)
	})
	r.connect()
	defer r.cleanup()
	started := time.Now()
	var group errgroup.Group
	group.Go(func() error { return r.executor.Prepare(t.Context()) })
	<-r.executor.HelperReady()
	work := sourcesOf("file:///repo.git", commit)
	work.Sources.PreHooks = []string{fmt.Sprintf("sleep %d", int(each.Seconds()))}
	require.NoError(t, r.stage(work), r.log.String())
	require.NoError(t, group.Wait())
	took := time.Since(started)
	t.Logf("pull and sources of %s each took %s together", each, took)
	require.Less(t, took, 2*each)
}
