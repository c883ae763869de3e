package objectstore

import (
	"bytes"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"gitlab.com/gitlab-org/gitlab-runner/common/config"
)

func logTo(b *bytes.Buffer) *logrus.Logger {
	log := logrus.New()
	log.SetOutput(b)
	log.SetLevel(logrus.DebugLevel)
	return log
}

func quiet() *logrus.Logger {
	log := logrus.New()
	log.SetOutput(io.Discard)
	return log
}

// transport answers requests in place of the network.
type transport func(*http.Request) (*http.Response, error)

func (t transport) Do(r *http.Request) (*http.Response, error)        { return t(r) }
func (t transport) RoundTrip(r *http.Request) (*http.Response, error) { return t(r) }

func answer(r *http.Request, status int, body string, headers ...string) *http.Response {
	response := &http.Response{
		StatusCode: status,
		Status:     http.StatusText(status),
		Header:     make(http.Header),
		Body:       io.NopCloser(strings.NewReader(body)),
		Request:    r,
	}
	for i := 0; i+1 < len(headers); i += 2 {
		response.Header.Set(headers[i], headers[i+1])
	}
	return response
}

func parse(t *testing.T, raw string) *url.URL {
	t.Helper()
	u, err := url.Parse(raw)
	require.NoError(t, err)
	return u
}

func TestAWrongConfigurationIsRefusedWithTheKeyToChange(t *testing.T) {
	s3 := func(c config.CacheS3) *config.Cache { return &config.Cache{Type: "s3", S3: &c} }
	gcs := func(c config.CacheGCS) *config.Cache { return &config.Cache{Type: "gcs", GCS: &c} }
	azure := func(c config.CacheAzure) *config.Cache { return &config.Cache{Type: "azure", Azure: &c} }
	for name, c := range map[string]struct {
		config *config.Cache
		want   string
	}{
		"no table":      {nil, "[runners.cache] is missing"},
		"no type":       {&config.Cache{}, "config Type cannot be empty: use s3, gcs or azure"},
		"unknown type":  {&config.Cache{Type: "swift"}, `unknown Type "swift": use s3, gcs or azure`},
		"no s3 table":   {&config.Cache{Type: "S3"}, "needs the table [runners.cache.s3]"},
		"no gcs table":  {&config.Cache{Type: "GCS"}, "needs the table [runners.cache.gcs]"},
		"no azure":      {&config.Cache{Type: "Azure"}, "needs the table [runners.cache.azure]"},
		"s3 bucket":     {s3(config.CacheS3{}), "[runners.cache.s3]: config BucketName cannot be empty"},
		"s3 folder":     {s3(config.CacheS3{BucketName: "b/c"}), "BucketName \"b/c\" must not have a slash"},
		"s3 scheme":     {s3(config.CacheS3{BucketName: "b", ServerAddress: "https://minio"}), "ServerAddress \"https://minio\" must be a host or host:port"},
		"s3 path":       {s3(config.CacheS3{BucketName: "b", ServerAddress: "minio/x"}), "without a scheme and a path"},
		"s3 user":       {s3(config.CacheS3{BucketName: "b", ServerAddress: "u@minio"}), "must be a host or host:port"},
		"s3 port":       {s3(config.CacheS3{BucketName: "b", ServerAddress: "minio:99999"}), "has the port 99999"},
		"s3 auth":       {s3(config.CacheS3{BucketName: "b", AuthenticationType: "magic"}), `unknown AuthenticationType "magic": use access-key or iam`},
		"s3 no keys":    {s3(config.CacheS3{BucketName: "b", AuthenticationType: "Access-Key", AccessKey: "a"}), "AccessKey and SecretKey cannot be empty"},
		"s3 accelerate": {s3(config.CacheS3{BucketName: "b", Accelerate: true, ServerAddress: "minio"}), "Accelerate works with AWS only"},
		"s3 both":       {s3(config.CacheS3{BucketName: "b", Accelerate: true, PathStyle: new(true)}), "Accelerate and PathStyle exclude each other"},
		"s3 role":       {s3(config.CacheS3{BucketName: "b", RoleARN: "admin"}), `config RoleARN "admin" is not an ARN`},
		"s3 up role":    {s3(config.CacheS3{BucketName: "b", UploadRoleARN: "admin"}), `config UploadRoleARN "admin" is not an ARN`},
		"s3 parallel":   {s3(config.CacheS3{BucketName: "b", AssumeRoleMaxConcurrency: -2}), "AssumeRoleMaxConcurrency -2 is out of range"},
		"gcs bucket":    {gcs(config.CacheGCS{}), "[runners.cache.gcs]: config BucketName cannot be empty"},
		"gcs folder":    {gcs(config.CacheGCS{BucketName: "b/c"}), "must not have a slash"},
		"gcs universe":  {gcs(config.CacheGCS{BucketName: "b", UniverseDomain: "a/b"}), "config UniverseDomain \"a/b\""},
		"gcs key":       {gcs(config.CacheGCS{BucketName: "b", AccessID: "a@b", PrivateKey: "hidden"}), "config PrivateKey: it is not in PEM format"},
		"gcs id":        {gcs(config.CacheGCS{BucketName: "b", PrivateKey: "hidden"}), "config AccessID cannot be empty with PrivateKey"},
		"azure box":     {azure(config.CacheAzure{AccountName: "a"}), "[runners.cache.azure]: config ContainerName cannot be empty"},
		"azure folder":  {azure(config.CacheAzure{AccountName: "a", ContainerName: "c/d"}), "must not have a slash"},
		"azure account": {azure(config.CacheAzure{ContainerName: "c"}), "config AccountName cannot be empty"},
		"azure name":    {azure(config.CacheAzure{ContainerName: "c", AccountName: "a.b"}), `AccountName "a.b" is not the name of an account`},
		"azure key":     {azure(config.CacheAzure{ContainerName: "c", AccountName: "a", AccountKey: "hidden!"}), "config AccountKey is not valid base64"},
		"azure domain":  {azure(config.CacheAzure{ContainerName: "c", AccountName: "a", StorageDomain: "https://x"}), "config StorageDomain"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := New(c.config, quiet(), nil)
			require.ErrorContains(t, err, c.want)
			require.NotContains(t, err.Error(), "hidden")
		})
	}
}

