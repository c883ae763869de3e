package common

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"gitlab.com/gitlab-org/gitlab-runner/common/config"
	"gitlab.com/gitlab-org/gitlab-runner/common/featureflags"
	"gitlab.com/gitlab-org/gitlab-runner/common/inputs"
	"gitlab.com/gitlab-org/gitlab-runner/common/joblog"
	"gitlab.com/gitlab-org/gitlab-runner/common/plan"
	"gitlab.com/gitlab-org/gitlab-runner/common/spec"
	"gitlab.com/gitlab-org/gitlab-runner/common/variables"
	"gitlab.com/gitlab-org/gitlab-runner/helpers/masking"
	"gitlab.com/gitlab-org/gitlab-runner/helpers/timestamps"
	"gitlab.com/gitlab-org/gitlab-runner/shells"
)

// newJob decides everything about the job that does not depend on the machine.
func (b *Build) newJob() *Job {
	o := b.options
	flags, warnings := featureflags.Resolve(o.Runner.FeatureFlags, received(o.Runner, o.Job).Lookup)
	job := &Job{
		Spec: o.Job, Runner: o.Runner, Flags: flags,
		ConcurrentID: o.ConcurrentID, ConcurrentProjectID: o.ConcurrentProjectID,
	}
	b.job = job
	job.Variables = b.variables(Machine{}).Expand("")
	job.Log = b.newLog()

	settings, more := b.settings()
	warnings = append(warnings, more...)
	job.Settings = settings
	strategy, warning := strategyOf(job.Variables, o.Job.AllowGitFetch)
	if warning != "" {
		warnings = append(warnings, warning)
	}
	job.Strategy = strategy
	b.warnings = warnings
	return job
}

// settings reads what the job's variables, as they are now, say about how the runner is to work.
func (b *Build) settings() (Settings, []string) {
	settings, warnings := ReadSettings(b.job.Variables, b.options.Job.Git.Depth)
	if b.options.Runner.DebugTraceDisabled && (settings.DebugTrace || settings.DebugServices) {
		warnings = append(warnings, "CI_DEBUG_TRACE and CI_DEBUG_SERVICES: usage is disabled on this Runner")
		settings.DebugTrace, settings.DebugServices = false, false
	}
	return settings, warnings
}

// newLog returns the job log with its pipeline: secrets are masked first, then lines get their
// timestamps, then they reach the trace.
func (b *Build) newLog() *joblog.Log {
	b.hideAll(append(b.job.Variables.Masked(), b.options.Job.Token))
	growing := b.options.Runner.ProxyExec != nil && *b.options.Runner.ProxyExec
	stamped := b.job.Flags.IsOn(featureflags.Timestamps)
	return joblog.New(joblog.Options{
		Sections: b.options.Job.Features.TraceSections,
		Process:  b.options.Log,
		Now:      time.Now,
		Open: func(s joblog.Stream) io.WriteCloser {
			var sink io.WriteCloser = unclosed{b.options.Trace}
			if stamped {
				sink = timestamps.NewWriter(b.options.Trace, s.Number, s.Kind, time.Now)
			}
			if growing && s != joblog.Runner {
				return newGrowingMask(b, sink, s == joblog.ScriptOut || s == joblog.ScriptErr)
			}
			return b.currentRules().NewWriter(sink)
		},
	})
}

// maskMore hides the values that masked variables have got meanwhile, besides those that they had.
func (b *Build) maskMore() {
	b.hide(b.job.Variables.Masked()...)
}

// hide hides values from the next line of the runner on, and in streams that are opened from now on.
func (b *Build) hide(values ...string) {
	if !b.hideAll(values) {
		return
	}
	if err := b.job.Log.Reopen(); err != nil {
		b.options.Log.WithError(err).Warning("writing the job log failed")
	}
}

// hideAll adds to what streams hide that are opened from now on, and says whether there is something new.
func (b *Build) hideAll(values []string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	known := len(b.secrets)
	for _, value := range values {
		if !slices.Contains(b.secrets, value) {
			b.secrets = append(b.secrets, value)
		}
	}
	if len(b.secrets) == known {
		return false
	}
	b.rules = masking.NewRules(masking.Options{Values: b.secrets, TokenPrefixes: b.tokenPrefixes()})
	return true
}

func (b *Build) currentRules() *masking.Rules {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.rules
}

