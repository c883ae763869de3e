package localrun

import (
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"gitlab.com/gitlab-org/gitlab-runner/commands/internal/pipeline"
)

var stages = []string{"one", "two", "three"}

func staged(name, stage string, when pipeline.When) *pipeline.Job {
	return &pipeline.Job{Name: name, Stage: stage, When: when, Staged: true}
}

func needing(name, stage string, needs ...*pipeline.Job) *pipeline.Job {
	job := &pipeline.Job{Name: name, Stage: stage, When: pipeline.OnSuccess}
	for _, need := range needs {
		job.Needs = append(job.Needs, pipeline.Need{Job: need, Order: true})
	}
	return job
}

func names(jobs []*pipeline.Job) []string {
	var out []string
	for _, job := range jobs {
		out = append(out, job.Name)
	}
	return out
}

func TestStagesWaitForEachOtherAndNeedsDoNot(t *testing.T) {
	a, b := staged("a", "one", pipeline.OnSuccess), staged("b", "one", pipeline.OnSuccess)
	c, d := staged("c", "two", pipeline.OnSuccess), needing("d", "three", a)
	free := needing("free", "three")
	s := newSchedule(stages, []*pipeline.Job{a, b, c, d, free}, false)
	require.Equal(t, []string{"a", "b", "free"}, names(s.next()))
	require.Empty(t, s.next())
	s.states[a] = Success
	require.Equal(t, []string{"d"}, names(s.next()))
	s.states[b] = Allowed
	require.Equal(t, []string{"c"}, names(s.next()))
}

func TestFailureDecidesWhatRuns(t *testing.T) {
	for name, c := range map[string]struct {
		when    pipeline.When
		before  State
		allowed bool
		want    State
	}{
		"success":                {pipeline.OnSuccess, Success, false, Running},
		"failure":                {pipeline.OnSuccess, Failed, false, Skipped},
		"allowed failure":        {pipeline.OnSuccess, Allowed, false, Running},
		"canceled":               {pipeline.OnSuccess, Canceled, false, Skipped},
		"left out":               {pipeline.OnSuccess, LeftOut, false, Running},
		"manual that may fail":   {pipeline.OnSuccess, ManualJob, true, Running},
		"manual that blocks":     {pipeline.OnSuccess, ManualJob, false, Skipped},
		"on_failure, success":    {pipeline.OnFailure, Success, false, Skipped},
		"on_failure, failure":    {pipeline.OnFailure, Failed, false, Running},
		"on_failure, allowed":    {pipeline.OnFailure, Allowed, false, Skipped},
		"always, failure":        {pipeline.Always, Failed, false, Running},
		"manual, success":        {pipeline.Manual, Success, false, ManualJob},
		"manual, failure":        {pipeline.Manual, Failed, false, Skipped},
		"on_success, unfinished": {pipeline.OnSuccess, Running, false, Waiting},
	} {
		first, second := staged("first", "one", pipeline.OnSuccess), staged("second", "two", c.when)
		first.AllowFailure = c.allowed
		s := newSchedule(stages, []*pipeline.Job{first, second}, false)
		s.states[first] = c.before
		s.next()
		require.Equal(t, c.want, s.states[second], name)
	}
}

func TestJobThatWasAskedForRunsAlthoughItIsManual(t *testing.T) {
	job := staged("a", "two", pipeline.Manual)
	s := newSchedule(stages, []*pipeline.Job{job}, true)
	require.Equal(t, []string{"a"}, names(s.next()))
}

func TestSkippedNeedSkipsWhatNeedsIt(t *testing.T) {
	a := staged("a", "one", pipeline.OnSuccess)
	b := needing("b", "two", a)
	c := needing("c", "three", b)
	s := newSchedule(stages, []*pipeline.Job{c, b, a}, false)
	require.Equal(t, []string{"a"}, names(s.next()))
	s.states[a] = Failed
	require.Empty(t, s.next())
	require.Equal(t, Skipped, s.states[b])
	require.Equal(t, Skipped, s.states[c])
}

func TestWithNeedsIsWhatAJobNeeds(t *testing.T) {
	a, b := staged("a", "one", pipeline.OnSuccess), staged("b", "one", pipeline.OnSuccess)
	c := needing("c", "two", a)
	d := needing("d", "three", c)
	p := &pipeline.Pipeline{Stages: stages, Jobs: []*pipeline.Job{a, b, c, d}}
	require.Equal(t, []string{"a", "c", "d"}, names(WithNeeds(p, []*pipeline.Job{d})))
}

// TestEveryJobEndsAndNoneBeforeItsTurn plays random pipelines with random ends.
func TestEveryJobEndsAndNoneBeforeItsTurn(t *testing.T) {
	whens := []pipeline.When{pipeline.OnSuccess, pipeline.OnFailure, pipeline.Always, pipeline.Manual}
	ends := []State{Success, Failed, Allowed, Canceled}
	rapid.Check(t, func(t *rapid.T) {
		var jobs []*pipeline.Job
		for i := range rapid.IntRange(1, 10).Draw(t, "jobs") {
			job := &pipeline.Job{
				Name: fmt.Sprint(i), Stage: rapid.SampledFrom(stages).Draw(t, "stage"), When: rapid.SampledFrom(whens).Draw(t, "when"),
				AllowFailure: rapid.Bool().Draw(t, "allow"), Staged: rapid.Bool().Draw(t, "staged"),
			}
			for _, other := range jobs {
				if !job.Staged && slices.Index(stages, other.Stage) <= slices.Index(stages, job.Stage) && rapid.Bool().Draw(t, "needs") {
					job.Needs = append(job.Needs, pipeline.Need{Job: other, Order: true})
				}
			}
			jobs = append(jobs, job)
		}
		s := newSchedule(stages, jobs, false)
		var running []*pipeline.Job
		for {
			for _, job := range s.next() {
				for _, before := range s.before(job) {
					require.True(t, s.states[before].final(), "%s began before %s ended", job.Name, before.Name)
				}
				require.NotContains(t, running, job)
				running = append(running, job)
			}
			if len(running) == 0 {
				break
			}
			index := rapid.IntRange(0, len(running)-1).Draw(t, "ends")
			s.states[running[index]] = rapid.SampledFrom(ends).Draw(t, "end")
			running = slices.Delete(running, index, index+1)
		}
		for _, job := range jobs {
			require.True(t, s.states[job].final(), "%s is %s", job.Name, s.states[job])
		}
	})
}
