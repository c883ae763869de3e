package commands_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestTheWrapperRefusesWhatItCannotDo(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "precious")
	require.NoError(t, os.WriteFile(socket, nil, 0o600))
	for name, test := range map[string]struct {
		args []string
		want string
	}{
		"nothing to run":       {nil, "nothing to run"},
		"nothing but a name":   {[]string{"--", "gitlab-runner"}, "nothing to run"},
		"a negative time":      {[]string{"--process-termination-timeout", "-1s", "--", "list"}, "negative"},
		"a time without unit":  {[]string{"--process-termination-timeout", "10", "--", "list"}, "process-termination-timeout"},
		"an address of no use": {[]string{"--grpc-listen", "localhost:7777", "--", "list"}, "tcp://HOST:PORT or unix:///PATH"},
		"a file in the way":    {[]string{"--grpc-listen", "unix://" + socket, "--", "list"}, "no socket"},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := run(t, "", append([]string{"wrapper"}, test.args...)...)
			require.ErrorContains(t, err, test.want)
		})
	}
}
