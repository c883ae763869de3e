package main

import (
	"errors"
	"fmt"
	"net"
	"strings"

	"golang.org/x/crypto/ssh"
)

// server is an SSH server on the loopback interface.
type server struct {
	listener net.Listener
	config   *ssh.ServerConfig
}

func newServer(username, password string, hostKey ssh.Signer) (*server, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen for SSH: %w", err)
	}
	config := &ssh.ServerConfig{
		PasswordCallback: func(conn ssh.ConnMetadata, given []byte) (*ssh.Permissions, error) {
			if conn.User() != username || string(given) != password {
				return nil, errors.New("wrong user name or password")
			}
			return nil, nil
		},
	}
	config.AddHostKey(hostKey)
	s := &server{listener: listener, config: config}
	go s.serve()
	return s, nil
}

func (s *server) close() { _ = s.listener.Close() }

func (s *server) serve() {
	for {
		conn, err := s.listener.Accept()
		if err != nil {
			return
		}
		go s.handle(conn)
	}
}

func (s *server) handle(conn net.Conn) {
	defer conn.Close()
	_, channels, requests, err := ssh.NewServerConn(conn, s.config)
	if err != nil {
		return
	}
	go ssh.DiscardRequests(requests)
	for offered := range channels {
		if offered.ChannelType() != "session" {
			_ = offered.Reject(ssh.UnknownChannelType, "sessions only")
			continue
		}
		channel, requests, err := offered.Accept()
		if err != nil {
			return
		}
		go session(channel, requests)
	}
}

// session runs the commands of one session.
func session(channel ssh.Channel, requests <-chan *ssh.Request) {
	for request := range requests {
		var exec struct{ Command string }
		if request.Type != "exec" || ssh.Unmarshal(request.Payload, &exec) != nil {
			_ = request.Reply(false, nil)
			continue
		}
		_ = request.Reply(true, nil)
		text, known := strings.CutPrefix(exec.Command, "echo ")
		status := struct{ Code uint32 }{127}
		if known {
			status.Code = 0
			_, _ = fmt.Fprintln(channel, text)
		}
		_, _ = channel.SendRequest("exit-status", false, ssh.Marshal(status))
		_ = channel.Close()
	}
}