func TestNamesThatCouldMeanAnotherObjectAreRefused(t *testing.T) {
	s, err := New(&config.Cache{Type: "azure", Azure: &config.CacheAzure{AccountName: "a", AccountKey: "c2VjcmV0", ContainerName: "c"}}, quiet(), nil)
	require.NoError(t, err)
	for _, name := range []string{
		"", "/a", "a/", "a//b", "a/../b", "..", "a/./b", "a\xff", strings.Repeat("n", 1025),
	} {
		_, err := s.Download(t.Context(), name, time.Minute)
		require.Error(t, err, name)
		_, err = s.Upload(t.Context(), name, "", time.Minute)
		require.Error(t, err, name)
	}
}

func TestLifetimesAreWholeSecondsWithinTheLimits(t *testing.T) {
	require.Equal(t, time.Hour, lifetime(0))
	require.Equal(t, time.Hour, lifetime(-time.Second))
	require.Equal(t, time.Second, lifetime(time.Nanosecond))
	require.Equal(t, 7*24*time.Hour, lifetime(1000*time.Hour))
	rapid.Check(t, func(t *rapid.T) {
		ttl := time.Duration(rapid.Int64Range(1, int64(7*24*time.Hour)).Draw(t, "ttl"))
		got := lifetime(ttl)
		if got < ttl || got >= ttl+time.Second || got%time.Second != 0 {
			t.Fatalf("a ttl of %s becomes %s", ttl, got)
		}
	})
}

func TestMetadataSurvivesHeaders(t *testing.T) {
	require.Nil(t, keyMetadata(""))
	require.Nil(t, keyMetadata(strings.Repeat("k", 2000)))
	require.Equal(t, "a key", keyMetadata(" a \n key ")["cachekey"])
	require.Equal(t, "=?utf-8?b?Z3LDvG4=?=", keyMetadata("grün")["cachekey"])
	rapid.Check(t, func(t *rapid.T) {
		for _, value := range keyMetadata(rapid.String().Draw(t, "key")) {
			if value != strings.Join(strings.Fields(value), " ") {
				t.Fatalf("%q would lose blanks", value)
			}
			for _, c := range []byte(value) {
				if c < ' ' || c > '~' {
					t.Fatalf("%q is not printable ASCII", value)
				}
			}
		}
	})
}

func TestEscapedPathsAreReadBackAsTheyWere(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.String().Draw(t, "name")
		u, err := url.Parse("https://host/" + escapePath(name) + "?query")
		if err != nil {
			t.Fatal(err)
		}
		if u.Path != "/"+name || u.RawQuery != "query" || u.Fragment != "" {
			t.Fatalf("%q became %q", name, u.Path)
		}
	})
}

func FuzzAnAddressNamesAHostOrIsRefused(f *testing.F) {
	for _, seed := range []string{"minio:9000", "[::1]:9000", "s3.amazonaws.com", "a b", "a/b", "http://x", "u@h", "h?q", "h#f", ":80", "h:", "[::1", "::"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, address string) {
		if checkAddress("key", address) != nil {
			return
		}
		for _, scheme := range []string{"http", "https"} {
			u, err := url.Parse(scheme + "://" + canonicalAddress(scheme, address) + "/path?query")
			if err != nil || u.Path != "/path" || u.RawQuery != "query" || u.User != nil || u.Hostname() == "" {
				t.Fatalf("%q is accepted but parsed as %+v: %v", address, u, err)
			}
		}
	})
}