func (b *Build) tokenPrefixes() []string {
	var prefixes []string
	if b.job.Flags.IsOn(featureflags.MaskAllDefaultTokens) {
		prefixes = masking.DefaultTokenPrefixes()
	}
	return append(prefixes, b.options.Job.Features.TokenMaskPrefixes...)
}

// unclosed keeps the trace open when a stream that leads to it is closed.
type unclosed struct{ io.Writer }

func (unclosed) Close() error { return nil }

// variables returns the job's variables, unexpanded, in the order in which later ones win.
func (b *Build) variables(machine Machine) variables.List {
	job, o := b.job, b.options
	internal := func(key, value string) spec.Variable {
		return spec.Variable{Key: key, Value: value, Public: true, Internal: true, Raw: true}
	}
	var list variables.List
	for _, flag := range job.Flags.All() {
		list = append(list, internal(flag.Name, strconv.FormatBool(flag.On)))
	}
	if o.Job.Image != nil && o.Job.Image.Name != "" {
		list = append(list, spec.Variable{Key: "CI_JOB_IMAGE", Value: o.Job.Image.Name, Public: true, Internal: true})
	}
	list = append(list, internal("CI_RUNNER_SHORT_TOKEN", o.Runner.ShortToken()))
	list = append(list, variables.Parse(o.Runner.Environment)...)
	list = append(list,
		internal("CI_BUILDS_DIR", machine.BuildsDir),
		internal("CI_PROJECT_DIR", job.ProjectDir),
		internal("CI_CONCURRENT_ID", strconv.Itoa(job.ConcurrentID)),
		internal("CI_CONCURRENT_PROJECT_ID", strconv.Itoa(job.ConcurrentProjectID)),
		internal("CI_SERVER", "yes"),
		internal("CI_JOB_STATUS", string(Running)),
		internal("CI_JOB_TIMEOUT", strconv.Itoa(int(b.timeout().Seconds()))),
	)
	list = append(list, o.TLSVariables...)
	for _, v := range o.Job.Variables {
		if !strings.HasPrefix(v.Key, "FF_") {
			list = append(list, v)
		}
	}
	list = append(list, b.resolved...)
	environment := "CI_DISPOSABLE_ENVIRONMENT"
	if o.Features.Shared {
		environment = "CI_SHARED_ENVIRONMENT"
	}
	list = append(list,
		internal(environment, "true"),
		internal("CI_RUNNER_VERSION", o.Version.Version),
		internal("CI_RUNNER_REVISION", o.Version.Revision),
		internal("CI_RUNNER_EXECUTABLE_ARCH", o.Version.OS+"/"+o.Version.Arch),
		internal(variables.TempDir, job.TmpDir),
	)
	if machine.NetworkName != "" {
		list = append(list, internal("CI_BUILD_NETWORK_NAME", machine.NetworkName))
	}
	return append(list, machine.ExtraVariables...)
}

// refuse ends jobs that ask for what this runner cannot do, before anything is made for them.
func (b *Build) refuse() error {
	for _, warning := range b.warnings {
		b.job.Log.Warn("%s", warning)
	}
	if b.invalid != nil {
		return b.invalid
	}
	if image := b.options.Job.Image; image != nil {
		if err := unsupportedOptions("image", image.ExecutorOpts); err != nil {
			return err
		}
	}
	for _, service := range b.options.Job.Services {
		if err := unsupportedOptions("services", service.ExecutorOpts); err != nil {
			return err
		}
	}
	return b.adoptRun()
}

// unsupportedOptions refuses options of an image that no executor knows. The first of them decides what
// is said.
func unsupportedOptions(kind string, options spec.ExecutorOpts) error {
	if len(options.Unsupported) == 0 {
		return nil
	}
	of, _, nested := strings.Cut(options.Unsupported[0], ".")
	if !nested {
		return unsupportedOption(kind, "executor_opts", options.Unsupported, "docker kubernetes")
	}
	var names []string
	for _, option := range options.Unsupported {
		if name, ok := strings.CutPrefix(option, of+"."); ok {
			names = append(names, name)
		}
	}
	known := "platform user"
	if of != "docker" {
		known = "user"
	}
	return unsupportedOption(kind, of+" executor", names, known)
}

func unsupportedOption(kind, of string, names []string, known string) error {
	text := fmt.Sprintf("Unsupported %q options %v for %q; supported options are [%s]", kind, names, of, known)
	return unsupported(errors.New(text))
}

