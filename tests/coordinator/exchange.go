package coordinator

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"regexp"
	"strconv"
	"time"
)

// Endpoint names one call of the Jobs API.
type Endpoint string

// The calls of the Jobs API, and git beside them.
const (
	EndpointRegister         Endpoint = "register"
	EndpointVerify           Endpoint = "verify"
	EndpointUnregister       Endpoint = "unregister"
	EndpointRemoveManager    Endpoint = "remove-manager"
	EndpointResetToken       Endpoint = "reset-token"
	EndpointRouterDiscovery  Endpoint = "router-discovery"
	EndpointRequestJob       Endpoint = "request-job"
	EndpointUpdateJob        Endpoint = "update-job"
	EndpointPatchTrace       Endpoint = "patch-trace"
	EndpointUploadArtifact   Endpoint = "upload-artifact"
	EndpointDownloadArtifact Endpoint = "download-artifact"
	EndpointGit              Endpoint = "git"
)

const (
	maxJSONBody    = 1 << 20
	maxTraceChunk  = 1 << 20
	maxRequestLog  = 20000
	maxHeaderNoted = 200
)

// Request is one line of the log of requests.
type Request struct {
	Time     time.Time // when it arrived
	Duration time.Duration
	Endpoint Endpoint
	Method   string
	Path     string
	Remote   string // the address it came from, without port
	JobID    int64  // 0 when the call is not about a job; that of a fetch is the job whose token it used
	Status   int    // 0 when the connection was cut instead of an answer
}

// Requests is the log of the latest 20,000 requests that have been answered, in the order of their answers.
func (c *Coordinator) Requests() []Request {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]Request(nil), c.requests...)
}

// exchange is one request under way with its answer.
type exchange struct {
	w        *answer
	r        *http.Request
	endpoint Endpoint
	jobID    int64
	turn     turn
	body     []byte // whole body; nil for calls that stream
	atStore  bool   // arrived at the second listener
}

// answer notes the status on its way out and can throw an answer away that is meant to be lost.
type answer struct {
	http.ResponseWriter
	status int
	lost   bool
}

func (a *answer) WriteHeader(status int) {
	if a.status == 0 {
		a.status = status
	}
	if !a.lost {
		a.ResponseWriter.WriteHeader(status)
	}
}

func (a *answer) Write(data []byte) (int, error) {
	if a.status == 0 {
		a.status = http.StatusOK
	}
	if a.lost {
		return len(data), nil
	}
	return a.ResponseWriter.Write(data)
}

// Unwrap lets http.ResponseController reach the connection.
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

func (c *Coordinator) apiHandler() http.Handler {
	mux := http.NewServeMux()
	route := func(pattern string, endpoint Endpoint, handle func(*exchange)) {
		mux.Handle(pattern, c.endpoint(endpoint, handle))
	}
	route("POST /api/v4/runners", EndpointRegister, c.registerRunner)
	route("DELETE /api/v4/runners", EndpointUnregister, c.unregisterRunner)
	route("POST /api/v4/runners/verify", EndpointVerify, c.verifyRunner)
	route("DELETE /api/v4/runners/managers", EndpointRemoveManager, c.removeManager)
	route("POST /api/v4/runners/reset_authentication_token", EndpointResetToken, c.resetToken)
	route("POST /api/v4/runners/{id}/reset_authentication_token", EndpointResetToken, c.resetTokenByID)
	route("GET /api/v4/runners/router/discovery", EndpointRouterDiscovery, c.discoverRouter)
	route("POST /api/v4/jobs/request", EndpointRequestJob, c.requestJob)
	route("PUT /api/v4/jobs/{id}", EndpointUpdateJob, c.updateJob)
	route("PATCH /api/v4/jobs/{id}/trace", EndpointPatchTrace, c.patchTrace)
	route("POST /api/v4/jobs/{id}/artifacts", EndpointUploadArtifact, c.uploadArtifact)
	route("GET /api/v4/jobs/{id}/artifacts", EndpointDownloadArtifact, c.downloadArtifact)
	mux.HandleFunc("/api/", func(w http.ResponseWriter, r *http.Request) {
		c.mu.Lock()
		c.violate(RuleBody, 0, "%s %s is no call of the jobs API", r.Method, r.URL.Path)
		c.mu.Unlock()
		refuse(w, http.StatusNotFound)
	})
	route("/", EndpointGit, c.serveGit)
	return mux
}

