package coordinator

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"sync"
	"time"
)

// Config says how a coordinator listens and behaves. The zero value is usable.
type Config struct {
	// Listen is the host:port of the API and git listener; empty means 127.0.0.1 and any free port. The object store,
	// if one is asked for, listens on the same host and any free port.
	Listen string
	// AdvertiseHost is the host name or address in the URLs given out. Set it when Listen is 0.0.0.0 and clients live
	// in containers or instances. Empty means the host listened on.
	AdvertiseHost string
	// TLS makes the listeners speak HTTPS; it must carry a certificate for the advertised host.
	TLS *tls.Config

	// RunnerToken is the authentication token of the runner that exists from the start. Empty means a random one, see
	// Coordinator.RunnerToken.
	RunnerToken string
	// RegistrationToken opens legacy registration. Empty means a random one, see Coordinator.RegistrationToken.
	RegistrationToken string

	// CommitTimeout is how long a job that was handed out may stay unconfirmed before it is given to somebody else.
	// Zero means two minutes.
	CommitTimeout time.Duration
	// LongPoll is how long a job request is held when nothing has changed. Zero answers at once.
	LongPoll time.Duration
	// UpdateInterval is the trace update interval asked for, rounded up to whole seconds. Zero asks for none.
	UpdateInterval time.Duration

	// MaxTraceSize is the trace limit in bytes beyond which a job is failed as GitLab does. Zero means 64 MiB.
	MaxTraceSize int64
	// MaxArtifactSize is the limit of one uploaded file in bytes. Zero means 256 MiB.
	MaxArtifactSize int64
	// DirectDownload answers direct_download=true with a redirect to the object store.
	DirectDownload bool
	// RedirectUploads answers artifact uploads with 307 to the second listener.
	RedirectUploads bool

	// Tolerate lists rules whose breach is not noted.
	Tolerate []Rule
	// Logger receives one line per violation and per failing git process. Nil discards them.
	Logger *slog.Logger
}

// Defaults and bounds of a coordinator.
const (
	defaultListen        = "127.0.0.1:0"
	defaultCommitTimeout = 2 * time.Minute
	defaultMaxTrace      = 64 << 20
	defaultMaxArtifact   = 256 << 20
	firstPipelineID      = 500
	firstJobID           = 1000
	readHeaderTimeout    = 10 * time.Second
	closeGrace           = 3 * time.Second
)

// Coordinator is a running stand-in for GitLab. Create one with Start.
type Coordinator struct {
	cfg      Config
	log      *slog.Logger
	url      string
	storeURL string
	pat      string
	dir      string
	gitPath  string

	ctx       context.Context
	cancel    context.CancelCauseFunc
	servers   []*http.Server
	listeners sync.WaitGroup
	wake      chan struct{}

	mu           sync.Mutex
	closed       bool
	inFlight     int
	idle         chan struct{}
	tolerated    map[Rule]bool
	violations   []string
	requests     []Request
	faults       []*Injected
	subscribers  map[*Subscription]struct{}
	queue        []*Job
	queueVersion int64
	queueChanged chan struct{}
	commitsDue   time.Time // when watchCommits looks next
	epoch        string
	runners      []*runner
	repositories map[string]*repository
	standing     map[string]*Pipeline
	pipelines    []*Pipeline
	jobs         map[int64]*Job
	jobOrder     []*Job
	blobs        map[string]*Artifact
	nextRunner   int64
	nextPipeline int64
	nextJob      int64
	nextArtifact int64
}

// errClosed is the cause with which everything under way ends at Close.
var errClosed = errors.New("coordinator closed")

