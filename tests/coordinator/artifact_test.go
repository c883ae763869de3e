package coordinator_test

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"gitlab.com/gitlab-org/gitlab-runner/tests/coordinator"
)

const archiveQuery = "artifact_format=zip&artifact_type=archive&expire_in=1+week"

func withArchive() coordinator.JobSpec {
	return coordinator.JobSpec{Name: "build", Artifacts: []coordinator.ArtifactSpec{
		{Name: "bin", Paths: []string{"bin/"}, ExpireIn: "1 week", Type: "archive", Format: "zip"},
	}}
}

func TestArtifactsReachTheDependingJob(t *testing.T) {
	c := start(t, coordinator.Config{})
	cl := newClient(t, c)
	build := enqueue(t, c, withArchive())
	test := enqueue(t, c, coordinator.JobSpec{Name: "test", Dependencies: []*coordinator.Job{build}})
	require.Equal(t, coordinator.StateCreated, test.State())

	got := cl.takeRunning()
	content := zipOf(t, "bin/app", "machine code")
	require.Equal(t, http.StatusCreated, cl.upload(artifactsURL(c, got.ID), got.Token, archiveQuery, "bin.zip", content).status)
	require.Equal(t, http.StatusCreated, cl.upload(artifactsURL(c, got.ID), got.Token, archiveQuery, "bin.zip", content).status, "identical again")
	require.Equal(t, http.StatusOK, cl.update(got, "success", output("")).status)

	next := cl.takeRunning()
	require.Equal(t, test.ID(), next.ID)
	dependency := next.Dependencies[0]
	require.Equal(t, build.ID(), dependency.ID)
	require.Equal(t, "bin.zip", dependency.ArtifactsFile.Filename)
	require.EqualValues(t, len(content), dependency.ArtifactsFile.Size)

	url := artifactsURL(c, dependency.ID)
	answer := cl.send("GET", url, map[string]string{"JOB-TOKEN": dependency.Token}, nil)
	require.Equal(t, http.StatusOK, answer.status)
	require.Equal(t, content, answer.body)
	answer = cl.send("GET", url, map[string]string{"JOB-TOKEN": dependency.Token, "Range": "bytes=0-0"}, nil)
	require.Equal(t, http.StatusPartialContent, answer.status)
	require.Equal(t, fmt.Sprintf("bytes 0-0/%d", len(content)), answer.header.Get("Content-Range"))

	artifact := build.Record().Artifacts[0]
	require.Equal(t, "archive", artifact.Type)
	require.Equal(t, "1 week", artifact.ExpireIn)
	file, err := artifact.Open()
	require.NoError(t, err)
	stored, err := io.ReadAll(file)
	require.NoError(t, err)
	require.NoError(t, file.Close())
	require.Equal(t, content, stored)
	require.Empty(t, c.Violations())

	require.Equal(t, http.StatusForbidden, cl.send("GET", url, map[string]string{"JOB-TOKEN": next.Token}, nil).status)
	require.Equal(t, []string{"job-token"}, breaches(c))
}

func TestDependencyWithoutArtifactsHasNoFile(t *testing.T) {
	c := start(t, coordinator.Config{})
	cl := newClient(t, c)
	build := enqueue(t, c, coordinator.JobSpec{})
	enqueue(t, c, coordinator.JobSpec{Dependencies: []*coordinator.Job{build}})
	got := cl.takeRunning()
	cl.update(got, "success", output(""))
	next := cl.takeRunning()
	require.Nil(t, next.Dependencies[0].ArtifactsFile)
	answer := cl.send("GET", artifactsURL(c, build.ID()), map[string]string{"JOB-TOKEN": got.Token}, nil)
	require.Equal(t, http.StatusNotFound, answer.status)
}

func TestDirectDownloadLeadsToTheStore(t *testing.T) {
	c := start(t, coordinator.Config{DirectDownload: true})
	cl := newClient(t, c)
	enqueue(t, c, withArchive())
	got := cl.takeRunning()
	content := zipOf(t, "bin/app", "x")
	cl.upload(artifactsURL(c, got.ID), got.Token, archiveQuery, "bin.zip", content)

	token := map[string]string{"JOB-TOKEN": got.Token}
	require.Equal(t, http.StatusOK, cl.send("GET", artifactsURL(c, got.ID), token, nil).status, "not asked for")
	answer := cl.send("GET", artifactsURL(c, got.ID)+"?direct_download=true", token, nil)
	require.Equal(t, http.StatusFound, answer.status)
	location := answer.header.Get("Location")
	require.True(t, strings.HasPrefix(location, c.StoreURL()), location)
	require.Equal(t, content, cl.send("GET", location, nil, nil).body)
	answer = cl.send("GET", c.StoreURL()+"/store/unsigned", nil, nil)
	require.Equal(t, http.StatusForbidden, answer.status)
	require.Contains(t, string(answer.body), "<Code>AccessDenied</Code>")
	require.Empty(t, c.Violations())

	require.Equal(t, http.StatusBadRequest, cl.send("GET", location, token, nil).status)
	require.Equal(t, []string{"store-auth"}, breaches(c))
	cl.send("GET", artifactsURL(c, got.ID)+"?direct_download=false", token, nil)
	require.Equal(t, []string{"store-auth", "artifacts"}, breaches(c))
}

