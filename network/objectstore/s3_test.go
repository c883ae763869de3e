package objectstore

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/gitlab-org/gitlab-runner/common/config"
)

// testS3 is a store whose calls of AWS's services go to do.
func testS3(t *testing.T, c config.CacheS3, do transport) *Store {
	t.Helper()
	return testS3Telling(t, c, nil, do)
}

// testS3Telling is one with a recorder.
func testS3Telling(t *testing.T, c config.CacheS3, recorder Recorder, do transport) *Store {
	t.Helper()
	if c.BucketName == "" {
		c.BucketName = "bucket"
	}
	if c.AccessKey == "" && c.AuthenticationType == "" {
		c.AccessKey, c.SecretKey, c.AuthenticationType = "AKIDEXAMPLE", "very-secret", "access-key"
	}
	if do == nil {
		do = func(r *http.Request) (*http.Response, error) {
			t.Errorf("the network is asked: %s %s", r.Method, r.URL.Host)
			return nil, errors.New("no network")
		}
	}
	b, err := parseS3(&c, quiet(), do, recorder)
	require.NoError(t, err)
	return &Store{bucket: b}
}

func TestS3URLsPointToTheConfiguredServer(t *testing.T) {
	for name, c := range map[string]struct {
		config config.CacheS3
		want   string
	}{
		"AWS":                        {config.CacheS3{BucketLocation: "eu-west-1"}, "https://bucket.s3.dualstack.eu-west-1.amazonaws.com/a/b"},
		"AWS, IPv4 only":             {config.CacheS3{BucketLocation: "eu-west-1", DualStack: new(false)}, "https://bucket.s3.eu-west-1.amazonaws.com/a/b"},
		"AWS, insecure":              {config.CacheS3{BucketLocation: "eu-west-1", Insecure: true}, "http://bucket.s3.dualstack.eu-west-1.amazonaws.com/a/b"},
		"AWS, path style":            {config.CacheS3{BucketLocation: "eu-west-1", PathStyle: new(true)}, "https://s3.dualstack.eu-west-1.amazonaws.com/bucket/a/b"},
		"AWS, bucket with a dot":     {config.CacheS3{BucketLocation: "eu-west-1", BucketName: "a.bucket"}, "https://s3.dualstack.eu-west-1.amazonaws.com/a.bucket/a/b"},
		"AWS, China":                 {config.CacheS3{BucketLocation: "cn-north-1"}, "https://bucket.s3.dualstack.cn-north-1.amazonaws.com.cn/a/b"},
		"AWS, accelerated":           {config.CacheS3{BucketLocation: "eu-west-1", Accelerate: true}, "https://bucket.s3-accelerate.dualstack.amazonaws.com/a/b"},
		"AWS, accelerated by name":   {config.CacheS3{BucketLocation: "eu-west-1", ServerAddress: "s3-accelerate.amazonaws.com"}, "https://bucket.s3-accelerate.amazonaws.com/a/b"},
		"AWS, accelerated by name 2": {config.CacheS3{BucketLocation: "eu-west-1", ServerAddress: "s3-accelerate.dualstack.amazonaws.com"}, "https://bucket.s3-accelerate.dualstack.amazonaws.com/a/b"},
		"AWS by name":                {config.CacheS3{BucketLocation: "eu-west-1", ServerAddress: "s3.amazonaws.com:443"}, "https://bucket.s3.eu-west-1.amazonaws.com/a/b"},
		"AWS by region's name":       {config.CacheS3{ServerAddress: "S3.eu-west-3.amazonaws.com"}, "https://bucket.s3.eu-west-3.amazonaws.com/a/b"},
		"AWS by name, dot in bucket": {config.CacheS3{ServerAddress: "s3.eu-west-3.amazonaws.com", BucketName: "a.bucket"}, "https://s3.eu-west-3.amazonaws.com/a.bucket/a/b"},
		"another server":             {config.CacheS3{ServerAddress: "minio.example.com"}, "https://minio.example.com/bucket/a/b"},
		"another server, insecure":   {config.CacheS3{ServerAddress: "minio:9000", Insecure: true}, "http://minio:9000/bucket/a/b"},
		"canonical port":             {config.CacheS3{ServerAddress: "minio:443"}, "https://minio/bucket/a/b"},
		"canonical port, insecure":   {config.CacheS3{ServerAddress: "minio:80", Insecure: true}, "http://minio/bucket/a/b"},
		"port of the other scheme":   {config.CacheS3{ServerAddress: "minio:443", Insecure: true}, "http://minio:443/bucket/a/b"},
		"IPv6":                       {config.CacheS3{ServerAddress: "[fd00::1]:9000"}, "https://[fd00::1]:9000/bucket/a/b"},
		"IPv6, canonical port":       {config.CacheS3{ServerAddress: "[fd00::1]:443"}, "https://[fd00::1]/bucket/a/b"},
		"another server by bucket":   {config.CacheS3{ServerAddress: "minio.example.com", PathStyle: new(false)}, "https://bucket.minio.example.com/a/b"},
		"Google by its S3 protocol":  {config.CacheS3{ServerAddress: "storage.googleapis.com"}, "https://bucket.storage.googleapis.com/a/b"},
		"dual stack ignored":         {config.CacheS3{ServerAddress: "minio", DualStack: new(true)}, "https://minio/bucket/a/b"},
	} {
		t.Run(name, func(t *testing.T) {
			s := testS3(t, c.config, nil)
			down, err := s.Download(t.Context(), "a/b", time.Minute)
			require.NoError(t, err)
			up, err := s.Upload(t.Context(), "a/b", "", time.Minute)
			require.NoError(t, err)
			for _, got := range []string{down.URL, down.HeadURL, up.URL, up.HeadURL} {
				before, query, _ := strings.Cut(got, "?")
				require.Equal(t, c.want, before)
				require.Contains(t, query, "X-Amz-Signature=")
				require.NotContains(t, got, "very-secret")
			}
		})
	}
}

