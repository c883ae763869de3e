package objectstore

import (
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/gitlab-org/gitlab-runner/common/config"
)

const testAccount = "cache@example.iam.gserviceaccount.com"

// testKey was made for these tests and opens nothing.
func testKey(t *testing.T) string {
	t.Helper()
	key, err := os.ReadFile("testdata/gcs_key.pem")
	require.NoError(t, err)
	return string(key)
}

// The URLs were made by SignedURL of cloud.google.com/go/storage v1.70.0 with the scheme V4.
func TestGCSURLsAreThoseOfGooglesOwnClient(t *testing.T) {
	data, err := os.ReadFile("testdata/gcs_signed.json")
	require.NoError(t, err)
	var cases []struct {
		Method, Host, Bucket, Object string
		Headers                      []string
		Seconds                      int
		Time                         time.Time
		URL                          string
	}
	require.NoError(t, json.Unmarshal(data, &cases))
	require.NotEmpty(t, cases)
	key, err := parsePrivateKey(testKey(t))
	require.NoError(t, err)
	for _, c := range cases {
		t.Run(c.Method, func(t *testing.T) {
			r := gcsRequest{
				method: c.Method, host: c.Host, path: "/" + c.Bucket + "/" + c.Object,
				headers: make(map[string]string), lifetime: time.Duration(c.Seconds) * time.Second, time: c.Time,
			}
			for _, header := range c.Headers {
				name, value, _ := strings.Cut(header, ":")
				r.headers[name] = value
			}
			got, err := r.sign(t.Context(), keyIdentity{account: testAccount, key: key})
			require.NoError(t, err)
			want := parse(t, c.URL)
			require.Equal(t, want.Query(), parse(t, got).Query())
			require.Equal(t, want.EscapedPath(), parse(t, got).EscapedPath())
			require.Equal(t, want.Host, parse(t, got).Host)
		})
	}
}

func TestGCSUploadsCarryTheirHeaders(t *testing.T) {
	s, err := New(&config.Cache{
		Type: "gcs", MaxUploadedArchiveSize: 4096,
		GCS: &config.CacheGCS{BucketName: "bucket", AccessID: testAccount, PrivateKey: testKey(t)},
	}, quiet(), nil)
	require.NoError(t, err)
	up, err := s.Upload(t.Context(), "project/1/a", "a key", time.Minute)
	require.NoError(t, err)
	require.Equal(t, map[string][]string{"X-Goog-Content-Length-Range": {"0,4096"}, "X-Goog-Meta-Cachekey": {"a key"}}, up.Headers)
	u := parse(t, up.URL)
	require.Equal(t, "storage.googleapis.com", u.Host)
	require.Equal(t, "/bucket/project/1/a", u.Path)
	require.Equal(t, "host;x-goog-content-length-range;x-goog-meta-cachekey", u.Query().Get("X-Goog-SignedHeaders"))
	require.Equal(t, "host", parse(t, up.HeadURL).Query().Get("X-Goog-SignedHeaders"))

	down, err := s.Download(t.Context(), "project/1/a", 24*365*time.Hour)
	require.NoError(t, err)
	require.Nil(t, down.Headers)
	require.Equal(t, "604800", parse(t, down.URL).Query().Get("X-Goog-Expires"))
	require.NotEqual(t, parse(t, down.URL).Query().Get("X-Goog-Signature"), parse(t, down.HeadURL).Query().Get("X-Goog-Signature"))
}

