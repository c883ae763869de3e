package connector

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/ssh"

	"gitlab.com/gitlab-org/fleeting/fleeting/provider"
)

func TestSSHNoticesTheEndOfItsConnection(t *testing.T) {
	server := newScriptedServer(t)
	client := server.connect(t, server.info())
	require.NoError(t, client.Err())

	server.cut()
	<-client.Done()
	require.ErrorIs(t, client.Err(), ErrConnectionLost)
	require.EqualError(t, client.Err(), `connection lost: instance "i-1": closed by the instance: ssh tunnel: EOF`)

	require.ErrorIs(t, client.Run(t.Context(), RunOptions{Command: "true"}), ErrConnectionLost)
	_, err := client.Dial("unix", "/run/docker.sock")
	require.ErrorIs(t, err, ErrConnectionLost)
	require.False(t, IsForwardingRefused(err))
}

func TestSSHIsDoneAfterClose(t *testing.T) {
	server := newScriptedServer(t)
	client := server.connect(t, server.info())
	require.NoError(t, client.Close())
	require.NoError(t, client.Close())
	<-client.Done()
	require.ErrorIs(t, client.Err(), net.ErrClosed)
	require.NotErrorIs(t, client.Err(), ErrConnectionLost)
	_, err := client.Dial("unix", "/run/docker.sock")
	require.ErrorIs(t, err, net.ErrClosed)
}

func TestSSHLossIsNoOrderlyEnd(t *testing.T) {
	server := newScriptedServer(t)
	server.channel = func(request ssh.NewChannel) {
		if request.ChannelType() == "session" {
			session(func(channel ssh.Channel, _ string) { io.Copy(channel, channel) })(request)
			return
		}
		echo(request)
	}
	client := server.connect(t, server.info())

	forward, err := client.Dial("unix", "/run/docker.sock")
	require.NoError(t, err)
	command, err := client.DialRun(t.Context(), "docker system dial-stdio")
	require.NoError(t, err)
	ran := make(chan error, 1)
	stdin, feed := io.Pipe()
	defer feed.Close()
	started := make(chan struct{})
	go func() {
		ran <- client.Run(t.Context(), RunOptions{
			Command: "cat", Stdin: stdin, Stdout: writerFunc(func(p []byte) (int, error) {
				close(started)
				return len(p), nil
			}),
		})
	}()
	feed.Write([]byte("x"))
	<-started

	server.cut()
	_, err = io.ReadAll(forward)
	require.ErrorIs(t, err, ErrConnectionLost)
	_, err = io.ReadAll(command)
	require.ErrorIs(t, err, ErrConnectionLost)
	_, err = forward.Write([]byte("x"))
	require.ErrorIs(t, err, ErrConnectionLost)
	require.ErrorIs(t, <-ran, ErrConnectionLost)
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func TestSSHKeepaliveFindsASilentInstance(t *testing.T) {
	tests := map[string]struct {
		keepalive time.Duration
		within    time.Duration
	}{
		"by default":   {0, 5 * time.Second},
		"short":        {500 * time.Millisecond, 500*time.Millisecond + minReplyTime},
		"long":         {10 * time.Second, 20 * time.Second},
		"longer":       {time.Minute, time.Minute + maxReplyTime},
		"switched off": {-1, 0},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server := newScriptedServer(t)
				server.mute = true
				info := server.info()
				info.Keepalive = tt.keepalive
				client := server.connect(t, info)

				start := time.Now()
				if tt.within == 0 {
					select {
					case <-client.Done():
						t.Fatal("the connection ended without a keepalive")
					case <-time.After(24 * time.Hour):
					}
					return
				}
				<-client.Done()
				require.LessOrEqual(t, time.Since(start), tt.within)
				require.ErrorIs(t, client.Err(), ErrConnectionLost)
				require.ErrorContains(t, client.Err(), "no reply to a keepalive within")
			})
		})
	}
}

func TestSSHKeepaliveGoesOnWhileItIsAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := newScriptedServer(t)
		client := server.connect(t, server.info())
		select {
		case <-client.Done():
			t.Fatal(client.Err())
		case <-time.After(time.Hour):
		}
	})
}

func TestSSHKeepaliveTakesOtherDataForLifeButNotForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := newScriptedServer(t)
		server.mute = true
		server.channel = session(func(channel ssh.Channel, _ string) {
			for {
				if _, err := channel.Write([]byte(".")); err != nil {
					return
				}
				time.Sleep(time.Second)
			}
		})
		client := server.connect(t, server.info())
		start := time.Now()

		var out bytes.Buffer
		err := client.Run(t.Context(), RunOptions{Command: "progress", Stdout: &out})
		require.ErrorIs(t, err, ErrConnectionLost)
		require.Greater(t, time.Since(start), 20*time.Second)
		require.Less(t, time.Since(start), 30*time.Second)
	})
}

func TestSSHDialGivesUpOnAStallingServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ends []net.Conn
		info := provider.ConnectInfo{ID: "i-1", InternalAddr: "instance"}
		info.Timeout = time.Minute
		start := time.Now()
		_, err := Dial(t.Context(), info, DialOptions{DialFn: func(context.Context, string, string) (net.Conn, error) {
			client, server := memoryPipe()
			ends = append(ends, server)
			return client, nil
		}})
		require.ErrorContains(t, err, "dial ssh: after retrying 3 times during 1m0s timeout: ssh: handshake failed: no answer from instance:22")
		require.Equal(t, time.Minute, time.Since(start))
		for _, end := range ends {
			_, err := end.Write([]byte("x"))
			require.Error(t, err, "the connection was closed")
		}
	})
}

func TestSSHDialIsCancelledDuringTheHandshake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cause := errors.New("the manager shuts down")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Second, func() { cancel(cause) })
		start := time.Now()
		info := provider.ConnectInfo{ID: "i-1", InternalAddr: "instance"}
		_, err := Dial(ctx, info, DialOptions{DialFn: func(context.Context, string, string) (net.Conn, error) {
			client, _ := memoryPipe()
			return client, nil
		}})
		require.ErrorIs(t, err, cause)
		require.ErrorIs(t, err, context.Canceled)
		require.Equal(t, time.Second, time.Since(start))
	})
}
