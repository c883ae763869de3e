//go:build system

package docker

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/require"
	"gitlab.com/gitlab-org/fleeting/fleeting/connector"
	"gitlab.com/gitlab-org/fleeting/fleeting/provider"
)

// patience is for machines that do other things too; what is expected is logged.
const patience = 60 * time.Second

// systemGroup is a group on the real engine of this machine.
type systemGroup struct {
	*InstanceGroup
	t *testing.T
}

// groupName keeps tests that run at the same time apart.
func groupName(t *testing.T) string {
	return fmt.Sprintf("test-%d-%d", os.Getpid(), time.Now().UnixNano()%1e6)
}

// startSystem begins a group; the end of the test removes everything that carries its name.
func startSystem(t *testing.T, config Config) *systemGroup {
	t.Helper()
	g := &systemGroup{InstanceGroup: &InstanceGroup{Config: config}, t: t}
	begun := time.Now()
	_, err := g.Init(t.Context(), hclog.New(&hclog.LoggerOptions{Name: t.Name(), Output: os.Stderr}), provider.Settings{})
	require.NoError(t, err)
	t.Logf("initialised in %v", time.Since(begun).Round(time.Millisecond))
	t.Cleanup(func() { require.NoError(t, g.Shutdown(context.Background())) })
	return g
}

// sweep removes a group's containers at the end of the test.
func sweep(t *testing.T, group string) {
	t.Helper()
	engine, err := openMoby()
	require.NoError(t, err)
	t.Cleanup(func() {
		defer engine.Close()
		for _, role := range []string{roleInstance, roleProbe, roleSeed} {
			left, err := engine.Containers(context.Background(), group, role)
			require.NoError(t, err)
			for _, c := range left {
				require.NoError(t, engine.Remove(context.Background(), c.id))
			}
		}
	})
}

// await updates the group until exactly want instances exist and all are in the state.
func (g *systemGroup) await(want int, state provider.State) []string {
	g.t.Helper()
	begun := time.Now()
	var ids []string
	require.Eventually(g.t, func() bool {
		ids = ids[:0]
		others := 0
		err := g.Update(g.t.Context(), func(id string, s provider.State) {
			ids = append(ids, id)
			if s != state {
				others++
			}
		})
		return err == nil && others == 0 && len(ids) == want
	}, patience, 10*time.Millisecond, "%d instances that are %s", want, state)
	g.t.Logf("%d instances are %s after %v", want, state, time.Since(begun).Round(time.Millisecond))
	return ids
}

func (g *systemGroup) grow(n int) []string {
	g.t.Helper()
	succeeded, err := g.Increase(g.t.Context(), n)
	require.NoError(g.t, err)
	require.Equal(g.t, n, succeeded)
	return g.await(n, provider.StateRunning)
}

// run runs a command on an instance by SSH and returns what it printed.
func (g *systemGroup) run(id, command string) string {
	g.t.Helper()
	info, err := g.ConnectInfo(g.t.Context(), id)
	require.NoError(g.t, err)
	info.Timeout = patience
	var stdout, stderr bytes.Buffer
	err = connector.Run(g.t.Context(), info, connector.ConnectorOptions{
		RunOptions: connector.RunOptions{Command: command, Stdout: &stdout, Stderr: &stderr},
	})
	require.NoError(g.t, err, "%s: %s", command, stderr.String())
	return strings.TrimSpace(stdout.String())
}

func TestSystemInstancesRunContainers(t *testing.T) {
	config := Config{Name: groupName(t), Images: []string{"busybox:latest"}, Memory: "1g", CPUs: 1}
	sweep(t, config.Name)
	g := startSystem(t, config)
	ids := g.grow(3)

	names := map[string]bool{}
	for _, id := range ids {
		require.NoError(t, g.Heartbeat(t.Context(), id))
		require.Equal(t, "runner", g.run(id, "id -un"))
		names[g.run(id, "hostname")] = true
		begun := time.Now()
		require.Equal(t, "from within", g.run(id, "docker run --rm busybox echo from within"))
		t.Logf("a container on an instance took %v", time.Since(begun).Round(time.Millisecond))
	}
	require.Len(t, names, 3)

	id := ids[0]
	require.Equal(t, "1073741824", g.run(id, "cat /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null || cat /sys/fs/cgroup/memory.max"))
	require.Equal(t, "built", g.run(id, `printf 'FROM busybox\nRUN echo built >/result\n' | docker build -q -t built - >/dev/null && docker run --rm built cat /result`))
	require.Empty(t, g.run(id, "docker rmi -f built busybox >/dev/null && docker images -q"), "an image that came with the instance can be removed")
	require.Equal(t, "still there", g.run(ids[1], "docker run --rm busybox echo still there"))

	gone, err := g.Decrease(t.Context(), ids)
	require.NoError(t, err)
	require.Equal(t, ids, gone)
	g.await(0, provider.StateDeleted)
}

