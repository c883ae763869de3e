package errortracking_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sirupsen/logrus"
	logtest "github.com/sirupsen/logrus/hooks/test"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"gitlab.com/gitlab-org/gitlab-runner/commands/internal/errortracking"
	"gitlab.com/gitlab-org/gitlab-runner/commands/internal/redaction"
	"gitlab.com/gitlab-org/gitlab-runner/tests/sentryserver"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// bench is a log with a tracker.
type bench struct {
	*errortracking.Tracker
	log     *logrus.Logger
	secrets *redaction.Formatter
	entries *logtest.Hook
}

func newBench(transport *http.Transport) bench {
	b := bench{secrets: redaction.New(&logrus.TextFormatter{})}
	b.log, b.entries = logtest.NewNullLogger()
	b.log.SetFormatter(b.secrets)
	b.Tracker = errortracking.New(errortracking.Options{
		Release: "1.2.3", SystemID: "s_0123456789ab", Hide: b.secrets.Hide, Log: b.log, Transport: transport,
	})
	b.log.AddHook(b.Tracker)
	return b
}

// logged are the entries of the tracker, with the number of events it says are dropped.
func (b bench) logged() (messages []string, dropped int64) {
	for _, entry := range b.entries.AllEntries() {
		if strings.Contains(entry.Message, "Sentry") {
			messages = append(messages, entry.Level.String()+": "+entry.Message)
			n, _ := entry.Data["dropped"].(int64)
			dropped += n
		}
	}
	return messages, dropped
}

func sentry(t *testing.T) *sentryserver.Server {
	t.Helper()
	s, err := sentryserver.Start()
	require.NoError(t, err)
	t.Cleanup(func() {
		require.Empty(t, s.Violations())
		require.NoError(t, s.Close())
	})
	return s
}

func messages(s *sentryserver.Server) []string {
	var out []string
	for _, event := range s.Events() {
		out = append(out, event.Message)
	}
	return out
}

const (
	losing = "warning: Sentry does not take errors, or not as fast as they are logged: they are dropped and counted"
	again  = "info: Sentry takes errors again"
	lost   = "warning: Sentry did not get all errors"
)

func TestAnErrorArrivesAsItIsLoggedAndWithNothingElse(t *testing.T) {
	server, b := sentry(t), newBench(nil)
	b.log.SetLevel(logrus.DebugLevel)
	require.NoError(t, b.Use(server.DSN()))
	b.log.Warning("a warning")
	b.log.Debug("a detail")
	b.log.WithFields(logrus.Fields{
		"runner": "t3_abcdef", "runner_name": "the first\nof two", "job": int64(7), "project": 8, "took": time.Second,
	}).WithError(errors.New("no room")).Error("Job failed\n")
	b.Close()

	require.Len(t, server.Events(), 1)
	event := server.Events()[0]
	require.Equal(t, "error", event.Level)
	require.Equal(t, "Job failed\n", event.Message)
	require.Equal(t, "1.2.3", event.Release)
	require.Equal(t, "s_0123456789ab", event.ServerName)
	require.Equal(t, map[string]string{"runner": "t3_abcdef", "runner_name": "the first of two", "job": "7", "project": "8"}, event.Tags)
	require.Equal(t, map[string]map[string]any{"fields": {"took": "1s", "error": "no room"}}, event.Contexts)
	require.Subset(t, []string{
		"contexts", "environment", "event_id", "level", "message", "platform", "release", "sdk", "server_name", "tags", "timestamp", "user",
	}, event.Names)
	require.NotContains(t, strings.ReplaceAll(event.Text, `"user":{}`, ""), `"user"`)
	got, _ := b.logged()
	require.Empty(t, got)
}

