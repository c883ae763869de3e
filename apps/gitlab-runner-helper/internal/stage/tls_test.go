package stage_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"gitlab.com/gitlab-org/gitlab-runner/apps/gitlab-runner-helper/internal/gittest"
	"gitlab.com/gitlab-org/gitlab-runner/common/plan"
)

func TestSourcesOfAServerWithACertificateOfItsOwn(t *testing.T) {
	j := newJob(t)
	server, certificates := gittest.NewTLSServer(t)
	j.server, j.repo = server, server.NewRepository(t, "group/project")
	child := server.NewRepository(t, "group/child")
	child.Commit(t, map[string]string{"file": "child\n"})
	j.repo.Commit(t, map[string]string{
		".gitattributes": "*.bin filter=lfs diff=lfs merge=lfs -text\n",
		"large.bin":      server.LFSFile("a large file\n"),
	})
	sha := j.repo.AddSubmodule(t, "../child.git", "child", child)

	p := j.sources(plan.StrategyFetch, sha)
	p.Sources.InsteadOf = []plan.Alias{{Replacement: server.WithCredentials(server.URL), Original: server.URL}}
	p.Sources.Submodules.Strategy = plan.SubmoduleRecursive
	p.Variables, p.Server = nil, plan.Server{URL: server.URL}
	require.Error(t, j.run(p), "nobody has told to trust the server")
	require.Contains(t, strings.ToLower(j.log.String()), "certificate")

	p.Variables = []plan.Variable{{Key: "CI_SERVER_TLS_CA_FILE", Value: certificates.CA, File: true}}
	p.Server.CAFile = "CI_SERVER_TLS_CA_FILE"
	require.Error(t, j.run(p), "the server was shown no certificate")

	p.Variables = append(p.Variables,
		plan.Variable{Key: "CI_SERVER_TLS_CERT_FILE", Value: certificates.Certificate, File: true},
		plan.Variable{Key: "CI_SERVER_TLS_KEY_FILE", Value: certificates.Key, File: true},
	)
	p.Server.CertFile, p.Server.KeyFile = "CI_SERVER_TLS_CERT_FILE", "CI_SERVER_TLS_KEY_FILE"
	j.log.Reset()
	require.NoError(t, j.run(p), "%s", j.log)
	for name, want := range map[string]string{"large.bin": "a large file\n", "child/file": "child\n"} {
		content, err := os.ReadFile(j.path("project/" + name))
		require.NoError(t, err)
		require.Equal(t, want, string(content))
	}
	// Neither the key nor the token is in the work tree.
	require.NoError(t, filepath.WalkDir(j.path("project"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		content, err := os.ReadFile(path)
		require.NotContains(t, string(content), "PRIVATE KEY", path)
		require.NotContains(t, string(content), gittest.Token, path)
		return err
	}))

	cleanup := j.plan("cleanup_file_variables")
	cleanup.Variables, cleanup.Server = p.Variables, p.Server
	cleanup.Cleanup = &plan.Cleanup{Strategy: plan.StrategyFetch, CleanGitConfig: true}
	require.NoError(t, j.run(cleanup))
	require.NoFileExists(t, j.path("project.tmp/CI_SERVER_TLS_KEY_FILE"))
}