// Start listens and serves until Close. It fails when an address cannot be listened on or git is not installed.
func Start(cfg Config) (*Coordinator, error) {
	cfg = withDefaults(cfg)
	gitPath, err := exec.LookPath("git")
	if err != nil {
		return nil, fmt.Errorf("find git, which serves the repositories: %w", err)
	}
	dir, err := os.MkdirTemp("", "coordinator-")
	if err != nil {
		return nil, fmt.Errorf("create the folder for artifacts: %w", err)
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	c := &Coordinator{
		cfg: cfg, log: cfg.Logger, dir: dir, gitPath: gitPath, ctx: ctx, cancel: cancel,
		pat:          "glpat-" + randomText(20),
		wake:         make(chan struct{}, 1),
		tolerated:    map[Rule]bool{},
		subscribers:  map[*Subscription]struct{}{},
		queueChanged: make(chan struct{}),
		epoch:        randomText(6),
		repositories: map[string]*repository{},
		standing:     map[string]*Pipeline{},
		jobs:         map[int64]*Job{},
		blobs:        map[string]*Artifact{},
		nextRunner:   1, nextPipeline: firstPipelineID, nextJob: firstJobID,
	}
	for _, rule := range cfg.Tolerate {
		c.tolerated[rule] = true
	}
	c.addRunner(RunnerSpec{Token: cfg.RunnerToken, RunUntagged: true})

	if c.url, err = c.listen(cfg.Listen, c.apiHandler()); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	if cfg.DirectDownload || cfg.RedirectUploads {
		host, _, err := net.SplitHostPort(cfg.Listen)
		if err == nil {
			c.storeURL, err = c.listen(net.JoinHostPort(host, "0"), c.storeHandler())
		}
		if err != nil {
			return nil, errors.Join(err, c.Close())
		}
	}
	c.listeners.Go(c.watchCommits)
	return c, nil
}

func withDefaults(cfg Config) Config {
	if cfg.Listen == "" {
		cfg.Listen = defaultListen
	}
	if cfg.RunnerToken == "" {
		cfg.RunnerToken = "glrt-t3_" + randomText(20)
	}
	if cfg.RegistrationToken == "" {
		cfg.RegistrationToken = "GR1348941" + randomText(20)
	}
	if cfg.CommitTimeout == 0 {
		cfg.CommitTimeout = defaultCommitTimeout
	}
	if cfg.MaxTraceSize == 0 {
		cfg.MaxTraceSize = defaultMaxTrace
	}
	if cfg.MaxArtifactSize == 0 {
		cfg.MaxArtifactSize = defaultMaxArtifact
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return cfg
}

// listen serves handler on address and returns the URL to give out.
func (c *Coordinator) listen(address string, handler http.Handler) (string, error) {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return "", fmt.Errorf("listen on %s: %w", address, err)
	}
	host, port, err := net.SplitHostPort(listener.Addr().String())
	if err != nil {
		return "", errors.Join(fmt.Errorf("read the listening address: %w", err), listener.Close())
	}
	if c.cfg.AdvertiseHost != "" {
		host = c.cfg.AdvertiseHost
	}
	server := &http.Server{
		Handler:           c.counted(handler),
		ReadHeaderTimeout: readHeaderTimeout,
		BaseContext:       func(net.Listener) context.Context { return c.ctx },
		ConnContext:       withConnection,
		ErrorLog:          slog.NewLogLogger(c.log.Handler(), slog.LevelDebug),
	}
	scheme := "http"
	if c.cfg.TLS != nil {
		scheme = "https"
		server.TLSConfig = c.cfg.TLS.Clone()
	}
	c.servers = append(c.servers, server)
	c.listeners.Go(func() {
		serve := server.Serve
		if server.TLSConfig != nil {
			serve = func(l net.Listener) error { return server.ServeTLS(l, "", "") }
		}
		err := serve(listener)
		if !errors.Is(err, http.ErrServerClosed) {
			c.log.Error("listener ended", "address", address, "error", err)
		}
	})
	return scheme + "://" + net.JoinHostPort(host, port), nil
}

// counted keeps account of the requests under way, so that Close can wait for the last of them.
func (c *Coordinator) counted(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c.mu.Lock()
		if c.closed {
			c.mu.Unlock()
			http.Error(w, "closed", http.StatusServiceUnavailable)
			return
		}
		c.inFlight++
		c.mu.Unlock()
		defer func() {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.inFlight--
			if c.closed && c.inFlight == 0 {
				close(c.idle)
			}
		}()
		next.ServeHTTP(w, r)
	})
}

// Close ends every request under way, stops listening, removes stored artifacts and takes the pipeline refs out of the
// repositories again. Job records stay readable, files of artifacts do not. Closing twice is allowed.
func (c *Coordinator) Close() error {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return nil
	}
	c.closed = true
	c.idle = make(chan struct{})
	if c.inFlight == 0 {
		close(c.idle)
	}
	for subscription := range c.subscribers {
		subscription.end()
	}
	c.mu.Unlock()

	c.cancel(errClosed)
	// A git client in the middle of a fetch is given a moment, then its connection is cut.
	select {
	case <-c.idle:
	case <-time.After(closeGrace):
	}
	var errs []error
	for _, server := range c.servers {
		errs = append(errs, server.Close())
	}
	<-c.idle
	c.listeners.Wait()
	errs = append(errs, c.dropPipelineRefs())
	if err := os.RemoveAll(c.dir); err != nil {
		errs = append(errs, fmt.Errorf("remove stored artifacts: %w", err))
	}
	return errors.Join(errs...)
}

// URL is what a runner puts into its config: scheme, host and port, without a trailing slash.
func (c *Coordinator) URL() string { return c.url }

// StoreURL is the base URL of the object store, empty unless Config asks for one.
func (c *Coordinator) StoreURL() string { return c.storeURL }

// RunnerToken is the authentication token of the runner that exists from the start, as configured: a reset of the token
// does not change what is returned here.
func (c *Coordinator) RunnerToken() string { return c.cfg.RunnerToken }

// RegistrationToken is the token that opens legacy registration.
func (c *Coordinator) RegistrationToken() string { return c.cfg.RegistrationToken }

// PersonalAccessToken is the token that may reset any runner's authentication token.
func (c *Coordinator) PersonalAccessToken() string { return c.pat }

// randomText gives n random letters and digits.
func randomText(n int) string {
	text := ""
	for len(text) < n {
		text += rand.Text()
	}
	return text[:n]
}
