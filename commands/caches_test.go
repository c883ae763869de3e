package commands

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	logtest "github.com/sirupsen/logrus/hooks/test"
	"github.com/stretchr/testify/require"

	"gitlab.com/gitlab-org/gitlab-runner/common/config"
)

// tokenService is AWS's STS for this process: it answers when it is let, with a session of an hour or, while it
// denies, an error.
type tokenService struct {
	calls  chan struct{}
	answer chan struct{}
	mu     sync.Mutex
	denies bool
}

func startTokenService(t *testing.T) *tokenService {
	s := &tokenService{calls: make(chan struct{}), answer: make(chan struct{})}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	none := filepath.Join(t.TempDir(), "none")
	for key, value := range map[string]string{
		"AWS_ENDPOINT_URL_STS": server.URL, "AWS_ACCESS_KEY_ID": "AKIDMACHINE", "AWS_SECRET_ACCESS_KEY": "machine-secret", "AWS_SESSION_TOKEN": "",
		"AWS_CONFIG_FILE": none, "AWS_SHARED_CREDENTIALS_FILE": none, "AWS_PROFILE": "", "AWS_MAX_ATTEMPTS": "1",
	} {
		t.Setenv(key, value)
	}
	return s
}

func (s *tokenService) deny(denies bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.denies = denies
}

func (s *tokenService) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.calls <- struct{}{}
	<-s.answer
	s.mu.Lock()
	defer s.mu.Unlock()
	w.Header().Set("Content-Type", "text/xml")
	switch {
	case r.FormValue("Action") != "AssumeRole" || r.FormValue("RoleArn") != "arn:aws:iam::123456789012:role/cache":
		http.Error(w, "what?", http.StatusNotImplemented)
	case s.denies:
		w.WriteHeader(http.StatusForbidden)
		fmt.Fprint(w, `<ErrorResponse><Error><Code>AccessDenied</Code><Message>not you</Message></Error></ErrorResponse>`)
	default:
		fmt.Fprintf(w, `<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult><Credentials>
<AccessKeyId>ASIA</AccessKeyId><SecretAccessKey>s</SecretAccessKey><SessionToken>t</SessionToken><Expiration>%s</Expiration>
</Credentials></AssumeRoleResult></AssumeRoleResponse>`, time.Now().Add(time.Hour).UTC().Format(time.RFC3339))
	}
}

// pass lets one call end.
func (s *tokenService) pass() {
	<-s.calls
	s.answer <- struct{}{}
}

// roleFigures are the metrics of roles, by the ends of their names; of histograms the number of observations.
func roleFigures(t *testing.T, registry *prometheus.Registry) map[string]float64 {
	t.Helper()
	families, err := registry.Gather()
	require.NoError(t, err)
	out := map[string]float64{}
	for _, family := range families {
		name, ok := strings.CutPrefix(family.GetName(), "gitlab_runner_cache_s3_assume_role_")
		require.True(t, ok, family.GetName())
		one := family.GetMetric()[0]
		out[name] = one.GetGauge().GetValue() + one.GetCounter().GetValue() + float64(one.GetHistogram().GetSampleCount())
	}
	return out
}

func figures(inFlight, waits, calls, hits, held, failures float64) map[string]float64 {
	return map[string]float64{
		"requests_in_flight": inFlight, "wait_seconds": waits, "duration_seconds": calls - inFlight,
		"cache_hits_total": hits, "cache_misses_total": calls, "cached_credentials": held, "failures_total": failures,
	}
}

func roleRunner(change func(*config.CacheS3)) *config.Runner {
	c := &config.CacheS3{BucketName: "b", BucketLocation: "eu-west-1", RoleARN: "arn:aws:iam::123456789012:role/cache"}
	change(c)
	return &config.Runner{Name: "r", Cache: &config.Cache{Type: "s3", S3: c}}
}

func TestRolesOfCachesAreMeasured(t *testing.T) {
	service := startTokenService(t)
	log, _ := logtest.NewNullLogger()
	registry := prometheus.NewRegistry()
	caches := newCaches(log, registry)
	require.Equal(t, figures(0, 0, 0, 0, 0, 0), roleFigures(t, registry), "they are there before a role is assumed")

	remote, err := caches.of(roleRunner(func(*config.CacheS3) {}))
	require.NoError(t, err)
	errs := make(chan error)
	download := func() {
		_, err := remote.Download(t.Context(), "project/1/key", time.Minute)
		errs <- err
	}
	service.deny(true)
	go download()
	<-service.calls
	require.Equal(t, figures(1, 1, 1, 0, 0, 0), roleFigures(t, registry))
	service.answer <- struct{}{}
	require.ErrorContains(t, <-errs, "AccessDenied")
	require.Equal(t, figures(0, 1, 1, 0, 0, 1), roleFigures(t, registry))

	service.deny(false)
	go download()
	service.pass()
	require.NoError(t, <-errs)
	require.Equal(t, figures(0, 2, 2, 0, 1, 1), roleFigures(t, registry))
	go download()
	require.NoError(t, <-errs)
	require.Equal(t, figures(0, 2, 2, 1, 1, 1), roleFigures(t, registry), "neither a call nor a wait")

	caches.forget()
	require.Equal(t, figures(0, 2, 2, 1, 0, 1), roleFigures(t, registry))
	problems, err := testutil.GatherAndLint(registry)
	require.NoError(t, err)
	require.Empty(t, problems)
}

func TestRolesThatAreNotKeptAreCountedEachTime(t *testing.T) {
	service := startTokenService(t)
	log, _ := logtest.NewNullLogger()
	registry := prometheus.NewRegistry()
	remote, err := newCaches(log, registry).of(roleRunner(func(c *config.CacheS3) {
		c.DisableAssumeRoleCredentialsCaching, c.AssumeRoleMaxConcurrency = true, 2
	}))
	require.NoError(t, err)
	var group sync.WaitGroup
	for range 3 {
		group.Go(func() {
			_, err := remote.Download(t.Context(), "project/1/key", time.Minute)
			require.NoError(t, err)
		})
	}
	<-service.calls
	<-service.calls
	require.Equal(t, figures(2, 2, 2, 0, 0, 0), roleFigures(t, registry))
	service.answer <- struct{}{}
	service.answer <- struct{}{}
	service.pass()
	group.Wait()
	require.Equal(t, figures(0, 3, 3, 0, 0, 0), roleFigures(t, registry))
}
