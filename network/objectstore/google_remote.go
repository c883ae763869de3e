package objectstore

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"golang.org/x/oauth2"
)

// maxSignAnswer is far above the size of a signature.
const maxSignAnswer = 64 << 10

// remoteIdentity has Google's IAM service sign: the machine's credentials may act for the account, but
// its key is not here.
type remoteIdentity struct {
	account string
	url     string
	client  *http.Client
}

func newRemoteIdentity(account, universe string, tokens oauth2.TokenSource) remoteIdentity {
	client := oauth2.NewClient(tokenContext(), tokens)
	client.Timeout = googleTimeout
	return remoteIdentity{
		account: account,
		url:     "https://iamcredentials." + universe + "/v1/projects/-/serviceAccounts/" + url.PathEscape(account) + ":signBlob",
		client:  client,
	}
}

func (i remoteIdentity) email() string { return i.account }

func (i remoteIdentity) signText(ctx context.Context, text []byte) ([]byte, error) {
	body, err := json.Marshal(map[string][]byte{"payload": text})
	if err != nil {
		return nil, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, i.url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := i.client.Do(request)
	if err != nil {
		return nil, fmt.Errorf("asking Google to sign as %s: %w", i.account, err)
	}
	defer response.Body.Close()
	data, err := io.ReadAll(io.LimitReader(response.Body, maxSignAnswer))
	if err != nil {
		return nil, fmt.Errorf("asking Google to sign as %s: %w", i.account, err)
	}
	var answer struct {
		SignedBlob []byte `json:"signedBlob"`
		Error      struct {
			Message string `json:"message"`
		} `json:"error"`
	}
	if err := json.Unmarshal(data, &answer); err != nil || response.StatusCode != http.StatusOK || len(answer.SignedBlob) == 0 {
		return nil, fmt.Errorf("asking Google to sign as %s: %s: %s: the credentials need the role Service Account Token Creator for it",
			i.account, response.Status, answer.Error.Message)
	}
	return answer.SignedBlob, nil
}
