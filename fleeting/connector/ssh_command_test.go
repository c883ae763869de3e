package connector

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/ssh"
)

func TestSSHRunReportsHowACommandEnded(t *testing.T) {
	tests := map[string]struct {
		run      func(ssh.Channel)
		wantErr  string
		wantCode int
	}{
		"success": {run: func(c ssh.Channel) { exitWith(c, 0) }},
		"status": {
			run:      func(c ssh.Channel) { exitWith(c, 3) },
			wantErr:  "Process exited with status 3",
			wantCode: 3,
		},
		"status of windows": {
			run:      func(c ssh.Channel) { exitWith(c, 0xC000013A) },
			wantErr:  "Process exited with status 3221225786",
			wantCode: 3221225786,
		},
		"signal": {
			run: func(c ssh.Channel) {
				c.SendRequest("exit-signal", false, ssh.Marshal(struct {
					Signal string
					Core   bool
					Error  string
					Lang   string
				}{"TERM", false, strings.Repeat("why ", 10_000), ""}))
			},
			wantErr:  "Process exited with status 143 from signal TERM",
			wantCode: 143,
		},
		"without a status": {
			run:     func(ssh.Channel) {},
			wantErr: "ssh run: wait: remote command exited without exit status or exit signal",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			server := newScriptedServer(t)
			server.channel = session(func(channel ssh.Channel, command string) {
				io.Copy(channel, channel)
				io.WriteString(channel.Stderr(), command)
				tt.run(channel)
			})
			client := server.connect(t, server.info())

			var stdout, stderr bytes.Buffer
			err := client.Run(t.Context(), RunOptions{
				Command: "cat", Stdin: strings.NewReader("input"), Stdout: &stdout, Stderr: &stderr,
			})
			require.Equal(t, "input", stdout.String())
			require.Equal(t, "cat", stderr.String())
			if tt.wantErr == "" {
				require.NoError(t, err)
				return
			}
			require.EqualError(t, err, tt.wantErr)
			var exit *ExitError
			if errors.As(err, &exit) {
				require.Equal(t, tt.wantCode, exit.ExitCode())
			} else {
				require.Zero(t, tt.wantCode)
			}
		})
	}
}

func TestRunConnectsRunsAndCloses(t *testing.T) {
	server := newScriptedServer(t)
	server.channel = session(func(channel ssh.Channel, command string) {
		io.WriteString(channel, "ran "+command)
		exitWith(channel, 7)
	})
	var stdout bytes.Buffer
	err := Run(t.Context(), server.info(), ConnectorOptions{
		RunOptions:  RunOptions{Command: "true", Stdout: &stdout},
		DialOptions: DialOptions{DialFn: server.dial},
	})
	var exit *ExitError
	require.ErrorAs(t, err, &exit)
	require.Equal(t, 7, exit.ExitCode())
	require.Equal(t, "ran true", stdout.String())
}

func TestSSHRunHangsUpWhenItsContextEnds(t *testing.T) {
	server := newScriptedServer(t)
	signals := make(chan string, 2)
	server.channel = func(request ssh.NewChannel) {
		channel, requests, _ := request.Accept()
		for r := range requests {
			if r.Type == "signal" {
				var signal struct{ Name string }
				ssh.Unmarshal(r.Payload, &signal)
				signals <- signal.Name
			}
			if r.WantReply {
				r.Reply(true, nil)
			}
			io.WriteString(channel, "started")
		}
		channel.Close()
	}
	client := server.connect(t, server.info())

	cause := errors.New("the job was cancelled")
	ctx, cancel := context.WithCancelCause(t.Context())
	output, stdout := io.Pipe()
	go func() {
		io.ReadFull(output, make([]byte, len("started")))
		cancel(cause)
		io.Copy(io.Discard, output)
	}()
	err := client.Run(ctx, RunOptions{Command: "sleep 1d", Stdout: stdout})
	stdout.Close()
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorIs(t, err, cause)
	require.Equal(t, "HUP", <-signals)
	require.Equal(t, "TERM", <-signals)
}

func TestSSHRunAbandonsAServerThatIgnoresTheHangup(t *testing.T) {
	server := newScriptedServer(t)
	hold := make(chan struct{})
	server.channel = func(request ssh.NewChannel) {
		channel, requests, _ := request.Accept()
		r := <-requests
		r.Reply(true, nil)
		for {
			if _, err := channel.Write(make([]byte, 1000)); err != nil {
				break
			}
		}
		<-hold
	}
	client := server.connect(t, server.info())
	defer close(hold)

	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	// A writer without a lock: the race detector sees a write after Run.
	var stdout bytes.Buffer
	err := client.Run(ctx, RunOptions{Command: "yes", Stdout: &stdout})
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.NotZero(t, stdout.Len())
}

