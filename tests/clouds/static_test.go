//go:build system

package clouds

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"gitlab.com/gitlab-org/gitlab-runner/tests/coordinator"
)

func TestTheExampleForStaticHostsRunsJobs(t *testing.T) {
	dir := t.TempDir()
	key := filepath.Join(dir, "key")
	out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key).CombinedOutput()
	require.NoError(t, err, "%s", out)
	s := open(t, "machines", "--max-size", "2", "--authorized-key", strings.TrimSpace(read(t, key+".pub")))
	told, err := exec.CommandContext(s.Ctx, "curl", "--silent", "--fail", s.address).Output()
	require.NoError(t, err)
	var addresses []string
	require.NoError(t, json.Unmarshal(told, &addresses))
	require.Len(t, addresses, 2)
	s.start("static.toml", "192.0.2.11", addresses[0], "192.0.2.12", addresses[1],
		"/etc/gitlab-runner/hosts-key", key, "/var/lib/gitlab-runner/my-hosts.json", filepath.Join(dir, "state.json"))

	// One use each: to run six jobs, two hosts have to be reset four times at least.
	var jobs []*coordinator.Job
	for i := range 6 {
		jobs = append(jobs, s.clones(fmt.Sprintf("job %d", i), "test -d .git", "echo on $(hostname)"))
	}
	uses := map[string]int{}
	for _, job := range jobs {
		s.AllSucceed(job)
		uses[instanceOf(t, job.Record())]++
	}
	require.Equal(t, 6, uses["host-1"]+uses["host-2"], "%v", uses)
	require.GreaterOrEqual(t, strings.Count(s.Manager.LogText(), "host is reset"), 4)
	require.Equal(t, 2, len(s.Fleet.Alive()), "hosts are never deleted")
}
