package commands

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	logtest "github.com/sirupsen/logrus/hooks/test"
	"github.com/stretchr/testify/require"

	"gitlab.com/gitlab-org/gitlab-runner/commands/internal/statuspage"
	"gitlab.com/gitlab-org/gitlab-runner/commands/manager"
	"gitlab.com/gitlab-org/gitlab-runner/common/config"
	"gitlab.com/gitlab-org/gitlab-runner/helpers/version"
)

// look returns a function that asks a manager for a path, past the network.
func look(m *manager.Manager) func(path string) (int, string) {
	handler := debugHandler(m, prometheus.NewRegistry(), statuspage.Options{Source: m})
	return func(path string) (int, string) {
		recorder := httptest.NewRecorder()
		handler.ServeHTTP(recorder, httptest.NewRequest(http.MethodGet, path, nil))
		return recorder.Code, recorder.Body.String()
	}
}

// Readiness is about the verification at boot alone: an orchestrator that took a manager which waits for its last
// jobs for one that is not ready would take its metrics away as well.
func TestAManagerIsReadyFromItsVerificationToItsEndAndTellsItsState(t *testing.T) {
	for name, test := range map[string]struct {
		verify bool
		want   []string
	}{
		"without a verification": {false, []string{"200 ready starting", "200 ready running", "200 ready graceful-shutdown"}},
		"with one that fails": {true, []string{
			"503 boot-verify pending starting", "503 boot-verify pending starting", "503 boot-verify pending graceful-shutdown",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			log, _ := logtest.NewNullLogger()
			var ask func(string) (int, string)
			var seen []string
			note := func() {
				code, readiness := ask("/health/ready")
				_, state := ask("/debug/process/state")
				seen = append(seen, fmt.Sprint(code, " ", strings.TrimSpace(readiness), " ", strings.TrimSpace(state)))
			}
			file := &config.File{Config: config.Config{Concurrent: 1}}
			signals := make(chan manager.Signal, 1)
			if test.verify {
				file.Runners = []*config.Runner{{Experimental: &config.RunnerExperimental{BootVerify: &config.BootVerify{Enabled: true}}}}
			} else {
				signals <- manager.Signal{Kind: manager.Graceful, Name: "quit"}
			}
			m := manager.New(manager.Options{
				File: file, Log: log, Metrics: manager.NewMetrics(prometheus.NewRegistry(), version.Get()), Apply: func(*config.File) {},
				Progress: func(manager.ProcessState) { note() },
			})
			ask = look(m)
			note()
			err := m.Run(signals)
			require.Equal(t, test.verify, err != nil, "%v", err)
			require.Equal(t, test.want, seen)
		})
	}
}
