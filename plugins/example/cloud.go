package example

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
)

// maxAnswer bounds what is read of an answer, in bytes.
const maxAnswer = 4 << 20

var errNoMachine = errors.New("there is no such machine")

// machine is what the cloud says of one.
type machine struct {
	ID       string `json:"id"`
	State    string `json:"state"`
	Address  string `json:"address"`
	Username string `json:"username"`
	Password string `json:"password"`
	HostKey  string `json:"host_key"`
}

// cloud is a client of the imagined cloud. A real one has an SDK, which does this better.
type cloud struct {
	endpoint string
	token    string
	client   *http.Client
}

func (c cloud) list(ctx context.Context, group string) ([]machine, error) {
	var machines []machine
	err := c.call(ctx, http.MethodGet, "/groups/"+url.PathEscape(group)+"/machines", &machines)
	return machines, err
}

func (c cloud) create(ctx context.Context, group string) error {
	return c.call(ctx, http.MethodPost, "/groups/"+url.PathEscape(group)+"/machines", nil)
}

func (c cloud) get(ctx context.Context, id string) (machine, error) {
	var m machine
	err := c.call(ctx, http.MethodGet, "/machines/"+url.PathEscape(id), &m)
	return m, err
}

func (c cloud) remove(ctx context.Context, id string) error {
	return c.call(ctx, http.MethodDelete, "/machines/"+url.PathEscape(id), nil)
}

// call makes a request and decodes its answer into out, if that is not nil.
func (c cloud) call(ctx context.Context, method, path string, out any) error {
	request, err := http.NewRequestWithContext(ctx, method, c.endpoint+path, nil)
	if err != nil {
		return err
	}
	request.Header.Set("Authorization", "Bearer "+c.token)
	answer, err := c.client.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	body := io.LimitReader(answer.Body, maxAnswer)
	switch {
	case answer.StatusCode == http.StatusNotFound:
		return errNoMachine
	case answer.StatusCode >= http.StatusMultipleChoices:
		return fmt.Errorf("the cloud answers %s", answer.Status)
	case out == nil:
		return nil
	}
	if err := json.NewDecoder(body).Decode(out); err != nil {
		return fmt.Errorf("reading the cloud's answer: %w", err)
	}
	return nil
}
