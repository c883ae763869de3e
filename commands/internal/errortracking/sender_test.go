package errortracking

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestAnEventThatIsWaitedForTakesThePlaceOfTheOldest(t *testing.T) {
	s := &sender{queue: make(chan parcel, queueLength)}
	first, last := make(chan struct{}), make(chan struct{})
	s.offer(parcel{done: first})
	for range queueLength + 10 {
		s.offer(parcel{})
	}
	require.EqualValues(t, 11, s.dropped.Load())
	s.offer(parcel{done: last})
	require.EqualValues(t, 12, s.dropped.Load())
	<-first
	require.Len(t, s.queue, queueLength)
	for range queueLength - 1 {
		require.Nil(t, (<-s.queue).done)
	}
	(<-s.queue).close()
	<-last
}
