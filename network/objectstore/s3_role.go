package objectstore

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/arn"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"gitlab.com/gitlab-org/gitlab-runner/common/config"
)

const (
	// roleSession is the length of the sessions asked for: the longest that every role allows, also
	// when it is assumed by another role.
	roleSession = time.Hour
	// reusableFor is how much of a session has to be left at most for it to be used again.
	reusableFor = 55 * time.Minute

	defaultRoleConcurrency = 5
)

// roles are the roles that the configuration wants assumed, nil where there is none.
type roles struct {
	get, put *role
}

// role is an identity that the configured one may take on. It is safe for concurrent use.
type role struct {
	arn string
	// slots bounds how many calls are under way; nil is no bound.
	slots chan struct{}
	// keep allows a session to be used more than once. There is one slot then, and held is changed by who has it.
	keep bool
	held atomic.Pointer[aws.Credentials]

	recorder Recorder
	client   *sts.Client
}

// Recorder is told of what the assuming of roles of S3 costs. Its methods are called by many goroutines at once.
type Recorder interface {
	// RoleReused: a session was at hand.
	RoleReused()
	// RoleAwaited: somebody has waited so long until he might call.
	RoleAwaited(time.Duration)
	// RoleCalled: a call of AssumeRole begins. What is returned is told of its end.
	RoleCalled() (ended func(error))
}

// nobody is told of nothing.
type nobody struct{}

func (nobody) RoleReused()               {}
func (nobody) RoleAwaited(time.Duration) {}
func (nobody) RoleCalled() func(error)   { return func(error) {} }

func newRoles(c *config.CacheS3, recorder Recorder) (roles, error) {
	concurrency := c.AssumeRoleMaxConcurrency
	switch {
	case concurrency < -1:
		return roles{}, fmt.Errorf("config AssumeRoleMaxConcurrency %d is out of range: use a positive number, or -1 for no limit", concurrency)
	case concurrency == 0:
		concurrency = defaultRoleConcurrency
	}
	if recorder == nil {
		recorder = nobody{}
	}
	keep := !c.DisableAssumeRoleCredentialsCaching
	if keep {
		// Those who wait for a call want what it brings.
		concurrency = 1
	}
	var slots chan struct{}
	if concurrency > 0 {
		slots = make(chan struct{}, concurrency)
	}
	assumable := func(key, name string) (*role, error) {
		if !arn.IsARN(name) {
			return nil, fmt.Errorf("config %s %q is not an ARN: use one like arn:aws:iam::<account>:role/<name>", key, name)
		}
		return &role{arn: name, slots: slots, keep: keep, recorder: recorder}, nil
	}
	var r roles
	var err error
	switch {
	case c.RoleARN != "":
		r.get, err = assumable("RoleARN", c.RoleARN)
		r.put = r.get
	case c.UploadRoleARN != "":
		r.put, err = assumable("UploadRoleARN", c.UploadRoleARN)
	}
	return r, err
}

// assumedWith returns the roles for GET and PUT, ready to be assumed with the credentials of cfg.
func (r roles) assumedWith(cfg aws.Config) (get, put *role) {
	if r.put != nil {
		r.put.client = sts.NewFromConfig(cfg)
	}
	return r.get, r.put
}

// sessions is how many are held and not over.
func (r roles) sessions() int {
	// It is that of get, too, if there are both.
	if r.put == nil || r.put.reusable(0) == nil {
		return 0
	}
	return 1
}

// reusable is the session that is held, if it lasts for so long yet, or else nil.
func (r *role) reusable(lifetime time.Duration) *aws.Credentials {
	held := r.held.Load()
	if held == nil || time.Until(held.Expires) < lifetime {
		return nil
	}
	return held
}

// credentials returns those of a session that lasts for lifetime, or nearly as long as sessions do.
func (r *role) credentials(ctx context.Context, lifetime time.Duration) (aws.Credentials, error) {
	lifetime = min(lifetime, reusableFor)
	if held := r.reusable(lifetime); held != nil {
		r.recorder.RoleReused()
		return *held, nil
	}
	if r.slots != nil {
		start := time.Now()
		select {
		case r.slots <- struct{}{}:
			defer func() { <-r.slots }()
		case <-ctx.Done():
			return aws.Credentials{}, context.Cause(ctx)
		}
		r.recorder.RoleAwaited(time.Since(start))
	}
	// Whoever had the slot may have brought one.
	if held := r.reusable(lifetime); held != nil {
		r.recorder.RoleReused()
		return *held, nil
	}
	ended := r.recorder.RoleCalled()
	assumed, err := r.assume(ctx)
	ended(err)
	if err != nil {
		return aws.Credentials{}, fmt.Errorf("assuming role %s: %w", r.arn, err)
	}
	if r.keep {
		r.held.Store(&assumed)
	}
	return assumed, nil
}

// assume begins a session.
func (r *role) assume(ctx context.Context) (aws.Credentials, error) {
	answer, err := r.client.AssumeRole(ctx, &sts.AssumeRoleInput{
		RoleArn:         aws.String(r.arn),
		RoleSessionName: aws.String("gitlab-runner-cache"),
		DurationSeconds: aws.Int32(int32(roleSession / time.Second)),
	})
	if err != nil {
		return aws.Credentials{}, err
	}
	got := answer.Credentials
	if got == nil || got.AccessKeyId == nil || got.SecretAccessKey == nil || got.SessionToken == nil || got.Expiration == nil {
		return aws.Credentials{}, errors.New("the answer has no credentials")
	}
	return aws.Credentials{
		AccessKeyID:     *got.AccessKeyId,
		SecretAccessKey: *got.SecretAccessKey,
		SessionToken:    *got.SessionToken,
		CanExpire:       true,
		Expires:         *got.Expiration,
		Source:          "AssumeRole",
	}, nil
}
