package network

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"gitlab.com/gitlab-org/gitlab-runner/common/config"
	"gitlab.com/gitlab-org/gitlab-runner/helpers/version"
)

// The classes of errors that callers tell apart; errors of this package wrap one of them or none.
var (
	// ErrForbidden: the server does not accept the token.
	ErrForbidden = errors.New("forbidden")
	// ErrClient: no request could be made because of the URL that is configured.
	ErrClient = errors.New("client error")
	// ErrUnavailable: the server is there and cannot serve anybody now.
	ErrUnavailable = errors.New("GitLab instance currently unavailable")
)

// DefaultConnectionMaxAge is how long idle connections are kept when the configuration does not say.
const DefaultConnectionMaxAge = 15 * time.Minute

// Options are what a Client needs.
type Options struct {
	Version version.Info
	// CertsDir holds certificates for servers by host name; empty for none.
	CertsDir string
	// ConnectionMaxAge is after how long idle connections are given up, so that a server that moved is
	// found again. 0 keeps them.
	ConnectionMaxAge time.Duration
	Logger           logrus.FieldLogger
	// Recorder is told of every request. Nil for nobody.
	Recorder Recorder
}

// Recorder counts requests. Its methods are called from many goroutines and must return at once.
type Recorder interface {
	// RequestDone is called after a request and all its repetitions.
	RequestDone(sample RequestSample)
	// RequestAttempts is told how often a request was sent until it was answered for good. Numbers in
	// path are replaced by {id}.
	RequestAttempts(method, path string, attempts int)
}

// RequestSample describes a request that was done. Status is negative if no answer came.
type RequestSample struct {
	// Endpoint is request_job, update_job, patch_trace or reset_token.
	Endpoint string
	Method   string
	// Runner is the short token of the runner.
	Runner   string
	SystemID string
	Status   int
	Duration time.Duration
}

// Client speaks to any number of GitLab servers. It is safe for concurrent use.
type Client struct {
	version  version.Info
	certsDir string
	maxAge   time.Duration
	log      logrus.FieldLogger
	recorder Recorder
	dial     dialFunc

	mu          sync.Mutex
	connections map[connectionKey]*connection
}

type dialFunc func(ctx context.Context, network, address string) (net.Conn, error)

// connectionKey tells connections apart. What a server says about the state of its queue belongs to
// one token, so the token is part of the key.
type connectionKey struct {
	Credentials
	responseHeaderTimeout time.Duration
}

// New returns a Client. Close it when it is no longer needed.
func New(o Options) *Client {
	return &Client{
		version: o.Version, certsDir: o.CertsDir, maxAge: o.ConnectionMaxAge,
		log: o.Logger, recorder: o.Recorder,
		dial:        (&net.Dialer{Timeout: dialTimeout, KeepAlive: keepAlive}).DialContext,
		connections: map[connectionKey]*connection{},
	}
}

// Close gives up all idle connections. Requests under way are not disturbed.
func (c *Client) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for key, conn := range c.connections {
		conn.close()
		delete(c.connections, key)
	}
}

func (c *Client) connection(key connectionKey) (*connection, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if conn, ok := c.connections[key]; ok {
		return conn, nil
	}
	base, err := baseURL(key.URL)
	if err != nil {
		return nil, err
	}
	conn := &connection{
		base: base, maxAge: c.maxAge, log: c.log, dial: c.dial,
		files:                 tlsFilesFor(key.Credentials, c.certsDir, base.Hostname()),
		responseHeaderTimeout: key.responseHeaderTimeout,
	}
	c.connections[key] = conn
	return conn, nil
}

// baseURL turns the url of a runner entry into the one that all endpoints are relative to.
func baseURL(configured string) (*url.URL, error) {
	text := strings.TrimSuffix(strings.TrimRight(configured, "/"), "/ci")
	base, err := url.Parse(text + "/api/v4/")
	if err != nil {
		return nil, fmt.Errorf("%w: url is not usable: %w", ErrClient, cleanError(err))
	}
	if base.Scheme != "http" && base.Scheme != "https" {
		return nil, fmt.Errorf("%w: only http and https are supported in url, not %q", ErrClient, base.Scheme)
	}
	if base.Host == "" {
		return nil, fmt.Errorf("%w: url names no host", ErrClient)
	}
	return base, nil
}

// cleanURL removes all that may be secret from a URL.
func cleanURL(u *url.URL) string {
	clean := *u
	clean.User, clean.RawQuery, clean.ForceQuery, clean.Fragment, clean.RawFragment = nil, "", false, "", ""
	return clean.String()
}

// cleanText is cleanURL for a text, empty for one that is no URL.
func cleanText(text string) string {
	u, err := url.Parse(text)
	if err != nil {
		return ""
	}
	return cleanURL(u)
}

// cleanError takes the URL out of an error, which may carry credentials or a signature.
func cleanError(err error) error {
	var withURL *url.Error
	if errors.As(err, &withURL) {
		return withURL.Err
	}
	return err
}

func shortToken(token string) string { return config.ShortToken(token) }

func (c *Client) record(r request, cred Credentials, status int, began time.Time) {
	if c.recorder == nil || r.endpoint == "" {
		return
	}
	c.recorder.RequestDone(RequestSample{
		Endpoint: r.endpoint, Method: r.method, Runner: shortToken(cred.Token), SystemID: r.systemID,
		Status: status, Duration: time.Since(began),
	})
}

// stream sends a request and returns the answer with its body unread. The caller closes it.
func (c *Client) stream(ctx context.Context, cred Credentials, r request) *answer {
	began := time.Now()
	a := c.send(ctx, cred, r)
	c.record(r, cred, a.status, began)
	return a
}

func (c *Client) send(ctx context.Context, cred Credentials, r request) *answer {
	a := &answer{method: r.method, url: cleanText(cred.URL), status: statusNoAnswer, correlationID: requestID()}
	conn, err := c.connection(connectionKey{cred, r.responseHeaderTimeout})
	if err != nil {
		a.status, a.err = statusClientError, err
		return a
	}
	target := conn.base.ResolveReference(&url.URL{Path: r.path, RawQuery: r.query.Encode()})
	a.url = cleanURL(target)
	header := r.header.Clone()
	if header == nil {
		header = map[string][]string{}
	}
	header.Set("User-Agent", c.version.UserAgent())
	header.Set(headerRequestID, a.correlationID)

	attempt := func() (*httpAnswer, error) { return conn.attempt(ctx, r, target, header) }
	got, attempts, err := withRetries(ctx, attempt)
	if c.recorder != nil {
		c.recorder.RequestAttempts(r.method, metricPath(target.Path), attempts)
	}
	a.retried = got.pushedBack
	if err != nil {
		a.err = fmt.Errorf("%s %s: %w", a.method, a.url, cleanError(err))
		return a
	}
	a.status, a.header, a.body, a.tls = got.StatusCode, got.Header, got.Body, got.TLS
	if id := a.header.Get(headerRequestID); id != "" {
		a.correlationID = id
	}
	a.conn = conn
	return a
}
