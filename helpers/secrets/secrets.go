// Package secrets fetches secrets from where they are kept: HashiCorp Vault and OpenBao, GitLab's own secrets
// manager, Google Cloud, Azure and AWS. Each is spoken to over its public API with a token that the job was given.
//
// It guarantees that what it reads is bounded, that a call ends with its context, and that no token and no value of
// a secret is in an error.
//
// The domain imports it. It imports nothing of ours and knows nothing of jobs.
package secrets

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// ErrNotFound says that the provider was reached and has no such secret, or no such field in it.
var ErrNotFound = errors.New("secret not found")

// ErrUnknownProvider says that nothing is known of a provider.
var ErrUnknownProvider = errors.New("no resolver that can handle the secret")

// Refusal is a provider's answer that is no success.
type Refusal struct {
	// Status is an HTTP status.
	Status int
	// Message is what the provider said, shortened.
	Message string
}

func (e *Refusal) Error() string {
	text := strings.TrimSpace(fmt.Sprintf("%d %s", e.Status, http.StatusText(e.Status)))
	if e.Message == "" {
		return text
	}
	return text + ": " + e.Message
}

// UnreachableError says that a provider gave no answer.
type UnreachableError struct{ Err error }

func (e *UnreachableError) Error() string { return "the provider cannot be reached: " + e.Err.Error() }

// Unwrap returns what went wrong on the way.
func (e *UnreachableError) Unwrap() error { return e.Err }

// Client fetches secrets. It is safe for concurrent use.
type Client struct {
	// HTTP is used for all calls.
	HTTP *http.Client
	// SessionName names the job to AWS, where the secret does not.
	SessionName string
	// Endpoints replaces the addresses of public clouds, by their hosts; nil replaces none.
	Endpoints map[string]string
}

const (
	callTimeout = time.Minute
	answerLimit = 4 << 20
	// messageLimit bounds what of a refusal is told, in bytes.
	messageLimit = 300
)

// NewClient returns a client.
func NewClient(sessionName string) *Client {
	return &Client{HTTP: &http.Client{Timeout: callTimeout, CheckRedirect: keepEncrypted}, SessionName: sessionName}
}

// maxRedirects is how often a server may name another one, as Vault's standby servers name their leader.
const maxRedirects = 3

// keepEncrypted lets no redirect take a token out of HTTPS.
func keepEncrypted(request *http.Request, via []*http.Request) error {
	if len(via) > maxRedirects {
		return errors.New("too many redirects")
	}
	if via[0].URL.Scheme == "https" && request.URL.Scheme != "https" {
		return errors.New("a redirect leads from https to http")
	}
	return nil
}

// Providers are the keys that Fetch knows.
func Providers() []string {
	return []string{"vault", "gcp_secret_manager", "azure_key_vault", "aws_secrets_manager", "gitlab_secrets_manager"}
}

// Fetch returns the value of a secret. description is what the provider's key holds in GitLab's payload. Errors
// wrap ErrNotFound, ErrUnknownProvider, *Refusal or *UnreachableError where that is the reason.
func (c *Client) Fetch(ctx context.Context, provider string, description json.RawMessage) (string, error) {
	switch provider {
	case "vault":
		return fetch(ctx, description, c.fromVault)
	case "gitlab_secrets_manager":
		return fetch(ctx, description, c.fromGitLab)
	case "gcp_secret_manager":
		return fetch(ctx, description, c.fromGoogle)
	case "azure_key_vault":
		return fetch(ctx, description, c.fromAzure)
	case "aws_secrets_manager":
		return fetch(ctx, description, c.fromAWS)
	default:
		return "", fmt.Errorf("%w: %q", ErrUnknownProvider, provider)
	}
}

func fetch[T any](ctx context.Context, description json.RawMessage, get func(context.Context, T) (string, error)) (string, error) {
	var wanted T
	if err := json.Unmarshal(description, &wanted); err != nil {
		return "", fmt.Errorf("reading the description of a secret: %w", err)
	}
	return get(ctx, wanted)
}

