package config

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
)

const maxLabels = 32

var (
	labelKey   = regexp.MustCompile(`^[a-zA-Z0-9_][a-zA-Z0-9._-]{2,64}$`)
	labelValue = regexp.MustCompile(`^[a-zA-Z0-9._-]{1,256}$`)
)

// MergeLabels returns the global labels with those of a runner entry on top.
func MergeLabels(global, runner map[string]string) map[string]string {
	merged := maps.Clone(global)
	if merged == nil {
		merged = map[string]string{}
	}
	maps.Copy(merged, runner)
	return merged
}

func validateLabels(labels map[string]string) error {
	if len(labels) > maxLabels {
		return fmt.Errorf("there are %d labels: at most %d are allowed", len(labels), maxLabels)
	}
	for _, key := range slices.Sorted(maps.Keys(labels)) {
		if !labelKey.MatchString(key) {
			return fmt.Errorf("label key %q must match %s", key, labelKey)
		}
		if !labelValue.MatchString(labels[key]) {
			return fmt.Errorf("value %q of label %q must match %s", labels[key], key, labelValue)
		}
	}
	return nil
}
