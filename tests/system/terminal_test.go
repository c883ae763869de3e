//go:build system

package system

import (
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/stretchr/testify/require"

	"gitlab.com/gitlab-org/gitlab-runner/tests/coordinator"
	"gitlab.com/gitlab-org/gitlab-runner/tests/rig"
)

// TestAUserIsLetIntoTheContainerOfAJob enters a job as GitLab does, on an instance and on the local engine.
func TestAUserIsLetIntoTheContainerOfAJob(t *testing.T) {
	for _, executor := range []string{"docker", "docker-autoscaler"} {
		t.Run(executor, func(t *testing.T) {
			t.Parallel()
			s := newStage(t, coordinator.Config{})
			config := s.Autoscaled(rig.Config{Executor: executor, Concurrent: 1})
			s.LaunchText("[session_server]\n  listen_address = \"127.0.0.1:0\"\n\n" + s.Text(config))
			job := s.Enqueue(coordinator.JobSpec{Script: []string{"touch /tmp/mark", "echo waiting", "while [ -e /tmp/mark ]; do sleep 0.1; done", "echo released"}})
			require.NoError(t, job.WaitTrace(s.Ctx, "waiting"))
			session := job.Record().Assignments[0].Session
			require.NotEmpty(t, session.URL)

			pool := x509.NewCertPool()
			require.True(t, pool.AppendCertsFromPEM([]byte(session.Certificate)))
			dialer := &websocket.Dialer{
				TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}, Subprotocols: []string{"terminal.gitlab.com"},
			}
			address := "wss" + strings.TrimPrefix(session.URL, "https") + "/exec"
			_, answer, err := dialer.DialContext(s.Ctx, address, http.Header{"Authorization": {"guess"}})
			require.Error(t, err)
			require.Equal(t, http.StatusUnauthorized, answer.StatusCode)
			conn, _, err := dialer.DialContext(s.Ctx, address, http.Header{"Authorization": {session.Authorization}})
			require.NoError(t, err)
			defer conn.Close()
			require.NoError(t, conn.SetReadDeadline(time.Now().Add(time.Minute)))

			require.NoError(t, conn.WriteMessage(websocket.BinaryMessage, []byte("test -t 0 && echo is a $((40+2)) terminal\n")))
			var seen strings.Builder
			for !strings.Contains(seen.String(), "is a 42 terminal") {
				_, data, err := conn.ReadMessage()
				require.NoError(t, err, seen.String())
				seen.Write(data)
			}
			require.NoError(t, conn.WriteMessage(websocket.BinaryMessage, []byte("rm /tmp/mark\n")))
			s.AllSucceed(job)
			for err == nil {
				_, _, err = conn.ReadMessage()
			}
			require.True(t, websocket.IsCloseError(err, websocket.CloseNormalClosure), "the terminal ends with its job: %v", err)
		})
	}
}