func TestS3URLsAreSignedForRegionAndLifetime(t *testing.T) {
	for name, c := range map[string]struct {
		config config.CacheS3
		region string
	}{
		"configured":            {config.CacheS3{BucketLocation: "ap-south-1"}, "ap-south-1"},
		"configured, by server": {config.CacheS3{BucketLocation: "garage", ServerAddress: "garage:3900"}, "garage"},
		"of the server's name":  {config.CacheS3{ServerAddress: "s3.dualstack.eu-west-3.amazonaws.com"}, "eu-west-3"},
		"none":                  {config.CacheS3{ServerAddress: "minio"}, "us-east-1"},
	} {
		t.Run(name, func(t *testing.T) {
			s := testS3(t, c.config, nil)
			down, err := s.Download(t.Context(), "a", 30*24*time.Hour)
			require.NoError(t, err)
			query := parse(t, down.URL).Query()
			require.Contains(t, query.Get("X-Amz-Credential"), "AKIDEXAMPLE/")
			require.Contains(t, query.Get("X-Amz-Credential"), "/"+c.region+"/s3/aws4_request")
			require.Equal(t, "604800", query.Get("X-Amz-Expires"))
			require.Empty(t, query.Get("X-Amz-Security-Token"))
		})
	}
}

func TestS3RegionOfABucketIsFoundOnceAndWithoutCredentials(t *testing.T) {
	asked := 0
	s := testS3(t, config.CacheS3{}, func(r *http.Request) (*http.Response, error) {
		asked++
		require.Equal(t, http.MethodHead, r.Method)
		require.Empty(t, r.Header.Get("Authorization"))
		return answer(r, http.StatusForbidden, "", "x-amz-bucket-region", "sa-east-1"), nil
	})
	for range 2 {
		down, err := s.Download(t.Context(), "a", time.Minute)
		require.NoError(t, err)
		require.Equal(t, "bucket.s3.dualstack.sa-east-1.amazonaws.com", parse(t, down.URL).Host)
	}
	require.Equal(t, 1, asked)
}

