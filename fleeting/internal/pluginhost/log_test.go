package pluginhost

import (
	"bytes"
	"encoding/json"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/require"
)

// recordedLog is a logger whose lines can be looked at.
type recordedLog struct {
	hclog.Logger

	mu   sync.Mutex
	text bytes.Buffer
}

func newRecordedLog() *recordedLog {
	l := &recordedLog{}
	l.Logger = hclog.New(&hclog.LoggerOptions{Level: hclog.Trace, Output: l, JSONFormat: true, DisableTime: true})
	return l
}

func (l *recordedLog) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

// lines returns the lines with a message.
func (l *recordedLog) lines(message string) []map[string]any {
	l.mu.Lock()
	defer l.mu.Unlock()
	var found []map[string]any
	for line := range strings.Lines(l.text.String()) {
		var fields map[string]any
		if json.Unmarshal([]byte(line), &fields) == nil && fields["@message"] == message {
			found = append(found, fields)
		}
	}
	return found
}

// await returns the first line with a message, waiting for it.
func (l *recordedLog) await(t *testing.T, message string) map[string]any {
	t.Helper()
	require.Eventually(t, func() bool { return len(l.lines(message)) > 0 }, 20*time.Second, 5*time.Millisecond,
		"no line %q in the log", message)
	return l.lines(message)[0]
}
