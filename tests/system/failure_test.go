//go:build system

package system

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/ssh"

	"gitlab.com/gitlab-org/gitlab-runner/tests/coordinator"
	"gitlab.com/gitlab-org/gitlab-runner/tests/rig"
	"gitlab.com/gitlab-org/gitlab-runner/tests/rig/rigtest"
)

func TestMissingImageIsToldInTheJobLog(t *testing.T) {
	t.Parallel()
	s := newStage(t, coordinator.Config{})
	s.Launch(s.Autoscaled(rig.Config{
		Capacity: 3, IdleCount: 3,
		Docker: `    allowed_pull_policies = ["always", "if-not-present", "never"]`,
	}))
	const absent, unreachable = "not-there:1", "127.0.0.1:9/not-there:1"
	image := func(name, policy string) coordinator.JobSpec {
		return coordinator.JobSpec{Script: []string{"echo ran"}, Image: coordinator.Image{Name: name, PullPolicy: []string{policy}}}
	}
	never := s.Enqueue(image(absent, "never"))
	always := s.Enqueue(image(unreachable, "always"))
	service := image(rigtest.Busybox, "if-not-present")
	service.Services = []coordinator.Service{{Image: coordinator.Image{Name: unreachable, PullPolicy: []string{"always"}}, Alias: "db"}}
	ofService := s.Enqueue(service)

	record := s.Ended(never)
	s.RequireState(record, coordinator.StateFailed, "runner_system_failure")
	require.Contains(t, plain(record), absent)
	require.NotContains(t, plain(record), "Pulling docker image")
	for _, job := range []*coordinator.Job{always, ofService} {
		record := s.Ended(job)
		s.RequireState(record, coordinator.StateFailed, "runner_external_dependency_failure")
		log := plain(record)
		require.Contains(t, log, "Pulling docker image "+unreachable)
		require.Contains(t, log, `ERROR: Job failed: failed to pull image "`+unreachable+`" with specified policies [always]`)
		require.Contains(t, log, "connection refused")
		require.NotContains(t, log, "\nran\n")
	}
	s.Succeeds(coordinator.JobSpec{Name: "the next one"})
	s.Eventually(soon, func() bool { return len(s.objects(s.Instance())) == 0 }, "objects are left on the instance")
}

func TestUnreachableEngineIsToldInTheJobLogAndOneSlotIsUsed(t *testing.T) {
	t.Parallel()
	s := newStage(t, coordinator.Config{})
	// An engine that never worked: one that stops working is given up for another instance's.
	s.Launch(s.Autoscaled(rig.Config{Capacity: 1, IdleCount: 1, Docker: `    host = "unix:///var/run/elsewhere.sock"`}), "--listen-address", "127.0.0.1:0")
	instance := s.Instance()

	record := s.Ended(s.Enqueue(coordinator.JobSpec{Script: []string{"true"}}))
	s.RequireState(record, coordinator.StateFailed, "runner_system_failure")
	log := plain(record)
	require.Contains(t, log, "ERROR: Preparation failed: ")
	require.Contains(t, log, "Will be retried in 3s ...")
	require.Contains(t, log, "ERROR: Job failed (system failure): ")
	require.Contains(t, log, "Cannot connect to the Docker daemon")

	s.InInstance(instance, "ln", "-s", "/var/run/docker.sock", "/var/run/elsewhere.sock")
	s.Succeeds(coordinator.JobSpec{Name: "after"})
	// Each job, the failed one with its three tries too, acquired once and released once.
	metrics := s.awaitMetric(metric{name: "fleeting_taskscaler_task_operations_total", labels: "operation=release"}, 2)
	require.Equal(t, 2.0, metrics.value("fleeting_taskscaler_task_operations_total", "operation=acquire"))
}

func TestWrongKeyIsToldInTheRunnerLogAndInTheJobLog(t *testing.T) {
	t.Parallel()
	s := newStage(t, coordinator.Config{})
	s.Launch(s.Autoscaled(rig.Config{
		Connector: "      use_static_credentials = true\n      username = \"root\"\n      key_path = \"" + s.file("foreign-key", newKey(t), 0o600) + "\"\n",
		// Without idle instances jobs are taken before there is an instance, and wait for it.
		Autoscaler:  `    instance_acquire_timeout = "3s"`,
		DialTimeout: 3 * time.Second,
	}))

	job := s.Enqueue(coordinator.JobSpec{Script: []string{"true"}})
	entry := s.AwaitLog("error", "ready up preparation failed")
	require.Contains(t, entry.Text("err"), "unable to authenticate")
	require.NotEmpty(t, entry.Text("instance"))
	record := s.Ended(job)
	s.RequireState(record, coordinator.StateFailed, "runner_system_failure")
	log := plain(record)
	require.Contains(t, log, "unable to acquire instance within the configured timeout of 3s: context deadline exceeded")
	require.Contains(t, log, "unable to authenticate", "the job log does not say why there was no instance")
	require.LessOrEqual(t, s.Fleet.Most(), 1)
}

func TestInstanceWhoseEngineDoesNotStartIsToldInTheRunnerLog(t *testing.T) {
	t.Parallel()
	s := newStage(t, coordinator.Config{})
	s.Launch(s.Autoscaled(rig.Config{
		Plugin:     "      engine_config = { no-such-option = true }",
		Autoscaler: `    instance_acquire_timeout = "3s"`,
	}))
	job := s.Enqueue(coordinator.JobSpec{Script: []string{"true"}})
	entry := s.AwaitLog("error", "an instance failed to boot")
	require.Contains(t, entry.Text("err"), "no-such-option", "the engine's own complaint is missing")
	require.NotEmpty(t, entry.Text("instance"))
	record := s.Ended(job)
	s.RequireState(record, coordinator.StateFailed, "runner_system_failure")
	require.Contains(t, plain(record), "unable to acquire instance within the configured timeout of 3s: context deadline exceeded")
	require.LessOrEqual(t, s.Fleet.Most(), 1)
}

// newKey is the private part of an SSH key that opens nothing.
func newKey(t *testing.T) string {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	block, err := ssh.MarshalPrivateKey(private, "")
	require.NoError(t, err)
	return string(pem.EncodeToMemory(block))
}
