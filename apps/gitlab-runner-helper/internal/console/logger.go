package console

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/sirupsen/logrus"
)

// Logger returns a logger whose lines of level info and above are messages to the user.
func (c *Console) Logger() *logrus.Logger {
	logger := logrus.New()
	logger.Out = io.Discard
	logger.AddHook(logHook{c})
	return logger
}

type logHook struct{ console *Console }

func (logHook) Levels() []logrus.Level {
	return []logrus.Level{logrus.PanicLevel, logrus.FatalLevel, logrus.ErrorLevel, logrus.WarnLevel, logrus.InfoLevel}
}

// Fire prints the message, then the fields by name.
func (h logHook) Fire(entry *logrus.Entry) error {
	var text strings.Builder
	text.WriteString(entry.Message)
	for _, key := range slices.Sorted(maps.Keys(entry.Data)) {
		fmt.Fprintf(&text, " %s=%v", key, entry.Data[key])
	}
	switch {
	case entry.Level <= logrus.ErrorLevel:
		h.console.Error("%s", text.String())
	case entry.Level == logrus.WarnLevel:
		h.console.Warning("WARNING: %s", text.String())
	default:
		h.console.Print("%s", text.String())
	}
	return nil
}
