package coordinator

import (
	"encoding/json"
	"regexp"
	"slices"
	"strings"
)

// Info is what a runner tells about itself with most calls.
type Info struct {
	Name         string            `json:"name"`
	Version      string            `json:"version"`
	Revision     string            `json:"revision"`
	Platform     string            `json:"platform"`
	Architecture string            `json:"architecture"`
	Executor     string            `json:"executor"`
	Shell        string            `json:"shell"`
	Features     map[string]bool   `json:"features"`
	Config       map[string]any    `json:"config"`
	Labels       map[string]string `json:"labels"`
}

// features are the keys that every info object carries, and whether GitLab can count on their being true.
var features = map[string]bool{
	"variables": false, "image": false, "services": false, "artifacts": false, "cache": false, "fallback_cache_keys": false,
	"shared": false, "upload_multiple_artifacts": false, "upload_raw_artifacts": false, "session": false, "terminal": false,
	"refspecs": false, "masking": false, "proxy": false, "raw_variables": false, "artifacts_exclude": false,
	"multi_build_steps": false, "trace_reset": true, "trace_checksum": true, "trace_size": true, "vault_secrets": false,
	"cancelable": true, "return_exit_code": false, "service_variables": false, "service_multiple_aliases": false,
	"image_executor_opts": false, "service_executor_opts": false, "cancel_gracefully": true,
	"native_steps_integration": false, "two_phase_job_commit": true, "job_inputs": true,
}

const maxLabels = 32

var (
	labelKeyForm   = regexp.MustCompile(`^[a-zA-Z0-9_][a-zA-Z0-9._-]{2,64}$`)
	labelValueForm = regexp.MustCompile(`^[a-zA-Z0-9._-]{1,256}$`)
)

// checkInfo reads an info object and notes what is wrong with it. The caller holds c.mu.
func (c *Coordinator) checkInfo(x *exchange, raw json.RawMessage) Info {
	var info Info
	var shape struct {
		Config json.RawMessage `json:"config"`
	}
	err := json.Unmarshal(raw, &info)
	if err == nil {
		err = json.Unmarshal(raw, &shape)
	}
	if err != nil {
		c.violate(RuleInfo, x.jobID, "%s: info: %v", x.endpoint, err)
		return info
	}
	var missing, off []string
	for key, always := range features {
		value, present := info.Features[key]
		switch {
		case !present:
			missing = append(missing, key)
		case always && !value:
			off = append(off, key)
		}
	}
	slices.Sort(missing)
	slices.Sort(off)
	if len(missing) > 0 {
		c.violate(RuleInfo, x.jobID, "%s: info.features misses %s", x.endpoint, strings.Join(missing, ", "))
	}
	if len(off) > 0 {
		c.violate(RuleInfo, x.jobID, "%s: info.features must be true: %s", x.endpoint, strings.Join(off, ", "))
	}
	if shape.Config == nil {
		c.violate(RuleInfo, x.jobID, "%s: info has no config object", x.endpoint)
	}
	if info.Platform == "" || info.Architecture == "" || info.Version == "" {
		c.violate(RuleInfo, x.jobID, "%s: info lacks version, platform or architecture", x.endpoint)
	}
	if len(info.Labels) > maxLabels {
		c.violate(RuleInfo, x.jobID, "%s: info has %d labels, at most %d are allowed", x.endpoint, len(info.Labels), maxLabels)
	}
	for key, value := range info.Labels {
		if !labelKeyForm.MatchString(key) || !labelValueForm.MatchString(value) {
			c.violate(RuleInfo, x.jobID, "%s: label %q: %q is malformed", x.endpoint, clip(key), clip(value))
		}
	}
	return info
}