// endpoint wraps handle with what all calls share: the body, the header checks, injected faults and the log.
func (c *Coordinator) endpoint(endpoint Endpoint, handle func(*exchange)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		began := time.Now()
		x := &exchange{w: &answer{ResponseWriter: w}, r: r, endpoint: endpoint}
		if id := r.PathValue("id"); id != "" && endpoint != EndpointResetToken {
			x.jobID, _ = strconv.ParseInt(id, 10, 64)
		}
		defer c.logRequest(x, began)
		c.mu.Lock()
		x.turn = nextTurn(r)
		c.mu.Unlock()

		if endpoint != EndpointUploadArtifact && endpoint != EndpointGit {
			body, err := io.ReadAll(io.LimitReader(r.Body, max(maxJSONBody, maxTraceChunk)+1))
			if err != nil {
				panic(http.ErrAbortHandler)
			}
			x.body = body
		}
		c.checkHeaders(x)
		if id := r.Header.Get("X-Request-Id"); requestIDForm.MatchString(id) {
			w.Header().Set("X-Request-Id", id)
		}
		if c.applyFault(x) {
			return
		}
		handle(x)
		if x.w.lost {
			panic(http.ErrAbortHandler)
		}
	})
}

func (c *Coordinator) logRequest(x *exchange, began time.Time) {
	status := x.w.status
	if x.w.lost {
		status = 0
	}
	remote, _, _ := net.SplitHostPort(x.r.RemoteAddr)
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.requests) >= maxRequestLog {
		c.requests = append(c.requests[:0], c.requests[maxRequestLog/2:]...)
	}
	c.requests = append(c.requests, Request{
		Time: began, Duration: time.Since(began), Endpoint: x.endpoint,
		Method: x.r.Method, Path: x.r.URL.Path, Remote: remote, JobID: x.jobID, Status: status,
	})
}

var (
	userAgentForm = regexp.MustCompile(`^gitlab-runner \S+ \([^;]*; [^;]+; [^/;]+/[^/;]+\)$`)
	requestIDForm = regexp.MustCompile(`^[0-9a-f]{32}$`)
)

// checkHeaders notes what is wrong with the headers that every call of the runner carries.
func (c *Coordinator) checkHeaders(x *exchange) {
	if x.endpoint == EndpointGit {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	header := x.r.Header
	if agent := header.Get("User-Agent"); !userAgentForm.MatchString(agent) {
		c.violate(RuleHeaders, x.jobID, "%s: User-Agent %q has not the form \"gitlab-runner <version> (<branch>; <go>; <os>/<arch>)\"", x.endpoint, clip(agent))
	}
	if id := header.Get("X-Request-Id"); !requestIDForm.MatchString(id) {
		c.violate(RuleHeaders, x.jobID, "%s: X-Request-Id %q is not 32 hex digits", x.endpoint, clip(id))
	}
	wantType, wantJSON := "", false
	switch x.endpoint {
	case EndpointRegister, EndpointVerify, EndpointResetToken, EndpointRequestJob:
		wantType, wantJSON = "application/json", true
	case EndpointUnregister, EndpointRemoveManager, EndpointUpdateJob:
		wantType = "application/json"
	case EndpointPatchTrace:
		wantType = "text/plain"
	}
	if wantType != "" {
		if got, _, _ := mime.ParseMediaType(header.Get("Content-Type")); got != wantType {
			c.violate(RuleHeaders, x.jobID, "%s: Content-Type is %q, want %s", x.endpoint, clip(got), wantType)
		}
	}
	// A client that could not read a JSON answer to verify asks once more without wanting JSON.
	if wantJSON && x.endpoint != EndpointVerify && header.Get("Accept") != "application/json" {
		c.violate(RuleHeaders, x.jobID, "%s: Accept is %q, want application/json", x.endpoint, clip(header.Get("Accept")))
	}
}

// decode reads the JSON body into target; when it cannot, it answers 400, notes the breach and reports false.
func (c *Coordinator) decode(x *exchange, target any) bool {
	err := json.Unmarshal(x.body, target)
	if len(x.body) > maxJSONBody {
		err = fmt.Errorf("body exceeds %d bytes", maxJSONBody)
	}
	if err == nil {
		return true
	}
	c.mu.Lock()
	c.violate(RuleBody, x.jobID, "%s: %v", x.endpoint, err)
	c.mu.Unlock()
	refuse(x.w, http.StatusBadRequest)
	return false
}

// reply sends value as JSON.
func reply(w http.ResponseWriter, status int, value any) {
	var body bytes.Buffer
	if err := json.NewEncoder(&body).Encode(value); err != nil {
		refuse(w, http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(body.Bytes())
}

// refuse sends an error the way GitLab words them.
func refuse(w http.ResponseWriter, status int) {
	reply(w, status, map[string]string{"message": fmt.Sprintf("%d %s", status, http.StatusText(status))})
}

// clip shortens outside text for a message.
func clip(text string) string {
	if len(text) > maxHeaderNoted {
		return text[:maxHeaderNoted] + "..."
	}
	return text
}
