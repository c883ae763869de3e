package secrets

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

// azureSecret is a secret in an Azure Key Vault.
type azureSecret struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	Server  struct {
		ClientID string `json:"client_id"`
		TenantID string `json:"tenant_id"`
		JWT      string `json:"jwt"`
		URL      string `json:"url"`
	} `json:"server"`
}

const keyVaultVersion = "7.4"

func (c *Client) fromAzure(ctx context.Context, s azureSecret) (string, error) {
	var token struct {
		AccessToken string `json:"access_token"`
	}
	address := c.at("login.microsoftonline.com") + "/" + url.PathEscape(s.Server.TenantID) + "/oauth2/v2.0/token"
	err := c.post(ctx, address, nil, url.Values{
		"grant_type":            {"client_credentials"},
		"client_id":             {s.Server.ClientID},
		"client_assertion_type": {"urn:ietf:params:oauth:client-assertion-type:jwt-bearer"},
		"client_assertion":      {s.Server.JWT},
		"scope":                 {"https://vault.azure.net/.default"},
	}, &token)
	if err != nil {
		return "", fmt.Errorf("exchanging the job's token with Azure: %w", err)
	}
	address = strings.TrimRight(s.Server.URL, "/") + "/secrets/" + url.PathEscape(s.Name)
	if s.Version != "" {
		address += "/" + url.PathEscape(s.Version)
	}
	var answer struct {
		Value string `json:"value"`
	}
	header := http.Header{"Authorization": {"Bearer " + token.AccessToken}}
	if err := c.get(ctx, address+"?api-version="+keyVaultVersion, header, &answer); err != nil {
		return "", fmt.Errorf("reading secret %q: %w", s.Name, missing(err))
	}
	return answer.Value, nil
}
