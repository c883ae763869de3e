package objectstore

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/gitlab-org/gitlab-runner/common/config"
)

func TestS3PartsAreSignedByTheRoleForUploads(t *testing.T) {
	calls := 0
	sts := fakeSTS(t, &calls, time.Hour)
	var asked []string
	s := testS3(t, config.CacheS3{BucketLocation: "eu-west-1", RoleARN: testRole, ServerSideEncryption: "KMS"}, func(r *http.Request) (*http.Response, error) {
		if strings.HasPrefix(r.URL.Host, "sts.") {
			return sts(r)
		}
		asked = append(asked, r.Method+" "+r.URL.RequestURI())
		require.Contains(t, r.Header.Get("Authorization"), "Credential=ASIA1/")
		if r.Method == http.MethodDelete {
			return answer(r, http.StatusNotFound, `<Error><Code>NoSuchUpload</Code><Message>gone</Message></Error>`), nil
		}
		require.Equal(t, "aws:kms", r.Header.Get("X-Amz-Server-Side-Encryption"))
		require.Equal(t, "main", r.Header.Get("X-Amz-Meta-Cachekey"))
		return answer(r, http.StatusOK, `<InitiateMultipartUploadResult><UploadId>the-id</UploadId></InitiateMultipartUploadResult>`, "Content-Type", "application/xml"), nil
	})
	remote, abandon, err := s.UploadInParts(t.Context(), "project/1/a b", "main", 10*time.Minute)
	require.NoError(t, err)
	require.Len(t, remote.Parts.URLs, s3Parts)
	for _, url := range append(remote.Parts.URLs, remote.Parts.CompleteURL) {
		require.True(t, strings.HasPrefix(url, "https://bucket.s3.dualstack.eu-west-1.amazonaws.com/project/1/a%20b?"), url)
		require.Equal(t, "ASIA1", signer(t, url))
		query := parse(t, url).Query()
		require.Equal(t, "the-id", query.Get("uploadId"))
		require.Equal(t, "600", query.Get("X-Amz-Expires"))
		require.NotContains(t, url, "assumed-secret")
	}
	require.Equal(t, "128", parse(t, remote.Parts.URLs[127]).Query().Get("partNumber"))
	require.NoError(t, abandon(t.Context()), "an upload that is over is no error")
	require.Equal(t, []string{"POST /project/1/a%20b?uploads=", "DELETE /project/1/a%20b?uploadId=the-id&x-id=AbortMultipartUpload"}, asked)
}

func TestAnUploadInPartsThatIsRefusedNamesTheObject(t *testing.T) {
	s := testS3(t, config.CacheS3{BucketLocation: "eu-west-1"}, func(r *http.Request) (*http.Response, error) {
		return answer(r, http.StatusForbidden, `<Error><Code>AccessDenied</Code><Message>not you</Message></Error>`, "Content-Type", "application/xml"), nil
	})
	_, _, err := s.UploadInParts(t.Context(), "project/1/key", "main", time.Minute)
	require.ErrorContains(t, err, `beginning the upload of cache object "project/1/key" in parts: bucket bucket: `)
	require.ErrorContains(t, err, "AccessDenied")
}

func TestAzureTakesBlocksByTheURLOfTheObject(t *testing.T) {
	s, err := New(&config.Cache{Type: "azure", Azure: &config.CacheAzure{AccountName: "account", AccountKey: testAccountKey, ContainerName: "c"}}, quiet(), nil)
	require.NoError(t, err)
	remote, err := s.Upload(t.Context(), "a", "", time.Hour)
	require.NoError(t, err)
	require.Equal(t, int64(5000<<20), remote.Limit)
	require.Nil(t, remote.Parts.URLs)
	inParts, abandon, err := s.UploadInParts(t.Context(), "a", "", time.Hour)
	require.NoError(t, err)
	require.Equal(t, remote.Parts, inParts.Parts)
	require.NoError(t, abandon(t.Context()))
}
