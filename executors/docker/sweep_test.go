package docker

import (
	"io"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/sirupsen/logrus"
	"github.com/stretchr/testify/require"

	"gitlab.com/gitlab-org/gitlab-runner/common/config"
	"gitlab.com/gitlab-org/gitlab-runner/executors/docker/internal/blueprint"
	"gitlab.com/gitlab-org/gitlab-runner/helpers/docker"
)

func TestOnlyWhatNobodyNeedsIsALeftover(t *testing.T) {
	const own = "here/100/b"
	now := time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)
	alive := "here/" + strconv.Itoa(os.Getpid()) + "/a"
	cases := map[string]struct {
		job, maker, timeout string
		age                 time.Duration
		want                bool
	}{
		"own job under way":               {job: "1", maker: own},
		"own job that ended":              {job: "2", maker: own, want: true},
		"dead process of this host":       {job: "1", maker: "here/999999999/a", want: true},
		"former process with the same id": {job: "2", maker: "here/100/a", want: true},
		"living process of this host":     {job: "2", maker: alive, timeout: "1h", age: 100 * time.Hour},
		"other host, in its time":         {job: "2", maker: "there/1/a", timeout: "1h0m0s", age: 90 * time.Minute},
		"other host, long over":           {job: "2", maker: "there/1/a", timeout: "1h0m0s", age: 3 * time.Hour, want: true},
		"no maker, long over":             {job: "2", timeout: "1h0m0s", age: 3 * time.Hour, want: true},
		"no maker, no timeout":            {job: "2", age: 1000 * time.Hour},
		"no job":                          {maker: own},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			m := newMachines().enter("m", 1)
			s := &sweeper{machine: m, process: own, now: func() time.Time { return now }}
			labels := map[string]string{blueprint.LabelJob: c.job, blueprint.LabelManager: c.maker, blueprint.LabelTimeout: c.timeout}
			require.Equal(t, c.want, s.leftover(labels, now.Add(-c.age)))
		})
	}
}

func TestSweepRemovesLeftoversAndNothingElse(t *testing.T) {
	engine := newFakeEngine(shell)
	m := newMachines().enter("m", 1)
	for job, name := range map[string]string{"1": "kept-1", "2": "gone-2"} {
		_, _, err := engine.ContainerCreate(t.Context(), docker.Container{Name: name, Config: &container.Config{Labels: map[string]string{
			blueprint.LabelJob: job, blueprint.LabelManager: "here/1/a",
		}}})
		require.NoError(t, err)
	}
	log := logrus.New()
	log.SetOutput(io.Discard)
	require.True(t, m.beginSweep())
	require.False(t, m.beginSweep(), "one job sweeps at a time")
	s := &sweeper{engine: engine, runner: &config.Runner{}, machine: m, process: "here/1/a", log: log, now: time.Now}
	s.run(t.Context())
	require.Len(t, engine.containers, 1)
	require.False(t, m.beginSweep(), "a clean machine is not swept again")
	m.soil()
	require.True(t, m.beginSweep())
}

func TestMachinesAreForgottenLongAfterTheirLastJob(t *testing.T) {
	all := newMachines()
	first := all.enter("first", 1)
	first.leave(1)
	first.left = time.Now().Add(-2 * machineLife)
	busy := all.enter("busy", 2)
	busy.left = time.Now().Add(-2 * machineLife)
	require.NotContains(t, all.byID, "first")
	all.enter("second", 3)
	require.Contains(t, all.byID, "busy")
}

func TestFactsAreBelievedForAWhileAndNotAfterAFault(t *testing.T) {
	m := newMachines().enter("m", 1)
	_, _, known := m.known()
	require.False(t, known)
	m.learn(docker.Server{OS: "linux"}, direct)
	_, _, known = m.known()
	require.True(t, known)
	m.doubt()
	_, kind, known := m.known()
	require.False(t, known)
	require.Equal(t, direct, kind, "the way to the engine is tried first again")
	m.learn(docker.Server{OS: "linux"}, direct)
	m.learned = time.Now().Add(-2 * factsLife)
	_, _, known = m.known()
	require.False(t, known)
}
