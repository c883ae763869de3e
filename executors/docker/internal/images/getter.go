package images

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/api/types/registry"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"gitlab.com/gitlab-org/gitlab-runner/common"
	"gitlab.com/gitlab-org/gitlab-runner/helpers/docker"
	"gitlab.com/gitlab-org/gitlab-runner/helpers/pause"
)

// Engine is what getting images asks of an engine.
type Engine interface {
	ImageInspect(ctx context.Context, ref string, platform *ocispec.Platform) (image.InspectResponse, error)
	ImagePull(ctx context.Context, pull docker.Pull, report func(docker.Progress)) error
}

// Getter gets the images of one job. It is safe for concurrent use.
type Getter struct {
	Engine   Engine
	Keychain *Keychain
	// Pulls is shared by all jobs on the machine.
	Pulls *Pulls

	mu   sync.Mutex
	have map[string]*wanted
}

// wanted is one image of the job. Its lock is held while the image is got.
type wanted struct {
	mu    sync.Mutex
	found *Image
}

const (
	pullAttempts = 3
	retryMin     = 2 * time.Second
	retryMax     = 10 * time.Second
)

// Get returns an image that is on the engine when it returns, and tells the user how it came there. An
// image that the job has got already is not asked for again. A failure is a *common.BuildError, or the
// cause of ctx.
func (g *Getter) Get(ctx context.Context, log Log, request Request) (Image, error) {
	log.Print("Using effective pull policy of %v for container %s", request.Policies, request.Name)
	slot := g.slot(request)
	slot.mu.Lock()
	defer slot.mu.Unlock()
	if slot.found != nil {
		g.tell(log, request, *slot.found)
		return *slot.found, nil
	}
	var last error
	for i, policy := range request.Policies {
		if i > 0 {
			log.Info("Attempt #%d: Trying %q pull policy", i+1, policy)
		}
		found, err := g.try(ctx, log, request, policy)
		if err == nil {
			slot.found = &found
			g.tell(log, request, found)
			return found, nil
		}
		if ctx.Err() != nil {
			return Image{}, context.Cause(ctx)
		}
		if docker.IsConnectionFailed(err) {
			// It says nothing about the image: another try, on a machine that answers, may have it.
			return Image{}, fmt.Errorf("getting image %q: %w", request.Name, err)
		}
		last = redactedError{err}
		log.Warn("Failed to pull image with policy %q: %v", policy, last)
	}
	reason := reasonOf(last)
	if docker.IsNotFound(last) && request.Policies[len(request.Policies)-1] == Never {
		reason = common.RunnerSystemFailure
	}
	return Image{}, common.Fail(reason,
		fmt.Errorf("failed to pull image %q with specified policies %v: %w", request.Name, request.Policies, last))
}

func (g *Getter) tell(log Log, request Request, found Image) {
	switch {
	case found.ID == request.Name:
	case found.Digest != "":
		log.Print("Using docker image %s for %s with digest %s ...", found.ID, request.Name, found.Digest)
	default:
		log.Print("Using docker image %s for %s ...", found.ID, request.Name)
	}
}

// try follows one policy.
func (g *Getter) try(ctx context.Context, log Log, request Request, policy Policy) (Image, error) {
	if policy != Always {
		found, err := g.inspect(ctx, request)
		switch {
		case policy == Never || err != nil && !docker.IsNotFound(err):
			return found, err
		case err == nil:
			if found.ID != request.Name {
				log.Print("Using locally found image version due to %q pull policy", policy)
			}
			return found, nil
		}
	}
	if err := g.pull(ctx, log, request); err != nil {
		return Image{}, err
	}
	return g.inspect(ctx, request)
}

// Look returns an image that is on the engine already; see docker.IsNotFound for one that is not. It
// tells the user nothing.
func (g *Getter) Look(ctx context.Context, request Request) (Image, error) {
	return g.inspect(ctx, request)
}

func (g *Getter) inspect(ctx context.Context, request Request) (Image, error) {
	answer, err := g.Engine.ImageInspect(ctx, request.Name, request.Platform)
	if err != nil {
		return Image{}, err
	}
	return fromInspect(request.Name, answer), nil
}

func (g *Getter) pull(ctx context.Context, log Log, request Request) error {
	auth, source, err := g.Keychain.Find(ctx, log, request.Name)
	if err != nil {
		return fmt.Errorf("finding credentials for %s: %w", request.Name, err)
	}
	if auth != nil {
		log.Print("Authenticating with credentials from %s", source)
	}
	platform := request.platformText()
	if platform == "" {
		log.Print("Pulling docker image %s ...", request.Name)
	} else {
		log.Print("Pulling docker image %s for platform %s ...", request.Name, platform)
	}
	pull := docker.Pull{Ref: request.pullName(), Platform: platform, Auth: auth}
	started := time.Now()
	lead := func(t *tally) error { return g.pullWithRetries(ctx, log, pull, t) }
	watch := func(ctx context.Context, t *tally) {
		log.Print("Docker image %s is being pulled on this machine already, waiting for that", pull.Ref)
		t.tell(ctx, log, pull.Ref)
	}
	err = g.Pulls.do(ctx, pullKey(pull), lead, watch)
	if err == nil {
		log.Print("Pulled docker image %s in %.1fs", request.Name, time.Since(started).Seconds())
	}
	return err
}

func (g *Getter) pullWithRetries(ctx context.Context, log Log, pull docker.Pull, t *tally) error {
	for attempt := 1; ; attempt++ {
		err := g.pullOnce(ctx, log, pull, t)
		if err == nil || attempt == pullAttempts || !transient(ctx, err) {
			return err
		}
		log.Warn("Failed to pull image %q (attempt #%d), retrying: %v", pull.Ref, attempt, redactedError{err})
		if err := pause.For(ctx, retryMin+rand.N(retryMax-retryMin)); err != nil {
			return err
		}
	}
}

func (g *Getter) pullOnce(ctx context.Context, log Log, pull docker.Pull, t *tally) error {
	t.reset()
	ctx, stop := context.WithCancelCause(ctx)
	var teller sync.WaitGroup
	teller.Go(func() { t.tell(ctx, log, pull.Ref) })
	err := g.Engine.ImagePull(ctx, pull, t.add)
	stop(errPullEnded)
	teller.Wait()
	return err
}

var errPullEnded = errors.New("the pull ended")

func (g *Getter) slot(request Request) *wanted {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.have == nil {
		g.have = map[string]*wanted{}
	}
	key := request.Name + " " + request.platformText()
	if g.have[key] == nil {
		g.have[key] = &wanted{}
	}
	return g.have[key]
}

// pullKey is the same for pulls that may stand for one another: what one may see the other may too.
func pullKey(pull docker.Pull) string {
	secret := registry.AuthConfig{}
	if pull.Auth != nil {
		secret = *pull.Auth
	}
	data, err := json.Marshal(secret)
	if err != nil {
		panic("credentials cannot be encoded: " + err.Error())
	}
	sum := sha256.Sum256(data)
	return pull.Ref + " " + pull.Platform + " " + hex.EncodeToString(sum[:])
}
