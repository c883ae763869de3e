package cache

import (
	"context"
	"crypto/rand"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net"
	"net/http"
	"net/url"
	"os"
	"time"

	"gitlab.com/gitlab-org/gitlab-runner/apps/gitlab-runner-helper/internal/meter"
	"gitlab.com/gitlab-org/gitlab-runner/apps/gitlab-runner-helper/internal/retry"
	"gitlab.com/gitlab-org/gitlab-runner/common/plan"
)

const (
	maxErrorBody  = 4 << 10
	contentType   = "application/octet-stream"
	dialTimeout   = 30 * time.Second
	tlsTimeout    = 10 * time.Second
	headerTimeout = 30 * time.Second
)

var (
	errNotModified = errors.New("the local archive is up to date")
	errMissing     = errors.New("file does not exist")
	errSuperseded  = errors.New("the alternate is newer")
)

// usable says why a remote cannot be used.
func usable(r *plan.Remote) error {
	if r.URL != "" {
		return nil
	}
	return errors.New("the distributed cache has no URL")
}

// remote is one object in an object store, reached by signed URLs.
type remote struct {
	plan   *plan.Remote
	client *http.Client
	meter  meter.Meter
	policy retry.Policy
}

func newRemote(r *plan.Remote, limit time.Duration, m meter.Meter, policy retry.Policy) *remote {
	return &remote{plan: r, meter: m, policy: policy, client: &http.Client{
		Timeout: limit,
		Transport: &http.Transport{
			Proxy:                 http.ProxyFromEnvironment,
			DialContext:           (&net.Dialer{Timeout: dialTimeout}).DialContext,
			TLSHandshakeTimeout:   tlsTimeout,
			ResponseHeaderTimeout: headerTimeout,
			DisableCompression:    true,
		},
	}}
}

func (r *remote) close() {
	r.client.CloseIdleConnections()
}

// name is the URL without what makes it valid.
func (r *remote) name() string {
	u, err := url.Parse(r.plan.URL)
	if err != nil {
		return "an invalid URL"
	}
	u.User, u.RawQuery, u.Fragment = nil, "", ""
	return u.String()
}

// fetch downloads the object to a new file in dir, unless it is not newer than local. An object that
// does not say its time is always fetched. An object that is older than its alternate, of whose time alternate
// tells unless it is nil, is superseded.
func (r *remote) fetch(ctx context.Context, dir *os.Root, local time.Time, alternate func() time.Time) (temporary string, modified time.Time, err error) {
	err = r.retry(ctx, func() error {
		temporary, modified, err = r.fetchOnce(ctx, dir, local, alternate)
		return err
	})
	return temporary, modified, err
}

func (r *remote) fetchOnce(ctx context.Context, dir *os.Root, local time.Time, alternate func() time.Time) (temporary string, modified time.Time, err error) {
	header := http.Header{}
	if !local.IsZero() {
		header.Set("If-Modified-Since", local.UTC().Format(http.TimeFormat))
	}
	answer, err := r.do(ctx, http.MethodGet, r.plan.URL, header, nil, 0)
	if err != nil {
		return "", time.Time{}, err
	}
	defer answer.Body.Close()
	if answer.StatusCode == http.StatusNotModified {
		return "", time.Time{}, errNotModified
	}
	if err := problem(answer); err != nil {
		return "", time.Time{}, err
	}
	modified = timeIn(answer.Header, "Last-Modified")
	if !modified.IsZero() && !local.IsZero() && !modified.After(local) {
		return "", time.Time{}, errNotModified
	}
	if alternate != nil && !modified.IsZero() && alternate().After(modified) {
		return "", time.Time{}, errSuperseded
	}
	temporary = ".download-" + rand.Text()
	f, err := dir.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return "", time.Time{}, fmt.Errorf("making a temporary file: %w", err)
	}
	progress := r.meter.Begin("Downloading cache", answer.ContentLength)
	_, err = io.Copy(f, transport{progress.Reader(answer.Body)})
	progress.End()
	if err := errors.Join(err, f.Close()); err != nil {
		_ = dir.Remove(temporary)
		return "", time.Time{}, err
	}
	return temporary, modified, nil
}

