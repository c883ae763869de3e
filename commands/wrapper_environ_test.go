package commands

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestWhatIsTheWrappersOwnIsKeptFromItsChild(t *testing.T) {
	require.Equal(t, []string{"A=CPU_PROFILE", "CPU_PROFILES=b"},
		childEnviron([]string{"NOTIFY_SOCKET=/run/notify", "A=CPU_PROFILE", "CPU_PROFILE=cpu.prof", "CPU_PROFILES=b"}))
}
