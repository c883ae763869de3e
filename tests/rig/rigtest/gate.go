package rigtest

import (
	"net"
	"net/http"
	"net/http/httptest"
	"sync"

	"github.com/stretchr/testify/require"
)

// Gate holds jobs until the test lets them go on. A job that comes to it is counted. It is safe for concurrent use.
type Gate struct {
	// Wait is a command of a job's script that returns when the gate is open.
	Wait string

	opened chan struct{}
	once   sync.Once

	mu      sync.Mutex
	waiting int
	came    int
}

// NewGate makes a gate that is reached from instances and from their containers. At the end of the test it is opened.
func (s *Stage) NewGate() *Gate {
	s.Helper()
	listener, err := net.Listen("tcp", net.JoinHostPort(s.Gateway, "0"))
	require.NoError(s, err)
	g := &Gate{opened: make(chan struct{})}
	server := httptest.NewUnstartedServer(http.HandlerFunc(g.serve))
	require.NoError(s, server.Listener.Close())
	server.Listener = listener
	server.Start()
	s.Cleanup(server.Close)
	s.Cleanup(g.Open)
	g.Wait = "wget -q -O - " + server.URL
	return g
}

func (g *Gate) serve(w http.ResponseWriter, r *http.Request) {
	g.arrive()
	defer g.leave()
	select {
	case <-g.opened:
		_, _ = w.Write([]byte("the gate is open\n"))
	case <-r.Context().Done():
	}
}

func (g *Gate) arrive() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.waiting++
	g.came++
}

func (g *Gate) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.waiting--
}

// Visits is how many jobs came, ever.
func (g *Gate) Visits() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.came
}

// Held is how many jobs wait now.
func (g *Gate) Held() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.waiting
}

// Open lets all go on, now and later.
func (g *Gate) Open() { g.once.Do(func() { close(g.opened) }) }
