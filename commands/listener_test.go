package commands

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	logtest "github.com/sirupsen/logrus/hooks/test"
	"github.com/stretchr/testify/require"

	"gitlab.com/gitlab-org/gitlab-runner/commands/internal/statuspage"
	"gitlab.com/gitlab-org/gitlab-runner/commands/manager"
	"gitlab.com/gitlab-org/gitlab-runner/common/config"
	"gitlab.com/gitlab-org/gitlab-runner/helpers/version"
)

// Readiness is about the verification at boot, which there is none of here: an orchestrator that took a manager
// which waits for its last jobs for one that is not ready would take its metrics away as well.
func TestAManagerIsReadyFromItsStartToItsEndAndTellsItsState(t *testing.T) {
	log, _ := logtest.NewNullLogger()
	registry := prometheus.NewRegistry()
	var handler http.Handler
	answer := func(path string) string {
		recorder := httptest.NewRecorder()
		handler.ServeHTTP(recorder, httptest.NewRequest(http.MethodGet, path, nil))
		require.Equal(t, http.StatusOK, recorder.Code)
		return recorder.Body.String()
	}
	var states []string
	look := func() {
		require.Equal(t, "ready\n", answer("/health/ready"))
		states = append(states, answer("/debug/process/state"))
	}
	m := manager.New(manager.Options{
		File: &config.File{Config: config.Config{Concurrent: 1}}, Log: log,
		Metrics: manager.NewMetrics(registry, version.Get()), Apply: func(*config.File) {},
		Progress: func(manager.ProcessState) { look() },
	})
	handler = debugHandler(m, registry, statuspage.Options{Source: m})
	look()
	signals := make(chan manager.Signal, 1)
	signals <- manager.Signal{Kind: manager.Graceful, Name: "quit"}
	require.NoError(t, m.Run(signals))
	require.Equal(t, []string{"starting\n", "running\n", "graceful-shutdown\n"}, states)
}
