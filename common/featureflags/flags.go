// Package featureflags knows the FF_* settings of the runner: their names and defaults, and how the
// effective value of each is found. Anything below commands may import it.
package featureflags

import (
	"fmt"
	"sort"
	"strconv"
	"strings"
)

// The flags that code of this product reads.
const (
	NetworkPerBuild              = "FF_NETWORK_PER_BUILD"
	DisableUmask                 = "FF_DISABLE_UMASK_FOR_DOCKER_EXECUTOR"
	UseInit                      = "FF_USE_INIT_WITH_DOCKER_EXECUTOR"
	NativeContainerStop          = "FF_USE_NATIVE_CONTAINER_STOP"
	AutoscalerDialStdio          = "FF_USE_DOCKER_AUTOSCALER_DIAL_STDIO"
	AcquireHeartbeats            = "FF_USE_FLEETING_ACQUIRE_HEARTBEATS"
	AdaptiveRequestConcurrency   = "FF_USE_ADAPTIVE_REQUEST_CONCURRENCY"
	ExponentialStageRetry        = "FF_USE_EXPONENTIAL_BACKOFF_STAGE_RETRY"
	Timestamps                   = "FF_TIMESTAMPS"
	ScriptSections               = "FF_SCRIPT_SECTIONS"
	HashCacheKeys                = "FF_HASH_CACHE_KEYS"
	DirectDownload               = "FF_USE_DIRECT_DOWNLOAD"
	PosixlyCorrectEscapes        = "FF_POSIXLY_CORRECT_ESCAPES"
	LegacyBashEval               = "FF_USE_LEGACY_BASH_EVAL"
	BashExitCodeCheck            = "FF_ENABLE_BASH_EXIT_CODE_CHECK"
	JobCleanup                   = "FF_ENABLE_JOB_CLEANUP"
	CleanUpFailedCacheExtract    = "FF_CLEAN_UP_FAILED_CACHE_EXTRACT"
	MaskAllDefaultTokens         = "FF_MASK_ALL_DEFAULT_TOKENS"
	GitURLsWithoutTokens         = "FF_GIT_URLS_WITHOUT_TOKENS"
	GitNativeClone               = "FF_USE_GIT_NATIVE_CLONE"
	GitProactiveAuth             = "FF_USE_GIT_PROACTIVE_AUTH"
	GitBundleURIs                = "FF_USE_GIT_BUNDLE_URIS"
	GitalyCorrelationID          = "FF_USE_GITALY_CORRELATION_ID"
	DynamicTraceForceSend        = "FF_USE_DYNAMIC_TRACE_FORCE_SEND_INTERVAL"
	DisableTokenRotation         = "FF_DISABLE_AUTOMATIC_TOKEN_ROTATION"
	HighCardinalityMetrics       = "FF_EXPORT_HIGH_CARDINALITY_METRICS"
	LogImagesConfiguredForJob    = "FF_LOG_IMAGES_CONFIGURED_FOR_JOB"
	PowershellPathResolver       = "FF_USE_POWERSHELL_PATH_RESOLVER"
	SecretResolvingFailsIfAbsent = "FF_SECRET_RESOLVING_FAILS_IF_MISSING"
	JobInputs                    = "FF_ENABLE_JOB_INPUTS_INTERPOLATION"
)

