package common_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"gitlab.com/gitlab-org/gitlab-runner/common"
	"gitlab.com/gitlab-org/gitlab-runner/common/spec"
	"gitlab.com/gitlab-org/gitlab-runner/helpers/secrets"
)

// store answers in order; it records what it was asked for.
type store struct {
	asked   []string
	answers []any
}

func (s *store) Fetch(_ context.Context, provider string, description json.RawMessage) (string, error) {
	s.asked = append(s.asked, provider+" "+string(description))
	answer := s.answers[0]
	s.answers = s.answers[1:]
	if err, failed := answer.(error); failed {
		return "", err
	}
	return fmt.Sprint(answer), nil
}

func TestSecretsBecomeVariablesThatTheLogHides(t *testing.T) {
	vault := &store{answers: []any{"first-secret-value", "second-secret-value"}}
	m, tr, job := newMachine(), &trace{}, fullJob()
	job.Variables = append(job.Variables, spec.Variable{Key: "JWT", Value: "token-of-the-job"})
	job.Secrets = map[string]spec.Secret{
		"A_FILE": {"vault": json.RawMessage(`{"server":{"auth":{"data":{"jwt":"$JWT"}}}}`)},
		"B_TEXT": {"gitlab_secrets_manager": json.RawMessage(`{"path":"$JWT"}`), "file": json.RawMessage("false")},
		"C_NONE": {"other": json.RawMessage(`{}`)},
	}
	m.on["step_script"] = func(_ context.Context, s common.Stage) error {
		_, err := fmt.Fprintln(s.Stdout, "I know first-secret-value and second-secret-value")
		return err
	}
	result := newBuildOf(job, m, tr, func(o *common.BuildOptions) { o.Secrets = vault }).Run(context.Background())
	require.NoError(t, result.Err)
	require.Equal(t, []string{
		`vault {"server":{"auth":{"data":{"jwt":"token-of-the-job"}}}}`,
		`gitlab_secrets_manager {"path":"$JWT"}`,
	}, vault.asked)
	log := tr.String()
	require.Contains(t, log, "Resolving secrets")
	require.Contains(t, log, `Using "vault" secret resolver...`)
	require.Contains(t, log, `No resolver that can handle the secret "C_NONE"`)
	require.Contains(t, log, "I know [MASKED] and [MASKED]")
	require.Contains(t, m.scripts["step_script"], "B_TEXT")
	require.Contains(t, m.scripts["step_script"], "second-secret-value")
	require.NotContains(t, m.scripts["step_script"], "C_NONE")
}

func TestASecretThatCannotBeHadHasItsReason(t *testing.T) {
	for name, c := range map[string]struct {
		err    error
		flag   string
		reason common.FailureReason
	}{
		"refused":          {err: &secrets.Refusal{Status: http.StatusForbidden, Message: "permission denied"}, reason: common.RunnerConfigurationError},
		"in trouble":       {err: &secrets.Refusal{Status: http.StatusBadGateway}, reason: common.RunnerExternalDependencyFailure},
		"out of reach":     {err: &secrets.UnreachableError{Err: errors.New("no route")}, reason: common.RunnerExternalDependencyFailure},
		"not understood":   {err: errors.New("no JSON"), reason: common.RunnerSystemFailure},
		"not there":        {err: secrets.ErrNotFound, reason: common.RunnerSystemFailure},
		"may be not there": {err: secrets.ErrNotFound, flag: "false"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				// Two tries are allowed, and both fail.
				vault := &store{answers: []any{fmt.Errorf("reading: %w", c.err), fmt.Errorf("reading: %w", c.err)}}
				m, tr, job := newMachine(), &trace{}, fullJob()
				job.Secrets = map[string]spec.Secret{"A": {"vault": json.RawMessage(`{}`)}}
				job.Variables = append(job.Variables, spec.Variable{Key: "SECRETS_RETRIEVAL_ATTEMPTS", Value: "2"})
				if c.flag != "" {
					job.Variables = append(job.Variables, spec.Variable{Key: "FF_SECRET_RESOLVING_FAILS_IF_MISSING", Value: c.flag})
				}
				result := newBuildOf(job, m, tr, func(o *common.BuildOptions) { o.Secrets = vault }).Run(context.Background())
				if c.reason == "" {
					require.NoError(t, result.Err)
					return
				}
				require.Equal(t, c.reason, result.Reason)
				require.ErrorContains(t, result.Err, `resolving secrets: secret "A": `)
				require.Empty(t, vault.answers)
				require.Equal(t, 2, strings.Count(tr.String(), "Resolving secrets\x1b"), "each try has its own section")
				require.Empty(t, m.done(), "nothing was made")
			})
		})
	}
}
