package session

import (
	"context"
	"encoding/base64"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/gorilla/websocket"
)

// The protocols in which GitLab speaks to a terminal.
const (
	plainProtocol  = "terminal.gitlab.com"
	base64Protocol = "base64.terminal.gitlab.com"
)

const (
	// messageLimit bounds what a user sends at once, in bytes.
	messageLimit = 64 << 10
	// pieceSize is how much of the shell's output is sent at once.
	pieceSize = 4 << 10
	pingEvery = 30 * time.Second
	// pongLimit is how long a user may be silent.
	pongLimit  = 2*pingEvery + 10*time.Second
	writeLimit = 10 * time.Second
	// reasonLimit is how long the reason of a close may be, in bytes.
	reasonLimit = 120
)

// upgrader lets any origin in: the session's secret says who may come, and no browser has it.
var upgrader = websocket.Upgrader{
	Subprotocols:     []string{plainProtocol, base64Protocol},
	HandshakeTimeout: writeLimit,
	CheckOrigin:      func(*http.Request) bool { return true },
}

// bridge joins a user's connection and a shell.
type bridge struct {
	conn  *websocket.Conn
	shell io.ReadWriteCloser

	// writing keeps pings and output apart.
	writing sync.Mutex
}

// run copies both ways until either ends or ctx does.
func (b *bridge) run(ctx context.Context) {
	var work sync.WaitGroup
	ended, end := context.WithCancel(ctx)
	work.Go(func() {
		defer end()
		b.input()
	})
	work.Go(func() {
		defer end()
		b.output()
	})
	pings := time.NewTicker(pingEvery)
	defer pings.Stop()
	for ended.Err() == nil {
		select {
		case <-ended.Done():
		case <-pings.C:
			if b.write(websocket.PingMessage, nil) != nil {
				end()
			}
		}
	}
	end()
	reason := ""
	if ctx.Err() != nil {
		reason = context.Cause(ctx).Error()
		reason = reason[:min(len(reason), reasonLimit)]
	}
	_ = b.write(websocket.CloseMessage, websocket.FormatCloseMessage(websocket.CloseNormalClosure, reason))
	_ = b.shell.Close()
	_ = b.conn.Close()
	work.Wait()
}

// input copies what the user types.
func (b *bridge) input() {
	b.conn.SetReadLimit(messageLimit)
	alive := func(string) error { return b.conn.SetReadDeadline(time.Now().Add(pongLimit)) }
	b.conn.SetPongHandler(alive)
	for {
		if alive("") != nil {
			return
		}
		_, data, err := b.conn.ReadMessage()
		if err != nil {
			return
		}
		if b.encoded() {
			n, err := base64.StdEncoding.Decode(data, data)
			if err != nil {
				return
			}
			data = data[:n]
		}
		if _, err := b.shell.Write(data); err != nil {
			return
		}
	}
}

// output copies what the shell prints.
func (b *bridge) output() {
	piece := make([]byte, pieceSize)
	for {
		n, err := b.shell.Read(piece)
		if n > 0 {
			kind, data := websocket.BinaryMessage, piece[:n]
			if b.encoded() {
				kind, data = websocket.TextMessage, base64.StdEncoding.AppendEncode(nil, data)
			}
			if b.write(kind, data) != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

func (b *bridge) encoded() bool { return b.conn.Subprotocol() == base64Protocol }

func (b *bridge) write(kind int, data []byte) error {
	b.writing.Lock()
	defer b.writing.Unlock()
	if err := b.conn.SetWriteDeadline(time.Now().Add(writeLimit)); err != nil {
		return err
	}
	return b.conn.WriteMessage(kind, data)
}