// Defaults returns every known flag with its default. Flags of executors that are not ours are known
// too: they are exported to jobs.
func Defaults() map[string]bool {
	flags := map[string]bool{}
	for _, name := range []string{
		AutoscalerDialStdio, AdaptiveRequestConcurrency, ExponentialStageRetry, Timestamps, DirectDownload,
		MaskAllDefaultTokens, GitBundleURIs, GitalyCorrelationID, SecretResolvingFailsIfAbsent,
		JobInputs, "FF_USE_FASTZIP", "FF_USE_POD_ACTIVE_DEADLINE_SECONDS",
	} {
		flags[name] = true
	}
	for _, name := range []string{
		NetworkPerBuild, DisableUmask, UseInit, NativeContainerStop, AcquireHeartbeats, ScriptSections,
		HashCacheKeys, PosixlyCorrectEscapes, LegacyBashEval, BashExitCodeCheck, JobCleanup,
		CleanUpFailedCacheExtract, GitURLsWithoutTokens, GitNativeClone, GitProactiveAuth,
		DynamicTraceForceSend, DisableTokenRotation, HighCardinalityMetrics, LogImagesConfiguredForJob,
		PowershellPathResolver,
		"FF_USE_LEGACY_S3_CACHE_ADAPTER", "FF_USE_LEGACY_GCS_CACHE_ADAPTER", "FF_RESOLVE_FULL_TLS_CHAIN",
		"FF_USE_JOB_ROUTER", "FF_CONCRETE", "FF_SCRIPT_TO_STEP_MIGRATION", "FF_SUSPENDABLE_ENVIRONMENTS",
		"FF_USE_PARALLEL_CACHE_TRANSFER", "FF_USE_PARALLEL_ARTIFACT_TRANSFER",
		"FF_USE_WINDOWS_LEGACY_PROCESS_STRATEGY", "FF_USE_WINDOWS_JOB_OBJECT", "FF_DISABLE_POWERSHELL_STDIN",
		"FF_USE_LEGACY_KUBERNETES_EXECUTION_STRATEGY", "FF_KUBERNETES_HONOR_ENTRYPOINT",
		"FF_USE_ADVANCED_POD_SPEC_CONFIGURATION", "FF_PRINT_POD_EVENTS",
		"FF_USE_DUMB_INIT_WITH_KUBERNETES_EXECUTOR", "FF_DISABLE_UMASK_FOR_KUBERNETES_EXECUTOR",
		"FF_WAIT_FOR_POD_TO_BE_REACHABLE",
	} {
		flags[name] = false
	}
	return flags
}

// Set holds the effective value of every known flag. The zero Set has every flag at its default.
type Set struct {
	values map[string]bool
}

// Resolve finds the effective values: configured (the runner entry's feature_flags) wins over variables
// (the runner's environment and the job's), which win over the default. Variables whose text is no
// boolean give a warning and no value.
func Resolve(configured map[string]bool, variable func(name string) (string, bool)) (Set, []string) {
	values := Defaults()
	var warnings []string
	for _, name := range sortedNames(values) {
		if value, ok := configured[name]; ok {
			values[name] = value
			continue
		}
		text, ok := variable(name)
		if !ok || text == "" {
			continue
		}
		value, err := strconv.ParseBool(strings.ToLower(text))
		if err != nil {
			warnings = append(warnings, fmt.Sprintf("%s: expected bool got %q, using default value: %t", name, text, values[name]))
			continue
		}
		values[name] = value
	}
	return Set{values: values}, warnings
}

// IsOn returns the effective value of a flag.
func (s Set) IsOn(name string) bool {
	if value, ok := s.values[name]; ok {
		return value
	}
	return Defaults()[name]
}

// Value is one flag with its effective value.
type Value struct {
	Name string
	On   bool
}

// All returns every flag, by name.
func (s Set) All() []Value {
	values := s.values
	if values == nil {
		values = Defaults()
	}
	out := make([]Value, 0, len(values))
	for _, name := range sortedNames(values) {
		out = append(out, Value{Name: name, On: values[name]})
	}
	return out
}

// Changed returns the flags whose value is not the default, by name.
func (s Set) Changed() []Value {
	defaults := Defaults()
	var out []Value
	for _, v := range s.All() {
		if v.On != defaults[v.Name] {
			out = append(out, v)
		}
	}
	return out
}

func sortedNames(values map[string]bool) []string {
	names := make([]string, 0, len(values))
	for name := range values {
		names = append(names, name)
	}
	sort.Strings(names)
	return names
}
