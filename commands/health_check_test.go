package commands_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestAManagerThatTakesJobsIsHealthy(t *testing.T) {
	state := "running"
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet || r.URL.Path != "/debug/process/state" {
			http.NotFound(w, r)
			return
		}
		fmt.Fprintln(w, state)
	}))
	defer server.Close()
	address := server.Listener.Addr().String()
	stdout, _, err := run(t, "", "health-check", "--config", write(t, fmt.Sprintf("listen_address = %q\n", address)))
	require.NoError(t, err)
	require.Equal(t, "running\n", stdout)

	state = "graceful-shutdown"
	_, _, err = run(t, "", "health-check", "--address", address)
	require.EqualError(t, err, `the manager takes no jobs: its state is "graceful-shutdown"`)
	_, _, err = run(t, "", "health-check", "--address", "127.0.0.1:1")
	require.ErrorContains(t, err, "no manager answers")
}
