package coordinator

import (
	"context"
	"net"
	"net/http"
)

// connection is one over which requests come, each after the answer to the one before was read, as HTTP/1.1 has it. So
// the next request shows that an answer arrived; a client that gives up on one closes the connection.
type connection struct {
	requests int
	// next is done with the next request.
	next []func()
}

type connectionKey struct{}

func withConnection(ctx context.Context, _ net.Conn) context.Context {
	return context.WithValue(ctx, connectionKey{}, &connection{})
}

// turn is a request as the one of that number on its connection. The zero turn is that of a request beside others on
// one connection, as HTTP/2 has it: whether it was answered is not known.
type turn struct {
	of     *connection
	number int
}

// nextTurn counts a request that has come. The caller holds c.mu.
func nextTurn(r *http.Request) turn {
	of, _ := r.Context().Value(connectionKey{}).(*connection)
	if of == nil || r.ProtoMajor > 1 {
		return turn{}
	}
	of.requests++
	next := of.next
	of.next = nil
	for _, do := range next {
		do()
	}
	return turn{of, of.requests}
}

// onceAnswered calls do as soon as it is known that the answers to all turns arrived, which may be never. The caller
// holds c.mu, as the caller of do will.
func onceAnswered(turns []turn, do func()) {
	for i, t := range turns {
		if t.of == nil {
			return
		}
		if t.of.requests == t.number {
			t.of.next = append(t.of.next, func() { onceAnswered(turns[i+1:], do) })
			return
		}
	}
	do()
}
