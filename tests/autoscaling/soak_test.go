//go:build system

package autoscaling

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/gitlab-org/gitlab-runner/tests/coordinator"
	"gitlab.com/gitlab-org/gitlab-runner/tests/rig"
)

// soakJobs names the variable that says how many jobs the soak has.
const soakJobs = "SOAK_JOBS"

// kind is a sort of job with the end it must have.
type kind struct {
	script []string
	cancel bool
	state  coordinator.State
	reason string
	code   int
}

var kinds = []kind{
	{script: []string{"true"}, state: coordinator.StateSuccess},
	{script: []string{"sleep 1"}, state: coordinator.StateSuccess},
	{script: []string{"exit 3"}, state: coordinator.StateFailed, reason: "script_failure", code: 3},
	{script: []string{"echo started", "sleep 300"}, cancel: true, state: coordinator.StateCanceled},
}

// losses are the ways in which an instance is lost under its jobs.
var losses = []func(instance string) error{rig.KillInstance, rig.FreezeInstance, rig.StopEngine}

// TestManyShortJobsEndAsTheyMustAndNothingGrows runs jobs in rounds. In each some are canceled and an
// instance is lost; after each the manager must be as small as after the first.
func TestManyShortJobsEndAsTheyMustAndNothingGrows(t *testing.T) {
	t.Parallel()
	number := 60
	if text := os.Getenv(soakJobs); text != "" {
		var err error
		number, err = strconv.Atoi(text)
		require.NoError(t, err, soakJobs)
	}
	const (
		perRound      = 20
		idleInstances = 2
	)
	rounds := max(number/perRound, 2)
	s := newStage(t, patience+time.Duration(rounds)*time.Minute)
	s.Launch(s.Autoscaled(rig.Config{
		Concurrent: 6, Capacity: 2, MaxInstances: 3, MaxUseCount: 20, IdleCount: 2 * idleInstances, IdleTime: time.Second, RequestConcurrency: 6,
	}), "--listen-address", "127.0.0.1:0")
	address := s.Listening()
	seed := uint64(time.Now().UnixNano())
	t.Logf("the seed is %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))

	lost := map[string]bool{}
	var first footprint
	for round := range rounds {
		s.round(random, perRound, lost)
		s.Eventually(2*soon, func() bool { return s.footprint(address).jobs == 0 }, "jobs are left in the manager")
		if round == 0 {
			s.Eventually(2*soon, func() bool { return len(s.Fleet.Alive()) == idleInstances }, "the fleet does not come to rest")
			first = s.footprint(address)
			t.Logf("round 1: %+v", first)
			continue
		}
		// A few come and go with requests and timers.
		const slack = 12
		var now footprint
		s.Eventually(2*soon, func() bool {
			now = s.footprint(address)
			return len(s.Fleet.Alive()) == idleInstances && now.goroutines <= first.goroutines+slack && now.files <= first.files+slack
		}, "the manager grew: %+v after the first round, %+v after round %d", first, &now, round+1)
		t.Logf("round %d: %+v, instances so far %d", round+1, now, len(s.Fleet.Lives()))
	}
	require.LessOrEqual(t, s.Fleet.Most(), 3)
}

// round runs jobs of all kinds, with an instance lost under them.
func (s *stage) round(random *rand.Rand, number int, lost map[string]bool) {
	s.Helper()
	type running struct {
		kind
		job *coordinator.Job
	}
	var jobs []running
	for range number {
		k := kinds[random.IntN(len(kinds))]
		jobs = append(jobs, running{k, s.Enqueue(coordinator.JobSpec{Script: k.script})})
	}
	pauses := make([]time.Duration, len(jobs))
	for i := range pauses {
		pauses[i] = time.Duration(random.IntN(500)) * time.Millisecond
	}
	var cancelers sync.WaitGroup
	for i, one := range jobs {
		if one.cancel {
			cancelers.Go(func() { s.cancelOnceStarted(one.job, pauses[i]) })
		}
	}
	require.NoError(s, jobs[number/2].job.Wait(s.Ctx))
	if alive := s.Fleet.Alive(); len(alive) > 0 {
		victim := alive[random.IntN(len(alive))]
		lost[victim] = true
		_ = losses[random.IntN(len(losses))](victim) // it may be going anyway
	}
	cancelers.Wait()
	for _, one := range jobs {
		record := s.Ended(one.job)
		if record.FailureReason == "runner_system_failure" {
			require.True(s, lost[s.instanceOf(one.job)], "job %d failed without the loss of its instance", record.ID)
			continue
		}
		require.Equal(s, one.state, record.State, "job %d %v", record.ID, one.script)
		require.Equal(s, one.reason, record.FailureReason, "job %d %v", record.ID, one.script)
		require.Equal(s, one.code, record.ExitCode, "job %d %v", record.ID, one.script)
	}
}

// cancelOnceStarted cancels a job some time after its script began; one that ends before is left alone.
func (s *stage) cancelOnceStarted(job *coordinator.Job, pause time.Duration) {
	if job.WaitTrace(s.Ctx, "started\n") != nil {
		return
	}
	select {
	case <-time.After(pause):
	case <-s.Ctx.Done():
	}
	job.Cancel(false)
}

// footprint is what a manager holds.
type footprint struct{ goroutines, files, jobs int }

func (s *stage) footprint(address string) footprint {
	s.Helper()
	var f footprint
	goroutines, _ := s.Get(address, "/debug/pprof/goroutine?debug=1")
	_, err := fmt.Sscanf(goroutines, "goroutine profile: total %d", &f.goroutines)
	require.NoError(s, err)
	files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", s.Manager.PID()))
	require.NoError(s, err)
	f.files = len(files)
	jobs, _ := s.Get(address, "/debug/jobs/list")
	f.jobs = len(strings.Fields(jobs))
	return f
}
