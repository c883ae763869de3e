package coordinator

import (
	"cmp"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// RunnerSpec describes a runner as its owner creates it in GitLab.
type RunnerSpec struct {
	Token       string // authentication token; empty means a random one
	Description string
	Tags        []string
	RunUntagged bool          // take jobs that have no tags
	ExpiresAt   time.Time     // when the token expires; zero means never
	Lifetime    time.Duration // of tokens given out by a reset; zero means 30 days
	Paused      bool
}

// Runner is what the coordinator knows of a runner.
type Runner struct {
	ID int64
	RunnerSpec
	Locked          bool
	AccessLevel     string
	MaintenanceNote string
	MaximumTimeout  time.Duration
	Managers        []Manager // in the order they were first seen
}

// Manager is one machine that uses a runner's token.
type Manager struct {
	SystemID  string
	Info      Info // the latest
	FirstSeen time.Time
	LastSeen  time.Time
}

type runner struct {
	Runner
	managers []*manager
}

type manager struct {
	Manager
	issued []string // queue versions given to it, latest last
	silent int      // job requests in a row that echoed none of them
}

const (
	// maxIssued is how far back an echoed queue version may lie: requests overlap, so it need not be the latest.
	maxIssued = 16
	// maxSilent is how many requests in a row may come without an echo: a restarted manager knows no version yet and
	// may have several requests under way.
	maxSilent = 10

	defaultTokenLifetime = 30 * 24 * time.Hour
)

// AddRunner creates a further runner and returns its authentication token.
func (c *Coordinator) AddRunner(spec RunnerSpec) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.addRunner(spec).Token
}

// addRunner needs c.mu, or a coordinator that does not serve yet.
func (c *Coordinator) addRunner(spec RunnerSpec) *runner {
	if spec.Token == "" {
		spec.Token = "glrt-t3_" + randomText(20)
	}
	added := &runner{Runner: Runner{ID: c.nextRunner, RunnerSpec: spec}}
	c.nextRunner++
	c.runners = append(c.runners, added)
	return added
}

// SetPaused pauses or resumes the runner with this token; a paused runner is given no job. It fails for an unknown token.
func (c *Coordinator) SetPaused(token string, paused bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	found := c.runnerByToken(token)
	if found == nil {
		return errors.New("pause runner: no runner has this token")
	}
	found.Paused = paused
	c.bumpQueue()
	return nil
}

// Runners lists the runners with their managers.
func (c *Coordinator) Runners() []Runner {
	c.mu.Lock()
	defer c.mu.Unlock()
	var list []Runner
	for _, known := range c.runners {
		copied := known.Runner
		for _, m := range known.managers {
			copied.Managers = append(copied.Managers, m.Manager)
		}
		list = append(list, copied)
	}
	return list
}

func (c *Coordinator) runnerByToken(token string) *runner {
	for _, known := range c.runners {
		if subtle.ConstantTimeCompare([]byte(known.Token), []byte(token)) == 1 {
			return known
		}
	}
	return nil
}

// identify finds the runner of a request; when the token is unknown it answers 403. The caller holds c.mu.
func (c *Coordinator) identify(x *exchange, token string) *runner {
	c.checkTokenHeader(x, token)
	known := c.runnerByToken(token)
	if known == nil {
		refuse(x.w, http.StatusForbidden)
	}
	return known
}

func (c *Coordinator) checkTokenHeader(x *exchange, token string) {
	if x.r.Header.Get("RUNNER-TOKEN") != token {
		c.violate(RuleIdentity, 0, "%s: RUNNER-TOKEN is not the token in the body", x.endpoint)
	}
}

var systemIDForm = regexp.MustCompile(`^[sr]_[0-9a-zA-Z]{12}$`)

// meet records the manager behind a request. The caller holds c.mu.
func (c *Coordinator) meet(x *exchange, known *runner, systemID string, info Info) *manager {
	if !systemIDForm.MatchString(systemID) {
		c.violate(RuleIdentity, 0, "%s: system_id %q has not the form s_ or r_ and 12 letters or digits", x.endpoint, clip(systemID))
	}
	now := time.Now()
	index := slices.IndexFunc(known.managers, func(m *manager) bool { return m.SystemID == systemID })
	if index < 0 {
		known.managers = append(known.managers, &manager{Manager: Manager{SystemID: systemID, FirstSeen: now}})
		index = len(known.managers) - 1
	}
	met := known.managers[index]
	met.Info, met.LastSeen = info, now
	return met
}

