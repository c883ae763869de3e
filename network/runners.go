package network

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"time"

	"github.com/sirupsen/logrus"

	"gitlab.com/gitlab-org/gitlab-runner/common/config"
	"gitlab.com/gitlab-org/gitlab-runner/common/spec"
)

// RunnerInfo describes a runner entry to the server: features are those of its executor, to which what
// the client and every shell can do is added. labels are those of the whole configuration; the entry's
// own win over them.
func (c *Client) RunnerInfo(r *config.Runner, features spec.Features, defaultShell string, labels map[string]string) spec.RunnerVersion {
	info := spec.RunnerVersion{
		Name: c.version.Name, Version: c.version.Version, Revision: c.version.Revision,
		Platform: c.version.OS, Architecture: c.version.Arch,
		Executor: r.Executor, Shell: r.Shell,
		Features: withConstantFeatures(features),
	}
	if info.Shell == "" {
		info.Shell = defaultShell
	}
	if r.Docker != nil {
		info.Config.Gpus = r.Docker.Gpus
	}
	if len(labels)+len(r.Labels) > 0 {
		info.Labels = map[string]string{}
		maps.Copy(info.Labels, labels)
		maps.Copy(info.Labels, r.Labels)
	}
	return info
}

// withConstantFeatures adds what every executor can do.
func withConstantFeatures(f spec.Features) spec.Features {
	// The client's.
	f.TraceReset, f.TraceChecksum, f.TraceSize = true, true, true
	f.Cancelable, f.CancelGracefully, f.TwoPhaseJobCommit = true, true, true
	// Every shell's.
	f.Artifacts, f.UploadMultipleArtifacts, f.UploadRawArtifacts, f.ArtifactsExclude = true, true, true, true
	f.Cache, f.FallbackCacheKeys, f.Refspecs, f.Masking, f.RawVariables = true, true, true, true, true
	f.MultiBuildSteps, f.ReturnExitCode, f.JobInputs, f.VaultSecrets = true, true, true, true
	return f
}

// RegisterRequest asks for a runner by a registration token. MaximumTimeout is in seconds.
type RegisterRequest struct {
	Description     string
	MaintenanceNote string
	TagList         string
	RunUntagged     bool
	Locked          bool
	AccessLevel     string
	MaximumTimeout  int
	Paused          bool
	Info            spec.RunnerVersion
}

// RunnerIdentity is a runner as the server knows it. A zero TokenExpiresAt means that the token does
// not expire. TokenObtainedAt is set here: in UTC, whole seconds.
type RunnerIdentity struct {
	ID              int64
	Token           string
	TokenExpiresAt  time.Time
	TokenObtainedAt time.Time
}

type identityBody struct {
	ID             int64      `json:"id"`
	Token          string     `json:"token"`
	TokenExpiresAt *time.Time `json:"token_expires_at"`
}

func (b identityBody) identity() RunnerIdentity {
	identity := RunnerIdentity{ID: b.ID, Token: b.Token, TokenObtainedAt: time.Now().UTC().Truncate(time.Second)}
	if b.TokenExpiresAt != nil {
		identity.TokenExpiresAt = *b.TokenExpiresAt
	}
	return identity
}

func runnerRequest(method, path, token string) request {
	return request{method: method, path: path, header: http.Header{headerRunnerToken: {token}}}
}

func (c *Client) runnerLog(token string, a *answer) logrus.FieldLogger {
	return c.log.WithField("runner", shortToken(token)).WithFields(a.logFields())
}

// RegisterRunner makes a runner of a registration token, which is the token of cred. The error wraps
// ErrForbidden or ErrClient where that is the reason.
func (c *Client) RegisterRunner(ctx context.Context, cred Credentials, register RegisterRequest) (RunnerIdentity, error) {
	in := struct {
		Token           string             `json:"token,omitempty"`
		Description     string             `json:"description,omitempty"`
		MaintenanceNote string             `json:"maintenance_note,omitempty"`
		TagList         string             `json:"tag_list,omitempty"`
		RunUntagged     bool               `json:"run_untagged"`
		Locked          bool               `json:"locked"`
		AccessLevel     string             `json:"access_level,omitempty"`
		MaximumTimeout  int                `json:"maximum_timeout,omitempty"`
		Paused          bool               `json:"paused"`
		Info            spec.RunnerVersion `json:"info"`
	}{
		cred.Token, register.Description, register.MaintenanceNote, register.TagList, register.RunUntagged,
		register.Locked, register.AccessLevel, register.MaximumTimeout, register.Paused, register.Info,
	}
	var out identityBody
	a := c.json(ctx, cred, runnerRequest(http.MethodPost, "runners", cred.Token), in, http.StatusCreated, &out)
	log := c.runnerLog(cred.Token, a)
	switch a.status {
	case http.StatusCreated:
		log.Info("Registering runner... succeeded")
		return out.identity(), nil
	case http.StatusForbidden:
		log.WithError(a.err).Error("Registering runner... forbidden (check registration token)")
		return RunnerIdentity{}, fmt.Errorf("registering the runner: %w (check registration token): %w", ErrForbidden, a.err)
	case statusClientError:
		log.WithError(a.err).Error("Registering runner... client error")
	default:
		log.WithError(a.err).Error("Registering runner... failed")
	}
	return RunnerIdentity{}, fmt.Errorf("registering the runner: %w", a.err)
}

