//go:build system

package system

import (
	"fmt"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"

	"gitlab.com/gitlab-org/gitlab-runner/tests/coordinator"
	"gitlab.com/gitlab-org/gitlab-runner/tests/rig"
	"gitlab.com/gitlab-org/gitlab-runner/tests/s3server"
	"gitlab.com/gitlab-org/gitlab-runner/tests/sample"
)

// sectionsOf are the sections that each job of the sample has in its log.
var sectionsOf = map[string][]string{
	"build":            {"get_sources", "step_script", "upload_artifacts_on_success"},
	"fill cache":       {"get_sources", "restore_cache", "step_script", "archive_cache"},
	"use artifact":     {"get_sources", "download_artifacts", "step_script"},
	"use cache":        {"get_sources", "restore_cache", "step_script", "archive_cache"},
	"before and after": {"get_sources", "step_script", "after_script"},
	"masked":           {"get_sources", "step_script"},
	"exit 3":           {"get_sources", "step_script", "after_script", "upload_artifacts_on_failure"},
	"entry point":      {"get_sources", "step_script"},
	"service":          {"get_sources", "step_script"},
}

var titles = map[string]string{
	"prepare_script":              "Preparing environment",
	"get_sources":                 "Getting source from Git repository",
	"restore_cache":               "Restoring cache",
	"download_artifacts":          "Downloading artifacts",
	"step_script":                 `Executing "step_script" stage of the job script`,
	"after_script":                "Running after_script",
	"archive_cache":               "Saving cache for successful job",
	"upload_artifacts_on_success": "Uploading artifacts for successful job",
	"upload_artifacts_on_failure": "Uploading artifacts for failed job",
	"cleanup_file_variables":      "Cleaning up project directory and file based variables",
}

// TestPipelineRunsOnInstancesOfItsOwn is tried with an engine of two releases of Debian.
func TestPipelineRunsOnInstancesOfItsOwn(t *testing.T) {
	t.Parallel()
	for _, image := range []string{"gitlab-runner-instance:local", "gitlab-runner-instance-next:local"} {
		t.Run(image, func(t *testing.T) { testPipelineOnInstances(t, image) })
	}
}

func testPipelineOnInstances(t *testing.T, image string) {
	s := newStage(t, coordinator.Config{})
	store, err := s3server.Start(filepath.Join(s.Dir, "store"), s.Gateway+":0")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, store.Close()) })
	s.Launch(s.Autoscaled(rig.Config{
		Concurrent: 3, RequestConcurrency: 3,
		Capacity: 1, MaxUseCount: 1, MaxInstances: 3, IdleCount: 1,
		Images: rig.JobImages, Cache: store.RunnerConfig(),
		Plugin: fmt.Sprintf("      image = %q", image),
	}))

	run := s.runSample()
	s.requireLogs(run, "docker-autoscaler")
	require.LessOrEqual(t, s.Fleet.Most(), 3, "there were more instances than max_instances")
	used := map[string]string{}
	for _, job := range run.Pipeline.Jobs() {
		name := s.instanceOf(job)
		require.Empty(t, used[name], "instance %s had two jobs, %q and another", name, job.Name())
		used[name] = job.Name()
	}
	objects, err := store.Objects(s.Ctx, store.Bucket)
	require.NoError(t, err)
	require.Len(t, objects, 1, "both jobs have the same cache")
	s.Stop()
	require.Empty(t, s.Fleet.Alive(), "instances outlived the manager")
}

func TestPipelineRunsOnTheLocalEngine(t *testing.T) {
	t.Parallel()
	s := newStage(t, coordinator.Config{})
	s.Launch(rig.Config{Executor: "docker", Concurrent: 1, Docker: `    volumes = ["/cache"]`})

	run := s.runSample()
	s.requireLogs(run, "docker")
}

// runSample runs the sample's pipeline, in which the cache must be found by the second job that has it,
// and requires of every job what the sample wants.
func (s *stage) runSample() *sample.Run {
	s.Helper()
	cases := sample.Cases()
	for i := range cases {
		if cases[i].Spec.Name == "use cache" {
			cases[i].Want.Log = append(cases[i].Want.Log, "cache: hit")
		}
	}
	run, err := sample.Start(s.Coordinator, sample.Project, cases)
	require.NoError(s, err)
	require.NoError(s, run.Pipeline.Wait(s.Ctx))
	require.Empty(s, run.Mismatches())
	return run
}

// requireLogs requires that the logs of the sample's jobs have the form and the lines that are agreed.
func (s *stage) requireLogs(run *sample.Run, executor string) {
	s.Helper()
	for _, job := range run.Pipeline.Jobs() {
		record := job.Record()
		sections, problems := readTrace(record)
		require.Empty(s, problems, "the log of %q", record.Name)
		want := append(append([]string{"prepare_executor", "prepare_script"}, sectionsOf[record.Name]...), "cleanup_file_variables")
		require.Equal(s, want, sectionNames(sections), "the sections of %q", record.Name)
		for _, one := range sections {
			title := titles[one.name]
			if one.name == "prepare_executor" {
				title = fmt.Sprintf("Preparing the %q executor", executor)
			}
			require.Equal(s, title, one.title)
		}
		require.Empty(s, orderProblem(plain(record), []string{
			"Running with gitlab-runner ", "\n  on rig-" + executor + " ", ", system ID: ",
			"Preparing the ", "Using Docker executor with image ", "Using effective pull policy of [if-not-present] for container ",
			"Preparing environment\nRunning on runner-", " via ", "Getting source from Git repository\n", "\n$ ",
			"Cleaning up project directory and file based variables\n", "\n",
		}), "the log of %q", record.Name)
	}
}

var connectedForm = regexp.MustCompile(`(?m)^Dialing instance (\S+?)\.\.\.\nInstance (\S+) connected$`)

// instanceOf is the instance that a job ran on: the one that its fetches and uploads came from,
// which the log must name too.
func (s *stage) instanceOf(job *coordinator.Job) string {
	s.Helper()
	record := job.Record()
	names := map[string]bool{}
	for _, request := range s.Coordinator.Requests() {
		atWork := request.Endpoint == coordinator.EndpointGit || request.Endpoint == coordinator.EndpointUploadArtifact
		if !atWork || request.JobID != record.ID {
			continue
		}
		found := false
		for _, life := range s.Fleet.Lives() {
			if life.Address == request.Remote && life.Started.Before(request.Time) && (life.Ended.IsZero() || life.Ended.After(request.Time)) {
				names[life.Name], found = true, true
			}
		}
		require.True(s, found, "%s of %q came from %s, which was no instance's", request.Endpoint, record.Name, request.Remote)
	}
	require.Len(s, names, 1, "the requests of %q", record.Name)
	match := connectedForm.FindStringSubmatch(plain(record))
	require.NotNil(s, match, "the log of %q names no instance", record.Name)
	require.Equal(s, match[1], match[2])
	require.True(s, names[match[1]], "the log of %q names %s, it ran on %v", record.Name, match[1], names)
	return match[1]
}
