//go:build system

package docker

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/stretchr/testify/require"

	"gitlab.com/gitlab-org/gitlab-runner/common"
	"gitlab.com/gitlab-org/gitlab-runner/common/spec"
)

// TestTheEngineMakesWhatTheConfigurationSays asks a real engine about the containers of a job.
func TestTheEngineMakesWhatTheConfigurationSays(t *testing.T) {
	r := newTrial(t, "busybox:latest", func(job *common.Job) {
		d := job.Runner.Docker
		d.Hostname = "box"
		d.Memory, d.MemoryReservation = "64m", "32m"
		d.CPUShares = 512
		d.Cpus = "0.5"
		d.CpusetCpus = "0"
		d.DNS, d.DNSSearch = []string{"192.0.2.1"}, []string{"example.com"}
		d.User = "1:1"
		d.GroupAdd = []string{"100"}
		d.CapAdd, d.CapDrop = []string{"NET_ADMIN"}, []string{"MKNOD"}
		d.OomScoreAdjust = 100
		d.SecurityOpt = []string{"seccomp=unconfined"}
		d.Devices = []string{"/dev/null:/dev/void:r"}
		d.Volumes = []string{"/cache", "/tmp:/host:ro"}
		d.DisableCache = true
		d.Tmpfs = map[string]string{"/run": "rw"}
		d.ShmSize = 1 << 20
		d.ExtraHosts = []string{"other:192.0.2.9"}
		d.IpcMode, d.PidMode = "private", "host"
		d.Ulimit = map[string]string{"nofile": "1024:2048"}
		d.ContainerLabels = map[string]string{"team": "blue"}
		d.LogOptions = map[string]string{"labels": "team"}
		d.ServiceMemory = "48m"
		d.ServicesTmpfs = map[string]string{"/data": "rw"}
		d.WaitForServicesTimeout = -1
		job.Spec.Services = []spec.Image{{Name: "busybox:latest", Alias: "side", Command: []string{"sleep", "100"}}}
	})
	r.prepare()
	defer r.cleanup()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.script(ctx, framed("hostname; echo running; sleep 100")) }()
	client := r.engineClient()
	var build, side container.InspectResponse
	require.Eventually(t, func() bool { return strings.Contains(r.log.String(), "box\nrunning\n") || len(done) > 0 }, 20*time.Second, 10*time.Millisecond)
	require.Empty(t, done, "the script ended early: %s", r.log.String())
	found, err := client.ContainerList(t.Context(), "com.gitlab.gitlab-runner.runner.system_id="+r.job.Runner.SystemID)
	require.NoError(t, err)
	for _, one := range found {
		answer, err := client.ContainerInspect(t.Context(), one.ID)
		if errdefs.IsNotFound(err) {
			// A container that had done its work.
			continue
		}
		require.NoError(t, err)
		switch one.Labels["com.gitlab.gitlab-runner.type"] {
		case "build":
			build = answer
		case "service":
			side = answer
		}
	}
	require.NotNil(t, build.ContainerJSONBase)
	require.NotNil(t, side.ContainerJSONBase)
	cancel()
	require.Error(t, <-done)

	host := build.HostConfig
	require.Equal(t, "box", build.Config.Hostname)
	require.Equal(t, "1:1", build.Config.User)
	require.EqualValues(t, 64<<20, host.Memory)
	require.EqualValues(t, 32<<20, host.MemoryReservation)
	require.EqualValues(t, 512, host.CPUShares)
	require.EqualValues(t, 5e8, host.NanoCPUs)
	require.Equal(t, "0", host.CpusetCpus)
	require.Equal(t, []string{"192.0.2.1"}, host.DNS)
	require.Equal(t, []string{"example.com"}, host.DNSSearch)
	require.Equal(t, []string{"100"}, host.GroupAdd)
	require.EqualValues(t, []string{"CAP_NET_ADMIN"}, host.CapAdd)
	require.EqualValues(t, []string{"CAP_MKNOD"}, host.CapDrop)
	require.Equal(t, 100, host.OomScoreAdj)
	require.Contains(t, host.SecurityOpt, "seccomp=unconfined")
	require.Equal(t, "/dev/void", host.Devices[0].PathInContainer)
	require.Contains(t, host.Binds, "/tmp:/host:ro")
	require.Len(t, host.Mounts, 2)
	require.Equal(t, map[string]string{"/run": "rw"}, host.Tmpfs)
	require.EqualValues(t, 1<<20, host.ShmSize)
	require.Contains(t, host.ExtraHosts, "other:192.0.2.9")
	require.Contains(t, host.ExtraHosts, "side:"+side.NetworkSettings.Networks["bridge"].IPAddress)
	require.EqualValues(t, "private", host.IpcMode)
	require.EqualValues(t, "host", host.PidMode)
	require.EqualValues(t, 2048, host.Ulimits[0].Hard)
	require.Equal(t, "blue", build.Config.Labels["team"])
	require.Equal(t, "json-file", host.LogConfig.Type)
	require.Equal(t, map[string]string{"labels": "team"}, host.LogConfig.Config)
	require.Contains(t, r.log.String(), "box\n")

	require.EqualValues(t, 48<<20, side.HostConfig.Memory)
	require.Equal(t, map[string]string{"/data": "rw"}, side.HostConfig.Tmpfs)
	require.Equal(t, "blue", side.Config.Labels["com.gitlab.gitlab-runner.team"])
}
