// Package pluginhost runs a plugin as a process of its own and keeps it running. It guarantees that
// the process does not outlive this one, however this one ends; that a plugin which crashes, or stops
// answering, is started and initialised again after a growing delay, while calls made in the meantime
// fail at once and say why; that every call is bounded in time; and that what the plugin writes to its
// error output becomes structured log lines. Only package fleeting imports it.
package pluginhost

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"gitlab.com/gitlab-org/fleeting/fleeting/internal/wire"
	"gitlab.com/gitlab-org/fleeting/fleeting/provider"
)

// Limits are the time limits of a host.
type Limits struct {
	// Start bounds the start of the process up to the end of the handshake.
	Start time.Duration
	// Stop is how long a plugin may take to exit when it is asked to.
	Stop time.Duration
	// Ping is how long a plugin that left a call unanswered may take to show that it is alive.
	Ping time.Duration
	// RestartMin and RestartMax bound the delay before a restart, which doubles from one to the
	// other; a plugin that ran for RestartMax starts over at RestartMin.
	RestartMin, RestartMax time.Duration
	// Calls bounds each kind of call on the group.
	Calls CallLimits
}

// CallLimits bound the calls on a group. A caller's own deadline holds as well.
type CallLimits struct {
	Init, Update, Increase, Decrease, ConnectInfo, Heartbeat, Suspend, Resume, Shutdown time.Duration
}

// DefaultLimits returns the limits for real plugins. Increase and Resume are given long, because some
// plugins return only when the instances run.
func DefaultLimits() Limits {
	return Limits{
		Start:      time.Minute,
		Stop:       3 * time.Second,
		Ping:       10 * time.Second,
		RestartMin: time.Second,
		RestartMax: time.Minute,
		Calls: CallLimits{
			Init:        5 * time.Minute,
			Update:      2 * time.Minute,
			Increase:    15 * time.Minute,
			Decrease:    5 * time.Minute,
			ConnectInfo: time.Minute,
			Heartbeat:   30 * time.Second,
			Suspend:     5 * time.Minute,
			Resume:      15 * time.Minute,
			Shutdown:    time.Minute,
		},
	}
}

// Config says what to run.
type Config struct {
	// Path is the executable; a bare name is looked up in $PATH.
	Path string
	// PluginConfig is the plugin's configuration, JSON; it is sent with Init and may be empty.
	PluginConfig []byte
	// Logger receives the host's own lines and those of the plugin.
	Logger hclog.Logger
	// Limits are the time limits; all must be positive.
	Limits Limits
}

var (
	// ErrNotRunning is wrapped by the errors of calls while the plugin is down. They say nothing about
	// what was called for.
	ErrNotRunning = errors.New("is not running")

	errStopped  = errors.New("the plugin was stopped")
	errSilent   = errors.New("the plugin did not answer")
	errBlank    = errors.New("the plugin was not initialised")
	errShutdown = errors.New("the plugin's group was shut down")
)

// Host owns one plugin.
type Host struct {
	cfg  Config
	name string
	log  hclog.Logger

	ctx    context.Context
	cancel context.CancelCauseFunc
	tasks  sync.WaitGroup

	mu       sync.Mutex
	session  *session           // nil while the plugin is down
	down     error              // why, while it is
	settings *provider.Settings // those of the Init that succeeded
	ended    bool               // the group was shut down
}

// Start starts the plugin and returns once the handshake is done.
func Start(cfg Config) (*Host, error) {
	h := &Host{
		cfg:  cfg,
		name: filepath.Base(cfg.Path),
	}
	h.log = cfg.Logger.With("plugin", h.name)
	h.ctx, h.cancel = context.WithCancelCause(context.Background())

	s, err := h.launch()
	if err != nil {
		h.cancel(err)
		return nil, fmt.Errorf("run plugin %q: %w", cfg.Path, err)
	}
	h.session = s
	h.log.Debug("plugin started", "path", cfg.Path, "pid", s.process.pid)
	h.tasks.Go(func() { h.supervise(s) })
	return h, nil
}

// Group returns the plugin's group. It stays usable over restarts of the plugin.
func (h *Host) Group() provider.InstanceGroup { return group{host: h} }

// Stop ends the plugin and everything the host started, and waits for it. Calls under way fail. It
// may be called several times and at the same time.
func (h *Host) Stop() {
	h.cancel(errStopped)
	h.tasks.Wait()
}

