package supervisor

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/net/http/httpguts"

	"gitlab.com/gitlab-org/gitlab-runner/helpers/pause"
)

const (
	callbackAttempts = 5
	// callbackPause is the pause after the first attempt; each further one is twice as long.
	callbackPause = time.Second
	// callbackTimeout bounds an attempt.
	callbackTimeout = 10 * time.Second
	// maxAnswerHeaders bounds what is read of an answer, in bytes; its body is not read.
	maxAnswerHeaders = 64 << 10
)

// ErrCallback is wrapped by what is wrong with a callback.
var ErrCallback = errors.New("the callback cannot be used")

// Callback is a request that tells of the end of a process.
type Callback struct {
	// URL is absolute, of http or https.
	URL string
	// Method is POST if it is empty.
	Method string
	// Headers may hold secrets.
	Headers map[string]string
}

// check says what is wrong with a callback before anything depends on it.
func (c Callback) check() error {
	request, err := c.request(context.Background())
	if err != nil {
		return err
	}
	if scheme := request.URL.Scheme; scheme != "http" && scheme != "https" {
		return fmt.Errorf("%w: its url has the scheme %.32q, and http and https are possible", ErrCallback, scheme)
	}
	if request.URL.Hostname() == "" {
		return fmt.Errorf("%w: its url names no host", ErrCallback)
	}
	for name, value := range c.Headers {
		if !httpguts.ValidHeaderFieldName(name) {
			return fmt.Errorf("%w: %.64q is no name of a header", ErrCallback, name)
		}
		if !httpguts.ValidHeaderFieldValue(value) {
			return fmt.Errorf("%w: the value of header %.64s has characters that are not allowed", ErrCallback, name)
		}
	}
	return nil
}

func (c Callback) request(ctx context.Context) (*http.Request, error) {
	method := c.Method
	if method == "" {
		method = http.MethodPost
	}
	request, err := http.NewRequestWithContext(ctx, method, c.URL, nil)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCallback, withoutURL(err))
	}
	for name, value := range c.Headers {
		request.Header.Set(name, value)
	}
	if host := request.Header.Get("Host"); host != "" {
		request.Host = host
	}
	return request, nil
}

// caller delivers callbacks.
type caller struct {
	http *http.Client
	log  logrus.FieldLogger
}

func newCaller(log logrus.FieldLogger) caller {
	return caller{log: log, http: &http.Client{
		Timeout: callbackTimeout,
		Transport: &http.Transport{
			Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true, MaxResponseHeaderBytes: maxAnswerHeaders,
		},
		// The headers are not for anybody else.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// deliver calls until that succeeds, it was tried often enough, or ctx ends.
func (c caller) deliver(ctx context.Context, callback Callback) {
	log := c.log.WithField("callback", callback.host())
	wait := callbackPause
	for attempt := 1; ; attempt++ {
		err := c.call(ctx, callback)
		if err == nil {
			log.Info("The callback was delivered")
			return
		}
		if attempt < callbackAttempts && ctx.Err() == nil {
			log.WithError(err).WithField("attempt", attempt).Warning("The callback failed and is tried again")
			if pause.For(ctx, wait) == nil {
				wait *= 2
				continue
			}
		}
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		log.WithError(err).WithField("attempt", attempt).Error("The callback was not delivered")
		return
	}
}

// call makes one attempt.
func (c caller) call(ctx context.Context, callback Callback) error {
	request, err := callback.request(ctx)
	if err != nil {
		return err
	}
	answer, err := c.http.Do(request)
	if err != nil {
		return withoutURL(err)
	}
	defer answer.Body.Close()
	if answer.StatusCode < 200 || answer.StatusCode > 299 {
		return fmt.Errorf("it was answered with status %d", answer.StatusCode)
	}
	return nil
}

// host is what may be logged of where a callback goes: paths and queries hold tokens, too.
func (c Callback) host() string {
	address, err := url.Parse(c.URL)
	if err != nil {
		return ""
	}
	return address.Scheme + "://" + address.Host
}

// withoutURL is an error of the standard library without the URL that it quotes.
func withoutURL(err error) error {
	if wrapped, ok := errors.AsType[*url.Error](err); ok {
		return wrapped.Err
	}
	return err
}