// Expand returns a description with every text in it replaced.
func Expand(description json.RawMessage, expand func(string) string) (json.RawMessage, error) {
	var tree any
	decoder := json.NewDecoder(bytes.NewReader(description))
	decoder.UseNumber()
	if err := decoder.Decode(&tree); err != nil {
		return nil, fmt.Errorf("reading the description of a secret: %w", err)
	}
	return json.Marshal(expanded(tree, expand))
}

func expanded(node any, expand func(string) string) any {
	switch node := node.(type) {
	case string:
		return expand(node)
	case []any:
		for i := range node {
			node[i] = expanded(node[i], expand)
		}
	case map[string]any:
		for key := range node {
			node[key] = expanded(node[key], expand)
		}
	}
	return node
}

// call makes a call and decodes the answer into out.
func (c *Client) call(ctx context.Context, request *http.Request, out any) error {
	answer, err := c.HTTP.Do(request.WithContext(ctx))
	if err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		var detail *url.Error
		if errors.As(err, &detail) {
			// Its text has the address, whose query might hold something.
			err = detail.Err
		}
		return &UnreachableError{fmt.Errorf("%s: %w", request.URL.Host, err)}
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(io.LimitReader(answer.Body, answerLimit))
	if err != nil {
		return &UnreachableError{fmt.Errorf("%s: %w", request.URL.Host, err)}
	}
	if answer.StatusCode/100 != 2 {
		return &Refusal{Status: answer.StatusCode, Message: complaint(body)}
	}
	if err := json.Unmarshal(body, out); err != nil {
		return fmt.Errorf("the answer of %s is no JSON", request.URL.Host)
	}
	return nil
}

// complaint is what a refusal says, in the forms that providers have. Anything else is not shown: a job may
// have named a server that is no provider at all, and it is none of its business what that answers.
func complaint(body []byte) string {
	var answer struct {
		Errors      []string        `json:"errors"`
		Error       json.RawMessage `json:"error"`
		Description string          `json:"error_description"`
	}
	if json.Unmarshal(body, &answer) != nil {
		return ""
	}
	said := strings.Join(answer.Errors, "; ")
	var nested struct {
		Message string `json:"message"`
	}
	switch {
	case said != "":
	case answer.Description != "":
		said = answer.Description
	case json.Unmarshal(answer.Error, &nested) == nil && nested.Message != "":
		said = nested.Message
	default:
		_ = json.Unmarshal(answer.Error, &said)
	}
	said = strings.Join(strings.Fields(said), " ")
	return strings.ToValidUTF8(said[:min(len(said), messageLimit)], "")
}

// post makes a call with a form or, given anything else, with JSON.
func (c *Client) post(ctx context.Context, address string, header http.Header, body, out any) error {
	var data []byte
	kind := "application/json"
	if form, ok := body.(url.Values); ok {
		data, kind = []byte(form.Encode()), "application/x-www-form-urlencoded"
	} else {
		var err error
		if data, err = json.Marshal(body); err != nil {
			return fmt.Errorf("encoding a request: %w", err)
		}
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, address, bytes.NewReader(data))
	if err != nil {
		return fmt.Errorf("the address of the provider: %w", err)
	}
	if header != nil {
		request.Header = header.Clone()
	}
	request.Header.Set("Content-Type", kind)
	return c.call(ctx, request, out)
}

func (c *Client) get(ctx context.Context, address string, header http.Header, out any) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return fmt.Errorf("the address of the provider: %w", err)
	}
	request.Header = header
	return c.call(ctx, request, out)
}

// at is the address of a public cloud's host.
func (c *Client) at(host string) string {
	if other := c.Endpoints[host]; other != "" {
		return other
	}
	return "https://" + host
}

// missing turns the answer that there is no such thing into ErrNotFound.
func missing(err error) error {
	var refusal *Refusal
	if errors.As(err, &refusal) && refusal.Status == http.StatusNotFound {
		return fmt.Errorf("%w: %w", ErrNotFound, err)
	}
	return err
}

// text is a field of a secret as a variable has it.
func text(field json.RawMessage) string {
	var value string
	if json.Unmarshal(field, &value) == nil {
		return value
	}
	return string(field)
}
