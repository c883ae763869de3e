package images

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/image"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"golang.org/x/sync/errgroup"

	"gitlab.com/gitlab-org/gitlab-runner/common"
	"gitlab.com/gitlab-org/gitlab-runner/common/config"
	"gitlab.com/gitlab-org/gitlab-runner/helpers/docker"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// engine has the images that were pulled, and those it began with.
type engine struct {
	mu    sync.Mutex
	has   map[string]image.InspectResponse
	pull  func(ctx context.Context, pull docker.Pull, report func(docker.Progress)) error
	pulls atomic.Int64
	asked atomic.Int64
}

func (e *engine) ImageInspect(_ context.Context, ref string, _ *ocispec.Platform) (image.InspectResponse, error) {
	e.asked.Add(1)
	e.mu.Lock()
	defer e.mu.Unlock()
	if found, ok := e.has[ref]; ok {
		return found, nil
	}
	return image.InspectResponse{}, fmt.Errorf("No such image: %s: %w", ref, errdefs.ErrNotFound)
}

func (e *engine) ImagePull(ctx context.Context, pull docker.Pull, report func(docker.Progress)) error {
	e.pulls.Add(1)
	if e.pull != nil {
		if err := e.pull(ctx, pull, report); err != nil {
			return err
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.has == nil {
		e.has = map[string]image.InspectResponse{}
	}
	e.has[strings.TrimSuffix(pull.Ref, ":latest")] = image.InspectResponse{ID: "sha256:new", RepoDigests: []string{"app@sha256:digest"}}
	return nil
}

func getter(e *engine) *Getter {
	return &Getter{Engine: e, Keychain: &Keychain{}, Pulls: &Pulls{}}
}

var here = map[string]image.InspectResponse{"app": {ID: "sha256:old"}}

func TestGetSaysWhatItDoes(t *testing.T) {
	failing := func(context.Context, docker.Pull, func(docker.Progress)) error {
		return errors.New("no space left on device")
	}
	slow := func(context.Context, docker.Pull, func(docker.Progress)) error {
		time.Sleep(500 * time.Millisecond)
		return nil
	}
	cases := map[string]struct {
		engine   *engine
		policies []Policy
		want     []string
		err      string
	}{
		"always": {
			engine: &engine{has: map[string]image.InspectResponse{"app": {ID: "sha256:old"}}, pull: slow}, policies: []Policy{Always},
			want: []string{
				"Using effective pull policy of [always] for container app",
				"Pulling docker image app ...",
				"Pulled docker image app in 0.5s",
				"Using docker image sha256:new for app with digest app@sha256:digest ...",
			},
		},
		"here already": {
			engine: &engine{has: here}, policies: []Policy{IfNotPresent},
			want: []string{
				"Using effective pull policy of [if-not-present] for container app",
				`Using locally found image version due to "if-not-present" pull policy`,
				"Using docker image sha256:old for app ...",
			},
		},
		"not here": {
			engine: &engine{pull: slow}, policies: []Policy{IfNotPresent},
			want: []string{
				"Using effective pull policy of [if-not-present] for container app",
				"Pulling docker image app ...",
				"Pulled docker image app in 0.5s",
				"Using docker image sha256:new for app with digest app@sha256:digest ...",
			},
		},
		"never": {
			engine: &engine{has: here}, policies: []Policy{Never},
			want: []string{
				"Using effective pull policy of [never] for container app",
				"Using docker image sha256:old for app ...",
			},
		},
		"second policy": {
			engine: &engine{has: here, pull: failing}, policies: []Policy{Always, IfNotPresent},
			want: []string{
				"Using effective pull policy of [always if-not-present] for container app",
				"Pulling docker image app ...",
				`warning: Failed to pull image with policy "always": no space left on device`,
				`info: Attempt #2: Trying "if-not-present" pull policy`,
				`Using locally found image version due to "if-not-present" pull policy`,
				"Using docker image sha256:old for app ...",
			},
		},
		"all fail": {
			engine: &engine{pull: failing}, policies: []Policy{Always},
			want: []string{
				"Using effective pull policy of [always] for container app",
				"Pulling docker image app ...",
				`warning: Failed to pull image with policy "always": no space left on device`,
			},
			err: `failed to pull image "app" with specified policies [always]: no space left on device`,
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			log := &notes{}
			var err error
			synctest.Test(t, func(t *testing.T) {
				_, err = getter(c.engine).Get(t.Context(), log, Request{Name: "app", Policies: c.policies})
			})
			require.Equal(t, c.want, log.lines)
			if c.err == "" {
				require.NoError(t, err)
				return
			}
			require.EqualError(t, err, c.err)
		})
	}
}

func TestAnImageIsAskedForOnceInAJob(t *testing.T) {
	e := &engine{has: here}
	g := getter(e)
	request := Request{Name: "app", Policies: []Policy{IfNotPresent}}
	var group errgroup.Group
	for range 4 {
		group.Go(func() error {
			_, err := g.Get(t.Context(), &notes{}, request)
			return err
		})
	}
	require.NoError(t, group.Wait())
	require.EqualValues(t, 1, e.asked.Load())
}

func TestFailuresHaveTheirReason(t *testing.T) {
	for text, want := range map[string]common.FailureReason{
		"Get https://r/v2/: dial tcp: lookup r: no such host":     common.RunnerExternalDependencyFailure,
		"net/http: TLS handshake timeout":                         common.RunnerExternalDependencyFailure,
		"manifest for app:9 not found: manifest unknown":          common.RunnerConfigurationError,
		"pull access denied for app":                              common.RunnerConfigurationError,
		"unauthorized: authentication required":                   common.RunnerConfigurationError,
		"toomanyrequests: You have reached your pull rate limit.": common.ImagePullFailure,
	} {
		synctest.Test(t, func(t *testing.T) {
			e := &engine{pull: func(context.Context, docker.Pull, func(docker.Progress)) error { return errors.New(text) }}
			_, err := getter(e).Get(t.Context(), &notes{}, Request{Name: "app", Policies: []Policy{Always}})
			require.Equal(t, want, common.ReasonOf(err), text)
		})
	}
}

func TestTheDigestIsThatOfTheNameThatWasAskedFor(t *testing.T) {
	for name, test := range map[string]struct {
		digests []string
		want    string
	}{
		"app":                        {[]string{"registry.example.com/team/app@sha256:a", "app@sha256:b"}, "app@sha256:b"},
		"registry.example.com/x:1":   {[]string{"x@sha256:a", "registry.example.com/x@sha256:b"}, "registry.example.com/x@sha256:b"},
		"docker.io/library/app":      {[]string{"registry.example.com/app@sha256:a"}, ""},
		"sha256:0123456789012345678": {[]string{"app@sha256:a"}, ""},
	} {
		found := fromInspect(name, image.InspectResponse{ID: "sha256:id", RepoDigests: test.digests})
		require.Equal(t, test.want, found.Digest, name)
	}
}

func TestAnEngineThatCannotBeReachedIsNoFaultOfTheImage(t *testing.T) {
	absent, err := docker.New(docker.Options{Host: "unix://" + filepath.Join(t.TempDir(), "absent.sock")})
	require.NoError(t, err)
	defer absent.Close()
	e := &engine{pull: func(ctx context.Context, _ docker.Pull, _ func(docker.Progress)) error {
		_, err := absent.Server(ctx)
		return err
	}}
	_, err = getter(e).Get(t.Context(), &notes{}, Request{Name: "app", Policies: []Policy{Always, IfNotPresent}})
	require.True(t, docker.IsConnectionFailed(err))
	var classified *common.BuildError
	require.NotErrorAs(t, err, &classified)
	require.EqualValues(t, 1, e.pulls.Load(), "other policies ask the same engine")
}

func TestAnImageThatMustBeHereAndIsNotIsASystemFailure(t *testing.T) {
	_, err := getter(&engine{}).Get(t.Context(), &notes{}, Request{Name: "app", Policies: []Policy{Never}})
	require.Equal(t, common.RunnerSystemFailure, common.ReasonOf(err))
}

func TestCredentialsInAMessageAreHidden(t *testing.T) {
	e := &engine{pull: func(context.Context, docker.Pull, func(docker.Progress)) error {
		return errors.New(`Get "https://user:hunter2@registry.example.com/v2/": denied`)
	}}
	log := &notes{}
	_, err := getter(e).Get(t.Context(), log, Request{Name: "app", Policies: []Policy{Always}})
	require.NotContains(t, err.Error()+strings.Join(log.lines, ""), "hunter2")
	require.Contains(t, err.Error(), "https://[redacted]@registry.example.com")
}

func TestTransientFailuresAreTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := &engine{}
		e.pull = func(context.Context, docker.Pull, func(docker.Progress)) error {
			if e.pulls.Load() < 3 {
				return errors.New("dial tcp: connection refused")
			}
			return nil
		}
		log := &notes{}
		started := time.Now()
		_, err := getter(e).Get(t.Context(), log, Request{Name: "app", Policies: []Policy{Always}})
		require.NoError(t, err)
		require.EqualValues(t, 3, e.pulls.Load())
		require.Contains(t, log.lines, `warning: Failed to pull image "app:latest" (attempt #2), retrying: dial tcp: connection refused`)
		require.GreaterOrEqual(t, time.Since(started), 2*retryMin)
	})
}

