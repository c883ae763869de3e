package objectstore

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"gitlab.com/gitlab-org/gitlab-runner/common/plan"
)

const (
	// s3Limit is what one PUT takes.
	s3Limit = 5 << 30
	// s3Part and s3Parts are how large and how many the parts of an upload are: how large the archive is, is not
	// known when their URLs are signed.
	s3Part  = 1 << 30
	s3Parts = 128
)

func (b *s3Bucket) limit() (int64, *plan.Parts) {
	return s3Limit, nil
}

// parts begins a multipart upload on behalf of who uploads, since its id is a part of what is signed.
func (b *s3Bucket) parts(ctx context.Context, o object) (*plan.Parts, func(context.Context) error, error) {
	client, err := b.client.get(ctx)
	if err != nil {
		return nil, nil, err
	}
	identity := client.api.Options().Credentials
	if client.put != nil {
		assumed, err := client.put.credentials(ctx, o.lifetime)
		if err != nil {
			return nil, nil, err
		}
		identity = credentials.StaticCredentialsProvider{Value: assumed}
	}
	as := func(options *s3.Options) { options.Credentials = identity }
	bucket, key := aws.String(b.name), aws.String(o.name)
	begun, err := client.api.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{
		Bucket: bucket, Key: key, Metadata: o.metadata,
		ServerSideEncryption: b.encryption.algorithm, SSEKMSKeyId: b.encryption.keyID,
	}, as)
	if err != nil {
		return nil, nil, fmt.Errorf("bucket %s: %w", b.name, err)
	}
	abandon := func(ctx context.Context) error {
		_, err := client.api.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{Bucket: bucket, Key: key, UploadId: begun.UploadId}, as)
		var gone *types.NoSuchUpload
		if errors.As(err, &gone) {
			return nil
		}
		return err
	}
	parts, err := b.signParts(ctx, client, identity, o, aws.ToString(begun.UploadId))
	if err != nil {
		return nil, nil, errors.Join(err, abandon(context.WithoutCancel(ctx)))
	}
	return parts, abandon, nil
}

func (b *s3Bucket) signParts(ctx context.Context, client *s3Client, identity aws.CredentialsProvider, o object, id string) (*plan.Parts, error) {
	signed, err := b.presign(ctx, client.presign, identity, o, http.MethodHead)
	if err != nil {
		return nil, fmt.Errorf("finding the address of the object: %w", err)
	}
	object, err := url.Parse(signed.URL)
	if err != nil {
		return nil, fmt.Errorf("finding the address of the object: %w", err)
	}
	key, err := identity.Retrieve(ctx)
	if err != nil {
		return nil, err
	}
	signer := v4.NewSigner(func(options *v4.SignerOptions) {
		// S3 wants paths as they are sent.
		options.DisableURIPathEscaping = true
	})
	sign := func(method string, query url.Values) (string, error) {
		query.Set("uploadId", id)
		query.Set("X-Amz-Expires", strconv.Itoa(int(o.lifetime.Seconds())))
		target := *object
		target.RawQuery = query.Encode()
		request := &http.Request{Method: method, URL: &target, Host: target.Host, Header: http.Header{}}
		address, _, err := signer.PresignHTTP(ctx, key, request, unsignedPayload, "s3", client.api.Options().Region, time.Now())
		return address, err
	}
	parts := &plan.Parts{Size: s3Part}
	for n := range s3Parts {
		part, err := sign(http.MethodPut, url.Values{"partNumber": {strconv.Itoa(n + 1)}})
		if err != nil {
			return nil, fmt.Errorf("signing a part: %w", err)
		}
		parts.URLs = append(parts.URLs, part)
	}
	if parts.CompleteURL, err = sign(http.MethodPost, url.Values{}); err != nil {
		return nil, fmt.Errorf("signing the completion: %w", err)
	}
	return parts, nil
}

// unsignedPayload stands for a body that is not known when its request is signed.
const unsignedPayload = "UNSIGNED-PAYLOAD"