func TestS3RegionFallsBackWithAWarning(t *testing.T) {
	var out bytes.Buffer
	b, err := parseS3(&config.CacheS3{
		BucketName: "bucket", AccessKey: "a", SecretKey: "very-secret", AuthenticationType: "access-key",
	}, logTo(&out), transport(func(r *http.Request) (*http.Response, error) { return answer(r, http.StatusBadRequest, ""), nil }), nil)
	require.NoError(t, err)
	down, err := (&Store{bucket: b}).Download(t.Context(), "a", time.Minute)
	require.NoError(t, err)
	require.Contains(t, parse(t, down.URL).Host, "us-east-1")
	require.Contains(t, out.String(), "set BucketLocation")
	require.NotContains(t, out.String(), "very-secret")
}

func TestS3SessionTokenGoesAlong(t *testing.T) {
	s := testS3(t, config.CacheS3{ServerAddress: "minio", AccessKey: "a", SecretKey: "b", SessionToken: "session"}, nil)
	down, err := s.Download(t.Context(), "a", time.Minute)
	require.NoError(t, err)
	require.Equal(t, "session", parse(t, down.URL).Query().Get("X-Amz-Security-Token"))
}

func TestS3UploadsCarryTheHeadersOfEncryptionAndMetadata(t *testing.T) {
	for name, c := range map[string]struct {
		config config.CacheS3
		want   map[string][]string
		warns  string
	}{
		"none":          {config.CacheS3{}, map[string][]string{}, ""},
		"S3":            {config.CacheS3{ServerSideEncryption: "s3"}, map[string][]string{"X-Amz-Server-Side-Encryption": {"AES256"}}, ""},
		"AES256":        {config.CacheS3{ServerSideEncryption: "AES256"}, map[string][]string{"X-Amz-Server-Side-Encryption": {"AES256"}}, ""},
		"KMS":           {config.CacheS3{ServerSideEncryption: "KMS"}, map[string][]string{"X-Amz-Server-Side-Encryption": {"aws:kms"}}, ""},
		"aws:kms, key":  {config.CacheS3{ServerSideEncryption: "aws:kms", ServerSideEncryptionKeyID: "k"}, map[string][]string{"X-Amz-Server-Side-Encryption": {"aws:kms"}, "X-Amz-Server-Side-Encryption-Aws-Kms-Key-Id": {"k"}}, ""},
		"DSSE-KMS, key": {config.CacheS3{ServerSideEncryption: "DSSE-KMS", ServerSideEncryptionKeyID: "k"}, map[string][]string{"X-Amz-Server-Side-Encryption": {"aws:kms:dsse"}, "X-Amz-Server-Side-Encryption-Aws-Kms-Key-Id": {"k"}}, ""},
		"unknown":       {config.CacheS3{ServerSideEncryption: "rot13"}, map[string][]string{}, "unknown ServerSideEncryption"},
		"key too many":  {config.CacheS3{ServerSideEncryption: "S3", ServerSideEncryptionKeyID: "k"}, map[string][]string{"X-Amz-Server-Side-Encryption": {"AES256"}}, "ServerSideEncryptionKeyID is not used"},
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			c.config.BucketName, c.config.ServerAddress, c.config.AccessKey, c.config.SecretKey = "bucket", "minio", "a", "b"
			s, err := New(&config.Cache{Type: "s3", S3: &c.config}, logTo(&out), nil)
			require.NoError(t, err)
			up, err := s.Upload(t.Context(), "a", "a key", time.Minute)
			require.NoError(t, err)
			c.want["X-Amz-Meta-Cachekey"] = []string{"a key"}
			require.Equal(t, c.want, up.Headers)
			signed := strings.Split(parse(t, up.URL).Query().Get("X-Amz-SignedHeaders"), ";")
			for name := range up.Headers {
				require.Contains(t, signed, strings.ToLower(name))
			}
			require.Contains(t, out.String(), c.warns)
			if c.warns == "" {
				require.Empty(t, out.String())
			}
		})
	}
}

