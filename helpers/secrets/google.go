package secrets

import (
	"context"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
)

// googleSecret is a version of a secret in Google Cloud.
type googleSecret struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	Server  struct {
		ProjectNumber string `json:"project_number"`
		Pool          string `json:"workload_identity_federation_pool_id"`
		Provider      string `json:"workload_identity_federation_provider_id"`
		JWT           string `json:"jwt"`
	} `json:"server"`
}

func (c *Client) fromGoogle(ctx context.Context, s googleSecret) (string, error) {
	audience := fmt.Sprintf("//iam.googleapis.com/projects/%s/locations/global/workloadIdentityPools/%s/providers/%s",
		s.Server.ProjectNumber, s.Server.Pool, s.Server.Provider)
	var token struct {
		AccessToken string `json:"access_token"`
	}
	err := c.post(ctx, c.at("sts.googleapis.com")+"/v1/token", nil, url.Values{
		"grant_type":           {"urn:ietf:params:oauth:grant-type:token-exchange"},
		"audience":             {audience},
		"scope":                {"https://www.googleapis.com/auth/cloud-platform"},
		"requested_token_type": {"urn:ietf:params:oauth:token-type:access_token"},
		"subject_token_type":   {"urn:ietf:params:oauth:token-type:jwt"},
		"subject_token":        {s.Server.JWT},
	}, &token)
	if err != nil {
		return "", fmt.Errorf("exchanging the job's token with Google: %w", err)
	}
	version := s.Version
	if version == "" {
		version = "latest"
	}
	address := fmt.Sprintf("%s/v1/projects/%s/secrets/%s/versions/%s:access", c.at("secretmanager.googleapis.com"),
		url.PathEscape(s.Server.ProjectNumber), url.PathEscape(s.Name), url.PathEscape(version))
	var answer struct {
		Payload struct {
			Data string `json:"data"`
		} `json:"payload"`
	}
	header := http.Header{"Authorization": {"Bearer " + token.AccessToken}}
	if err := c.get(ctx, address, header, &answer); err != nil {
		return "", fmt.Errorf("reading secret %q: %w", s.Name, missing(err))
	}
	value, err := base64.StdEncoding.DecodeString(answer.Payload.Data)
	if err != nil {
		return "", fmt.Errorf("reading secret %q: its data are not in base64", s.Name)
	}
	return string(value), nil
}