func TestALongPullIsToldOfNowAndThen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := &engine{pull: func(_ context.Context, _ docker.Pull, report func(docker.Progress)) error {
			report(docker.Progress{Layer: "latest", Status: "Pulling from app"})
			report(docker.Progress{Layer: "a", Status: "Downloading", Current: 40e6, Total: 100e6})
			report(docker.Progress{Layer: "b", Status: "Already exists"})
			for range 1000 {
				report(docker.Progress{Layer: "a", Status: "Downloading", Current: 50e6, Total: 100e6})
			}
			time.Sleep(75 * time.Second)
			return nil
		}}
		log := &notes{}
		_, err := getter(e).Get(t.Context(), log, Request{Name: "app", Policies: []Policy{Always}})
		require.NoError(t, err)
		told := 0
		for _, line := range log.lines {
			if line == "Still pulling docker image app:latest: 1 of 2 layers complete, 50MB of 100MB known so far downloaded" {
				told++
			}
		}
		require.Equal(t, 3, told, log.lines)
	})
}

func TestIdenticalPullsHappenOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		shared := &Pulls{}
		e := &engine{pull: func(context.Context, docker.Pull, func(docker.Progress)) error {
			time.Sleep(time.Minute)
			return nil
		}}
		var group errgroup.Group
		for range 5 {
			group.Go(func() error {
				g := &Getter{Engine: e, Keychain: &Keychain{}, Pulls: shared}
				_, err := g.Get(t.Context(), &notes{}, Request{Name: "app", Policies: []Policy{Always}})
				return err
			})
		}
		require.NoError(t, group.Wait())
		require.EqualValues(t, 1, e.pulls.Load())
	})
}

