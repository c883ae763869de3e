//go:build unix

package stage_test

import (
	"os"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"gitlab.com/gitlab-org/gitlab-runner/common/plan"
)

func TestPipeInThePlaceOfAFileDoesNotBlock(t *testing.T) {
	j := newJob(t)
	require.NoError(t, os.MkdirAll(j.path("project.tmp"), 0o755))
	require.NoError(t, syscall.Mkfifo(j.path("project.tmp/gitlab_runner_env"), 0o666))
	p := j.plan("clear_worktree")
	p.ClearWorktree = &plan.ClearWorktree{}
	require.ErrorContains(t, j.run(p), "not a regular file")
}
