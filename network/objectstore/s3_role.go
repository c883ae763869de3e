package objectstore

import (
	"context"
	"errors"
	"fmt"
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
	// keep allows a session to be used more than once. There is one slot then, which guards held.
	keep bool
	held aws.Credentials

	now    func() time.Time
	client *sts.Client
}

func newRoles(c *config.CacheS3) (roles, error) {
	concurrency := c.AssumeRoleMaxConcurrency
	switch {
	case concurrency < -1:
		return roles{}, fmt.Errorf("config AssumeRoleMaxConcurrency %d is out of range: use a positive number, or -1 for no limit", concurrency)
	case concurrency == 0:
		concurrency = defaultRoleConcurrency
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
		return &role{arn: name, slots: slots, keep: keep, now: time.Now}, nil
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

// credentials returns those of a session that lasts for lifetime, or nearly as long as sessions do.
func (r *role) credentials(ctx context.Context, lifetime time.Duration) (aws.Credentials, error) {
	if r.slots != nil {
		select {
		case r.slots <- struct{}{}:
			defer func() { <-r.slots }()
		case <-ctx.Done():
			return aws.Credentials{}, context.Cause(ctx)
		}
	}
	if r.keep && r.held.Expires.Sub(r.now()) >= min(lifetime, reusableFor) {
		return r.held, nil
	}
	answer, err := r.client.AssumeRole(ctx, &sts.AssumeRoleInput{
		RoleArn:         aws.String(r.arn),
		RoleSessionName: aws.String("gitlab-runner-cache"),
		DurationSeconds: aws.Int32(int32(roleSession / time.Second)),
	})
	if err != nil {
		return aws.Credentials{}, fmt.Errorf("assuming role %s: %w", r.arn, err)
	}
	got := answer.Credentials
	if got == nil || got.AccessKeyId == nil || got.SecretAccessKey == nil || got.SessionToken == nil || got.Expiration == nil {
		return aws.Credentials{}, fmt.Errorf("assuming role %s: %w", r.arn, errors.New("the answer has no credentials"))
	}
	assumed := aws.Credentials{
		AccessKeyID:     *got.AccessKeyId,
		SecretAccessKey: *got.SecretAccessKey,
		SessionToken:    *got.SessionToken,
		CanExpire:       true,
		Expires:         *got.Expiration,
		Source:          "AssumeRole",
	}
	if r.keep {
		r.held = assumed
	}
	return assumed, nil
}