func TestUploadsAreRedirected(t *testing.T) {
	c := start(t, coordinator.Config{RedirectUploads: true})
	cl := newClient(t, c)
	job := enqueue(t, c, withArchive())
	got := cl.takeRunning()
	content := zipOf(t, "bin/app", "x")
	answer := cl.upload(artifactsURL(c, got.ID), got.Token, archiveQuery, "bin.zip", content)
	require.Equal(t, http.StatusTemporaryRedirect, answer.status)
	location, _, _ := strings.Cut(answer.header.Get("Location"), "?")
	require.True(t, strings.HasPrefix(location, c.StoreURL()))
	require.Equal(t, http.StatusCreated, cl.upload(location, got.Token, archiveQuery, "bin.zip", content).status)
	require.Len(t, job.Record().Artifacts, 1)
	require.Empty(t, c.Violations())
}

func TestUploadRules(t *testing.T) {
	var gz bytes.Buffer
	writer := gzip.NewWriter(&gz)
	_, err := writer.Write([]byte("<testsuite/>"))
	require.NoError(t, err)
	require.NoError(t, writer.Close())
	archive := zipOf(t, "a", "b")

	tests := map[string]struct {
		query, filename string
		content         []byte
		status          int
		breach          bool
	}{
		"archive":            {archiveQuery, "bin.zip", archive, 201, false},
		"report":             {"artifact_format=gzip&artifact_type=junit", "junit.xml.gz", gz.Bytes(), 201, false},
		"too large":          {archiveQuery, "bin.zip", make([]byte, 5000), 413, false},
		"not a zip":          {archiveQuery, "bin.zip", []byte("PK?"), 201, true},
		"not a gzip":         {"artifact_format=gzip&artifact_type=junit", "junit.xml.gz", archive, 201, true},
		"wrong name":         {archiveQuery, "bin", archive, 201, true},
		"other format":       {"artifact_format=raw&artifact_type=junit", "junit.xml", archive, 201, true},
		"other expiry":       {"artifact_format=zip&artifact_type=archive&expire_in=1+day", "bin.zip", archive, 201, true},
		"empty parameter":    {archiveQuery + "&expire_in=", "bin.zip", archive, 201, true},
		"unknown parameter":  {archiveQuery + "&x=1", "bin.zip", archive, 201, true},
		"no declared format": {"artifact_format=tarball&artifact_type=archive&expire_in=1+week", "bin", archive, 201, true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			c := start(t, coordinator.Config{MaxArtifactSize: 4096})
			cl := newClient(t, c)
			spec := withArchive()
			spec.Artifacts = append(spec.Artifacts, coordinator.ArtifactSpec{Type: "junit", Format: "gzip", When: "always"})
			enqueue(t, c, spec)
			got := cl.takeRunning()
			answer := cl.upload(artifactsURL(c, got.ID), got.Token, test.query, test.filename, test.content)
			require.Equal(t, test.status, answer.status, string(answer.body))
			require.Equal(t, test.breach, len(c.Violations()) > 0, c.Violations())
		})
	}
}

func TestSecondDifferentUploadIsRefused(t *testing.T) {
	c := start(t, coordinator.Config{})
	cl := newClient(t, c)
	enqueue(t, c, withArchive())
	got := cl.takeRunning()
	cl.upload(artifactsURL(c, got.ID), got.Token, archiveQuery, "bin.zip", zipOf(t, "a", "1"))
	answer := cl.upload(artifactsURL(c, got.ID), got.Token, archiveQuery, "bin.zip", zipOf(t, "a", "2"))
	require.Equal(t, http.StatusBadRequest, answer.status)
	require.Equal(t, []string{"artifacts"}, breaches(c))
}

func TestUploadAfterTheEndIsRefused(t *testing.T) {
	c := start(t, coordinator.Config{})
	cl := newClient(t, c)
	enqueue(t, c, withArchive())
	got := cl.takeRunning()
	cl.update(got, "success", output(""))
	answer := cl.upload(artifactsURL(c, got.ID), got.Token, archiveQuery, "bin.zip", zipOf(t, "a", "1"))
	require.Equal(t, http.StatusForbidden, answer.status)
	require.Equal(t, "success", answer.header.Get("Job-Status"))
}

func TestBodyThatIsNoFormIsRefused(t *testing.T) {
	c := start(t, coordinator.Config{})
	cl := newClient(t, c)
	enqueue(t, c, withArchive())
	got := cl.takeRunning()
	answer := cl.send("POST", artifactsURL(c, got.ID)+"?"+archiveQuery, map[string]string{"JOB-TOKEN": got.Token}, []byte("x"))
	require.Equal(t, http.StatusBadRequest, answer.status)
	require.Equal(t, []string{"artifacts"}, breaches(c))
}