// VerifyRunner asks whether the token of cred is that of a runner. An error that wraps ErrForbidden
// says that it is not; any other error says nothing about the token. Behind some old servers the
// identity of a valid runner stays unknown and is zero.
func (c *Client) VerifyRunner(ctx context.Context, cred Credentials, systemID string, info spec.RunnerVersion) (RunnerIdentity, error) {
	in := struct {
		Info     spec.RunnerVersion `json:"info"`
		Token    string             `json:"token"`
		SystemID string             `json:"system_id"`
	}{info, cred.Token, systemID}
	var out identityBody
	r := runnerRequest(http.MethodPost, "runners/verify", cred.Token)
	a := c.json(ctx, cred, r, in, http.StatusOK, &out)
	if a.status == statusNoAnswer && ctx.Err() == nil {
		out = identityBody{}
		a = c.json(ctx, cred, runnerRequest(http.MethodPost, r.path, cred.Token), in, http.StatusOK, nil)
	}
	log := c.runnerLog(cred.Token, a)
	switch a.status {
	case http.StatusOK:
		if out.ID != 0 {
			log.Info("Verifying runner... is valid")
		} else {
			log.Info("Verifying runner... is alive")
		}
		return out.identity(), nil
	case http.StatusForbidden:
		log.WithError(a.err).Error("Verifying runner... is not valid")
		return RunnerIdentity{}, fmt.Errorf("verifying the runner: %w: %w", ErrForbidden, a.err)
	case statusClientError:
		log.WithError(a.err).Error("Verifying runner... client error")
	default:
		log.WithError(a.err).Error("Verifying runner... failed")
	}
	return RunnerIdentity{}, fmt.Errorf("verifying the runner: %w", a.err)
}

// UnregisterRunner deletes the runner of the token of cred.
func (c *Client) UnregisterRunner(ctx context.Context, cred Credentials) error {
	in := struct {
		Token string `json:"token"`
	}{cred.Token}
	return c.unregister(ctx, cred, "runners", "Unregistering runner from GitLab", in)
}

// UnregisterManager deletes this machine from the runner of the token of cred.
func (c *Client) UnregisterManager(ctx context.Context, cred Credentials, systemID string) error {
	in := struct {
		Token    string `json:"token"`
		SystemID string `json:"system_id"`
	}{cred.Token, systemID}
	return c.unregister(ctx, cred, "runners/managers", "Unregistering runner manager from GitLab", in)
}

func (c *Client) unregister(ctx context.Context, cred Credentials, path, what string, in any) error {
	a := c.json(ctx, cred, runnerRequest(http.MethodDelete, path, cred.Token), in, http.StatusNoContent, nil)
	log := c.runnerLog(cred.Token, a)
	switch a.status {
	case http.StatusNoContent:
		log.Info(what + " succeeded")
		return nil
	case http.StatusForbidden:
		log.WithError(a.err).Error(what + " forbidden")
		return fmt.Errorf("unregistering the runner: %w: %w", ErrForbidden, a.err)
	case statusClientError:
		log.WithError(a.err).Error(what + " client error")
	default:
		log.WithError(a.err).Error(what + " failed")
	}
	return fmt.Errorf("unregistering the runner: %w", a.err)
}

// ResetToken asks for a new token in exchange for that of cred, which is no longer valid afterwards.
// The identity it returns has no ID.
func (c *Client) ResetToken(ctx context.Context, cred Credentials, systemID string) (RunnerIdentity, error) {
	in := struct {
		Token string `json:"token"`
	}{cred.Token}
	return c.resetToken(ctx, cred, systemID, request{path: "runners/reset_authentication_token"}, in)
}

// ResetTokenWithPAT is ResetToken with the rights of a person, for a runner that is known by its id.
func (c *Client) ResetTokenWithPAT(ctx context.Context, cred Credentials, systemID string, runnerID int64, pat string) (RunnerIdentity, error) {
	return c.resetToken(ctx, cred, systemID, request{
		path:   fmt.Sprintf("runners/%d/reset_authentication_token", runnerID),
		header: http.Header{headerPAT: {pat}},
	}, jsonNull{})
}

// jsonNull is encoded as null.
type jsonNull struct{}

// MarshalJSON returns null.
func (jsonNull) MarshalJSON() ([]byte, error) { return []byte("null"), nil }

func (c *Client) resetToken(ctx context.Context, cred Credentials, systemID string, r request, in any) (RunnerIdentity, error) {
	r.method, r.endpoint, r.systemID = http.MethodPost, "reset_token", systemID
	var out identityBody
	a := c.json(ctx, cred, r, in, http.StatusCreated, &out)
	log := c.runnerLog(cred.Token, a)
	switch {
	case a.status == http.StatusCreated && out.Token != "":
		log.Info("Resetting runner authentication token... succeeded")
		return out.identity(), nil
	case a.status == http.StatusCreated:
		a.err = fmt.Errorf("%s %s: the answer has no token", a.method, a.url)
		log.WithError(a.err).Error("Resetting runner authentication token... failed")
	case a.status == http.StatusForbidden:
		log.WithError(a.err).Error("Resetting runner authentication token... forbidden (check token)")
		return RunnerIdentity{}, fmt.Errorf("resetting the token: %w: %w", ErrForbidden, a.err)
	case a.status == statusClientError:
		log.WithError(a.err).Error("Resetting runner authentication token... client error")
	default:
		log.WithError(a.err).Error("Resetting runner authentication token... failed")
	}
	return RunnerIdentity{}, fmt.Errorf("resetting the token: %w", a.err)
}
