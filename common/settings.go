package common

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"gitlab.com/gitlab-org/gitlab-runner/common/plan"
	"gitlab.com/gitlab-org/gitlab-runner/common/variables"
)

// Settings are what a job's variables say about how the runner is to work.
type Settings struct {
	DebugTrace    bool
	DebugServices bool

	GitClonePath             string
	GitCheckout              bool
	SubmoduleStrategy        plan.SubmoduleStrategy
	SubmodulePaths           []string
	SubmoduleDepth           int
	SubmoduleUpdateFlags     []string
	SubmoduleForceHTTPS      bool
	GitCleanFlags            []string
	GitFetchFlags            []string
	GitCloneFlags            []string
	LFSSkipSmudge            bool
	GetSourcesAttempts       int
	RestoreCacheAttempts     int
	ArtifactDownloadAttempts int
	SectionAttempts          int
	SecretsAttempts          int
	AfterScriptIgnoreErrors  bool
	CacheRequestTimeout      int // minutes
	CacheFallbackKey         string
	CacheCompressionLevel    string
	CacheCompressionFormat   string
	ArtifactCompressionLevel string
	ArtifactsMetadata        bool
	TransferMeterFrequency   time.Duration
	DockerAuthConfig         string
	ScriptTimeout            time.Duration
	AfterScriptTimeout       time.Duration
}

const (
	defaultAfterScriptTimeout  = 5 * time.Minute
	defaultCacheRequestTimeout = 10
	maxAttempts                = 10
)

// The values of CACHE_COMPRESSION_LEVEL, ARTIFACT_COMPRESSION_LEVEL and CACHE_COMPRESSION_FORMAT. The
// helper knows its defaults, which an empty value selects.
var (
	compressionLevels  = []string{"fastest", "fast", "default", "slow", "slowest"}
	compressionFormats = []string{"zip", "tarzstd"}
)

// ReadSettings reads the settings of a job. A value that cannot be used gives a warning for the job
// log and the default; a number of attempts that is out of range gives the end of the range.
func ReadSettings(vars variables.List, fetchDepth int) (Settings, []string) {
	r := settingsReader{vars: vars}
	s := Settings{
		DebugTrace:               r.boolean("CI_DEBUG_TRACE", false),
		DebugServices:            r.boolean("CI_DEBUG_SERVICES", false),
		GitClonePath:             vars.Get("GIT_CLONE_PATH"),
		GitCheckout:              r.boolean("GIT_CHECKOUT", true),
		SubmoduleStrategy:        plan.SubmoduleStrategy(r.text("GIT_SUBMODULE_STRATEGY", string(plan.SubmoduleNone))),
		SubmodulePaths:           strings.Fields(vars.Get("GIT_SUBMODULE_PATHS")),
		SubmoduleDepth:           r.integer("GIT_SUBMODULE_DEPTH", fetchDepth),
		SubmoduleUpdateFlags:     strings.Fields(vars.Get("GIT_SUBMODULE_UPDATE_FLAGS")),
		SubmoduleForceHTTPS:      r.boolean("GIT_SUBMODULE_FORCE_HTTPS", false),
		GitCleanFlags:            r.flags("GIT_CLEAN_FLAGS", "-ffdx"),
		GitFetchFlags:            r.flags("GIT_FETCH_EXTRA_FLAGS", "--prune", "--quiet"),
		GitCloneFlags:            r.flags("GIT_CLONE_EXTRA_FLAGS"),
		LFSSkipSmudge:            r.boolean("GIT_LFS_SKIP_SMUDGE", false),
		GetSourcesAttempts:       r.attempts("GET_SOURCES_ATTEMPTS"),
		RestoreCacheAttempts:     r.attempts("RESTORE_CACHE_ATTEMPTS"),
		ArtifactDownloadAttempts: r.attempts("ARTIFACT_DOWNLOAD_ATTEMPTS"),
		SectionAttempts:          r.attempts("EXECUTOR_JOB_SECTION_ATTEMPTS"),
		SecretsAttempts:          r.attempts("SECRETS_RETRIEVAL_ATTEMPTS"),
		AfterScriptIgnoreErrors:  r.boolean("AFTER_SCRIPT_IGNORE_ERRORS", true),
		CacheRequestTimeout:      r.integer("CACHE_REQUEST_TIMEOUT", defaultCacheRequestTimeout),
		CacheFallbackKey:         vars.Get("CACHE_FALLBACK_KEY"),
		CacheCompressionLevel:    r.choice("CACHE_COMPRESSION_LEVEL", compressionLevels, "default"),
		CacheCompressionFormat:   r.choice("CACHE_COMPRESSION_FORMAT", compressionFormats, "zip"),
		ArtifactCompressionLevel: r.choice("ARTIFACT_COMPRESSION_LEVEL", compressionLevels, "default"),
		ArtifactsMetadata:        r.boolean("RUNNER_GENERATE_ARTIFACTS_METADATA", false),
		TransferMeterFrequency:   r.duration("TRANSFER_METER_FREQUENCY", 0),
		DockerAuthConfig:         vars.Get("DOCKER_AUTH_CONFIG"),
		ScriptTimeout:            r.duration("RUNNER_SCRIPT_TIMEOUT", 0),
		AfterScriptTimeout:       r.duration("RUNNER_AFTER_SCRIPT_TIMEOUT", defaultAfterScriptTimeout),
	}
	return s, r.warnings
}