func TestGCSIdentityComesFromAFile(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		return path
	}
	key, err := json.Marshal(testKey(t))
	require.NoError(t, err)
	service := write("service", fmt.Sprintf(`{"type":"service_account","client_email":%q,"private_key":%s}`, testAccount, key))
	for name, c := range map[string]struct{ file, fails string }{
		"service account": {service, ""},
		"missing":         {filepath.Join(dir, "none"), "opening CredentialsFile"},
		"no JSON":         {write("text", "hidden"), "it is not a JSON credentials file"},
		"no key":          {write("keyless", `{"type":"service_account","client_email":"a@b","private_key":"hidden"}`), "its private_key: it is not in PEM format"},
		"no account":      {write("nobody", fmt.Sprintf(`{"type":"service_account","private_key":%s}`, key)), "it has no client_email"},
		"a person":        {write("person", `{"type":"authorized_user","client_id":"i","client_secret":"hidden","refresh_token":"hidden"}`), "name no service account"},
	} {
		t.Run(name, func(t *testing.T) {
			// The file wins over the pair.
			s, err := New(&config.Cache{Type: "gcs", GCS: &config.CacheGCS{BucketName: "b", CredentialsFile: c.file, AccessID: "other@x", PrivateKey: "none"}}, quiet(), nil)
			require.NoError(t, err, "the file is not read before it is needed")
			down, err := s.Download(t.Context(), "a", time.Minute)
			if c.fails != "" {
				require.ErrorContains(t, err, c.fails)
				require.NotContains(t, err.Error(), "hidden")
				return
			}
			require.NoError(t, err)
			require.True(t, strings.HasPrefix(parse(t, down.URL).Query().Get("X-Goog-Credential"), testAccount+"/"))
		})
	}
}

func TestGCSDefaultCredentialsOfAServiceAccountSignByThemselves(t *testing.T) {
	key, err := json.Marshal(testKey(t))
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "default.json")
	require.NoError(t, os.WriteFile(path, fmt.Appendf(nil, `{"type":"service_account","client_email":%q,"private_key":%s}`, testAccount, key), 0o600))
	t.Setenv("GOOGLE_APPLICATION_CREDENTIALS", path)
	s, err := New(&config.Cache{Type: "gcs", GCS: &config.CacheGCS{BucketName: "b", UniverseDomain: "example.org"}}, quiet(), nil)
	require.NoError(t, err)
	down, err := s.Download(t.Context(), "a", time.Minute)
	require.NoError(t, err)
	require.Equal(t, "storage.example.org", parse(t, down.URL).Host)
}

func TestGCSIdentityWithoutAKeyHasGoogleSign(t *testing.T) {
	key, err := parsePrivateKey(testKey(t))
	require.NoError(t, err)
	identity := newRemoteIdentity(testAccount, "googleapis.com", nil)
	identity.client = &http.Client{Transport: transport(func(r *http.Request) (*http.Response, error) {
		require.Equal(t, "https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/"+testAccount+":signBlob", r.URL.String())
		body, err := io.ReadAll(r.Body)
		require.NoError(t, err)
		var request struct{ Payload []byte }
		require.NoError(t, json.Unmarshal(body, &request))
		signature, err := keyIdentity{key: key}.signText(r.Context(), request.Payload)
		require.NoError(t, err)
		return answer(r, http.StatusOK, fmt.Sprintf(`{"keyId":"1","signedBlob":%q}`, base64.StdEncoding.EncodeToString(signature))), nil
	})}
	signature, err := identity.signText(t.Context(), []byte("text"))
	require.NoError(t, err)
	digest := sha256.Sum256([]byte("text"))
	require.NoError(t, rsa.VerifyPKCS1v15(&key.PublicKey, crypto.SHA256, digest[:], signature))
}

func TestGCSSignatureThatGoogleDeniesSaysWhatIsMissing(t *testing.T) {
	for name, c := range map[string]struct {
		status int
		body   string
		want   string
	}{
		"denied":  {http.StatusForbidden, `{"error":{"message":"no permission"}}`, "no permission"},
		"garbage": {http.StatusOK, "<html>", "Service Account Token Creator"},
		"empty":   {http.StatusOK, "{}", "Service Account Token Creator"},
	} {
		t.Run(name, func(t *testing.T) {
			identity := newRemoteIdentity(testAccount, "googleapis.com", nil)
			identity.client = &http.Client{Transport: transport(func(r *http.Request) (*http.Response, error) {
				return answer(r, c.status, c.body), nil
			})}
			_, err := identity.signText(t.Context(), []byte("text"))
			require.ErrorContains(t, err, c.want)
			require.ErrorContains(t, err, testAccount)
		})
	}
}

func TestGCSAccountIsReadFromAnImpersonationURL(t *testing.T) {
	require.Equal(t, testAccount, impersonated("https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/"+testAccount+":generateAccessToken"))
	require.Empty(t, impersonated(""))
	require.Empty(t, impersonated("https://example.com/x"))
}