func TestNoSecretLeaves(t *testing.T) {
	server, b := sentry(t), newBench(nil)
	b.secrets.Learn([]string{"s3cret", `odd"one\`, server.DSN()})
	release := b.secrets.Hold([]string{"of-a-job"})
	require.NoError(t, b.Use(server.DSN()))
	long := strings.Repeat("x", 8188)
	b.log.WithFields(logrus.Fields{
		"runner_name": "s3cret", "value": []string{`odd"one\`}, "s3cret": 1, "long": strings.Repeat("y", 4090) + "of-a-job",
	}).WithError(errors.New("refused of-a-job at " + server.DSN())).Error(long + "s3cret")
	b.log.Error("glrt-abcdefghijklmnop is no token")
	// As it does when the job ends, sent or not.
	release()
	b.Close()

	require.Len(t, server.Events(), 2)
	event := server.Events()[0]
	for _, text := range []string{"s3cret", "s3c", "odd", "of-a", server.DSN(), "key"} {
		require.NotContains(t, event.Text, text)
	}
	require.Equal(t, long+"[MAS", event.Message)
	require.Equal(t, "[MASKED]", event.Tags["runner_name"])
	require.Equal(t, "refused [MASKED] at [MASKED]", event.Contexts["fields"]["error"])
	require.Equal(t, "glrt-[MASKED] is no token", server.Events()[1].Message)
}

func TestErrorsFollowTheDSN(t *testing.T) {
	first, second, b := sentry(t), sentry(t), newBench(nil)
	b.log.Error("before")
	for _, step := range []struct{ dsn, message string }{
		{first.DSN(), "one"}, {" " + first.DSN() + "\n", "two"}, {second.DSN(), "three"}, {"", "four"}, {first.DSN(), "five"},
	} {
		require.NoError(t, b.Use(step.dsn))
		b.log.Error(step.message)
	}
	b.Close()
	b.log.Error("after")
	require.ElementsMatch(t, []string{"one", "two", "five"}, messages(first))
	require.Equal(t, []string{"three"}, messages(second))
}

func TestADSNThatIsNoneEndsTheSendingAndIsNotShown(t *testing.T) {
	for name, dsn := range map[string]string{
		"no URL": "https://very-secret@sentry.example.com:port/1", "control character": "https://very-secret@sentry.example.com/\x01", "no scheme": "very-secret",
		"another scheme": "ftp://very-secret@sentry.example.com/1", "no key": "https://sentry.example.com/very-secret",
		"no project": "https://very-secret@sentry.example.com",
	} {
		t.Run(name, func(t *testing.T) {
			server, b := sentry(t), newBench(nil)
			defer b.Close()
			require.NoError(t, b.Use(server.DSN()))
			err := b.Use(dsn)
			require.ErrorContains(t, err, "the DSN is ")
			require.NotContains(t, err.Error(), "very-secret")
			b.log.WithError(err).Error("sentry_dsn has no effect")
			require.Error(t, b.Use(dsn))
			require.NoError(t, b.Use(server.DSN()))
			b.log.Error("mended")
			b.Close()
			require.Equal(t, []string{"mended"}, messages(server))
		})
	}
}

// mute is a network on which everybody listens and nobody answers.
func mute(t *testing.T) *http.Transport {
	return &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) {
		ours, theirs := net.Pipe()
		go func() {
			_, err := io.Copy(io.Discard, theirs)
			require.NoError(t, err)
			require.NoError(t, theirs.Close())
		}()
		return ours, nil
	}}
}

func TestASentryThatDoesNotAnswerHoldsNothingUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, start := newBench(mute(t)), time.Now()
		require.NoError(t, b.Use("http://key@sentry.example.com/1"))
		for range 1000 {
			b.log.Error("again and again")
		}
		require.Zero(t, time.Since(start), "logging waits")
		require.NoError(t, b.Use("http://key@sentry.example.com/2"))
		require.Zero(t, time.Since(start), "a reload waits")
		b.log.Error("and again")
		b.Close()
		require.Equal(t, 2*time.Second, time.Since(start), "the end waits for longer")
		got, dropped := b.logged()
		slices.Sort(got)
		require.Equal(t, []string{lost, lost, losing, losing}, got)
		require.EqualValues(t, 1001, dropped)
	})
}

func TestAFatalEntryWaitsUntilItIsSentButNotForLong(t *testing.T) {
	server, b := sentry(t), newBench(nil)
	require.NoError(t, b.Use(server.DSN()))
	b.log.Error("before")
	b.log.Log(logrus.FatalLevel, "the end")
	require.Equal(t, []string{"before", "the end"}, messages(server))
	require.Equal(t, "fatal", server.Events()[1].Level)
	b.Close()
	b.log.Log(logrus.FatalLevel, "nobody hears it")
	require.Len(t, server.Events(), 2)

	synctest.Test(t, func(t *testing.T) {
		b, start := newBench(mute(t)), time.Now()
		require.NoError(t, b.Use("http://key@sentry.example.com/1"))
		for range 1000 {
			b.log.Error("again and again")
		}
		b.log.Log(logrus.FatalLevel, "the end")
		require.Equal(t, 2*time.Second, time.Since(start))
		b.Close()
	})
}

