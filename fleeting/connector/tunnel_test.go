package connector

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/nettest"
)

// tunnelPair connects two tunnels back to back, the first of them with a context.
func tunnelPair(t *testing.T, ctx context.Context) (a, b *tunnel, stop func()) {
	left, right := memoryPipe()
	owner := newTasks()
	addr := tunnelAddr{"test", "end"}
	a, err := newTunnel(ctx, owner, left.(*memoryConn), addr, addr)
	require.NoError(t, err)
	b, err = newTunnel(context.Background(), owner, right.(*memoryConn), addr, addr)
	require.NoError(t, err)
	return a, b, func() {
		a.Close()
		b.Close()
		owner.close()
		owner.wait()
	}
}

func TestTunnelBehavesLikeANetworkConnection(t *testing.T) {
	nettest.TestConn(t, func() (c1, c2 net.Conn, stop func(), err error) {
		a, b, stop := tunnelPair(t, context.Background())
		return a, b, stop, nil
	})
}

func TestTunnelHalfCloses(t *testing.T) {
	a, b, stop := tunnelPair(t, context.Background())
	defer stop()

	_, err := a.Write([]byte("question"))
	require.NoError(t, err)
	require.NoError(t, a.CloseWrite())
	require.NoError(t, a.CloseWrite(), "a second CloseWrite is no error")
	_, err = a.Write([]byte("more"))
	require.ErrorIs(t, err, net.ErrClosed)

	question, err := io.ReadAll(b)
	require.NoError(t, err)
	require.Equal(t, "question", string(question))

	_, err = b.Write([]byte("answer"))
	require.NoError(t, err)
	require.NoError(t, b.CloseWrite())
	answer, err := io.ReadAll(a)
	require.NoError(t, err)
	require.Equal(t, "answer", string(answer))
}

func TestTunnelWithoutItsReadingHalfLetsTheOtherEndFinish(t *testing.T) {
	a, b, stop := tunnelPair(t, context.Background())
	defer stop()

	require.NoError(t, a.CloseRead())
	_, err := a.Read(make([]byte, 1))
	require.ErrorIs(t, err, io.EOF)

	_, err = b.Write(make([]byte, 4*memoryBufferSize))
	require.NoError(t, err)
}

func TestTunnelKeepsWhatADeadlineInterrupted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b, stop := tunnelPair(t, context.Background())
		defer stop()

		payload := bytes.Repeat([]byte("0123456789"), 40_000)
		require.NoError(t, a.SetWriteDeadline(time.Now().Add(time.Second)))
		n, err := a.Write(payload)
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
		require.Less(t, n, len(payload))

		_, err = a.Write(payload)
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)

		require.NoError(t, a.SetWriteDeadline(time.Time{}))
		go func() {
			a.Write(payload[n:])
			a.CloseWrite()
		}()
		got, err := io.ReadAll(b)
		require.NoError(t, err)
		require.True(t, bytes.Equal(payload, got))
	})
}

func TestTunnelDeadlineMovesForAWaitingRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, _, stop := tunnelPair(t, context.Background())
		defer stop()

		start := time.Now()
		require.NoError(t, a.SetReadDeadline(start.Add(time.Hour)))
		go func() {
			time.Sleep(time.Second)
			a.SetReadDeadline(start.Add(3 * time.Second))
		}()
		_, err := a.Read(make([]byte, 1))
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
		require.Equal(t, 3*time.Second, time.Since(start))
	})
}

func TestTunnelEndsWithItsContext(t *testing.T) {
	cause := errors.New("the job was cancelled")
	ctx, cancel := context.WithCancelCause(context.Background())
	a, _, stop := tunnelPair(t, ctx)
	defer stop()

	cancel(cause)
	_, err := a.Read(make([]byte, 1))
	require.ErrorIs(t, err, cause)
	require.ErrorIs(t, err, context.Canceled)
	_, err = a.Write([]byte("x"))
	require.ErrorIs(t, err, cause)
}

func TestTunnelCannotBeOpenedOnAClosedClient(t *testing.T) {
	owner := newTasks()
	require.True(t, owner.close())
	require.False(t, owner.close())

	left, right := memoryPipe()
	_, err := newTunnel(context.Background(), owner, left.(*memoryConn), nil, nil)
	require.ErrorIs(t, err, net.ErrClosed)
	_, err = right.Read(make([]byte, 1))
	require.ErrorIs(t, err, io.EOF, "the stream is closed")
}
