package autoscaler

import (
	"io"
	"log"

	"github.com/hashicorp/go-hclog"
	"github.com/sirupsen/logrus"
)

// logger passes what plugins and the taskscaler log on to the runner's log: levels one to one, pairs as
// fields.
type logger struct {
	entry  *logrus.Entry
	name   string
	fields []any
}

var _ hclog.Logger = (*logger)(nil)

func newLogger(to logrus.FieldLogger, subsystem string) hclog.Logger {
	return &logger{entry: to.WithField("subsystem", subsystem), name: subsystem}
}

func (l *logger) Log(level hclog.Level, msg string, args ...any) {
	entry := l.with(args)
	switch level {
	case hclog.Trace:
		entry.Trace(msg)
	case hclog.Debug:
		entry.Debug(msg)
	case hclog.Warn:
		entry.Warning(msg)
	case hclog.Error:
		entry.Error(msg)
	default:
		entry.Info(msg)
	}
}

func (l *logger) with(args []any) *logrus.Entry {
	fields := make(logrus.Fields, len(args)/2)
	for i := 0; i < len(args); i += 2 {
		key, ok := args[i].(string)
		if !ok {
			key = "<unknown>"
		}
		if i+1 == len(args) {
			fields[key] = "<unknown>"
			break
		}
		fields[key] = args[i+1]
	}
	return l.entry.WithFields(fields)
}

func (l *logger) Trace(msg string, args ...any) { l.Log(hclog.Trace, msg, args...) }
func (l *logger) Debug(msg string, args ...any) { l.Log(hclog.Debug, msg, args...) }
func (l *logger) Info(msg string, args ...any)  { l.Log(hclog.Info, msg, args...) }
func (l *logger) Warn(msg string, args ...any)  { l.Log(hclog.Warn, msg, args...) }
func (l *logger) Error(msg string, args ...any) { l.Log(hclog.Error, msg, args...) }

func (l *logger) enabled(level logrus.Level) bool { return l.entry.Logger.IsLevelEnabled(level) }

func (l *logger) IsTrace() bool { return l.enabled(logrus.TraceLevel) }
func (l *logger) IsDebug() bool { return l.enabled(logrus.DebugLevel) }
func (l *logger) IsInfo() bool  { return l.enabled(logrus.InfoLevel) }
func (l *logger) IsWarn() bool  { return l.enabled(logrus.WarnLevel) }
func (l *logger) IsError() bool { return l.enabled(logrus.ErrorLevel) }

func (l *logger) ImpliedArgs() []any { return l.fields }

func (l *logger) With(args ...any) hclog.Logger {
	return &logger{entry: l.with(args), name: l.name, fields: append(append([]any(nil), l.fields...), args...)}
}

func (l *logger) Name() string { return l.name }

func (l *logger) Named(name string) hclog.Logger {
	return &logger{entry: l.entry, name: l.name + "." + name, fields: l.fields}
}

func (l *logger) ResetNamed(name string) hclog.Logger {
	return &logger{entry: l.entry, name: name, fields: l.fields}
}

// SetLevel has no effect: the level is the runner's.
func (l *logger) SetLevel(hclog.Level) {}

func (l *logger) GetLevel() hclog.Level {
	switch level := l.entry.Logger.GetLevel(); level {
	case logrus.TraceLevel:
		return hclog.Trace
	case logrus.DebugLevel:
		return hclog.Debug
	case logrus.WarnLevel:
		return hclog.Warn
	case logrus.InfoLevel:
		return hclog.Info
	default:
		return hclog.Error
	}
}

func (l *logger) StandardLogger(opts *hclog.StandardLoggerOptions) *log.Logger {
	return log.New(l.StandardWriter(opts), "", 0)
}

func (l *logger) StandardWriter(*hclog.StandardLoggerOptions) io.Writer {
	return hclogWriter{l}
}

type hclogWriter struct{ to *logger }

func (w hclogWriter) Write(data []byte) (int, error) {
	w.to.Info(string(data))
	return len(data), nil
}
