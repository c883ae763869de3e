package objectstore

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"strconv"
	"strings"
	"time"

	"gitlab.com/gitlab-org/gitlab-runner/common/config"
	"gitlab.com/gitlab-org/gitlab-runner/common/plan"
)

// defaultUniverse is Google's public cloud.
const defaultUniverse = "googleapis.com"

// gcsBucket is a bucket of Google Cloud Storage.
type gcsBucket struct {
	name string
	host string
	// maxSize is that of an uploaded object in bytes, 0 for no limit.
	maxSize int64

	identity *lazy[googleIdentity]
	now      func() time.Time
}

func newGCS(c *config.CacheGCS, maxSize int64) (*gcsBucket, error) {
	if c == nil {
		return nil, errors.New("[runners.cache]: Type gcs needs the table [runners.cache.gcs]")
	}
	b, err := parseGCS(c, maxSize)
	if err != nil {
		return nil, fmt.Errorf("[runners.cache.gcs]: %w", err)
	}
	return b, nil
}

func parseGCS(c *config.CacheGCS, maxSize int64) (*gcsBucket, error) {
	if c.BucketName == "" {
		return nil, errors.New("config BucketName cannot be empty")
	}
	if strings.Contains(c.BucketName, "/") {
		return nil, fmt.Errorf("config BucketName %q must not have a slash: folders go to Path in [runners.cache]", c.BucketName)
	}
	universe := c.UniverseDomain
	if universe == "" {
		universe = defaultUniverse
	}
	if err := checkAddress("UniverseDomain", universe); err != nil {
		return nil, err
	}
	load, err := googleIdentityOf(c, universe)
	if err != nil {
		return nil, err
	}
	return &gcsBucket{
		name:     c.BucketName,
		host:     "storage." + universe,
		maxSize:  max(maxSize, 0),
		identity: newLazy(load),
		now:      time.Now,
	}, nil
}

// limit is beyond what any cache has: 5 TiB.
func (b *gcsBucket) limit() (int64, *plan.Parts) {
	return 0, nil
}

func (b *gcsBucket) sign(ctx context.Context, o object, methods ...string) ([]signedURL, error) {
	identity, err := b.identity.get(ctx)
	if err != nil {
		return nil, err
	}
	urls := make([]signedURL, 0, len(methods))
	for _, method := range methods {
		r := gcsRequest{
			method:   method,
			host:     b.host,
			path:     "/" + b.name + "/" + o.name,
			lifetime: o.lifetime,
			time:     b.now().UTC(),
		}
		if method == http.MethodPut {
			r.headers = b.putHeaders(o)
		}
		url, err := r.sign(ctx, identity)
		if err != nil {
			return nil, fmt.Errorf("signing a %s request to bucket %s: %w", method, b.name, err)
		}
		signed := signedURL{url: url, headers: make(http.Header)}
		for name, value := range r.headers {
			signed.headers.Set(name, value)
		}
		urls = append(urls, signed)
	}
	return urls, nil
}

func (b *gcsBucket) putHeaders(o object) map[string]string {
	headers := make(map[string]string)
	for name, value := range maps.All(o.metadata) {
		headers["x-goog-meta-"+name] = value
	}
	if b.maxSize > 0 {
		headers["x-goog-content-length-range"] = "0," + strconv.FormatInt(b.maxSize, 10)
	}
	return headers
}