func TestS3UploadsWithoutHeadersSayNone(t *testing.T) {
	up, err := testS3(t, config.CacheS3{ServerAddress: "minio"}, nil).Upload(t.Context(), "a", "", time.Minute)
	require.NoError(t, err)
	require.Nil(t, up.Headers)
}

func TestS3CredentialsOfTheMachineAreTheDefault(t *testing.T) {
	none := filepath.Join(t.TempDir(), "none")
	for key, value := range map[string]string{
		"AWS_ACCESS_KEY_ID": "AKIDMACHINE", "AWS_SECRET_ACCESS_KEY": "machine-secret", "AWS_SESSION_TOKEN": "",
		"AWS_CONFIG_FILE": none, "AWS_SHARED_CREDENTIALS_FILE": none, "AWS_PROFILE": "",
	} {
		t.Setenv(key, value)
	}
	for name, c := range map[string]struct {
		config config.CacheS3
		want   string
		warns  bool
	}{
		"nothing":            {config.CacheS3{}, "AKIDMACHINE", false},
		"iam":                {config.CacheS3{AuthenticationType: "IAM", AccessKey: "AKIDOWN", SecretKey: "s", ServerAddress: "minio"}, "AKIDMACHINE", false},
		"keys without place": {config.CacheS3{AccessKey: "AKIDOWN", SecretKey: "very-secret"}, "AKIDMACHINE", true},
		"half a pair":        {config.CacheS3{AccessKey: "AKIDOWN", ServerAddress: "minio"}, "AKIDMACHINE", true},
		"keys and place":     {config.CacheS3{AccessKey: "AKIDOWN", SecretKey: "s", ServerAddress: "minio"}, "AKIDOWN", false},
		"access-key":         {config.CacheS3{AuthenticationType: "access-key", AccessKey: "AKIDOWN", SecretKey: "s"}, "AKIDOWN", false},
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			c.config.BucketName, c.config.BucketLocation = "bucket", "eu-west-1"
			s, err := New(&config.Cache{Type: "s3", S3: &c.config}, logTo(&out), nil)
			require.NoError(t, err)
			down, err := s.Download(t.Context(), "a", time.Minute)
			require.NoError(t, err)
			require.Contains(t, parse(t, down.URL).Query().Get("X-Amz-Credential"), c.want+"/")
			require.Equal(t, c.warns, strings.Contains(out.String(), "the credentials of this machine are used"), out.String())
			require.NotContains(t, out.String(), "secret\"")
			require.NotContains(t, out.String(), "very-secret")
		})
	}
}

// fakeSTS answers AssumeRole with credentials named by the number of the call.
func fakeSTS(t *testing.T, calls *int, lasts time.Duration) transport {
	return func(r *http.Request) (*http.Response, error) {
		*calls++
		require.NoError(t, r.ParseForm())
		require.Equal(t, "AssumeRole", r.Form.Get("Action"))
		require.Equal(t, "3600", r.Form.Get("DurationSeconds"))
		require.Equal(t, "sts.eu-west-1.amazonaws.com", r.URL.Host)
		require.Contains(t, r.Header.Get("Authorization"), "Credential=AKIDEXAMPLE/")
		return answer(r, http.StatusOK, fmt.Sprintf(`<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult><Credentials>
<AccessKeyId>ASIA%d</AccessKeyId><SecretAccessKey>assumed-secret</SecretAccessKey><SessionToken>token-%d</SessionToken><Expiration>%s</Expiration>
</Credentials></AssumeRoleResult></AssumeRoleResponse>`, *calls, *calls, time.Now().Add(lasts).UTC().Format(time.RFC3339)), "Content-Type", "text/xml"), nil
	}
}

