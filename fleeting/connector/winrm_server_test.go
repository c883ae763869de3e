package connector

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/xml"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/gitlab-org/fleeting/fleeting/provider"
)

// winrmServer speaks the protocol of a WinRM service and runs commands with the local shell.
type winrmServer struct {
	*httptest.Server
	scheme string
	flags  uint32
	// hold is how long a request for output waits, in place of the time it asks for.
	hold time.Duration
	// answer, if set, may take the place of the service.
	answer func(w http.ResponseWriter, request soapRequest) bool

	mu       sync.Mutex
	shells   map[string]bool
	commands map[string]*winrmServerCommand
	consoles []string
	count    int
}

type winrmServerCommand struct {
	stdin  io.WriteCloser
	cancel context.CancelFunc

	mu             sync.Mutex
	change         chan struct{}
	stdout, stderr bytes.Buffer
	ended          bool
	exitCode       int
}

type winrmConnKey struct{}

// winrmConn is the login of one connection.
type winrmConn struct {
	ntlm     ntlmServer
	loggedIn bool
}

func newWinRMServer(t *testing.T, https bool, settings ...func(*winrmServer)) *winrmServer {
	s := &winrmServer{
		scheme:   "Negotiate",
		flags:    ntlmServerFlags,
		hold:     50 * time.Millisecond,
		shells:   make(map[string]bool),
		commands: make(map[string]*winrmServerCommand),
	}
	for _, set := range settings {
		set(s)
	}
	s.Server = httptest.NewUnstartedServer(s)
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.Config.ConnContext = func(ctx context.Context, _ net.Conn) context.Context {
		conn := &winrmConn{ntlm: ntlmServer{user: "Administrator", password: "Pässw0rd", flags: s.flags}}
		return context.WithValue(ctx, winrmConnKey{}, conn)
	}
	if https {
		s.StartTLS()
	} else {
		s.Start()
	}
	t.Cleanup(func() {
		s.Close()
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, command := range s.commands {
			command.cancel()
		}
	})
	return s
}

func (s *winrmServer) info() provider.ConnectInfo {
	info := provider.ConnectInfo{ID: "i-1", InternalAddr: s.Listener.Addr().String()}
	info.Protocol, info.Username, info.Password, info.Timeout = provider.ProtocolWinRM, "Administrator", "Pässw0rd", time.Minute
	if s.TLS != nil {
		info.Protocol = provider.ProtocolWinRMHttps
	}
	return info
}

func (s *winrmServer) connect(t *testing.T) *winRMClient {
	client, err := DialWinRM(t.Context(), s.info(), DialOptions{})
	require.NoError(t, err)
	t.Cleanup(func() { client.Close() })
	return client
}

// open is the number of shells that were not closed.
func (s *winrmServer) open() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.shells)
}

func (s *winrmServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	conn := r.Context().Value(winrmConnKey{}).(*winrmConn)
	body, _ := io.ReadAll(r.Body)
	if !conn.loggedIn || r.Header.Get("Authorization") != "" {
		s.logIn(w, r, conn)
		return
	}

	reply := w
	if s.TLS == nil {
		var err error
		if body, err = conn.ntlm.unseal(body); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		reply = &sealedWriter{ResponseWriter: w, conn: conn, status: http.StatusOK}
	}
	reply.Header().Set("Content-Type", "application/soap+xml;charset=UTF-8")
	var request soapRequest
	if err := xml.Unmarshal(body, &request); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if s.answer == nil || !s.answer(reply, request) {
		s.serve(reply, request)
	}
	if sealed, ok := reply.(*sealedWriter); ok {
		sealed.flush()
	}
}

func (s *winrmServer) logIn(w http.ResponseWriter, r *http.Request, conn *winrmConn) {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	message, _ := base64.StdEncoding.DecodeString(token)
	offer := s.scheme
	if scheme == s.scheme && len(message) > 8 {
		if message[8] == 3 && conn.ntlm.finish(message) == nil {
			conn.loggedIn = true
			return
		}
		if challenge, err := conn.ntlm.begin(message); err == nil {
			offer += " " + base64.StdEncoding.EncodeToString(challenge)
		}
	}
	w.Header().Set("WWW-Authenticate", offer)
	w.WriteHeader(http.StatusUnauthorized)
}

// sealedWriter collects an answer in order to seal it.
type sealedWriter struct {
	http.ResponseWriter
	conn   *winrmConn
	status int
	body   bytes.Buffer
}

func (w *sealedWriter) WriteHeader(status int)      { w.status = status }
func (w *sealedWriter) Write(p []byte) (int, error) { return w.body.Write(p) }

func (w *sealedWriter) flush() {
	w.Header().Set("Content-Type", sealedType)
	w.ResponseWriter.WriteHeader(w.status)
	w.ResponseWriter.Write(w.conn.ntlm.seal(w.body.Bytes()))
}

// soapRequest is what the service reads of a request.
type soapRequest struct {
	Action   string `xml:"Header>Action"`
	Selector string `xml:"Header>SelectorSet>Selector"`
	Options  []struct {
		Name  string `xml:"Name,attr"`
		Value string `xml:",chardata"`
	} `xml:"Header>OptionSet>Option"`
	Command string `xml:"Body>CommandLine>Command"`
	Receive struct {
		CommandID string `xml:"CommandId,attr"`
	} `xml:"Body>Receive>DesiredStream"`
	Send struct {
		CommandID string `xml:"CommandId,attr"`
		End       bool   `xml:"End,attr"`
		Data      string `xml:",chardata"`
	} `xml:"Body>Send>Stream"`
	Signal struct {
		CommandID string `xml:"CommandId,attr"`
	} `xml:"Body>Signal"`
}