func TestTheErrorThatEndsTheProcessIsSent(t *testing.T) {
	server, b := sentry(t), newBench(nil)
	b.secrets.Learn([]string{"s3cret"})
	require.NoError(t, b.Use(server.DSN()))
	b.Fatal(errors.New("listening on s3cret: no"))
	b.Close()
	require.Equal(t, []string{"listening on [MASKED]: no"}, messages(server))
	require.Equal(t, "fatal", server.Events()[0].Level)
}

func TestLossesAreToldOnceAndNeverSent(t *testing.T) {
	// An entry that is waited for is sent, or dropped, when it is logged.
	say := func(b bench, messages ...string) {
		for _, message := range messages {
			b.log.Log(logrus.FatalLevel, message)
		}
	}
	t.Run("an outage", func(t *testing.T) {
		server, b := sentry(t), newBench(nil)
		require.NoError(t, b.Use(server.DSN()))
		server.Refuse(http.StatusServiceUnavailable)
		say(b, "one", "two", "three")
		server.Refuse(0)
		say(b, "four", "five")
		b.Close()
		got, dropped := b.logged()
		require.Equal(t, []string{losing, again}, got)
		require.EqualValues(t, 3, dropped)
		require.Equal(t, []string{"four", "five"}, messages(server))
	})
	t.Run("a pause that Sentry asks for", func(t *testing.T) {
		server, b := sentry(t), newBench(nil)
		require.NoError(t, b.Use(server.DSN()))
		server.Refuse(http.StatusTooManyRequests)
		say(b, "one")
		server.Refuse(0)
		say(b, "two", "three")
		b.Close()
		got, dropped := b.logged()
		require.Equal(t, []string{losing, lost}, got)
		require.EqualValues(t, 3, dropped)
		require.Empty(t, server.Events(), "it is not heeded")
	})
	t.Run("nobody there", func(t *testing.T) {
		gone, err := sentryserver.Start()
		require.NoError(t, err)
		require.NoError(t, gone.Close())
		b := newBench(nil)
		require.NoError(t, b.Use(gone.DSN()))
		say(b, "one", "two")
		b.Close()
		got, dropped := b.logged()
		require.Equal(t, []string{losing, lost}, got)
		require.EqualValues(t, 2, dropped)
		for _, entry := range b.entries.AllEntries() {
			if err, ok := entry.Data[logrus.ErrorKey].(error); ok {
				require.ErrorContains(t, err, "connection refused")
			}
		}
	})
	t.Run("a redirection", func(t *testing.T) {
		elsewhere := sentry(t)
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		server := &http.Server{Handler: http.RedirectHandler(elsewhere.DSN(), http.StatusPermanentRedirect)}
		var serving sync.WaitGroup
		serving.Go(func() { require.ErrorIs(t, server.Serve(listener), http.ErrServerClosed) })
		defer serving.Wait()
		defer server.Close()
		b := newBench(nil)
		require.NoError(t, b.Use("http://key@"+listener.Addr().String()+"/1"))
		say(b, "one")
		b.Close()
		got, _ := b.logged()
		require.Equal(t, []string{losing, lost}, got)
		require.Empty(t, elsewhere.Violations(), "the key went to somebody else")
	})
}

func TestEveryErrorIsSentOrCountedWhileTheDSNChanges(t *testing.T) {
	first, second, b := sentry(t), sentry(t), newBench(nil)
	require.NoError(t, b.Use(first.DSN()))
	const writers, each = 8, 100
	var group sync.WaitGroup
	for range writers {
		group.Go(func() {
			for range each {
				b.log.Error("again")
			}
		})
	}
	for i := range 20 {
		require.NoError(t, b.Use([]*sentryserver.Server{second, first}[i%2].DSN()))
	}
	group.Wait()
	b.Close()
	_, dropped := b.logged()
	require.EqualValues(t, writers*each, len(first.Events())+len(second.Events())+int(dropped))
}