// strategyOf reads GIT_STRATEGY; allowFetch is the project's default.
func strategyOf(vars variables.List, allowFetch bool) (plan.Strategy, string) {
	fallback := plan.StrategyClone
	if allowFetch {
		fallback = plan.StrategyFetch
	}
	text := vars.Get("GIT_STRATEGY")
	switch strategy := plan.Strategy(text); strategy {
	case "":
		return fallback, ""
	case plan.StrategyFetch, plan.StrategyClone, plan.StrategyNone, plan.StrategyEmpty:
		return strategy, ""
	default:
		return fallback, fmt.Sprintf("GIT_STRATEGY: expected one of [clone fetch none empty] got %q, using default value: %q", text, fallback)
	}
}

type settingsReader struct {
	vars     variables.List
	warnings []string
}

func (r *settingsReader) warn(name, kind, text string, fallback any) {
	r.warnings = append(r.warnings, fmt.Sprintf("%s: expected %s got %q, using default value: %v", name, kind, text, fallback))
}

func (r *settingsReader) text(name, fallback string) string {
	if text := r.vars.Get(name); text != "" {
		return text
	}
	return fallback
}

func (r *settingsReader) boolean(name string, fallback bool) bool {
	text := r.vars.Get(name)
	if text == "" {
		return fallback
	}
	value, err := strconv.ParseBool(strings.ToLower(text))
	if err != nil {
		r.warn(name, "bool", text, fallback)
		return fallback
	}
	return value
}

// choice returns an empty text for an absent variable: the default is then that of who reads it.
func (r *settingsReader) choice(name string, known []string, fallback string) string {
	text := strings.ToLower(r.vars.Get(name))
	if text == "" || slices.Contains(known, text) {
		return text
	}
	r.warn(name, fmt.Sprintf("one of %v", known), r.vars.Get(name), fallback)
	return ""
}

func (r *settingsReader) integer(name string, fallback int) int {
	text := r.vars.Get(name)
	if text == "" {
		return fallback
	}
	value, err := strconv.Atoi(text)
	if err != nil {
		r.warn(name, "int", text, fallback)
		return fallback
	}
	return value
}

func (r *settingsReader) attempts(name string) int {
	value := r.integer(name, 1)
	if value < 1 || value > maxAttempts {
		clamped := min(max(value, 1), maxAttempts)
		r.warnings = append(r.warnings, fmt.Sprintf("%s: number of attempts %d is out of the range [1, %d], using: %d", name, value, maxAttempts, clamped))
		return clamped
	}
	return value
}

// flags reads words; "none" is no word at all, which is told apart from an absent variable.
func (r *settingsReader) flags(name string, fallback ...string) []string {
	words := strings.Fields(r.vars.Get(name))
	switch {
	case len(words) == 0:
		return fallback
	case len(words) == 1 && words[0] == "none":
		return nil
	default:
		return words
	}
}

func (r *settingsReader) duration(name string, fallback time.Duration) time.Duration {
	text := r.vars.Get(name)
	if text == "" {
		return fallback
	}
	value, err := time.ParseDuration(text)
	if err != nil || value < 0 {
		r.warn(name, "duration", text, fallback)
		return fallback
	}
	if value == 0 {
		return fallback
	}
	return value
}
