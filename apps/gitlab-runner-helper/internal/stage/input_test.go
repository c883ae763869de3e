package stage_test

import (
	"encoding/json"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"gitlab.com/gitlab-org/gitlab-runner/apps/gitlab-runner-helper/internal/stage"
	"gitlab.com/gitlab-org/gitlab-runner/common/plan"
)

func TestPlanIsReadBeforeTheInputEnds(t *testing.T) {
	r, w := io.Pipe()
	want := &plan.Plan{Stage: "get_sources", Sources: &plan.Sources{Strategy: plan.StrategyFetch}}
	go func() { _ = json.NewEncoder(w).Encode(want) }()
	got, _, err := stage.ReadPlan(r)
	require.NoError(t, err)
	require.Equal(t, want, got)
	// The encoder's line break may be left.
	require.NoError(t, r.Close())
}

func TestWhatFollowsThePlanIsKept(t *testing.T) {
	_, rest, err := stage.ReadPlan(strings.NewReader(`{"stage":"x","relay":"127.0.0.1:1"}` + "the rest"))
	require.NoError(t, err)
	got, err := io.ReadAll(rest)
	require.NoError(t, err)
	require.Equal(t, "the rest", string(got))
}

func TestInputThatIsNoPlanIsAnError(t *testing.T) {
	for input, message := range map[string]string{
		"":                      "there is no plan",
		"{":                     "reading the plan",
		"<html>":                "reading the plan",
		`{"stage": 1}`:          "stage is not of type string",
		`{"stage":"x","new":1}`: `unknown field "new"`,
		`{"stage":"` + strings.Repeat("x", 65<<20) + `"}`: "larger than 64 MiB",
	} {
		_, _, err := stage.ReadPlan(strings.NewReader(input))
		require.ErrorContains(t, err, message)
	}
}

func FuzzPlansAreReadOrRefused(f *testing.F) {
	f.Add(`{"stage":"x","sources":{"strategy":"fetch"}}`)
	f.Add(`{"save_caches":[{"key":{"remote":{"headers":{"a":["b"]}}}}]}`)
	f.Fuzz(func(t *testing.T, input string) {
		p, _, err := stage.ReadPlan(strings.NewReader(input))
		require.True(t, (p == nil) == (err != nil))
	})
}
