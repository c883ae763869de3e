package commands

import (
	"os"
	"os/signal"
	"runtime"
	"syscall"

	"github.com/sirupsen/logrus"

	"gitlab.com/gitlab-org/gitlab-runner/commands/manager"
)

// watchSignals translates the process's signals. On Windows, which knows no SIGQUIT, the first signal to
// stop is a graceful one.
func watchSignals(log *logrus.Logger) (<-chan manager.Signal, func()) {
	received := make(chan os.Signal, 4)
	signal.Notify(received, handledSignals()...)
	out := make(chan manager.Signal)
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		first := true
		for {
			select {
			case <-done:
				return
			case s := <-received:
				if isDump(s) {
					dumpGoroutines(log)
					continue
				}
				translated := manager.SignalOf(kindOf(s, first), s)
				first = false
				select {
				case out <- translated:
				case <-done:
					return
				}
			}
		}
	}()
	return out, func() {
		signal.Stop(received)
		close(done)
		<-ended
	}
}

func isStop(s os.Signal) bool { return s == os.Interrupt || s == syscall.SIGTERM }

// maxDump bounds the text of all goroutines.
const maxDump = 16 << 20

// dumpGoroutines logs what every goroutine does, at debug level only.
func dumpGoroutines(log *logrus.Logger) {
	if !log.IsLevelEnabled(logrus.DebugLevel) {
		return
	}
	text := make([]byte, 1<<20)
	for {
		n := runtime.Stack(text, true)
		if n < len(text) || len(text) >= maxDump {
			log.Debugf("All goroutines:\n%s", text[:n])
			return
		}
		text = make([]byte, 2*len(text))
	}
}
