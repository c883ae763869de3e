package commands

import (
	"bytes"
	"fmt"
	"io"
	"sort"
	"strings"

	"github.com/sirupsen/logrus"

	"gitlab.com/gitlab-org/gitlab-runner/commands/internal/redaction"
)

// newLogger returns the process log in its default format and level.
func newLogger(out io.Writer) *logrus.Logger {
	log := logrus.New()
	log.SetOutput(out)
	log.SetFormatter(redaction.New(runnerFormat{}))
	return log
}

func setLevel(log *logrus.Logger, name string) error {
	if name == "" {
		return nil
	}
	level, err := logrus.ParseLevel(name)
	if err != nil {
		return fmt.Errorf("log level %q is unknown: use debug, info, warn, error, fatal or panic", name)
	}
	log.SetLevel(level)
	return nil
}

func setFormat(log *logrus.Logger, name string) error {
	var format logrus.Formatter
	switch name {
	case "", "runner":
		format = runnerFormat{}
	case "text":
		format = &logrus.TextFormatter{FullTimestamp: true}
	case "json":
		format = &logrus.JSONFormatter{TimestampFormat: "2006-01-02T15:04:05.999999999Z07:00"}
	default:
		return fmt.Errorf("log format %q is unknown: use runner, text or json", name)
	}
	redacting(log).Use(format)
	return nil
}

// redacting is what keeps secrets out of a process log, put there if it is not yet.
func redacting(log *logrus.Logger) *redaction.Formatter {
	if f, ok := log.Formatter.(*redaction.Formatter); ok {
		return f
	}
	f := redaction.New(log.Formatter)
	log.SetFormatter(f)
	return f
}

// runnerFormat is the format that operators know: coloured, message first, fields sorted.
type runnerFormat struct{}

const messageWidth = 50

func (runnerFormat) Format(entry *logrus.Entry) ([]byte, error) {
	colour, prefix := "", ""
	switch entry.Level {
	case logrus.TraceLevel, logrus.DebugLevel:
		colour = "\x1b[0;37m"
	case logrus.WarnLevel:
		colour, prefix = "\x1b[0;33m", "WARNING: "
	case logrus.ErrorLevel:
		colour, prefix = "\x1b[31;1m", "ERROR: "
	case logrus.FatalLevel:
		colour, prefix = "\x1b[31;1m", "FATAL: "
	case logrus.PanicLevel:
		colour, prefix = "\x1b[31;1m", "PANIC: "
	}
	const reset = "\x1b[0;m"
	var out bytes.Buffer
	fmt.Fprintf(&out, "%s%-*s%s", colour, messageWidth, prefix+strings.TrimRight(entry.Message, "\r\n"), reset)
	keys := make([]string, 0, len(entry.Data))
	for key := range entry.Data {
		keys = append(keys, key)
	}
	sort.Strings(keys)
	for _, key := range keys {
		fmt.Fprintf(&out, " %s%s%s=%v", colour, key, reset, entry.Data[key])
	}
	out.WriteByte('\n')
	return out.Bytes(), nil
}
