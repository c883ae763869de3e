//go:build system

package system

import (
	"net"
	"net/http"
	"net/http/httptest"
	"sync"

	"github.com/stretchr/testify/require"
)

// gate holds jobs until the test lets them go on. A job that comes to it is counted.
type gate struct {
	// Wait is a command of a job's script that returns when the gate is open.
	Wait string

	opened chan struct{}
	once   sync.Once

	mu      sync.Mutex
	waiting int
	came    int
}

// newGate makes a gate that is reached from instances and from their containers.
func (s *stage) newGate() *gate {
	s.Helper()
	listener, err := net.Listen("tcp", net.JoinHostPort(s.Gateway, "0"))
	require.NoError(s, err)
	g := &gate{opened: make(chan struct{})}
	server := httptest.NewUnstartedServer(http.HandlerFunc(g.serve))
	require.NoError(s, server.Listener.Close())
	server.Listener = listener
	server.Start()
	s.Cleanup(server.Close)
	s.Cleanup(g.open)
	g.Wait = "wget -q -O - " + server.URL
	return g
}

func (g *gate) serve(w http.ResponseWriter, r *http.Request) {
	g.arrive()
	defer g.leave()
	select {
	case <-g.opened:
		_, _ = w.Write([]byte("the gate is open\n"))
	case <-r.Context().Done():
	}
}

func (g *gate) arrive() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.waiting++
	g.came++
}

func (g *gate) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.waiting--
}

// visits is how many jobs came, ever.
func (g *gate) visits() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.came
}

// held is how many jobs wait now.
func (g *gate) held() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.waiting
}

// open lets all go on, now and later.
func (g *gate) open() { g.once.Do(func() { close(g.opened) }) }
