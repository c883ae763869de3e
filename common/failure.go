package common

import (
	"errors"
	"fmt"
)

// FailureReason is why a job failed, in GitLab's words.
type FailureReason string

// The reasons a runner gives. Which of them a server knows differs: see FailureReason.Supported.
const (
	ScriptFailure                   FailureReason = "script_failure"
	RunnerSystemFailure             FailureReason = "runner_system_failure"
	JobExecutionTimeout             FailureReason = "job_execution_timeout"
	ImagePullFailure                FailureReason = "image_pull_failure"
	RunnerConfigurationError        FailureReason = "runner_configuration_error"
	RunnerExternalDependencyFailure FailureReason = "runner_external_dependency_failure"
	RunnerInterrupted               FailureReason = "runner_interrupted"
	JobCanceled                     FailureReason = "job_canceled"
	UnknownFailure                  FailureReason = "unknown_failure"
)

// Supported returns the reason to send to a server that listed the given reasons as known. The
// mapping follows GitLab's: see the jobs API, section 7.2.
func (r FailureReason) Supported(known []string) FailureReason {
	supported := map[FailureReason]bool{ScriptFailure: true, RunnerSystemFailure: true, JobExecutionTimeout: true}
	for _, k := range known {
		supported[FailureReason(k)] = true
	}
	if r == "" {
		return ScriptFailure
	}
	if supported[r] {
		return r
	}
	switch r {
	case ImagePullFailure, RunnerExternalDependencyFailure:
		return RunnerSystemFailure
	case RunnerConfigurationError:
		return ScriptFailure
	default:
		return UnknownFailure
	}
}

// BuildError is an error whose reason is known. An executor that returns one from Prepare is not
// asked to try again.
type BuildError struct {
	Reason FailureReason
	// ExitCode is that of the script, 0 if no script ended.
	ExitCode int
	Err      error
}

// Fail wraps err with a reason.
func Fail(reason FailureReason, err error) *BuildError {
	return &BuildError{Reason: reason, Err: err}
}

// ExitError is the failure of a script that ended with a code other than 0.
func ExitError(code int) *BuildError {
	return &BuildError{Reason: ScriptFailure, ExitCode: code, Err: fmt.Errorf("exit code %d", code)}
}

func (e *BuildError) Error() string { return e.Err.Error() }

func (e *BuildError) Unwrap() error { return e.Err }

// ReasonOf returns the reason of the outermost BuildError in err, RunnerSystemFailure if there is
// none.
func ReasonOf(err error) FailureReason {
	var build *BuildError
	if !errors.As(err, &build) {
		return RunnerSystemFailure
	}
	if build.Reason == "" {
		return ScriptFailure
	}
	return build.Reason
}

// ErrNoFreeExecutor says that a provider has no room for another job now. It is no fault.
var ErrNoFreeExecutor = errors.New("no free executor")

// ErrJobCanceled is the cause by which a job's context ends when somebody cancelled it in GitLab.
var ErrJobCanceled = errors.New("canceled")