func (c *Coordinator) registerRunner(x *exchange) {
	var request struct {
		Token           string          `json:"token"`
		Description     string          `json:"description"`
		MaintenanceNote string          `json:"maintenance_note"`
		TagList         string          `json:"tag_list"`
		RunUntagged     bool            `json:"run_untagged"`
		Locked          bool            `json:"locked"`
		AccessLevel     string          `json:"access_level"`
		MaximumTimeout  int             `json:"maximum_timeout"`
		Paused          bool            `json:"paused"`
		Info            json.RawMessage `json:"info"`
	}
	if !c.decode(x, &request) {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.checkTokenHeader(x, request.Token)
	c.checkInfo(x, request.Info)
	if request.Token != c.cfg.RegistrationToken {
		refuse(x.w, http.StatusForbidden)
		return
	}
	tags := splitTags(request.TagList)
	if len(tags) == 0 && !request.RunUntagged {
		reply(x.w, http.StatusBadRequest, map[string]any{"message": map[string][]string{
			"tags_list": {"can not be empty when runner is not allowed to pick untagged jobs"},
		}})
		return
	}
	added := c.addRunner(RunnerSpec{
		Token: "glrtr-" + randomText(20), Description: request.Description, Tags: tags,
		RunUntagged: request.RunUntagged, Paused: request.Paused,
	})
	added.Locked, added.AccessLevel, added.MaintenanceNote = request.Locked, request.AccessLevel, request.MaintenanceNote
	added.MaximumTimeout = time.Duration(request.MaximumTimeout) * time.Second
	reply(x.w, http.StatusCreated, added.credentials())
}

func splitTags(list string) []string {
	var tags []string
	for tag := range strings.SplitSeq(list, ",") {
		if tag = strings.TrimSpace(tag); tag != "" {
			tags = append(tags, tag)
		}
	}
	return tags
}

func (r *runner) credentials() map[string]any {
	answer := map[string]any{"id": r.ID, "token": r.Token, "token_expires_at": nil}
	if !r.ExpiresAt.IsZero() {
		answer["token_expires_at"] = r.ExpiresAt.UTC().Format("2006-01-02T15:04:05.000Z")
	}
	return answer
}

func (c *Coordinator) verifyRunner(x *exchange) {
	var request struct {
		Info     json.RawMessage `json:"info"`
		Token    string          `json:"token"`
		SystemID string          `json:"system_id"`
	}
	if !c.decode(x, &request) {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	info := c.checkInfo(x, request.Info)
	known := c.identify(x, request.Token)
	if known == nil {
		return
	}
	c.meet(x, known, request.SystemID, info)
	reply(x.w, http.StatusOK, known.credentials())
}

func (c *Coordinator) unregisterRunner(x *exchange) {
	var request struct {
		Token string `json:"token"`
	}
	if !c.decode(x, &request) {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	known := c.identify(x, request.Token)
	if known == nil {
		return
	}
	c.runners = slices.DeleteFunc(c.runners, func(other *runner) bool { return other == known })
	x.w.WriteHeader(http.StatusNoContent)
}

func (c *Coordinator) removeManager(x *exchange) {
	var request struct {
		Token    string `json:"token"`
		SystemID string `json:"system_id"`
	}
	if !c.decode(x, &request) {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	known := c.identify(x, request.Token)
	if known == nil {
		return
	}
	if request.SystemID == "" {
		refuse(x.w, http.StatusBadRequest)
		return
	}
	before := len(known.managers)
	known.managers = slices.DeleteFunc(known.managers, func(m *manager) bool { return m.SystemID == request.SystemID })
	if len(known.managers) == before {
		refuse(x.w, http.StatusNotFound)
		return
	}
	x.w.WriteHeader(http.StatusNoContent)
}

func (c *Coordinator) resetToken(x *exchange) {
	var request struct {
		Token string `json:"token"`
	}
	if !c.decode(x, &request) {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	known := c.runnerByToken(request.Token)
	if known == nil {
		refuse(x.w, http.StatusForbidden)
		return
	}
	known.reset(x)
}

func (c *Coordinator) resetTokenByID(x *exchange) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if token := x.r.Header.Get("PRIVATE-TOKEN"); subtle.ConstantTimeCompare([]byte(token), []byte(c.pat)) != 1 {
		refuse(x.w, http.StatusForbidden)
		return
	}
	if strings.TrimSpace(string(x.body)) != "null" {
		c.violate(RuleBody, 0, "%s: body is %q, want null", x.endpoint, clip(string(x.body)))
	}
	id, err := strconv.ParseInt(x.r.PathValue("id"), 10, 64)
	index := slices.IndexFunc(c.runners, func(r *runner) bool { return r.ID == id })
	if err != nil || index < 0 {
		refuse(x.w, http.StatusNotFound)
		return
	}
	c.runners[index].reset(x)
}

// reset gives the runner a new token of the same kind; the old one is void at once.
func (r *runner) reset(x *exchange) {
	prefix := ""
	for _, known := range []string{"glrt-t1_", "glrt-t2_", "glrt-t3_", "glrt-", "glrtr-"} {
		if strings.HasPrefix(r.Token, known) {
			prefix = known
			break
		}
	}
	r.Token = prefix + randomText(20)
	if !r.ExpiresAt.IsZero() {
		r.ExpiresAt = time.Now().Add(cmp.Or(r.Lifetime, defaultTokenLifetime))
	}
	reply(x.w, http.StatusCreated, r.credentials())
}

// discoverRouter tells every known runner that there is no job router.
func (c *Coordinator) discoverRouter(x *exchange) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.runnerByToken(x.r.Header.Get("RUNNER-TOKEN")) == nil {
		refuse(x.w, http.StatusForbidden)
		return
	}
	refuse(x.w, http.StatusNotImplemented)
}
