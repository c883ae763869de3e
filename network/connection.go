package network

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/sirupsen/logrus"
)

const (
	dialTimeout           = 30 * time.Second
	keepAlive             = 30 * time.Second
	idleTimeout           = 90 * time.Second
	tlsHandshakeTimeout   = 10 * time.Second
	expectContinueTimeout = time.Second
	maxIdleConnections    = 100

	defaultResponseHeaderTimeout = 10 * time.Minute
	defaultRequestTimeout        = 60 * time.Minute

	maxRedirects = 10
)

// The headers, in canonical form as they are keys of an http.Header.
const (
	headerRequestID   = "X-Request-Id"
	headerRunnerToken = "Runner-Token"
	headerJobToken    = "Job-Token"
	headerPAT         = "Private-Token"
	headerLastUpdate  = "X-Gitlab-Last-Update"
	headerJobStatus   = "Job-Status"
	headerInterval    = "X-Gitlab-Trace-Update-Interval"
)

type redirectPolicy int

const (
	// redirectsSame follows what keeps the method and does not give up encryption.
	redirectsSame redirectPolicy = iota
	// redirectsNone hands a redirect to the caller.
	redirectsNone
	// redirectsFollow is for downloads: another host does not get the token.
	redirectsFollow
)

// request is one call, as far as it does not depend on the server's address.
type request struct {
	method string
	path   string
	query  url.Values
	header http.Header
	// body returns the content from its beginning, once per attempt. Nil for none.
	body func() (io.ReadCloser, error)
	// size is that of the body, negative or 0 if it is not known.
	size                  int64
	timeout               time.Duration
	responseHeaderTimeout time.Duration
	redirects             redirectPolicy

	// endpoint and systemID label the metrics; without an endpoint there are none.
	endpoint string
	systemID string
}

// connection is the way to one server with one set of credentials.
type connection struct {
	base                  *url.URL
	files                 tlsFiles
	maxAge                time.Duration
	responseHeaderTimeout time.Duration
	log                   logrus.FieldLogger
	dial                  dialFunc

	mu         sync.Mutex
	transport  *http.Transport
	loaded     tlsState
	recycledAt time.Time
	lastUpdate string
}

// current returns the transport to use now: a new one if a TLS file changed since the former was made.
func (c *connection) current() (*http.Transport, tlsMaterial) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	if stamp := c.files.stamp(); c.transport == nil || stamp != c.loaded.stamp {
		if c.transport != nil {
			c.transport.CloseIdleConnections()
		}
		c.loaded = c.files.load(stamp, c.log)
		c.transport = c.newTransport()
		c.recycledAt = now
	}
	if c.maxAge > 0 && now.Sub(c.recycledAt) >= c.maxAge {
		c.transport.CloseIdleConnections()
		c.recycledAt = now
	}
	return c.transport, c.loaded.material
}

func (c *connection) newTransport() *http.Transport {
	timeout := c.responseHeaderTimeout
	if timeout <= 0 {
		timeout = defaultResponseHeaderTimeout
	}
	return &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           c.dial,
		TLSClientConfig:       c.loaded.material.config(),
		MaxIdleConns:          maxIdleConnections,
		MaxIdleConnsPerHost:   maxIdleConnections,
		IdleConnTimeout:       idleTimeout,
		TLSHandshakeTimeout:   tlsHandshakeTimeout,
		ExpectContinueTimeout: expectContinueTimeout,
		ResponseHeaderTimeout: timeout,
	}
}

func (c *connection) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.transport != nil {
		c.transport.CloseIdleConnections()
	}
}

func (c *connection) lastUpdateSeen() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.lastUpdate
}

func (c *connection) rememberLastUpdate(header http.Header) {
	if value := header.Get(headerLastUpdate); value != "" {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.lastUpdate = value
	}
}

// httpAnswer adds to an answer whether the server pushed back before it.
type httpAnswer struct {
	*http.Response
	pushedBack bool
}

// attempt sends the request once.
func (c *connection) attempt(ctx context.Context, r request, target *url.URL, header http.Header) (*httpAnswer, error) {
	transport, _ := c.current()
	var body io.ReadCloser
	if r.body != nil {
		var err error
		if body, err = r.body(); err != nil {
			return nil, err
		}
	}
	req, err := http.NewRequestWithContext(ctx, r.method, target.String(), body)
	if err != nil {
		return nil, fmt.Errorf("creating the request: %w", cleanError(err))
	}
	req.Header = header.Clone()
	if r.body != nil {
		req.ContentLength = max(r.size, 0)
		if r.size <= 0 {
			req.ContentLength = -1
		}
		req.GetBody = r.body
	}
	timeout := r.timeout
	if timeout <= 0 {
		timeout = defaultRequestTimeout
	}
	client := &http.Client{Transport: transport, Timeout: timeout, CheckRedirect: r.redirects.check}
	response, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	return &httpAnswer{Response: response}, nil
}

// check is asked by the HTTP client before it follows a redirect.
func (p redirectPolicy) check(next *http.Request, via []*http.Request) error {
	if p != redirectsNone && len(via) >= maxRedirects {
		return errors.New("stopped after too many redirects")
	}
	first, last := via[0], via[len(via)-1]
	switch {
	case p == redirectsSame && next.Method == first.Method && !downgrades(last.URL, next.URL):
		return nil
	case p == redirectsFollow:
		if next.URL.Host != first.URL.Host || downgrades(last.URL, next.URL) {
			next.Header.Del(headerJobToken)
		}
		return nil
	default:
		return http.ErrUseLastResponse
	}
}

func downgrades(from, to *url.URL) bool { return from.Scheme == "https" && to.Scheme != "https" }
