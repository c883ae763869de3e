package commands

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/sirupsen/logrus"

	"gitlab.com/gitlab-org/gitlab-runner/commands/internal/statuspage"
	"gitlab.com/gitlab-org/gitlab-runner/commands/manager"
)

// listener serves metrics, debugging information and the status, without authentication.
type listener struct {
	server *http.Server
	done   chan struct{}
}

// listen starts serving on an address, whose port may be left out. An address that cannot be listened
// on is an error. What page leaves open of where it is served is filled in.
func listen(address string, m *manager.Manager, metrics prometheus.Gatherer, page statuspage.Options, log logrus.FieldLogger) (*listener, error) {
	socket, err := net.Listen("tcp", statuspage.WithPort(address))
	if err != nil {
		return nil, fmt.Errorf("serving metrics on listen_address %s: %w", address, err)
	}
	page.Source, page.Listen = m, socket.Addr()
	l := &listener{
		server: &http.Server{Handler: debugHandler(m, metrics, page), ReadHeaderTimeout: 10 * time.Second},
		done:   make(chan struct{}),
	}
	go func() {
		defer close(l.done)
		if err := l.server.Serve(socket); !errors.Is(err, http.ErrServerClosed) {
			log.WithError(err).Error("Metrics server terminated")
		}
	}()
	log.WithField("address", socket.Addr().String()).Info("Metrics server listening")
	return l, nil
}

// close stops serving.
func (l *listener) close() {
	ctx, stop := context.WithTimeout(context.Background(), time.Second)
	defer stop()
	if err := l.server.Shutdown(ctx); err != nil {
		_ = l.server.Close()
	}
	<-l.done
}

func debugHandler(m *manager.Manager, metrics prometheus.Gatherer, page statuspage.Options) http.Handler {
	mux := http.NewServeMux()
	statuspage.Register(mux, page)
	mux.Handle("GET /metrics", promhttp.HandlerFor(metrics, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /debug/jobs/list", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-List-Version", "2")
		w.Header().Set("Content-Type", "text/plain")
		for _, job := range m.Jobs() {
			fmt.Fprintf(w, "url=%s state=%s stage=%s executor_stage=%s duration=%s\n",
				job.URL, job.Status.State, job.Status.Stage, job.Status.ExecutorStage, time.Since(job.Status.Started))
		}
	})
	mux.HandleFunc("GET /debug/process/state", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, m.State())
	})
	mux.HandleFunc("GET /health/ready", func(w http.ResponseWriter, _ *http.Request) {
		if !m.Ready() {
			w.WriteHeader(http.StatusServiceUnavailable)
			fmt.Fprintln(w, "boot-verify pending")
			return
		}
		fmt.Fprintln(w, "ready")
	})
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	return mux
}
