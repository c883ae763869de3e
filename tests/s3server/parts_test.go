//go:build system

package s3server_test

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/gitlab-org/gitlab-runner/common/plan"
)

// smallestPart is what S3 takes for any part but the last.
const smallestPart = 5 << 20

// machine runs stages of the real helper in directories of its own.
type machine struct {
	t       *testing.T
	program string
	dir     string
}

func buildHelper(t *testing.T) string {
	program := filepath.Join(t.TempDir(), "helper")
	out, err := exec.Command("go", "build", "-o", program, "gitlab.com/gitlab-org/gitlab-runner/apps/gitlab-runner-helper").CombinedOutput()
	require.NoError(t, err, "%s", out)
	return program
}

func (m *machine) path(name string) string {
	return filepath.Join(m.dir, name)
}

// run runs a stage and returns its exit code and what it said.
func (m *machine) run(p plan.Plan) (int, string) {
	p.Stage, p.ProjectDir, p.TmpDir = "archive_cache", m.path("project"), m.path("project.tmp")
	text, err := json.Marshal(p)
	require.NoError(m.t, err)
	require.NoError(m.t, os.MkdirAll(m.path("project"), 0o755))
	cmd := exec.Command(m.program, "run-stage")
	cmd.Env = append(os.Environ(), "HOME="+m.dir)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	// Standard input stays open: its end would give the stage up.
	stdin, err := cmd.StdinPipe()
	require.NoError(m.t, err)
	require.NoError(m.t, cmd.Start())
	_, err = stdin.Write(text)
	require.NoError(m.t, err)
	_ = cmd.Wait()
	return cmd.ProcessState.ExitCode(), out.String()
}

func TestTheHelperUploadsALargeArchiveInPartsOfARealServer(t *testing.T) {
	server := start(t)
	s := store(t, server, nil)
	program := buildHelper(t)
	const name = "project/7/with blank+ü"
	content := make([]byte, 3*smallestPart)
	_, _ = rand.Read(content)

	first := &machine{t: t, program: program, dir: t.TempDir()}
	require.NoError(t, os.MkdirAll(first.path("project/modules"), 0o755))
	require.NoError(t, os.WriteFile(first.path("project/modules/large"), content, 0o644))
	save := func(remote plan.Remote) (int, string) {
		remote.Limit = smallestPart
		return first.run(plan.Plan{SaveCaches: []plan.CacheSave{{
			Key: plan.CacheKey{Name: "main", File: first.path("cache/main/cache.zip"), Remote: &remote}, Paths: []string{"modules"},
		}}})
	}
	remote, err := s.Upload(t.Context(), name, "main", time.Minute)
	require.NoError(t, err)
	require.Equal(t, int64(5<<30), remote.Limit)
	require.Nil(t, remote.Parts)
	code, said := save(remote)
	require.Equal(t, plan.ExitNeedsParts, code, said)
	require.NotContains(t, said, "ERROR")

	remote, abandon, err := s.UploadInParts(t.Context(), name, "main", time.Minute)
	require.NoError(t, err)
	remote.Parts.Size = smallestPart
	code, said = save(remote)
	require.Zero(t, code, said)
	require.NoError(t, abandon(t.Context()), "what is complete is left alone")
	metadata, err := server.Metadata(t.Context(), server.Bucket, name)
	require.NoError(t, err)
	require.Equal(t, map[string]string{"cachekey": "main"}, metadata)

	second := &machine{t: t, program: program, dir: t.TempDir()}
	found, err := s.Download(t.Context(), name, time.Minute)
	require.NoError(t, err)
	code, said = second.run(plan.Plan{RestoreCaches: []plan.CacheRestore{{
		Keys: []plan.CacheKey{{Name: "main", File: second.path("cache/main/cache.zip"), Remote: &found}},
	}}})
	require.Zero(t, code, said)
	got, err := os.ReadFile(second.path("project/modules/large"))
	require.NoError(t, err, said)
	require.True(t, bytes.Equal(content, got))
}

func TestAnAbandonedUploadLeavesNothing(t *testing.T) {
	server := start(t)
	client := helper(t)
	remote, abandon, err := store(t, server, nil).UploadInParts(t.Context(), "key", "main", time.Minute)
	require.NoError(t, err)
	put := func() int {
		status, _, _ := send(t, client, http.MethodPut, remote.Parts.URLs[0], nil, "part")
		return status
	}
	require.Equal(t, http.StatusOK, put())
	require.NoError(t, abandon(t.Context()))
	require.Equal(t, http.StatusNotFound, put())
	require.NoError(t, abandon(t.Context()), "once more does no harm")
	objects, err := server.Objects(t.Context(), server.Bucket)
	require.NoError(t, err)
	require.Empty(t, objects)
}