func TestAJobThatWaitsForThePullOfAnotherIsToldHowFarItIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := &engine{pull: func(_ context.Context, _ docker.Pull, report func(docker.Progress)) error {
			report(docker.Progress{Layer: "a", Status: "Downloading", Current: 50e6, Total: 100e6})
			time.Sleep(75 * time.Second)
			return nil
		}}
		shared := &Pulls{}
		get := func(log Log) error {
			g := &Getter{Engine: e, Keychain: &Keychain{}, Pulls: shared}
			_, err := g.Get(t.Context(), log, Request{Name: "app", Policies: []Policy{Always}})
			return err
		}
		first := make(chan error, 1)
		go func() { first <- get(&notes{}) }()
		synctest.Wait()
		log := &notes{}
		require.NoError(t, get(log))
		require.NoError(t, <-first)
		require.EqualValues(t, 1, e.pulls.Load())
		const progress = "Still pulling docker image app:latest: 0 of 1 layers complete, 50MB of 100MB known so far downloaded"
		require.Equal(t, []string{
			"Using effective pull policy of [always] for container app",
			"Pulling docker image app ...",
			"Docker image app:latest is being pulled on this machine already, waiting for that",
			progress, progress, progress,
			"Pulled docker image app in 75.0s",
			"Using docker image sha256:new for app with digest app@sha256:digest ...",
		}, log.lines)
	})
}

func TestAPullGoesOnWhenTheJobThatBeganItIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		shared := &Pulls{}
		e := &engine{pull: func(ctx context.Context, _ docker.Pull, _ func(docker.Progress)) error {
			select {
			case <-time.After(time.Minute):
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}}
		get := func(ctx context.Context) error {
			g := &Getter{Engine: e, Keychain: &Keychain{}, Pulls: shared}
			_, err := g.Get(ctx, &notes{}, Request{Name: "app", Policies: []Policy{Always}})
			return err
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		first, second := make(chan error, 1), make(chan error, 1)
		go func() { first <- get(ctx) }()
		synctest.Wait()
		go func() { second <- get(t.Context()) }()
		synctest.Wait()
		cancel(common.ErrJobCanceled)
		require.ErrorIs(t, <-first, common.ErrJobCanceled)
		require.NoError(t, <-second)
		require.EqualValues(t, 2, e.pulls.Load())
	})
}

func TestPoliciesFollowTheConfiguration(t *testing.T) {
	cases := []struct {
		asked, configured, allowed []string
		want                       []Policy
		err                        string
	}{
		{want: []Policy{Always}},
		{configured: []string{"if-not-present"}, want: []Policy{IfNotPresent}},
		{configured: []string{"always", "never"}, asked: []string{"never"}, want: []Policy{Never}},
		{allowed: []string{"never", "always"}, asked: []string{"always", "if-not-present"}, want: []Policy{Always}},
		{asked: []string{"never"}, err: `pull_policy ([never]) defined in GitLab pipeline config is not one of the allowed_pull_policies ([always])`},
		{configured: []string{"always"}, allowed: []string{"never"}, err: `defined in Runner config is`},
		{allowed: []string{"never"}, err: `defined in Runner config (default) is`},
	}
	for _, c := range cases {
		got, err := Policies("app", c.asked, &config.Docker{PullPolicy: c.configured, AllowedPullPolicies: c.allowed})
		if c.err != "" {
			require.ErrorContains(t, err, c.err)
			require.Equal(t, common.RunnerConfigurationError, common.ReasonOf(err))
			continue
		}
		require.NoError(t, err)
		require.Equal(t, c.want, got)
	}
}
