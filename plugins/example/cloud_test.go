package example_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/ssh"
)

const (
	cloudToken = "the-token-of-the-cloud"
	username   = "builder"
	password   = "the-password-of-machines"
)

// fakeCloud is the imagined cloud. All its machines are one SSH server on the loopback interface.
type fakeCloud struct {
	t        *testing.T
	listener net.Listener
	hostKey  ssh.Signer
	work     sync.WaitGroup

	mu       sync.Mutex
	machines []*fakeMachine
	created  int
	// fail is the status of all answers, if it is set.
	fail int
}

type fakeMachine struct {
	ID       string `json:"id"`
	State    string `json:"state"`
	Address  string `json:"address"`
	Username string `json:"username"`
	Password string `json:"password"`
	HostKey  string `json:"host_key"`
}

func newCloud(t *testing.T) *fakeCloud {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	c := &fakeCloud{t: t}
	c.hostKey, err = ssh.NewSignerFromKey(private)
	require.NoError(t, err)
	c.listener, err = net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	c.work.Go(c.serveSSH)
	t.Cleanup(func() {
		_ = c.listener.Close()
		c.work.Wait()
	})
	return c
}

// port is where the machines' SSH server listens.
func (c *fakeCloud) port() int { return c.listener.Addr().(*net.TCPAddr).Port }

// ServeHTTP is the API of the cloud. Machines take a step of their life at each listing.
func (c *fakeCloud) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if r.Header.Get("Authorization") != "Bearer "+cloudToken {
		http.Error(w, "who are you?", http.StatusUnauthorized)
		return
	}
	if c.fail != 0 {
		http.Error(w, "not now", c.fail)
		return
	}
	id, one := strings.CutPrefix(r.URL.Path, "/machines/")
	i := slices.IndexFunc(c.machines, func(m *fakeMachine) bool { return m.ID == id })
	switch {
	case !one && r.URL.Path != "/groups/builders/machines", one && i < 0:
		http.NotFound(w, r)
	case one && r.Method == http.MethodDelete:
		c.machines[i].State = "stopping"
	case one:
		_ = json.NewEncoder(w).Encode(c.machines[i])
	case r.Method == http.MethodPost:
		c.created++
		c.machines = append(c.machines, &fakeMachine{
			ID: fmt.Sprintf("machine-%d", c.created), State: "booting", Address: "127.0.0.1",
			Username: username, Password: password,
			HostKey: strings.TrimSpace(string(ssh.MarshalAuthorizedKey(c.hostKey.PublicKey()))),
		})
		w.WriteHeader(http.StatusCreated)
	default:
		_ = json.NewEncoder(w).Encode(append([]*fakeMachine{}, c.machines...))
		c.machines = slices.DeleteFunc(c.machines, func(m *fakeMachine) bool { return m.State == "stopping" })
		for _, m := range c.machines {
			m.State = "running"
		}
	}
}

func (c *fakeCloud) serveSSH() {
	config := &ssh.ServerConfig{PasswordCallback: func(conn ssh.ConnMetadata, given []byte) (*ssh.Permissions, error) {
		if conn.User() != username || string(given) != password {
			return nil, errors.New("wrong name or password")
		}
		return nil, nil
	}}
	config.AddHostKey(c.hostKey)
	for {
		conn, err := c.listener.Accept()
		if err != nil {
			return
		}
		c.work.Go(func() { c.serveConnection(conn, config) })
	}
}

func (c *fakeCloud) serveConnection(conn net.Conn, config *ssh.ServerConfig) {
	defer conn.Close()
	_, channels, requests, err := ssh.NewServerConn(conn, config)
	if err != nil {
		return
	}
	c.work.Go(func() { ssh.DiscardRequests(requests) })
	for offered := range channels {
		channel, requests, err := offered.Accept()
		if err != nil {
			return
		}
		c.work.Go(func() { serveSession(channel, requests) })
	}
}

// serveSession knows one command, which is echo.
func serveSession(channel ssh.Channel, requests <-chan *ssh.Request) {
	for request := range requests {
		var exec struct{ Command string }
		if request.Type != "exec" || ssh.Unmarshal(request.Payload, &exec) != nil {
			_ = request.Reply(false, nil)
			continue
		}
		_ = request.Reply(true, nil)
		_, _ = fmt.Fprintln(channel, strings.TrimPrefix(exec.Command, "echo "))
		_, _ = channel.SendRequest("exit-status", false, ssh.Marshal(struct{ Code uint32 }{0}))
		_ = channel.Close()
	}
}