const testRole = "arn:aws:iam::123456789012:role/cache"

func signer(t *testing.T, url string) string {
	id, _, _ := strings.Cut(parse(t, url).Query().Get("X-Amz-Credential"), "/")
	return id
}

func TestS3RoleSignsEverything(t *testing.T) {
	calls := 0
	s := testS3(t, config.CacheS3{BucketLocation: "eu-west-1", RoleARN: testRole, UploadRoleARN: testRole + "2"}, fakeSTS(t, &calls, time.Hour))
	down, err := s.Download(t.Context(), "a", time.Minute)
	require.NoError(t, err)
	up, err := s.Upload(t.Context(), "a", "", time.Hour)
	require.NoError(t, err)
	for _, url := range []string{down.URL, down.HeadURL, up.URL, up.HeadURL} {
		require.Equal(t, "ASIA1", signer(t, url))
		require.Equal(t, "token-1", parse(t, url).Query().Get("X-Amz-Security-Token"))
		require.NotContains(t, url, "assumed-secret")
	}
	require.Equal(t, 1, calls, "the session is used again")
}

func TestS3UploadRoleSignsUploadsOnly(t *testing.T) {
	calls := 0
	s := testS3(t, config.CacheS3{BucketLocation: "eu-west-1", UploadRoleARN: testRole}, fakeSTS(t, &calls, time.Hour))
	down, err := s.Download(t.Context(), "a", time.Minute)
	require.NoError(t, err)
	require.Equal(t, 0, calls)
	up, err := s.Upload(t.Context(), "a", "", time.Minute)
	require.NoError(t, err)
	for url, want := range map[string]string{down.URL: "AKIDEXAMPLE", down.HeadURL: "AKIDEXAMPLE", up.URL: "ASIA1", up.HeadURL: "AKIDEXAMPLE"} {
		require.Equal(t, want, signer(t, url))
	}
}

func TestS3RoleIsAssumedAgainWhenItsSessionIsTooShort(t *testing.T) {
	calls := 0
	s := testS3(t, config.CacheS3{BucketLocation: "eu-west-1", RoleARN: testRole}, fakeSTS(t, &calls, 30*time.Minute))
	for _, step := range []struct {
		ttl  time.Duration
		want int
	}{{10 * time.Minute, 1}, {20 * time.Minute, 1}, {40 * time.Minute, 2}, {10 * time.Minute, 2}} {
		_, err := s.Download(t.Context(), "a", step.ttl)
		require.NoError(t, err)
		require.Equal(t, step.want, calls, step.ttl)
	}
}

func TestS3RoleIsAssumedForEachObjectWithoutCaching(t *testing.T) {
	calls := 0
	s := testS3(t, config.CacheS3{BucketLocation: "eu-west-1", RoleARN: testRole, DisableAssumeRoleCredentialsCaching: true}, fakeSTS(t, &calls, time.Hour))
	for i := range 3 {
		down, err := s.Download(t.Context(), "a", time.Minute)
		require.NoError(t, err)
		require.Equal(t, i+1, calls)
		require.Equal(t, signer(t, down.URL), signer(t, down.HeadURL))
	}
}

func TestS3RoleThatIsDeniedSaysWhichAndNoSecret(t *testing.T) {
	s := testS3(t, config.CacheS3{BucketLocation: "eu-west-1", RoleARN: testRole}, func(r *http.Request) (*http.Response, error) {
		return answer(r, http.StatusForbidden, `<ErrorResponse><Error><Code>AccessDenied</Code><Message>not you</Message></Error></ErrorResponse>`, "Content-Type", "text/xml"), nil
	})
	_, err := s.Download(t.Context(), "project/1/key", time.Minute)
	require.ErrorContains(t, err, "assuming role "+testRole)
	require.ErrorContains(t, err, "project/1/key")
	require.ErrorContains(t, err, "AccessDenied")
	require.NotContains(t, err.Error(), "very-secret")
}
