// Package statuspage shows what a manager does: a page for people, the same as JSON for machines, and
// actions on it. It also holds the client of that JSON.
//
// Who may ask: there is no authentication, so the page is served on loopback addresses only unless the
// operator allows more, and actions are taken from this machine only. Requests that a page of another
// site makes a browser send are refused: by the Host they name, which a rebound name does not pass, and
// for actions by a header and an origin that no other site can have.
//
// Only package commands imports it.
package statuspage

import (
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"gitlab.com/gitlab-org/gitlab-runner/commands/manager"
	"gitlab.com/gitlab-org/gitlab-runner/executors/docker/autoscaler"
)

// Source is what is shown, and acted upon. It is safe for concurrent use.
type Source interface {
	Status() manager.Status
	Pause(runner string) ([]string, error)
	Resume(runner string) ([]string, error)
	Drain(runner, instance string) error
}

// Options say how a page is served.
type Options struct {
	Source Source
	// Listen is where it is served, and Remote says that it may be shown to other machines there.
	Listen net.Addr
	Remote bool
	// Hostname is a name by which other machines may ask, beside addresses.
	Hostname string
}

// ActionHeader must be set on every action, to anything.
const ActionHeader = "X-Gitlab-Runner-Action"

// Action is the body of a request to act.
type Action struct {
	// Runner is the name or short token of the runner entry, empty for all.
	Runner string `json:"runner,omitempty"`
	// Instance is the id of the instance to drain.
	Instance string `json:"instance,omitempty"`
}

// Answer is the answer to every request that is not answered with a status.
type Answer struct {
	// Error is why nothing was done; empty if it was.
	Error string `json:"error,omitempty"`
	// Runners are the names of the entries that were paused or resumed.
	Runners []string `json:"runners,omitempty"`
}

// maxAction bounds the body of an action, in bytes.
const maxAction = 16 << 10

// Register adds the page to what is served: /status, /status.json and POST /status/{pause,resume,drain}.
func Register(mux *http.ServeMux, o Options) {
	h := &handler{options: o, page: assemble()}
	mux.HandleFunc("GET /status", h.guard(h.showPage))
	mux.HandleFunc("GET /status.json", h.guard(h.showStatus))
	same := http.NewCrossOriginProtection()
	mux.Handle("POST /status/{action}", same.Handler(h.guard(h.act)))
}

type handler struct {
	options Options
	page    page
}

const (
	refusedRemote = "the status is served on loopback addresses only: make listen_address one, such as 127.0.0.1:9252, " +
		"or set status_remote = true in config.toml to show it to everybody who can reach this address"
	refusedHost   = "the status is not served under this host name: use the address, or localhost"
	refusedAction = "actions are taken from this machine only, with the header " + ActionHeader
)

// guard refuses who may not see the status.
func (h *handler) guard(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		header := w.Header()
		header.Set("Cache-Control", "no-store")
		header.Set("X-Content-Type-Options", "nosniff")
		header.Set("Referrer-Policy", "no-referrer")
		switch {
		case !h.options.Remote && !loopback(h.options.Listen.String()):
			refuse(w, http.StatusForbidden, refusedRemote)
		case !h.knownHost(r.Host):
			refuse(w, http.StatusForbidden, refusedHost)
		default:
			next(w, r)
		}
	}
}

// knownHost says whether a request may name a host. Names of others may be made to lead here, addresses
// may not.
func (h *handler) knownHost(host string) bool {
	if loopback(host) {
		return true
	}
	name := hostOf(host)
	if _, err := netip.ParseAddr(name); err == nil {
		return h.options.Remote
	}
	return h.options.Remote && name != "" && strings.EqualFold(name, h.options.Hostname)
}

func hostOf(address string) string {
	if host, _, err := net.SplitHostPort(address); err == nil {
		return host
	}
	return strings.Trim(address, "[]")
}

// loopback says whether an address, with or without a port, is this machine's own to itself.
func loopback(address string) bool {
	host := hostOf(address)
	if strings.EqualFold(host, "localhost") {
		return true
	}
	parsed, err := netip.ParseAddr(host)
	return err == nil && parsed.Unmap().IsLoopback()
}

func (h *handler) showPage(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Security-Policy", h.page.policy)
	_, _ = w.Write(h.page.html)
}

func (h *handler) showStatus(w http.ResponseWriter, _ *http.Request) {
	send(w, http.StatusOK, h.options.Source.Status())
}

// act does what a request asks for.
func (h *handler) act(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get(ActionHeader) == "" || !loopback(r.RemoteAddr) || !loopback(r.Host) {
		refuse(w, http.StatusForbidden, refusedAction)
		return
	}
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(10 * time.Second))
	var action Action
	decoder := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxAction))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&action); err != nil {
		refuse(w, http.StatusBadRequest, "the body is no action: "+err.Error())
		return
	}
	var answer Answer
	var err error
	switch r.PathValue("action") {
	case "pause":
		answer.Runners, err = h.options.Source.Pause(action.Runner)
	case "resume":
		answer.Runners, err = h.options.Source.Resume(action.Runner)
	case "drain":
		if action.Instance == "" {
			refuse(w, http.StatusBadRequest, "name the instance to drain")
			return
		}
		err = h.options.Source.Drain(action.Runner, action.Instance)
	default:
		refuse(w, http.StatusNotFound, "there is no such action: use pause, resume or drain")
		return
	}
	switch {
	case errors.Is(err, autoscaler.ErrUnknownInstance), errors.Is(err, manager.ErrUnknownRunner):
		refuse(w, http.StatusNotFound, err.Error())
	case err != nil:
		refuse(w, http.StatusConflict, err.Error())
	default:
		send(w, http.StatusOK, answer)
	}
}

func refuse(w http.ResponseWriter, status int, why string) { send(w, status, Answer{Error: why}) }

func send(w http.ResponseWriter, status int, value any) {
	data, err := json.Marshal(value)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(data, '\n'))
}
