package secrets

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"path"
	"strings"
)

// engine is a secrets engine of Vault.
type engine struct {
	Name string `json:"name"`
	Path string `json:"path"`
}

// vaultSecret is a field of a secret in Vault.
type vaultSecret struct {
	Server struct {
		URL       string `json:"url"`
		Namespace string `json:"namespace"`
		Auth      struct {
			Name string                     `json:"name"`
			Path string                     `json:"path"`
			Data map[string]json.RawMessage `json:"data"`
		} `json:"auth"`
	} `json:"server"`
	Engine engine `json:"engine"`
	Path   string `json:"path"`
	Field  string `json:"field"`
}

const namespaceHeader = "X-Vault-Namespace"

func (c *Client) fromVault(ctx context.Context, s vaultSecret) (string, error) {
	header := http.Header{"X-Vault-Request": {"true"}}
	if s.Server.Namespace != "" {
		header.Set(namespaceHeader, s.Server.Namespace)
	}
	method := s.Server.Auth.Path
	if method == "" {
		method = s.Server.Auth.Name
	}
	var login struct {
		Auth struct {
			ClientToken string `json:"client_token"`
		} `json:"auth"`
	}
	address, err := apiPath(s.Server.URL, "auth", method, "login")
	if err != nil {
		return "", err
	}
	if err := c.post(ctx, address, header, s.Server.Auth.Data, &login); err != nil {
		return "", fmt.Errorf("logging in to Vault: %w", err)
	}
	header.Set("X-Vault-Token", login.Auth.ClientToken)
	return c.read(ctx, s.Server.URL, header, s.Engine, s.Path, s.Field)
}

// gitlabSecret is a secret of GitLab's own manager, which is an OpenBao.
type gitlabSecret struct {
	Server struct {
		URL        string `json:"url"`
		Namespace  string `json:"namespace"`
		InlineAuth struct {
			Path      string `json:"path"`
			JWT       string `json:"jwt"`
			Role      string `json:"role"`
			AuthMount string `json:"auth_mount"`
		} `json:"inline_auth"`
	} `json:"server"`
	Engine engine `json:"engine"`
	Path   string `json:"path"`
	Field  string `json:"field"`
}

// The headers by which OpenBao is asked and told who asks in one call.
const (
	inlinePath      = "X-Vault-Inline-Auth-Path"
	inlineParameter = "X-Vault-Inline-Auth-Parameter-"
)

func (c *Client) fromGitLab(ctx context.Context, s gitlabSecret) (string, error) {
	auth := s.Server.InlineAuth
	login := auth.Path
	if login == "" {
		login = path.Join("auth", auth.AuthMount, "login")
	}
	header := http.Header{"X-Vault-Request": {"true"}}
	header.Set(inlinePath, login)
	if s.Server.Namespace != "" {
		header.Set(namespaceHeader, s.Server.Namespace)
	}
	for name, value := range map[string]string{"jwt": auth.JWT, "role": auth.Role} {
		if value == "" {
			continue
		}
		parameter, err := json.Marshal(map[string]string{"key": name, "value": value})
		if err != nil {
			return "", fmt.Errorf("encoding a request: %w", err)
		}
		header.Set(inlineParameter+name, base64.RawURLEncoding.EncodeToString(parameter))
	}
	return c.read(ctx, s.Server.URL, header, s.Engine, s.Path, s.Field)
}

// read reads a field of a secret from one of the engines of keys and values.
func (c *Client) read(ctx context.Context, server string, header http.Header, e engine, secret, field string) (string, error) {
	parts := []string{e.Path, secret}
	switch e.Name {
	case "kv-v2":
		parts = []string{e.Path, "data", secret}
	case "kv-v1", "generic":
	default:
		return "", fmt.Errorf("secrets engine %q is not known: use kv-v1, kv-v2 or generic", e.Name)
	}
	address, err := apiPath(server, parts...)
	if err != nil {
		return "", err
	}
	var answer struct {
		Data map[string]json.RawMessage `json:"data"`
	}
	if err := c.get(ctx, address, header, &answer); err != nil {
		return "", fmt.Errorf("reading secret %q: %w", secret, missing(err))
	}
	fields := answer.Data
	if e.Name == "kv-v2" {
		fields = nil
		if err := json.Unmarshal(answer.Data["data"], &fields); err != nil && len(answer.Data["data"]) > 0 {
			return "", fmt.Errorf("reading secret %q: its data are no object", secret)
		}
	}
	value, found := fields[field]
	if !found {
		return "", fmt.Errorf("%w: secret %q has no field %q", ErrNotFound, secret, field)
	}
	return text(value), nil
}

// apiPath is an address in Vault's API. A part that climbs is refused: it would leave its engine.
func apiPath(server string, parts ...string) (string, error) {
	address := strings.TrimRight(server, "/") + "/v1"
	for _, part := range parts {
		for segment := range strings.SplitSeq(strings.Trim(part, "/"), "/") {
			switch segment {
			case "", ".":
				continue
			case "..":
				return "", fmt.Errorf("the path %q leads out of Vault's API", part)
			}
			address += "/" + url.PathEscape(segment)
		}
	}
	return address, nil
}
