package console_test

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"

	"gitlab.com/gitlab-org/gitlab-runner/apps/gitlab-runner-helper/internal/console"
)

func TestMessagesHaveTheirColoursAndStreams(t *testing.T) {
	var out, err bytes.Buffer
	c := &console.Console{Out: &out, Err: &err}
	c.Notice("n %d", 1)
	c.Warning("w")
	c.Print("p")
	c.Error("e")
	log := c.Logger().WithField("id", 7).WithField("a", "b")
	log.Debug("hidden")
	log.Info("i")
	log.Warn("w")
	log.Error("e")
	require.Equal(t, "\x1b[32;1mn 1\x1b[0;m\n\x1b[0;33mw\x1b[0;m\np\ni a=b id=7\n\x1b[0;33mWARNING: w a=b id=7\x1b[0;m\n", out.String())
	require.Equal(t, "\x1b[31;1mERROR: e\x1b[0;m\n\x1b[31;1mERROR: e a=b id=7\x1b[0;m\n", err.String())
}