// expandInputs puts the job's inputs into the places of the payload that ask for them.
// The outcome is for metrics; it is empty if nothing asked for any.
func expandInputs(runner *config.Runner, job *spec.Job) (*spec.Job, InputsOutcome, error) {
	flags, _ := featureflags.Resolve(runner.FeatureFlags, received(runner, job).Lookup)
	if !flags.IsOn(featureflags.JobInputs) || len(job.Inputs) == 0 {
		return job, "", nil
	}
	expanded, err := inputs.Apply(job)
	if err != nil {
		return job, InputsOutcome(inputs.KindOf(err)), Fail(RunnerConfigurationError, fmt.Errorf("failed to interpolate job inputs: %w", err))
	}
	return expanded, InputsInterpolated, nil
}

func unsupported(err error) error {
	return &BuildError{Reason: RunnerSystemFailure, ExitCode: 3, Err: err}
}

// adoptRun turns a job of native steps into one script that hands them to the step runner in the image.
func (b *Build) adoptRun() error {
	job := b.options.Job
	if job.Run == "" {
		return nil
	}
	for _, step := range job.Steps {
		if len(step.Script) > 0 {
			return unsupported(fmt.Errorf("a job has either run or script, not both"))
		}
	}
	var steps []json.RawMessage
	if err := json.Unmarshal([]byte(job.Run), &steps); err != nil {
		return unsupported(fmt.Errorf("reading the steps in run: %w", err))
	}
	if _, there := b.job.Variables.Lookup("STEPS"); there {
		return unsupported(fmt.Errorf("a job with run must not have a variable STEPS"))
	}
	job.Variables = append(job.Variables, spec.Variable{Key: "STEPS", Value: job.Run, Raw: true})
	job.Steps = []spec.Step{{Name: spec.StepScript, Script: []string{"step-runner ci"}}}
	return nil
}

// stepScript is the script of one of the user's steps. Without get_sources nobody but the first of them
// can do away with the variables that an earlier job left.
func (b *Build) stepScript(step spec.Step, first bool) string {
	lines := step.Script
	if step.Name == "release" {
		lines = make([]string, len(step.Script))
		for i, line := range step.Script {
			lines[i] = b.job.Variables.ExpandValue(line)
		}
	}
	script := b.script(b.job.Variables)
	script.FreshEnv = first && b.job.Strategy == plan.StrategyNone
	script.Blocks = []shells.Block{
		{Name: "pre_build_script", Commands: single(b.job.Runner.PreBuildScript)},
		{Name: "script_step", Commands: lines},
		{Name: "post_build_script", Commands: single(b.job.Runner.PostBuildScript)},
	}
	return b.text(script)
}

// text is a script in the language of the machine's shell.
func (b *Build) text(script shells.Script) string {
	switch b.machine.Shell {
	case "pwsh":
		return shells.PowerShell(script, shells.Pwsh, b.machine.OS)
	case "powershell":
		return shells.PowerShell(script, shells.WindowsPowerShell, b.machine.OS)
	default:
		return shells.Bash(script)
	}
}

// afterScript is the script of after_script, which learns how the job went so far.
func (b *Build) afterScript(step spec.Step, state State) string {
	status := spec.Variable{Key: "CI_JOB_STATUS", Value: string(state), Public: true, Internal: true, Raw: true}
	script := b.script(b.job.Variables.Set(status))
	script.Notice = "Running after script..."
	script.Blocks = []shells.Block{{Name: "after_script_step", Commands: step.Script}}
	return b.text(script)
}

func (b *Build) script(list variables.List) shells.Script {
	script := shells.Script{
		TmpDir:         b.job.TmpDir,
		Dir:            b.job.ProjectDir,
		Trace:          b.job.Settings.DebugTrace,
		Sections:       b.scriptSections(),
		CheckExitCodes: b.job.Flags.IsOn(featureflags.BashExitCodeCheck),
	}
	for _, v := range list.Unique() {
		script.Variables = append(script.Variables, shells.Variable{Key: v.Key, Value: v.Value, File: v.File})
	}
	return script
}

// scriptSections says whether commands of several lines are shown as collapsed sections.
func (b *Build) scriptSections() bool {
	return b.options.Job.Features.TraceSections && b.job.Flags.IsOn(featureflags.ScriptSections)
}

func single(command string) []string {
	if command == "" {
		return nil
	}
	return []string{command}
}
