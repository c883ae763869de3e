package commands

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestTheWaitForAJobBeginsWhenTheFirstCanBeAskedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bound := &singleBound{wait: time.Minute, reached: make(chan struct{})}
		time.Sleep(5 * time.Minute) // the verification at boot
		require.True(t, bound.allow())
		time.Sleep(time.Minute - time.Nanosecond)
		require.True(t, bound.allow())
		bound.jobEnded()
		time.Sleep(time.Minute - time.Nanosecond)
		require.True(t, bound.allow())
		time.Sleep(time.Nanosecond)
		require.False(t, bound.allow())
		<-bound.reached
	})
}
