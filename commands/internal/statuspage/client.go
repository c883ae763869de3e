package statuspage

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"time"

	"gitlab.com/gitlab-org/gitlab-runner/commands/manager"
)

// DefaultPort is that of an address without one.
const DefaultPort = "9252"

// WithPort adds the default port to an address that has none.
func WithPort(address string) string {
	if _, _, err := net.SplitHostPort(address); err != nil {
		return net.JoinHostPort(address, DefaultPort)
	}
	return address
}

// ErrNoManager is wrapped by the errors of calls that no manager answered.
var ErrNoManager = errors.New("no manager answers")

const (
	clientTimeout = 30 * time.Second
	// maxAnswer bounds what is read of an answer, in bytes.
	maxAnswer = 64 << 20
)

// Client asks a manager on this machine. It is safe for concurrent use.
type Client struct {
	address string
	http    *http.Client
}

// NewClient returns a client of the manager that listens on an address as listen_address has it.
func NewClient(address string) *Client {
	address = WithPort(address)
	host, port, err := net.SplitHostPort(address)
	if parsed, failed := netip.ParseAddr(host); err == nil && (host == "" || failed == nil && parsed.IsUnspecified()) {
		address = net.JoinHostPort("127.0.0.1", port)
	}
	// No proxy: what is asked is on this machine.
	return &Client{address: address, http: &http.Client{
		Timeout: clientTimeout, Transport: &http.Transport{DisableKeepAlives: true},
	}}
}

// Status returns what the manager does, and the same as it was sent.
func (c *Client) Status(ctx context.Context) (manager.Status, []byte, error) {
	var status manager.Status
	data, err := c.do(ctx, http.MethodGet, "/status.json", nil)
	if err != nil {
		return status, nil, err
	}
	if err := json.Unmarshal(data, &status); err != nil {
		return status, nil, fmt.Errorf("reading the answer of the manager at %s: %w", c.address, err)
	}
	return status, data, nil
}

// State returns how far the manager's process is on its way to its end.
func (c *Client) State(ctx context.Context) (manager.ProcessState, error) {
	data, err := c.do(ctx, http.MethodGet, "/debug/process/state", nil)
	return manager.ProcessState(bytes.TrimSpace(data)), err
}

// Act has the manager pause, resume or drain.
func (c *Client) Act(ctx context.Context, name string, action Action) (Answer, error) {
	var answer Answer
	body, err := json.Marshal(action)
	if err != nil {
		return answer, err
	}
	data, err := c.do(ctx, http.MethodPost, "/status/"+name, body)
	if err != nil {
		return answer, err
	}
	if err := json.Unmarshal(data, &answer); err != nil {
		return answer, fmt.Errorf("reading the answer of the manager at %s: %w", c.address, err)
	}
	return answer, nil
}

func (c *Client) do(ctx context.Context, method, path string, body []byte) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, method, "http://"+c.address+path, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("the address %q cannot be asked: %w", c.address, err)
	}
	request.Header.Set(ActionHeader, "fleet")
	response, err := c.http.Do(request)
	if err != nil {
		return nil, fmt.Errorf("%w at %s: is gitlab-runner run at work, with this listen_address? %w", ErrNoManager, c.address, err)
	}
	defer response.Body.Close()
	data, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err != nil {
		return nil, fmt.Errorf("reading the answer of the manager at %s: %w", c.address, err)
	}
	if response.StatusCode == http.StatusOK {
		return data, nil
	}
	var answer Answer
	if json.Unmarshal(data, &answer) != nil || answer.Error == "" {
		return nil, fmt.Errorf("%w at %s: what listens there answers %s", ErrNoManager, c.address, response.Status)
	}
	return nil, fmt.Errorf("the manager at %s refused: %s", c.address, answer.Error)
}
