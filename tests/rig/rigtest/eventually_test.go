package rigtest

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// witness is a test within a test: it notes how it fails and what is to be done at its end.
type witness struct {
	testing.TB
	said     strings.Builder
	failed   bool
	cleanups []func()
}

func (w *witness) Helper()          {}
func (w *witness) Failed() bool     { return w.failed }
func (w *witness) Cleanup(f func()) { w.cleanups = append(w.cleanups, f) }

func (w *witness) Logf(format string, args ...any) { fmt.Fprintf(&w.said, format+"\n", args...) }

func (w *witness) Error(args ...any) { w.Errorf("%s", fmt.Sprint(args...)) }

func (w *witness) Errorf(format string, args ...any) {
	w.failed = true
	w.Logf(format, args...)
}

func (w *witness) FailNow() {
	w.failed = true
	runtime.Goexit()
}

// plays runs the test within the test to its end.
func (w *witness) plays(test func()) {
	var all sync.WaitGroup
	all.Go(func() {
		defer func() {
			for i := len(w.cleanups) - 1; i >= 0; i-- {
				w.cleanups[i]()
			}
		}()
		test()
	})
	all.Wait()
}

func TestAConditionMustBeSeenWithinItsLimit(t *testing.T) {
	const limit = time.Second
	for name, one := range map[string]struct {
		// holds is when the condition begins to, look how long a look at it takes.
		holds, look, patience time.Duration
		fails                 string
		took                  time.Duration
	}{
		"at once":                            {took: 0},
		"in time":                            {holds: 450 * time.Millisecond, took: 500 * time.Millisecond},
		"never":                              {holds: time.Hour, fails: "not within 1s", took: limit},
		"by a look that ends too late":       {look: 2 * limit, fails: "not within 1s", took: 2 * limit},
		"not before the test's time is over": {holds: time.Hour, patience: limit / 2, fails: "the test is over", took: limit / 2},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				if one.patience == 0 {
					one.patience = time.Hour
				}
				ctx, stop := context.WithTimeoutCause(t.Context(), one.patience, errors.New("the test is over"))
				defer stop()
				w := &witness{TB: t}
				s := &Stage{TB: w, Ctx: ctx}
				began := time.Now()
				w.plays(func() {
					s.Eventually(limit, func() bool {
						holds := time.Since(began) >= one.holds
						time.Sleep(one.look)
						return holds
					}, "it is %s", "not so")
				})
				require.Equal(t, one.took, time.Since(began))
				require.Equal(t, one.fails != "", w.Failed())
				if one.fails != "" {
					require.Contains(t, w.said.String(), one.fails)
					require.Contains(t, w.said.String(), "it is not so")
				}
			})
		})
	}
}

func TestAFailureWithinAConditionEndsTheWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &witness{TB: t}
		s := &Stage{TB: w, Ctx: t.Context()}
		began := time.Now()
		w.plays(func() {
			s.Eventually(time.Minute, func() bool { require.Fail(s, "this cannot be"); return false }, "it is not so")
		})
		require.Zero(t, time.Since(began))
		require.Contains(t, w.said.String(), "this cannot be")
	})
}