func TestSystemAnInstanceTakesTheEngineConfiguration(t *testing.T) {
	config := Config{Name: groupName(t), EngineConfig: json.RawMessage(`{"labels": ["configured=yes"]}`)}
	sweep(t, config.Name)
	g := startSystem(t, config)
	id := g.grow(1)[0]
	require.Equal(t, "[configured=yes]", g.run(id, "docker info --format '{{.Labels}}'"))
}

func TestSystemAnInstanceThatIsKilledIsGone(t *testing.T) {
	config := Config{Name: groupName(t)}
	sweep(t, config.Name)
	g := startSystem(t, config)
	ids := g.grow(2)
	engine, err := openMoby()
	require.NoError(t, err)
	defer engine.Close()

	require.NoError(t, engine.client.ContainerKill(t.Context(), ids[0], "KILL"))
	g.await(1, provider.StateRunning)
	require.Error(t, g.Heartbeat(t.Context(), ids[0]))
	require.NoError(t, g.Heartbeat(t.Context(), ids[1]))
}

func TestSystemAnInstanceEndsWithItsEngine(t *testing.T) {
	config := Config{Name: groupName(t)}
	sweep(t, config.Name)
	g := startSystem(t, config)
	id := g.grow(1)[0]
	info, err := g.ConnectInfo(t.Context(), id)
	require.NoError(t, err)
	info.Timeout = patience
	info.Username = "root"
	// The connection may end before the command's status arrives.
	_ = connector.Run(t.Context(), info, connector.ConnectorOptions{
		RunOptions: connector.RunOptions{Command: "kill -KILL $(cat /var/run/docker.pid)"},
	})
	g.await(0, provider.StateDeleted)
}

func TestSystemARestartedPluginReachesItsInstances(t *testing.T) {
	config := Config{Name: groupName(t)}
	sweep(t, config.Name)
	before := startSystem(t, config)
	id := before.grow(1)[0]
	require.Equal(t, "x", before.run(id, "echo x | tee kept"))

	after := startSystem(t, config)
	require.Equal(t, []string{id}, after.await(1, provider.StateRunning))
	require.Equal(t, "x", after.run(id, "cat kept"))
	require.NotEqual(t, before.key.Private, after.key.Private)
}

func TestSystemASuspendedInstanceKeepsItsDisk(t *testing.T) {
	config := Config{Name: groupName(t), Images: []string{"busybox:latest"}}
	sweep(t, config.Name)
	g := startSystem(t, config)
	ids := g.grow(1)
	require.Equal(t, "x", g.run(ids[0], "docker run --rm -v kept:/kept busybox sh -c 'echo x | tee /kept/file'"))

	_, err := g.Suspend(t.Context(), ids)
	require.NoError(t, err)
	g.await(1, provider.StateSuspended)
	_, err = g.Resume(t.Context(), ids)
	require.NoError(t, err)
	g.await(1, provider.StateRunning)
	require.Equal(t, "x", g.run(ids[0], "docker run --rm -v kept:/kept busybox cat /kept/file"))
}

func TestSystemBootDelayHoldsAnInstanceBack(t *testing.T) {
	config := Config{Name: groupName(t), BootDelay: "2s"}
	sweep(t, config.Name)
	g := startSystem(t, config)
	begun := time.Now()
	g.grow(1)
	require.GreaterOrEqual(t, time.Since(begun), 2*time.Second)
}

func TestSystemAnInstanceLeavesNoVolume(t *testing.T) {
	config := Config{Name: groupName(t)}
	sweep(t, config.Name)
	g := startSystem(t, config)
	ids := g.grow(1)
	engine, err := openMoby()
	require.NoError(t, err)
	defer engine.Close()
	found, err := engine.client.ContainerInspect(t.Context(), ids[0])
	require.NoError(t, err)
	require.Len(t, found.Mounts, 1)
	volume := found.Mounts[0].Name

	_, err = g.Decrease(t.Context(), ids)
	require.NoError(t, err)
	g.await(0, provider.StateDeleted)
	_, err = engine.client.VolumeInspect(t.Context(), volume)
	require.Error(t, err)
}
