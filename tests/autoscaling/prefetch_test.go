//go:build system

package autoscaling

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/gitlab-org/gitlab-runner/tests/coordinator"
	"gitlab.com/gitlab-org/gitlab-runner/tests/rig"
)

// localImage is one of some size.
const localImage = "debian-job:local"

func TestImagesAreThereBeforeTheFirstJob(t *testing.T) {
	t.Parallel()
	s := newStage(t, patience)
	image := s.registry(localImage)
	host, _, _ := strings.Cut(image, "/")
	insecure := fmt.Sprintf("      engine_config = {insecure-registries = [%q]}\n", host)

	s.start(s.Text(s.config(rig.Config{IdleCount: 1, Plugin: insecure})))
	s.awaitLog("instance is warm")
	without := s.toFirstCommand(image)
	s.stop()

	s.start(s.Text(s.config(rig.Config{IdleCount: 1, Plugin: insecure, Autoscaler: fmt.Sprintf("    prefetch_images = [%q]", image)})))
	s.awaitLog("image is on the instance ahead of its jobs", image)
	with := s.toFirstCommand(image)
	t.Logf("from hand-out to the first command: %s without prefetch_images, %s with", without, with)
	require.Less(t, with, without)
}

// toFirstCommand runs a job and returns how long after its hand-out its script began, by the time the
// first output of the script was received.
func (s *stage) toFirstCommand(image string) time.Duration {
	s.Helper()
	job := s.enqueue(coordinator.JobSpec{Image: coordinator.Image{Name: image}, Script: []string{"echo $((40 + 2))"}})
	s.succeeds(job)
	record := job.Record()
	for line := range strings.Lines(string(record.Trace)) {
		// The script's own streams have another number than the runner's.
		stamp, rest, _ := strings.Cut(line, " ")
		if at, err := time.Parse(time.RFC3339Nano, stamp); err == nil && strings.HasPrefix(rest, "01O") {
			return at.Sub(record.Times.HandedOut)
		}
	}
	require.Fail(s, "the script wrote nothing", "%s", record.Trace)
	return 0
}

// registry starts a registry that instances reach, puts an image of the local engine there and returns
// its name as instances know it.
func (s *stage) registry(image string) string {
	s.Helper()
	listener, err := net.Listen("tcp", "0.0.0.0:0")
	require.NoError(s, err)
	_, port, err := net.SplitHostPort(listener.Addr().String())
	require.NoError(s, err)
	require.NoError(s, listener.Close())
	dir := s.TempDir()
	config := filepath.Join(dir, "config.yml")
	require.NoError(s, os.WriteFile(config, fmt.Appendf(nil,
		"version: 0.1\nstorage: {filesystem: {rootdirectory: %s}}\nhttp: {addr: \"0.0.0.0:%s\"}\nlog: {level: error}\n", dir, port), 0o600))
	process := exec.Command("docker-registry", "serve", config)
	require.NoError(s, process.Start())
	s.Cleanup(func() {
		_ = process.Process.Kill()
		_ = process.Wait()
	})
	s.eventually(soon, func() bool {
		conn, err := net.Dial("tcp", "127.0.0.1:"+port)
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	}, "the registry does not listen")

	// The local engine asks no TLS of registries on this machine.
	local := "127.0.0.1:" + port + "/" + image
	for _, args := range [][]string{{"tag", image, local}, {"push", "--quiet", local}, {"rmi", local}} {
		out, err := exec.CommandContext(s.ctx, "docker", args...).CombinedOutput()
		require.NoError(s, err, "%s", out)
	}
	return net.JoinHostPort(s.Gateway, port) + "/" + image
}