// head asks about the object. ok is false if it is not there, or there is no way to find out.
func (r *remote) head(ctx context.Context) (header http.Header, ok bool) {
	if r.plan.HeadURL == "" {
		return nil, false
	}
	answer, err := r.do(ctx, http.MethodHead, r.plan.HeadURL, nil, nil, 0)
	if err != nil {
		return nil, false
	}
	defer answer.Body.Close()
	return answer.Header, answer.StatusCode/100 == 2
}

// modified is the object's time, zero if it is not there or does not tell.
func (r *remote) modified(ctx context.Context) time.Time {
	header, ok := r.head(ctx)
	if !ok {
		return time.Time{}
	}
	return timeIn(header, "Last-Modified")
}

// store uploads an archive and returns the object store's time after that, zero if it did not tell.
func (r *remote) store(ctx context.Context, f io.ReaderAt, info fs.FileInfo) (stored time.Time, err error) {
	header := http.Header{}
	header.Set("Content-Type", contentType)
	header.Set("Last-Modified", info.ModTime().UTC().Format(http.TimeFormat))
	progress := r.meter.Begin("Uploading cache", info.Size())
	defer progress.End()
	if r.plan.Limit > 0 && info.Size() > r.plan.Limit {
		return r.storeParts(ctx, f, info.Size(), progress)
	}
	err = r.retry(ctx, func() error {
		progress.Restart()
		answer, err := r.do(ctx, http.MethodPut, r.plan.URL, header, progress.Reader(io.NewSectionReader(f, 0, info.Size())), info.Size())
		if err != nil {
			return err
		}
		defer answer.Body.Close()
		stored = timeIn(answer.Header, "Date")
		return problem(answer)
	})
	return stored, err
}

// timeIn is a time that the object store tells, zero if it does not.
func timeIn(header http.Header, key string) time.Time {
	at, err := http.ParseTime(header.Get(key))
	if err != nil {
		return time.Time{}
	}
	return at
}

// do sends a request with the plan's headers before the given ones.
func (r *remote) do(ctx context.Context, method, address string, header http.Header, body io.Reader, size int64) (*http.Response, error) {
	all := http.Header{}
	maps.Copy(all, header)
	for key, values := range r.plan.Headers {
		all[http.CanonicalHeaderKey(key)] = values
	}
	return r.send(ctx, method, address, all, body, size)
}

// send sends a request with just the given headers.
func (r *remote) send(ctx context.Context, method, address string, header http.Header, body io.Reader, size int64) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, method, address, body)
	if err != nil {
		return nil, errors.New("the URL of the distributed cache is not valid")
	}
	request.ContentLength = size
	if size == 0 {
		request.Body = nil
	}
	maps.Copy(request.Header, header)
	answer, err := r.client.Do(request)
	var inURL *url.Error
	if errors.As(err, &inURL) {
		// Its text would show the URL with its signature.
		return nil, &temporaryError{inURL.Err}
	}
	return answer, err
}

// temporaryError is worth another try.
type temporaryError struct{ error }

func (e *temporaryError) Unwrap() error { return e.error }

// transport makes errors of reading an answer temporary ones.
type transport struct{ r io.Reader }

func (t transport) Read(p []byte) (int, error) {
	n, err := t.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = &temporaryError{err}
	}
	return n, err
}

func (r *remote) retry(ctx context.Context, do func() error) error {
	return r.policy.Do(ctx, func() {}, func() (again bool, err error) {
		err = do()
		var temporary *temporaryError
		return errors.As(err, &temporary), err
	})
}

// problem returns what an answer that is not a success says.
func problem(answer *http.Response) error {
	if answer.StatusCode/100 == 2 {
		return nil
	}
	if answer.StatusCode == http.StatusNotFound {
		return errMissing
	}
	err := fmt.Errorf("the object store answered %q", answer.Status)
	var detail struct {
		Code    string `xml:"Code"`
		Message string `xml:"Message"`
	}
	if xml.NewDecoder(io.LimitReader(answer.Body, maxErrorBody)).Decode(&detail) == nil && detail.Code != "" {
		err = fmt.Errorf("%w: %s: %s", err, detail.Code, detail.Message)
	}
	if answer.StatusCode >= 500 {
		return &temporaryError{err}
	}
	return err
}
