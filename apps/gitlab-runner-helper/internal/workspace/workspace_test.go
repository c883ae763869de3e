package workspace_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"gitlab.com/gitlab-org/gitlab-runner/apps/gitlab-runner-helper/internal/workspace"
)

func newWorkspace(t *testing.T) *workspace.Workspace {
	t.Helper()
	base := t.TempDir()
	w, err := workspace.New(filepath.Join(base, "project"), filepath.Join(base, "project.tmp"))
	require.NoError(t, err)
	return w
}

func TestTmpDirIsMadeWhateverIsInItsPlace(t *testing.T) {
	for name, prepare := range map[string]func(w *workspace.Workspace, elsewhere string) error{
		"nothing": func(*workspace.Workspace, string) error { return nil },
		"file":    func(w *workspace.Workspace, _ string) error { return os.WriteFile(w.TmpDir, nil, 0o600) },
		"link":    func(w *workspace.Workspace, elsewhere string) error { return os.Symlink(elsewhere, w.TmpDir) },
	} {
		t.Run(name, func(t *testing.T) {
			w, elsewhere := newWorkspace(t), t.TempDir()
			require.NoError(t, prepare(w, elsewhere))
			require.NoError(t, w.WriteTmp("dir/file", []byte("content"), 0o600))
			content, err := w.ReadTmp("dir/file")
			require.NoError(t, err)
			require.Equal(t, "content", string(content))
			left, err := os.ReadDir(elsewhere)
			require.NoError(t, err)
			require.Empty(t, left)
			require.NoError(t, w.RemoveTmp("dir", "missing"))
			_, err = w.ReadTmp("dir/file")
			require.ErrorIs(t, err, fs.ErrNotExist)
		})
	}
}

func TestNamesDoNotLeadOutOfTmpDir(t *testing.T) {
	w := newWorkspace(t)
	require.NoError(t, w.WriteTmp("x", nil, 0o600))
	victim := filepath.Join(filepath.Dir(w.TmpDir), "victim")
	require.NoError(t, os.WriteFile(victim, []byte("untouched"), 0o600))
	require.Error(t, w.WriteTmp("../victim", []byte("evil"), 0o600))
	require.Error(t, w.RemoveTmp("../victim"))
	_, err := w.ReadTmp("../victim")
	require.Error(t, err)
	for name, plain := range map[string]bool{"A": true, "..": false, ".": false, "": false, "a/b": false, `a\b`: false, "/a": false} {
		require.Equal(t, plain, workspace.PlainName(name), name)
	}
}

func TestProjectIsRemovedWithItsReadOnlyDirectories(t *testing.T) {
	w := newWorkspace(t)
	deep := filepath.Join(w.ProjectDir, "a", "b")
	require.NoError(t, os.MkdirAll(deep, 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(deep, "file"), nil, 0o400))
	require.NoError(t, os.Chmod(deep, 0o500))
	require.NoError(t, w.RemoveProject())
	require.NoDirExists(t, w.ProjectDir)
	require.NoError(t, w.RemoveProject())
}

func TestOnlyAssignmentsAreHandedOn(t *testing.T) {
	w := newWorkspace(t)
	entries, bad, err := w.Variables()
	require.NoError(t, err)
	require.Empty(t, entries)
	require.Zero(t, bad)
	require.NoError(t, w.WriteTmp(workspace.EnvFile, []byte("A=1\n\nB=a=b  c\nbare\n1X=2\nC D=3\nE=\x00\nF=last"), 0o600))
	require.NoError(t, w.TouchTmp(workspace.EnvFile, 0o600))
	entries, bad, err = w.Variables()
	require.NoError(t, err)
	require.Equal(t, []string{"A=1", "B=a=b  c", "F=last"}, entries)
	require.Equal(t, 3, bad)
}
