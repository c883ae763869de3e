package common

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"

	"gitlab.com/gitlab-org/gitlab-runner/common/featureflags"
	"gitlab.com/gitlab-org/gitlab-runner/common/spec"
	"gitlab.com/gitlab-org/gitlab-runner/helpers/secrets"
)

// SecretStore fetches secrets from where they are kept; see secrets.Client.
type SecretStore interface {
	Fetch(ctx context.Context, provider string, description json.RawMessage) (string, error)
}

// fileKey says, beside the provider's key, whether a secret becomes a file.
const fileKey = "file"

// resolveSecrets makes variables of the secrets that the job keeps elsewhere, before anything else is done.
func (b *Build) resolveSecrets(ctx context.Context) error {
	if len(b.options.Job.Secrets) == 0 {
		return nil
	}
	if b.options.Secrets == nil {
		return unsupported(errors.New("secrets cannot be fetched here"))
	}
	b.setStage(stageResolveSecrets)
	err := b.attempts(ctx, b.job.Settings.SecretsAttempts, func(ctx context.Context) error {
		return b.job.Log.Section(stageResolveSecrets, "Resolving secrets", func() error { return b.fetchSecrets(ctx) })
	})
	if err == nil || ctx.Err() != nil {
		return err
	}
	return Fail(secretFailure(err), fmt.Errorf("resolving secrets: %w", err))
}

func (b *Build) fetchSecrets(ctx context.Context) error {
	var resolved []spec.Variable
	for _, key := range slices.Sorted(maps.Keys(b.options.Job.Secrets)) {
		secret := b.options.Job.Secrets[key]
		b.job.Log.Print("Resolving secret %q...", key)
		provider := providerOf(secret)
		if provider == "" {
			b.job.Log.Warn("No resolver that can handle the secret %q", key)
			continue
		}
		b.job.Log.Print("Using %q secret resolver...", provider)
		value, err := b.fetchSecret(ctx, provider, secret[provider])
		if errors.Is(err, secrets.ErrNotFound) && !b.job.Flags.IsOn(featureflags.SecretResolvingFailsIfAbsent) {
			b.job.Log.Warn("secret %q: %v; the variable is empty", key, err)
			err = nil
		}
		if err != nil {
			return fmt.Errorf("secret %q: %w", key, err)
		}
		resolved = append(resolved, spec.Variable{Key: key, Value: value, Masked: true, Raw: true, File: isFile(secret)})
	}
	b.resolved = resolved
	b.job.Variables = b.variables(Machine{}).Expand("")
	b.maskMore()
	return nil
}

func (b *Build) fetchSecret(ctx context.Context, provider string, description json.RawMessage) (string, error) {
	// What GitLab itself wrote has no variables of the user's in it.
	if provider != "gitlab_secrets_manager" {
		var err error
		if description, err = secrets.Expand(description, b.job.Variables.ExpandValue); err != nil {
			return "", err
		}
	}
	return b.options.Secrets.Fetch(ctx, provider, description)
}

// providerOf is the first key of a secret that a provider has, empty if none is known.
func providerOf(secret spec.Secret) string {
	for _, name := range secrets.Providers() {
		if description, there := secret[name]; there && string(description) != "null" {
			return name
		}
	}
	return ""
}

// isFile says whether a secret becomes a file, which it does unless the job says otherwise.
func isFile(secret spec.Secret) bool {
	var file bool
	if json.Unmarshal(secret[fileKey], &file) != nil {
		return true
	}
	return file || string(secret[fileKey]) == "null"
}

// secretFailure is whose fault it is that a secret cannot be had.
func secretFailure(err error) FailureReason {
	var refusal *secrets.Refusal
	var unreachable *secrets.UnreachableError
	switch {
	case errors.As(err, &unreachable):
		return RunnerExternalDependencyFailure
	case errors.As(err, &refusal) && refusal.Status >= http.StatusInternalServerError:
		return RunnerExternalDependencyFailure
	case errors.As(err, &refusal) && slices.Contains([]int{
		http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound,
	}, refusal.Status):
		return RunnerConfigurationError
	default:
		return RunnerSystemFailure
	}
}
