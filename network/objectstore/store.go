package objectstore

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/sirupsen/logrus"

	"gitlab.com/gitlab-org/gitlab-runner/common/config"
	"gitlab.com/gitlab-org/gitlab-runner/common/plan"
)

const (
	// defaultLifetime is that of URLs asked for without one.
	defaultLifetime = time.Hour
	// longestLifetime is what the signatures of S3, Google and Azure allow for.
	longestLifetime = 7 * 24 * time.Hour
	// longestName is the limit of all three services, in bytes.
	longestName = 1024
)

// Store locates the archives of one [runners.cache]. It is safe for concurrent use.
type Store struct {
	bucket bucket
}

// bucket is where objects are, at one of the services.
type bucket interface {
	// sign returns one URL for each of the methods, in their order, together with the headers that
	// the request of each has to carry.
	sign(ctx context.Context, o object, methods ...string) ([]signedURL, error)
	// limit is what one PUT takes, in bytes, 0 for no limit, and how more is uploaded, nil if that has to
	// be asked for.
	limit() (int64, *plan.Parts)
}

// partsBucket is a bucket that has to be told before an object comes in parts.
type partsBucket interface {
	// parts begins such an upload. Its URLs have the lifetime of o; abandon ends it, and does nothing if it was
	// completed.
	parts(ctx context.Context, o object) (parts *plan.Parts, abandon func(context.Context) error, err error)
}

// roleBucket is a bucket for which roles are assumed.
type roleBucket interface {
	// sessions is how many of roles are held.
	sessions() int
}

// object is what a URL is wanted for.
type object struct {
	name string
	// lifetime is in whole seconds and within what the services allow for.
	lifetime time.Duration
	// metadata is stored with the object by PUT. Names are lower case, values printable ASCII.
	metadata map[string]string
}

type signedURL struct {
	url     string
	headers http.Header
}

// New returns the store that c describes. It fails if c lacks something or has a value that cannot be
// honoured; the error names the key. Values that can be passed over are reported to log instead. Nobody is told of
// roles if recorder is nil.
func New(c *config.Cache, log logrus.FieldLogger, recorder Recorder) (*Store, error) {
	if c == nil {
		return nil, errors.New("[runners.cache] is missing")
	}
	var b bucket
	var err error
	switch strings.ToLower(c.Type) {
	case "s3":
		b, err = newS3(c.S3, log, recorder)
	case "gcs":
		b, err = newGCS(c.GCS, c.MaxUploadedArchiveSize)
	case "azure":
		b, err = newAzure(c.Azure)
	case "":
		err = errors.New("[runners.cache]: config Type cannot be empty: use s3, gcs or azure")
	default:
		err = fmt.Errorf("[runners.cache]: unknown Type %q: use s3, gcs or azure", c.Type)
	}
	if err != nil {
		return nil, err
	}
	return &Store{bucket: b}, nil
}

// Sessions is how many sessions of assumed roles are held for further use.
func (s *Store) Sessions() int {
	if b, ok := s.bucket.(roleBucket); ok {
		return b.sessions()
	}
	return 0
}

// Download returns URLs to GET and HEAD an object. They are valid for ttl, but for no longer than seven
// days, and for no longer than the credentials they were signed with: an assumed role's last an hour.
// Without a ttl it is an hour.
func (s *Store) Download(ctx context.Context, name string, ttl time.Duration) (plan.Remote, error) {
	urls, err := s.sign(ctx, object{name: name, lifetime: ttl}, http.MethodGet, http.MethodHead)
	if err != nil {
		return plan.Remote{}, fmt.Errorf("signing the download of cache object %q: %w", name, err)
	}
	return plan.Remote{URL: urls[0].url, HeadURL: urls[1].url}, nil
}

// Upload returns URLs to PUT and HEAD an object, valid as those of Download. The request that PUTs must
// carry the returned headers. key, what users call the cache, is stored beside the object as metadata;
// one that is too long for that is left out.
func (s *Store) Upload(ctx context.Context, name, key string, ttl time.Duration) (plan.Remote, error) {
	o := object{name: name, lifetime: ttl, metadata: keyMetadata(key)}
	urls, err := s.sign(ctx, o, http.MethodPut, http.MethodHead)
	if err != nil {
		return plan.Remote{}, fmt.Errorf("signing the upload of cache object %q: %w", name, err)
	}
	remote := plan.Remote{URL: urls[0].url, HeadURL: urls[1].url}
	remote.Limit, remote.Parts = s.bucket.limit()
	if len(urls[0].headers) > 0 {
		remote.Headers = urls[0].headers
	}
	return remote, nil
}

// UploadInParts is Upload for an archive that may be larger than one request takes. The caller calls abandon
// when nothing is uploaded any more, so that no parts are left behind; it does nothing to a complete object.
func (s *Store) UploadInParts(ctx context.Context, name, key string, ttl time.Duration) (remote plan.Remote, abandon func(context.Context) error, err error) {
	abandon = func(context.Context) error { return nil }
	remote, err = s.Upload(ctx, name, key, ttl)
	b, ok := s.bucket.(partsBucket)
	if err != nil || !ok {
		return remote, abandon, err
	}
	remote.Parts, abandon, err = b.parts(ctx, object{name: name, lifetime: lifetime(ttl), metadata: keyMetadata(key)})
	if err != nil {
		return plan.Remote{}, nil, fmt.Errorf("beginning the upload of cache object %q in parts: %w", name, err)
	}
	return remote, abandon, nil
}

func (s *Store) sign(ctx context.Context, o object, methods ...string) ([]signedURL, error) {
	if err := checkName(o.name); err != nil {
		return nil, err
	}
	o.lifetime = lifetime(o.lifetime)
	return s.bucket.sign(ctx, o, methods...)
}

// checkName refuses names that a service, or a client on the way to it, might take for another's.
func checkName(name string) error {
	switch {
	case name == "":
		return errors.New("the name is empty")
	case len(name) > longestName:
		return fmt.Errorf("the name has %d bytes: at most %d are possible; use a shorter cache key", len(name), longestName)
	case !utf8.ValidString(name):
		return errors.New("the name is not valid UTF-8")
	}
	segments := strings.Split(name, "/")
	for _, bad := range []string{"", ".", ".."} {
		if slices.Contains(segments, bad) {
			return fmt.Errorf("the name has a segment %q", bad)
		}
	}
	return nil
}

func lifetime(ttl time.Duration) time.Duration {
	if ttl <= 0 {
		return defaultLifetime
	}
	whole := (ttl + time.Second - 1).Truncate(time.Second)
	return min(whole, longestLifetime)
}
