package sources_test

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/gitlab-org/gitlab-runner/apps/gitlab-runner-helper/internal/sources"
	"gitlab.com/gitlab-org/gitlab-runner/apps/gitlab-runner-helper/internal/workspace"
)

const (
	waitLimit = 30 * time.Second
	waitStep  = 20 * time.Millisecond
)

func TestHooksRunBeforeAndAfter(t *testing.T) {
	b := newBench(t)
	b.environ = append(b.environ, "GITLAB_ENV="+filepath.Join(b.tmp, workspace.EnvFile))
	p := b.plan(b.repo.Commit(t, map[string]string{"a": "one\n"}))
	p.PreHooks = []string{"echo first pre; test ! -e " + b.path("a") + "\necho GIT_TRACE_SETUP=0 >> $GITLAB_ENV\n", "echo second pre"}
	p.PostHooks = []string{"echo post in $(pwd); cat a"}
	b.mustGet(p)
	require.Regexp(t, `(?s)first pre\nsecond pre\n.*Checking out.*post in `+regexp.QuoteMeta(b.project)+"\none\n$", b.log.String())
}

func TestFailingHookEndsTheStageWithItsCode(t *testing.T) {
	b := newBench(t)
	p := b.plan(b.repo.Commit(t, map[string]string{"a": "one\n"}))
	p.PreHooks = []string{"exit 3"}
	err := b.get(p)
	require.EqualError(t, err, "pre_get_sources_script ended with exit code 3")
	require.NoDirExists(t, b.project)
}

func TestGivingUpEndsGitAndHooks(t *testing.T) {
	b := newBench(t)
	p := b.plan(b.repo.Commit(t, map[string]string{"a": "one\n"}))
	started := filepath.Join(b.home, "started")
	require.NoError(t, os.MkdirAll(b.home, 0o755))
	p.PreHooks = []string{"mkfifo " + started + "; sleep 1000 & echo $! > " + started + "; wait"}
	ctx, cancel := context.WithCancelCause(t.Context())
	result := make(chan error)
	go func() { result <- sources.Get(ctx, b.stage(), p) }()
	var pid []byte
	require.Eventually(t, func() bool {
		info, err := os.Stat(started)
		if err != nil || info.Mode().Type() != fs.ModeNamedPipe {
			return false
		}
		pid, err = os.ReadFile(started)
		return err == nil && len(pid) > 0
	}, waitLimit, waitStep)
	cancel(context.DeadlineExceeded)
	require.ErrorIs(t, <-result, context.DeadlineExceeded)
	require.Eventually(t, func() bool {
		state, err := os.ReadFile("/proc/" + strings.TrimSpace(string(pid)) + "/stat")
		return err != nil || strings.Contains(string(state), ") Z ")
	}, waitLimit, waitStep)
}
