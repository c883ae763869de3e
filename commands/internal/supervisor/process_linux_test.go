package supervisor

import (
	"os"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestAProcessIsAskedToFinishItsWorkWhenItsSupervisorWasKilled(t *testing.T) {
	out, w := newOutput(t)
	supervisor := exec.Command(os.Args[0])
	supervisor.Env = append(os.Environ(), actEnv+"="+keeper)
	supervisor.Stdout = w
	require.NoError(t, supervisor.Start())
	require.NoError(t, w.Close())
	out.shows("ready")
	require.NoError(t, supervisor.Process.Kill())
	require.Error(t, supervisor.Wait())
	out.shows("quit")
	out.ends()
}
