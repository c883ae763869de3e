package manager

import (
	"context"
	"encoding/json"

	"gitlab.com/gitlab-org/gitlab-runner/common"
	"gitlab.com/gitlab-org/gitlab-runner/common/spec"
)

// Secrets keeps values out of the log until they are released.
type Secrets interface {
	Hold(values []string) (release func())
}

// secretsOf are the values of a job that the process log must not show.
func secretsOf(job *spec.Job) []string {
	secrets := []string{job.Token}
	for _, v := range job.Variables {
		if v.Masked {
			secrets = append(secrets, v.Value)
		}
	}
	for _, c := range job.Credentials {
		secrets = append(secrets, c.Password)
	}
	for _, d := range job.Dependencies {
		secrets = append(secrets, d.Token)
	}
	return secrets
}

// secretStore fetches the secrets of one job, and keeps what it fetched out of the process log until the job has
// ended. It is used by one goroutine.
type secretStore struct {
	client common.SecretStore
	// guard is nil if nothing keeps secrets out of the log.
	guard    Secrets
	releases []func()
}

func (s *secretStore) Fetch(ctx context.Context, provider string, description json.RawMessage) (string, error) {
	value, err := s.client.Fetch(ctx, provider, description)
	if err == nil && s.guard != nil {
		s.releases = append(s.releases, s.guard.Hold([]string{value}))
	}
	return value, err
}

// release ends the keeping.
func (s *secretStore) release() {
	for _, release := range s.releases {
		release()
	}
	s.releases = nil
}
