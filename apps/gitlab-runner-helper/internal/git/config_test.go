package git_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"gitlab.com/gitlab-org/gitlab-runner/apps/gitlab-runner-helper/internal/git"
)

func TestPropertyGitReadsWhatWasAdded(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		text := rapid.StringOf(rapid.RuneFrom([]rune("ab=;#\"\\ \t\n'$[]./:%é☃\r")))
		subsection := rapid.StringOf(rapid.RuneFrom([]rune("ab=;#\"\\ \t'$[]./:%é☃")))
		var config git.Config
		var want []string
		for range rapid.IntRange(1, 8).Draw(rt, "entries") {
			sub, value := subsection.Draw(rt, "subsection"), text.Draw(rt, "value")
			config.Add("url", sub, "insteadof", value)
			key := "url.insteadof"
			if sub != "" {
				key = "url." + sub + ".insteadof"
			}
			want = append(want, key+"\n"+value)
		}
		content, err := config.Bytes()
		require.NoError(rt, err)
		file := filepath.Join(t.TempDir(), "config")
		require.NoError(rt, os.WriteFile(file, content, 0o600))
		out, err := exec.Command("git", "config", "--file", file, "--list", "--null").Output()
		require.NoError(rt, err, "%s", content)
		require.Equal(rt, strings.Join(want, "\x00")+"\x00", string(out))
	})
}

func TestEntriesThatNoFileCanHoldAreErrors(t *testing.T) {
	var config git.Config
	config.Add("url", "https://x\n[core]", "insteadOf", "y")
	_, err := config.Bytes()
	require.ErrorContains(t, err, "subsection of url.insteadOf")

	config = git.Config{}
	config.Add("url", "https://x", "insteadOf", "a\x00b")
	_, err = config.Bytes()
	require.ErrorContains(t, err, "value of url.insteadOf")
}
