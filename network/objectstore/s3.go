package objectstore

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/sirupsen/logrus"

	"gitlab.com/gitlab-org/gitlab-runner/common/config"
)

// s3Bucket is a bucket of S3 or of a service that speaks its protocol.
type s3Bucket struct {
	name       string
	endpoint   s3Endpoint
	encryption s3Encryption
	roles      roles
	client     *lazy[*s3Client]
}

// s3Client is what signing needs. Roles are nil if the configured identity signs itself.
type s3Client struct {
	api     *s3.Client
	presign *s3.PresignClient
	// get and put sign those methods. HEAD is as GET.
	get, put *role
}

// s3Encryption is what a bucket is asked to do with what it stores.
type s3Encryption struct {
	algorithm types.ServerSideEncryption
	keyID     *string
}

func newS3(c *config.CacheS3, log logrus.FieldLogger, recorder Recorder) (*s3Bucket, error) {
	if c == nil {
		return nil, errors.New("[runners.cache]: Type s3 needs the table [runners.cache.s3]")
	}
	b, err := parseS3(c, log.WithField("cache_bucket", c.BucketName), nil, recorder)
	if err != nil {
		return nil, fmt.Errorf("[runners.cache.s3]: %w", err)
	}
	return b, nil
}

// parseS3 takes the client for calls of AWS's services; nil is the SDK's own.
func parseS3(c *config.CacheS3, log logrus.FieldLogger, httpClient aws.HTTPClient, recorder Recorder) (*s3Bucket, error) {
	if c.BucketName == "" {
		return nil, errors.New("config BucketName cannot be empty")
	}
	if strings.Contains(c.BucketName, "/") {
		return nil, fmt.Errorf("config BucketName %q must not have a slash: folders go to Path in [runners.cache]", c.BucketName)
	}
	endpoint, err := newS3Endpoint(c)
	if err != nil {
		return nil, err
	}
	identity, err := newS3Identity(c, log)
	if err != nil {
		return nil, err
	}
	identity.httpClient = httpClient
	roles, err := newRoles(c, recorder)
	if err != nil {
		return nil, err
	}
	b := &s3Bucket{name: c.BucketName, endpoint: endpoint, encryption: newS3Encryption(c, log), roles: roles}
	b.client = newLazy(func(ctx context.Context) (*s3Client, error) {
		return b.connect(ctx, identity, log)
	})
	return b, nil
}

// connect makes the client. It asks the network only for what the configuration leaves open.
func (b *s3Bucket) connect(ctx context.Context, identity s3Identity, log logrus.FieldLogger) (*s3Client, error) {
	cfg, err := identity.load(ctx)
	if err != nil {
		return nil, fmt.Errorf("loading the AWS configuration of this machine: %w", err)
	}
	region := b.endpoint.region
	if region == "" {
		region = b.endpoint.findRegion(ctx, cfg, b.name, log)
	}
	cfg.Region = region
	client := s3.NewFromConfig(cfg, b.endpoint.apply, func(o *s3.Options) {
		// Bodies are not known when their requests are signed.
		o.RequestChecksumCalculation = aws.RequestChecksumCalculationWhenRequired
		o.ResponseChecksumValidation = aws.ResponseChecksumValidationWhenRequired
	})
	get, put := b.roles.assumedWith(cfg)
	return &s3Client{api: client, presign: s3.NewPresignClient(client), get: get, put: put}, nil
}

func (b *s3Bucket) sessions() int { return b.roles.sessions() }

func (b *s3Bucket) sign(ctx context.Context, o object, methods ...string) ([]signedURL, error) {
	client, err := b.client.get(ctx)
	if err != nil {
		return nil, err
	}
	// One session of a role serves all methods that it is for.
	sessions := make(map[*role]aws.CredentialsProvider)
	urls := make([]signedURL, 0, len(methods))
	for _, method := range methods {
		role := client.get
		if method == http.MethodPut {
			role = client.put
		}
		session, ok := sessions[role]
		if role != nil && !ok {
			assumed, err := role.credentials(ctx, o.lifetime)
			if err != nil {
				return nil, err
			}
			session = credentials.StaticCredentialsProvider{Value: assumed}
			sessions[role] = session
		}
		request, err := b.presign(ctx, client.presign, session, o, method)
		if err != nil {
			return nil, fmt.Errorf("signing a %s request to bucket %s: %w", method, b.name, err)
		}
		request.SignedHeader.Del("Host")
		urls = append(urls, signedURL{url: request.URL, headers: request.SignedHeader})
	}
	return urls, nil
}

// presign uses the client's own credentials if session is nil.
func (b *s3Bucket) presign(ctx context.Context, client *s3.PresignClient, session aws.CredentialsProvider, o object, method string) (*v4.PresignedHTTPRequest, error) {
	options := func(p *s3.PresignOptions) {
		p.Expires = o.lifetime
		if session != nil {
			p.ClientOptions = append(p.ClientOptions, func(o *s3.Options) { o.Credentials = session })
		}
	}
	bucket, key := aws.String(b.name), aws.String(o.name)
	switch method {
	case http.MethodHead:
		return client.PresignHeadObject(ctx, &s3.HeadObjectInput{Bucket: bucket, Key: key}, options)
	case http.MethodPut:
		return client.PresignPutObject(ctx, &s3.PutObjectInput{
			Bucket:               bucket,
			Key:                  key,
			Metadata:             o.metadata,
			ServerSideEncryption: b.encryption.algorithm,
			SSEKMSKeyId:          b.encryption.keyID,
		}, options)
	default:
		return client.PresignGetObject(ctx, &s3.GetObjectInput{Bucket: bucket, Key: key}, options)
	}
}

// newS3Encryption passes over what it does not know, as the contract of the key wants it.
func newS3Encryption(c *config.CacheS3, log logrus.FieldLogger) s3Encryption {
	var e s3Encryption
	switch strings.ToLower(c.ServerSideEncryption) {
	case "":
	case "s3", "aes256":
		e.algorithm = types.ServerSideEncryptionAes256
	case "kms", "aws:kms":
		e.algorithm = types.ServerSideEncryptionAwsKms
	case "dsse-kms", "aws:kms:dsse":
		e.algorithm = types.ServerSideEncryptionAwsKmsDsse
	default:
		log.Warningf("[runners.cache.s3]: unknown ServerSideEncryption %q, caches are stored without it: use S3, KMS or DSSE-KMS", c.ServerSideEncryption)
	}
	switch {
	case c.ServerSideEncryptionKeyID == "":
	case e.algorithm == types.ServerSideEncryptionAwsKms, e.algorithm == types.ServerSideEncryptionAwsKmsDsse:
		e.keyID = aws.String(c.ServerSideEncryptionKeyID)
	default:
		log.Warning("[runners.cache.s3]: ServerSideEncryptionKeyID is not used: it needs ServerSideEncryption KMS or DSSE-KMS")
	}
	return e
}
