package objectstore

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsconfig "github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/sirupsen/logrus"

	"gitlab.com/gitlab-org/gitlab-runner/common/config"
)

// renewBefore is how long before their end credentials are renewed. A signed URL ends with the
// credentials it was signed with.
const renewBefore = 15 * time.Minute

// s3Identity is who signs.
type s3Identity struct {
	// static is nil if the credentials are those of this machine.
	static     aws.CredentialsProvider
	httpClient aws.HTTPClient
}

func newS3Identity(c *config.CacheS3, log logrus.FieldLogger) (s3Identity, error) {
	keys := c.AccessKey != "" && c.SecretKey != ""
	static := s3Identity{static: credentials.NewStaticCredentialsProvider(c.AccessKey, c.SecretKey, c.SessionToken)}
	switch strings.ToLower(c.AuthenticationType) {
	case "access-key":
		if !keys {
			return s3Identity{}, errors.New("config AccessKey and SecretKey cannot be empty with AuthenticationType access-key")
		}
		return static, nil
	case "iam":
		return s3Identity{}, nil
	case "":
		if keys && c.ServerAddress != "" {
			return static, nil
		}
		if c.AccessKey != "" || c.SecretKey != "" {
			log.Warning("[runners.cache.s3]: the credentials of this machine are used: for the configured ones set AccessKey, SecretKey and AuthenticationType access-key")
		}
		return s3Identity{}, nil
	default:
		return s3Identity{}, fmt.Errorf("unknown AuthenticationType %q: use access-key or iam", c.AuthenticationType)
	}
}

// load returns the SDK's configuration. Static credentials make it independent of this machine's.
func (i s3Identity) load(ctx context.Context) (aws.Config, error) {
	if i.static != nil {
		return aws.Config{Credentials: i.static, HTTPClient: i.httpClient}, nil
	}
	options := []func(*awsconfig.LoadOptions) error{
		awsconfig.WithCredentialsCacheOptions(func(o *aws.CredentialsCacheOptions) { o.ExpiryWindow = renewBefore }),
	}
	if i.httpClient != nil {
		options = append(options, awsconfig.WithHTTPClient(i.httpClient))
	}
	return awsconfig.LoadDefaultConfig(ctx, options...)
}
