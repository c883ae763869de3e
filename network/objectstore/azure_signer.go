package objectstore

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/sas"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/service"
)

// keySigner signs with the key of the account.
type keySigner struct {
	key *service.SharedKeyCredential
}

func newKeySigner(account, key string) (keySigner, error) {
	credential, err := service.NewSharedKeyCredential(account, key)
	if err != nil {
		return keySigner{}, errors.New("config AccountKey is not valid base64")
	}
	return keySigner{key: credential}, nil
}

func (s keySigner) sign(_ context.Context, v sas.BlobSignatureValues) (sas.QueryParameters, error) {
	return v.SignWithSharedKey(s.key)
}

// delegatedSigner signs with keys that Azure hands out to the identity of this machine. It is safe for
// concurrent use.
type delegatedSigner struct {
	client *lazy[*service.Client]
	now    func() time.Time

	mu   sync.Mutex
	held delegatedKey
}

type delegatedKey struct {
	credential *service.UserDelegationCredential
	ends       time.Time
}

// delegatedFor is how long keys are asked for at least, so that most signatures need no request.
const delegatedFor = 6 * time.Hour

// clockSkew is by how much this machine's clock may be ahead of Azure's.
const clockSkew = 5 * time.Minute

func newDelegatedSigner(url, domain string) *delegatedSigner {
	return &delegatedSigner{
		client: newLazy(func(context.Context) (*service.Client, error) {
			options := azcore.ClientOptions{Cloud: azureCloud(domain)}
			credential, err := azidentity.NewDefaultAzureCredential(&azidentity.DefaultAzureCredentialOptions{ClientOptions: options})
			if err != nil {
				return nil, fmt.Errorf("finding this machine's Azure credentials (or set AccountKey): %w", err)
			}
			return service.NewClient(url+"/", credential, &service.ClientOptions{ClientOptions: policy.ClientOptions(options)})
		}),
		now: time.Now,
	}
}

// azureCloud returns the cloud that a domain belongs to; the zero value is the public one, or what the
// environment says.
func azureCloud(domain string) cloud.Configuration {
	switch {
	case strings.HasSuffix(domain, ".chinacloudapi.cn"):
		return cloud.AzureChina
	case strings.HasSuffix(domain, ".usgovcloudapi.net"):
		return cloud.AzureGovernment
	default:
		return cloud.Configuration{}
	}
}

func (s *delegatedSigner) sign(ctx context.Context, v sas.BlobSignatureValues) (sas.QueryParameters, error) {
	key, err := s.keyUntil(ctx, v.ExpiryTime)
	if err != nil {
		return sas.QueryParameters{}, err
	}
	if v.ExpiryTime.After(key.ends) {
		v.ExpiryTime = key.ends
	}
	return v.SignWithUserDelegation(key.credential)
}

// keyUntil returns a key that is valid until then, or as long as Azure allows for. Callers at the same
// time may each get one.
func (s *delegatedSigner) keyUntil(ctx context.Context, then time.Time) (delegatedKey, error) {
	s.mu.Lock()
	held := s.held
	s.mu.Unlock()
	if !held.ends.Before(then) {
		return held, nil
	}
	client, err := s.client.get(ctx)
	if err != nil {
		return delegatedKey{}, err
	}
	now := s.now().UTC()
	start := now.Add(-clockSkew)
	ends := now.Add(max(2*then.Sub(now), delegatedFor))
	if latest := start.Add(longestLifetime); ends.After(latest) {
		ends = latest
	}
	first, last := start.Format(sas.TimeFormat), ends.Format(sas.TimeFormat)
	credential, err := client.GetUserDelegationCredential(ctx, service.KeyInfo{Start: &first, Expiry: &last}, nil)
	if err != nil {
		return delegatedKey{}, fmt.Errorf("asking Azure for a user delegation key (or set AccountKey): %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held = delegatedKey{credential: credential, ends: ends}
	return s.held, nil
}
