package connector

import (
	"io"
	"net"
	"testing"

	"github.com/stretchr/testify/require"
)

func BenchmarkOpenSSH(b *testing.B) {
	server := newSSHD(b)
	client := server.connect(b)
	echo := listenUnix(b, func(conn *net.UnixConn) { io.Copy(conn, conn) })
	sink := listenUnix(b, func(conn *net.UnixConn) { io.Copy(io.Discard, conn) })

	b.Run("Dial", func(b *testing.B) {
		for b.Loop() {
			client, err := DialSSH(b.Context(), server.info(), DialOptions{})
			require.NoError(b, err)
			client.Close()
		}
	})
	b.Run("OpenUnixTunnel", func(b *testing.B) {
		for b.Loop() {
			conn, err := client.Dial("unix", echo)
			require.NoError(b, err)
			conn.Close()
		}
	})
	b.Run("TunnelRoundTrip", func(b *testing.B) {
		conn, err := client.Dial("unix", echo)
		require.NoError(b, err)
		defer conn.Close()
		p := make([]byte, 100)
		for b.Loop() {
			conn.Write(p)
			io.ReadFull(conn, p)
		}
	})
	b.Run("TunnelWrite", func(b *testing.B) {
		conn, err := client.Dial("unix", sink)
		require.NoError(b, err)
		defer conn.Close()
		p := make([]byte, 1<<20)
		b.SetBytes(int64(len(p)))
		for b.Loop() {
			conn.Write(p)
		}
	})
	b.Run("Run", func(b *testing.B) {
		for b.Loop() {
			require.NoError(b, client.Run(b.Context(), RunOptions{Command: "true"}))
		}
	})
}
