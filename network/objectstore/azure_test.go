package objectstore

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/sas"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/service"
	"github.com/stretchr/testify/require"

	"context"

	"gitlab.com/gitlab-org/gitlab-runner/common/config"
)

const testAccountKey = "dmVyeS1zZWNyZXQ="

func TestAzureURLsAreSignedForTheirPurpose(t *testing.T) {
	s, err := New(&config.Cache{Type: "Azure", Azure: &config.CacheAzure{
		AccountName: "account", AccountKey: testAccountKey, ContainerName: "caches",
	}}, quiet(), nil)
	require.NoError(t, err)
	up, err := s.Upload(t.Context(), "project/1/with blank+", "a key", time.Hour)
	require.NoError(t, err)
	down, err := s.Download(t.Context(), "project/1/with blank+", time.Hour)
	require.NoError(t, err)
	require.Equal(t, map[string][]string{"X-Ms-Blob-Type": {"BlockBlob"}, "X-Ms-Meta-Cachekey": {"a key"}}, up.Headers)
	require.Nil(t, down.Headers)

	for url, permissions := range map[string]string{up.URL: "cw", up.HeadURL: "r", down.URL: "r", down.HeadURL: "r"} {
		require.True(t, strings.HasPrefix(url, "https://account.blob.core.windows.net/caches/project/1/with%20blank%2B?"), url)
		parts, err := sas.ParseURL(url)
		require.NoError(t, err)
		require.Equal(t, permissions, parts.SAS.Permissions())
		require.Equal(t, "b", parts.SAS.Resource(), "one object only")
		require.Equal(t, sas.ProtocolHTTPS, parts.SAS.Protocol())
		require.InDelta(t, time.Hour.Seconds(), time.Until(parts.SAS.ExpiryTime()).Seconds(), 5)
		require.Equal(t, "project/1/with blank+", parts.BlobName)
		require.Equal(t, azureSignature(parts.SAS, "/blob/account/caches/project/1/with blank+"), parts.SAS.Signature())
	}
}

// azureSignature computes the signature of a service SAS as Azure documents it.
func azureSignature(p sas.QueryParameters, resource string) string {
	text := strings.Join([]string{
		p.Permissions(), "", p.ExpiryTime().Format(sas.TimeFormat), resource, "", "", string(p.Protocol()), p.Version(), "b",
		"", "", "", "", "", "", "",
	}, "\n")
	key, _ := base64.StdEncoding.DecodeString(testAccountKey)
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(text))
	return base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

func TestAzureStorageDomainIsTheConfiguredOne(t *testing.T) {
	for domain, want := range map[string]string{
		"":                            "account.blob.core.windows.net",
		"blob.core.chinacloudapi.cn":  "account.blob.core.chinacloudapi.cn",
		"blob.storage.example.com:81": "account.blob.storage.example.com:81",
		"blob.example.com:443":        "account.blob.example.com",
	} {
		s, err := New(&config.Cache{Type: "azure", Azure: &config.CacheAzure{
			AccountName: "account", AccountKey: testAccountKey, ContainerName: "c", StorageDomain: domain,
		}}, quiet(), nil)
		require.NoError(t, err)
		down, err := s.Download(t.Context(), "a", time.Hour)
		require.NoError(t, err)
		require.Equal(t, want, parse(t, down.URL).Host)
	}
}

// delegated is a container whose keys come from do, at a time that the test sets.
func delegated(t *testing.T, now *time.Time, do transport) *Store {
	t.Helper()
	b, err := parseAzure(&config.CacheAzure{AccountName: "account", ContainerName: "caches"})
	require.NoError(t, err)
	clock := func() time.Time { return *now }
	signer := b.signer.(*delegatedSigner)
	b.now, signer.now = clock, clock
	signer.client = newLazy(func(context.Context) (*service.Client, error) {
		return service.NewClientWithNoCredential(b.url+"/", &service.ClientOptions{ClientOptions: policy.ClientOptions{
			Transport: do, Retry: policy.RetryOptions{MaxRetries: -1},
		}})
	})
	return &Store{bucket: b}
}

func TestAzureWithoutAKeyIsSignedWithADelegatedOneWhichIsKept(t *testing.T) {
	now := time.Now().UTC().Truncate(time.Second)
	asked := 0
	s := delegated(t, &now, func(r *http.Request) (*http.Response, error) {
		asked++
		require.Equal(t, "account.blob.core.windows.net", r.URL.Host)
		require.Equal(t, "userdelegationkey", r.URL.Query().Get("comp"))
		return answer(r, http.StatusOK, `<?xml version="1.0"?><UserDelegationKey><SignedOid>oid</SignedOid><SignedTid>tid</SignedTid>`+
			`<SignedStart>2026-01-01T00:00:00Z</SignedStart><SignedExpiry>2026-01-02T00:00:00Z</SignedExpiry><SignedService>b</SignedService>`+
			`<SignedVersion>2020-02-10</SignedVersion><Value>`+testAccountKey+`</Value></UserDelegationKey>`, "Content-Type", "application/xml"), nil
	})
	expiry := func(ttl time.Duration) time.Duration {
		down, err := s.Download(t.Context(), "a", ttl)
		require.NoError(t, err)
		parts, err := sas.ParseURL(down.URL)
		require.NoError(t, err)
		require.Equal(t, "oid", parts.SAS.SignedOID())
		return parts.SAS.ExpiryTime().Sub(now)
	}
	require.Equal(t, time.Hour, expiry(time.Hour))
	require.Equal(t, 3*time.Hour, expiry(3*time.Hour))
	require.Equal(t, 1, asked)
	now = now.Add(5*time.Hour + time.Second)
	require.Equal(t, time.Hour, expiry(time.Hour))
	require.Equal(t, 2, asked, "the first key would end before the URL")
	require.Equal(t, 7*24*time.Hour-clockSkew, expiry(30*24*time.Hour), "no longer than the key")
}

func TestAzureKeyThatIsDeniedIsAskedForAgain(t *testing.T) {
	now := time.Now()
	asked := 0
	s := delegated(t, &now, func(r *http.Request) (*http.Response, error) {
		asked++
		return answer(r, http.StatusForbidden, `<Error><Code>AuthorizationPermissionMismatch</Code></Error>`), nil
	})
	for range 2 {
		_, err := s.Upload(t.Context(), "a", "", time.Hour)
		require.ErrorContains(t, err, "asking Azure for a user delegation key (or set AccountKey)")
	}
	require.Equal(t, 2, asked)
}