func (s *winrmServer) serve(w http.ResponseWriter, r soapRequest) {
	s.mu.Lock()
	known := s.shells[r.Selector]
	s.mu.Unlock()
	if !known && r.Action != wsmanCreate {
		fault(w, "2150858843", "The shell was not found on the server.")
		return
	}
	switch r.Action {
	case wsmanCreate:
		id := s.newID()
		s.mu.Lock()
		s.shells[id] = true
		s.mu.Unlock()
		reply(w, `<x:ResourceCreated><a:ReferenceParameters><w:SelectorSet><w:Selector Name="ShellId">`+id+
			`</w:Selector></w:SelectorSet></a:ReferenceParameters></x:ResourceCreated>`)
	case wsmanDelete:
		s.mu.Lock()
		delete(s.shells, r.Selector)
		s.mu.Unlock()
		reply(w, "")
	case wsmanCommand:
		reply(w, `<rsp:CommandResponse><rsp:CommandId>`+s.execute(r)+`</rsp:CommandId></rsp:CommandResponse>`)
	case wsmanReceive:
		s.receive(w, s.command(r.Receive.CommandID))
	case wsmanSend:
		command := s.command(r.Send.CommandID)
		data, _ := base64.StdEncoding.DecodeString(r.Send.Data)
		command.stdin.Write(data)
		if r.Send.End {
			command.stdin.Close()
		}
		reply(w, `<rsp:SendResponse/>`)
	case wsmanSignal:
		s.command(r.Signal.CommandID).cancel()
		reply(w, `<rsp:SignalResponse/>`)
	}
}

func (s *winrmServer) newID() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.count++
	return fmt.Sprintf("%08X-0000-0000-0000-000000000000", s.count)
}

func (s *winrmServer) command(id string) *winrmServerCommand {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.commands[id]
}

func (s *winrmServer) execute(r soapRequest) string {
	ctx, cancel := context.WithCancel(context.Background())
	process := exec.CommandContext(ctx, "sh", "-c", r.Command)
	process.WaitDelay = 100 * time.Millisecond
	command := &winrmServerCommand{cancel: cancel, change: make(chan struct{}, 1)}
	command.stdin, _ = process.StdinPipe()
	process.Stdout, process.Stderr = command.writer(&command.stdout), command.writer(&command.stderr)
	process.Start()
	go func() {
		process.Wait()
		cancel()
		command.mu.Lock()
		defer command.mu.Unlock()
		command.ended, command.exitCode = true, process.ProcessState.ExitCode()
		command.changed()
	}()

	id := s.newID()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.commands[id] = command
	for _, option := range r.Options {
		if option.Name == "WINRS_CONSOLEMODE_STDIN" {
			s.consoles = append(s.consoles, option.Value)
		}
	}
	return id
}

func (c *winrmServerCommand) writer(b *bytes.Buffer) io.Writer {
	return writerFunc(func(p []byte) (int, error) {
		c.mu.Lock()
		defer c.mu.Unlock()
		b.Write(p)
		c.changed()
		return len(p), nil
	})
}

func (c *winrmServerCommand) changed() {
	select {
	case c.change <- struct{}{}:
	default:
	}
}

func (s *winrmServer) receive(w http.ResponseWriter, c *winrmServerCommand) {
	select {
	case <-c.change:
	case <-time.After(s.hold):
		fault(w, wsmanOperationTimeout, "The WS-Management service cannot complete the operation within the time specified in OperationTimeout.")
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	stream := func(name string, b *bytes.Buffer) string {
		data := base64.StdEncoding.EncodeToString(b.Next(64 << 10))
		if b.Len() > 0 {
			c.changed()
		}
		return `<rsp:Stream Name="` + name + `" CommandId="X">` + data + `</rsp:Stream>`
	}
	body := stream("stdout", &c.stdout) + stream("stderr", &c.stderr)
	if c.ended && c.stdout.Len() == 0 && c.stderr.Len() == 0 {
		body += fmt.Sprintf(`<rsp:CommandState CommandId="X" State="%s"><rsp:ExitCode>%d</rsp:ExitCode></rsp:CommandState>`,
			wsmanDone, uint32(c.exitCode))
	}
	reply(w, `<rsp:ReceiveResponse>`+body+`</rsp:ReceiveResponse>`)
}

func reply(w io.Writer, body string) {
	io.WriteString(w, `<s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope"`+
		` xmlns:a="http://schemas.xmlsoap.org/ws/2004/08/addressing" xmlns:x="http://schemas.xmlsoap.org/ws/2004/09/transfer"`+
		` xmlns:w="http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd" xmlns:f="http://schemas.microsoft.com/wbem/wsman/1/wsmanfault"`+
		` xmlns:rsp="http://schemas.microsoft.com/wbem/wsman/1/windows/shell"><s:Header/><s:Body>`+body+`</s:Body></s:Envelope>`)
}

func fault(w http.ResponseWriter, code, message string) {
	w.WriteHeader(http.StatusInternalServerError)
	reply(w, `<s:Fault><s:Code><s:Value>s:Receiver</s:Value><s:Subcode><s:Value>w:Fault</s:Value></s:Subcode></s:Code>`+
		`<s:Reason><s:Text xml:lang="en-US">`+message+`</s:Text></s:Reason><s:Detail>`+
		`<f:WSManFault Code="`+code+`"><f:Message>`+message+`</f:Message></f:WSManFault></s:Detail></s:Fault>`)
}
