package sample

import (
	"archive/zip"
	"bytes"
	"fmt"
	"slices"
	"strings"

	"gitlab.com/gitlab-org/gitlab-runner/tests/coordinator"
)

// Run is a pipeline made of cases.
type Run struct {
	Pipeline *coordinator.Pipeline
	cases    []Case
	jobs     map[string]*coordinator.Job
}

// Start adds a pipeline of these cases for a repository that the coordinator serves as project, and starts it. It fails
// for an unknown project or stage and when a case depends on one that does not come before it.
func Start(c *coordinator.Coordinator, project string, cases []Case) (*Run, error) {
	pipeline, err := c.NewPipeline(coordinator.PipelineSpec{Project: project, Stages: Stages()})
	if err != nil {
		return nil, fmt.Errorf("start the sample pipeline: %w", err)
	}
	run := &Run{Pipeline: pipeline, cases: cases, jobs: map[string]*coordinator.Job{}}
	for _, one := range cases {
		spec := one.Spec
		for _, name := range one.DependsOn {
			dependency := run.jobs[name]
			if dependency == nil {
				return nil, fmt.Errorf("start the sample pipeline: %q depends on %q, which does not come before it", spec.Name, name)
			}
			spec.Dependencies = append(spec.Dependencies, dependency)
		}
		if run.jobs[spec.Name], err = pipeline.Add(spec); err != nil {
			return nil, fmt.Errorf("start the sample pipeline: %w", err)
		}
	}
	pipeline.Start()
	return run, nil
}

// Job is the job of the case with this name, nil if there is none.
func (r *Run) Job(name string) *coordinator.Job { return r.jobs[name] }

// Mismatches compares every job with what its case wants and lists what differs, each as "<job name>: <what>". It is
// meant for a pipeline that has ended.
func (r *Run) Mismatches() []string {
	var mismatches []string
	for _, one := range r.cases {
		for _, mismatch := range one.Want.mismatches(r.jobs[one.Spec.Name]) {
			mismatches = append(mismatches, one.Spec.Name+": "+mismatch)
		}
	}
	return mismatches
}

func (o Outcome) mismatches(job *coordinator.Job) []string {
	record, token := job.Record(), job.Token()
	var list []string
	differs := func(format string, args ...any) { list = append(list, fmt.Sprintf(format, args...)) }

	if record.State != o.State {
		differs("ended as %s (%s), want %s", record.State, record.FailureReason, o.State)
	}
	if record.FailureReason != o.FailureReason {
		differs("failure reason is %q, want %q", record.FailureReason, o.FailureReason)
	}
	if record.ExitCode != o.ExitCode {
		differs("exit code is %d, want %d", record.ExitCode, o.ExitCode)
	}
	raw, plain := string(record.Trace), coordinator.PlainLog(record.Trace)
	for _, text := range o.Log {
		if !strings.Contains(plain, text) {
			differs("the log lacks %q", text)
		}
	}
	for _, form := range o.LogForms {
		if !form.MatchString(plain) {
			differs("nothing in the log matches %s", form)
		}
	}
	for _, text := range o.NotInLog {
		if strings.Contains(raw, text) || strings.Contains(plain, text) {
			differs("the log contains %q", text)
		}
	}
	if token != "" && (strings.Contains(raw, token) || strings.Contains(plain, token)) {
		differs("the log contains the job token")
	}
	for kind, files := range o.Artifacts {
		if problem := archiveProblem(record, kind, files); problem != "" {
			differs("%s", problem)
		}
	}
	for _, artifact := range record.Artifacts {
		if _, wanted := o.Artifacts[artifact.Type]; !wanted {
			differs("uploaded an artifact of type %s that is not wanted", artifact.Type)
		}
	}
	return list
}

// archiveProblem says what is wrong with the uploaded archive of a type.
func archiveProblem(record coordinator.Record, kind string, files []string) string {
	index := slices.IndexFunc(record.Artifacts, func(a *coordinator.Artifact) bool { return a.Type == kind })
	if index < 0 {
		return fmt.Sprintf("no artifact of type %s was uploaded", kind)
	}
	file, err := record.Artifacts[index].Open()
	if err != nil {
		return err.Error()
	}
	defer file.Close()
	archive, err := zip.NewReader(file, record.Artifacts[index].Size)
	if err != nil {
		return fmt.Sprintf("artifact of type %s: %v", kind, err)
	}
	var problem bytes.Buffer
	for _, name := range files {
		if !slices.ContainsFunc(archive.File, func(f *zip.File) bool { return f.Name == name }) {
			fmt.Fprintf(&problem, "artifact of type %s lacks %s; ", kind, name)
		}
	}
	return strings.TrimSuffix(problem.String(), "; ")
}
