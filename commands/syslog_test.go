package commands

import (
	"errors"
	"testing"

	"github.com/kardianos/service"
	"github.com/sirupsen/logrus"
	"github.com/stretchr/testify/require"
)

// systemLines is a system's log that keeps its lines, each behind its level.
type systemLines struct {
	service.Logger
	lines []string
}

func (s *systemLines) Error(v ...any) error   { return s.keep("error", v) }
func (s *systemLines) Warning(v ...any) error { return s.keep("warning", v) }
func (s *systemLines) Info(v ...any) error    { return s.keep("info", v) }

func (s *systemLines) keep(level string, v []any) error {
	s.lines = append(s.lines, level+": "+v[0].(string))
	return nil
}

func TestTheSystemLogHasNoSecrets(t *testing.T) {
	log := newLogger(t.Output())
	out := &systemLines{}
	log.AddHook(systemLog{to: out, hide: redacting(log).Hide})
	redacting(log).Learn([]string{"s3cret", "of two\nlines"})
	defer redacting(log).Hold([]string{"of-a-job"})()

	log.WithFields(logrus.Fields{"job": 7, "url": "https://user:of-a-job@host"}).WithError(errors.New("not s3cret")).Error("no s3cret\nof-a-job")
	log.Warning("a key of two\nlines")
	log.Info("glrt-abcdefghijklmnop is no token")
	require.Equal(t, []string{
		"error: no [MASKED] [MASKED] error=not [MASKED] job=7 url=https://user:[MASKED]@host",
		"warning: a key [MASKED]",
		"info: glrt-[MASKED] is no token",
	}, out.lines)
}