func TestSSHSessionLimitIsTold(t *testing.T) {
	server := newScriptedServer(t)
	server.channel = func(c ssh.NewChannel) { c.Reject(ssh.ConnectionFailed, "open failed") }
	client := server.connect(t, server.info())

	err := client.Run(t.Context(), RunOptions{Command: "true"})
	require.True(t, IsSessionLimit(err))
	require.ErrorContains(t, err, "ssh run: starting a command: the server refuses another session on this connection (check MaxSessions")
	_, err = client.DialRun(t.Context(), "true")
	require.True(t, IsSessionLimit(err))
	require.False(t, IsForwardingRefused(err))
}

func TestSSHCommandThatTheServerRefusesIsNotRepeated(t *testing.T) {
	server := newScriptedServer(t)
	server.channel = func(request ssh.NewChannel) {
		channel, requests, _ := request.Accept()
		ssh.DiscardRequests(requests)
		channel.Close()
	}
	client := server.connect(t, server.info())
	err := client.Run(t.Context(), RunOptions{Command: "echo $TOKEN"})
	require.EqualError(t, err, "ssh run: starting a command: the server refused to start the command")
}

func TestSSHDialRun(t *testing.T) {
	server := newScriptedServer(t)
	server.channel = session(func(channel ssh.Channel, command string) {
		switch command {
		case "cat":
			io.Copy(channel, channel)
			exitWith(channel, 0)
		case "missing":
			io.WriteString(channel.Stderr(), "sh: 1: missing: not found\n")
			exitWith(channel, 127)
		case "chatty":
			io.WriteString(channel.Stderr(), strings.Repeat("x", 32<<10+7))
			exitWith(channel, 1)
		case "sleep":
			io.Copy(io.Discard, channel)
		}
	})
	client := server.connect(t, server.info())

	t.Run("carries data and half closes", func(t *testing.T) {
		conn, err := client.DialRun(t.Context(), "cat")
		require.NoError(t, err)
		_, err = conn.Write([]byte("hello"))
		require.NoError(t, err)
		require.NoError(t, conn.(interface{ CloseWrite() error }).CloseWrite())
		got, err := io.ReadAll(conn)
		require.NoError(t, err)
		require.Equal(t, "hello", string(got))
		require.NoError(t, conn.(interface{ CloseRead() error }).CloseRead())
		require.NoError(t, conn.Close())
		require.NoError(t, conn.Close())
		require.Equal(t, conn.LocalAddr().String(), conn.RemoteAddr().String())
	})
	t.Run("tells how the command failed", func(t *testing.T) {
		conn, err := client.DialRun(t.Context(), "missing")
		require.NoError(t, err)
		defer conn.Close()
		_, err = conn.Read(make([]byte, 1))
		require.EqualError(t, err, "ssh tunnel: Process exited with status 127 (sh: 1: missing: not found)")
		require.ErrorAs(t, err, new(*ExitError))
		_, err = conn.Write([]byte("x"))
		require.EqualError(t, err, "ssh tunnel: Process exited with status 127 (sh: 1: missing: not found)")
	})
	t.Run("caps what the command complains", func(t *testing.T) {
		conn, err := client.DialRun(t.Context(), "chatty")
		require.NoError(t, err)
		defer conn.Close()
		_, err = conn.Read(make([]byte, 1))
		require.ErrorContains(t, err, "ssh tunnel: Process exited with status 1 (omitted 8... xxx")
	})
	t.Run("ends with its context", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		conn, err := client.DialRun(ctx, "sleep")
		require.NoError(t, err)
		cancel()
		_, err = conn.Read(make([]byte, 1))
		require.ErrorIs(t, err, context.Canceled)
		require.NoError(t, conn.Close())
	})
	t.Run("ends with its client", func(t *testing.T) {
		conn, err := client.DialRun(context.Background(), "sleep")
		require.NoError(t, err)
		require.NoError(t, client.Close())
		_, err = conn.Read(make([]byte, 1))
		require.ErrorIs(t, err, net.ErrClosed)
		_, err = client.DialRun(context.Background(), "cat")
		require.ErrorIs(t, err, net.ErrClosed)
	})
}

func TestGateLetsNothingThroughOnceShut(t *testing.T) {
	var out bytes.Buffer
	g := newGate(&out)
	_, err := g.Write([]byte("before"))
	require.NoError(t, err)
	g.shut()
	_, err = g.Write([]byte("after"))
	require.ErrorIs(t, err, io.ErrClosedPipe)
	require.Equal(t, "before", out.String())
}
