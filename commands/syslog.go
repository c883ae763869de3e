package commands

import (
	"fmt"
	"slices"
	"strings"

	"github.com/kardianos/service"
	"github.com/sirupsen/logrus"
)

// systemLog copies the process log to the system's: syslog, or the event log of Windows. As a hook it is handed entries
// with their secrets, and takes them out itself.
type systemLog struct {
	to service.Logger
	// hide takes the secrets out of a text.
	hide func(text string) string
}

// newSystemLog returns a hook that logs under a service's name.
func newSystemLog(name string, hide func(text string) string) (systemLog, error) {
	s, err := service.New(new(serviceProgram), &service.Config{Name: name})
	if err != nil {
		return systemLog{}, fmt.Errorf("finding the system's log: %w", err)
	}
	logger, err := s.SystemLogger(nil)
	if err != nil {
		return systemLog{}, fmt.Errorf("opening the system's log: %w", err)
	}
	return systemLog{to: logger, hide: hide}, nil
}

// Levels implements [logrus.Hook].
func (systemLog) Levels() []logrus.Level { return logrus.AllLevels }

// Fire implements [logrus.Hook]. An entry is one line: its message, and its fields sorted by name.
func (l systemLog) Fire(entry *logrus.Entry) error {
	var line strings.Builder
	// Secrets go before the ends of lines, so that one of several lines is known for what it is.
	line.WriteString(oneLine(l.hide(entry.Message)))
	for _, key := range sortedKeys(entry.Data) {
		fmt.Fprintf(&line, " %s=%s", oneLine(l.hide(key)), oneLine(l.hide(fmt.Sprint(entry.Data[key]))))
	}
	switch {
	case entry.Level <= logrus.ErrorLevel:
		return l.to.Error(line.String())
	case entry.Level == logrus.WarnLevel:
		return l.to.Warning(line.String())
	default:
		return l.to.Info(line.String())
	}
}

func oneLine(text string) string {
	return strings.Join(strings.FieldsFunc(text, func(r rune) bool { return r == '\n' || r == '\r' }), " ")
}

func sortedKeys(fields logrus.Fields) []string {
	keys := make([]string, 0, len(fields))
	for key := range fields {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}