// supervise owns the session: it is the only one to replace and to close it.
func (h *Host) supervise(s *session) {
	delay := h.cfg.Limits.RestartMin
	started := time.Now()
	for {
		select {
		case <-h.ctx.Done():
			h.setSession(nil, context.Cause(h.ctx))
			s.close()
			return
		case <-s.process.exited:
		}

		exit := s.process.exitError()
		h.setSession(nil, exit)
		s.close()
		if h.isEnded() {
			h.setSession(nil, errShutdown)
			h.log.Debug("plugin exited after its shutdown", "pid", s.process.pid)
			return
		}
		h.log.Error("plugin exited unexpectedly", append([]any{"pid", s.process.pid, "error", exit}, s.process.lastWords()...)...)

		if time.Since(started) >= h.cfg.Limits.RestartMax {
			delay = h.cfg.Limits.RestartMin
		}
		var ok bool
		if s, delay, ok = h.restart(exit, delay); !ok {
			return
		}
		started = time.Now()
	}
}

// restart tries until the plugin runs, and is initialised if it was. It returns the delay for the next
// crash, and false when the host was stopped.
func (h *Host) restart(cause error, delay time.Duration) (*session, time.Duration, bool) {
	for {
		h.setSession(nil, fmt.Errorf("it is restarted after %w", cause))
		h.log.Info("restarting plugin", "delay", delay.String())
		select {
		case <-h.ctx.Done():
			h.setSession(nil, context.Cause(h.ctx))
			return nil, 0, false
		case <-time.After(delay):
		}
		delay = min(2*delay, h.cfg.Limits.RestartMax)

		s, err := h.launch()
		if err == nil {
			if err = h.reinit(s); err == nil {
				h.log.Info("plugin restarted", "pid", s.process.pid)
				return s, delay, true
			}
			s.close()
		}
		cause = err
		if h.ctx.Err() == nil {
			h.log.Error("restarting plugin failed", "error", err)
		}
	}
}

// reinit brings a restarted plugin to where the crashed one was, and puts it in its place.
func (h *Host) reinit(s *session) error {
	for {
		h.mu.Lock()
		settings := h.settings
		h.mu.Unlock()
		if settings != nil {
			ctx, cancel := context.WithTimeout(h.ctx, h.cfg.Limits.Calls.Init)
			_, err := s.client.Init(ctx, h.cfg.PluginConfig, *settings)
			cancel()
			if err != nil {
				return fmt.Errorf("initialise restarted plugin: %w", err)
			}
		}
		if h.adopt(s, settings) {
			return nil
		}
	}
}

// adopt has calls go to a session, unless the crashed plugin turns out to have been initialised
// otherwise meanwhile.
func (h *Host) adopt(s *session, settings *provider.Settings) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.settings != settings {
		return false
	}
	h.session, h.down = s, nil
	return true
}

func (h *Host) setSession(s *session, down error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.session, h.down = s, down
}

func (h *Host) isEnded() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.ended
}

// current returns the session, or why there is none.
func (h *Host) current() (*session, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.session == nil {
		return nil, fmt.Errorf("plugin %q %w: %w", h.name, ErrNotRunning, h.down)
	}
	return h.session, nil
}

// initialised remembers what a restarted plugin is to be initialised with. If the session whose Init
// succeeded has been replaced since, by one that knew nothing of it, that is ended.
func (h *Host) initialised(s *session, settings provider.Settings) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.settings = &settings
	if h.session != nil && h.session != s {
		h.session.process.kill(errBlank)
	}
}

// finished says that the plugin has nothing left to do: it is not restarted any more.
func (h *Host) finished() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ended = true
}

// suspect checks on a plugin that left a call unanswered and ends the process if it does not answer
// at all, so that it is restarted.
func (h *Host) suspect(s *session, method string) {
	if h.ctx.Err() != nil || !s.suspected.CompareAndSwap(false, true) {
		return
	}
	h.tasks.Go(func() {
		defer s.suspected.Store(false)
		ctx, cancel := context.WithTimeout(h.ctx, h.cfg.Limits.Ping)
		defer cancel()
		err := s.ping(ctx)
		if err == nil || h.ctx.Err() != nil {
			return
		}
		h.log.Error("plugin does not answer and is ended", "pid", s.process.pid, "call", method, "error", err)
		s.process.kill(errSilent)
	})
}

// launch starts a process and connects to it.
func (h *Host) launch() (*session, error) {
	return newSession(h.ctx, h.cfg.Path, h.log, h.cfg.Limits)
}

// ambiguous tells whether the plugin may have acted on a call that failed with err.
func ambiguous(err error) bool {
	return errors.Is(err, wire.ErrNoAnswer) || errors.Is(err, context.DeadlineExceeded)
}
