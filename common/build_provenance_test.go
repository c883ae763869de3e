package common_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"gitlab.com/gitlab-org/gitlab-runner/common/spec"
)

func TestTheOriginOfZipArchivesIsToldIfTheJobAsks(t *testing.T) {
	for name, c := range map[string]struct {
		asks, format string
		told         bool
	}{
		"asked for":             {"true", "zip", true},
		"not asked for":         {"false", "zip", false},
		"no place to tell it":   {"true", "gzip", false},
		"the format is implied": {"true", "", false},
	} {
		t.Run(name, func(t *testing.T) {
			m, tr, job := newMachine(), &trace{}, fullJob()
			job.Artifacts = []spec.Artifact{{Paths: []string{"out"}, Format: c.format}}
			job.Variables = append(job.Variables, spec.Variable{Key: "RUNNER_GENERATE_ARTIFACTS_METADATA", Value: c.asks})
			require.NoError(t, newBuild(job, m, tr).Run(context.Background()).Err)
			origin := m.plans["upload_artifacts_on_success"].UploadArtifacts[0].Provenance
			require.Equal(t, c.told, origin != nil)
			if !c.told {
				return
			}
			require.Equal(t, "https://gitlab.example.com/grp/app", origin.RepoURL, "without a credential")
			require.Equal(t, "docker-autoscaler", origin.Executor)
			require.Contains(t, origin.Parameters, "SECRET")
			require.False(t, origin.EndedAt.Before(origin.StartedAt))
		})
	}
}
