package docker

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"

	"github.com/docker/docker/client"
)

// Stream is the standard input and output of a container or of a command in one. Copy and Write may be
// called at the same time.
type Stream struct {
	conn   net.Conn
	output io.Reader
}

// NewStream returns a Stream over a connection whose output begins with what reader has buffered. It is
// what the calls of Client use; tests make streams of their own with it.
func NewStream(conn net.Conn, output io.Reader) *Stream {
	return &Stream{conn: conn, output: output}
}

// Write sends to the standard input.
func (s *Stream) Write(data []byte) (int, error) { return s.conn.Write(data) }

// Read reads the output of a command that has a terminal.
func (s *Stream) Read(data []byte) (int, error) { return s.output.Read(data) }

// CloseWrite ends the standard input.
func (s *Stream) CloseWrite() error {
	if half, ok := s.conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

// Close ends the stream; Copy then returns.
func (s *Stream) Close() error { return s.conn.Close() }

// Copy writes the output to stdout and stderr until it ends. It needs the same small memory however
// long lines and frames are.
func (s *Stream) Copy(stdout, stderr io.Writer) error {
	return Demultiplex(s.output, stdout, stderr)
}

// The kinds of frames that an engine sends.
const (
	frameStdin = iota
	frameStdout
	frameStderr
	frameSystemError
)

const (
	frameHeader = 8
	// engineErrorLimit bounds an error text inside a stream.
	engineErrorLimit = 2 << 10
)

// Demultiplex splits the frames in which an engine sends both outputs of a container over one
// connection. The end of input between two frames is no error; a frame of an unknown kind and the end
// within a frame are.
func Demultiplex(input io.Reader, stdout, stderr io.Writer) error {
	buffer := make([]byte, 32<<10)
	var header [frameHeader]byte
	for {
		if _, err := io.ReadFull(input, header[:]); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return fmt.Errorf("reading container output: %w", err)
		}
		size := int64(binary.BigEndian.Uint32(header[4:]))
		frame := &io.LimitedReader{R: input, N: size}
		var target io.Writer
		switch header[0] {
		case frameStdin, frameStdout:
			target = stdout
		case frameStderr:
			target = stderr
		case frameSystemError:
			text, _ := io.ReadAll(io.LimitReader(frame, engineErrorLimit))
			return fmt.Errorf("reading container output: error from the docker engine: %s", bytes.TrimSpace(text))
		default:
			return fmt.Errorf("reading container output: the docker engine sent a frame of unknown kind %d", header[0])
		}
		// The wrapping hides ReadFrom and WriteTo, which would do without the small buffer.
		if _, err := io.CopyBuffer(struct{ io.Writer }{target}, struct{ io.Reader }{frame}, buffer); err != nil {
			return fmt.Errorf("copying container output: %w", err)
		}
		if frame.N > 0 {
			return fmt.Errorf("reading container output: %w", io.ErrUnexpectedEOF)
		}
	}
}

// hijack turns a call into a stream. The library can do so too, but not with a context that ends while
// the engine is silent.
func (c *Client) hijack(ctx context.Context, path string, query url.Values, body any) (*Stream, error) {
	var payload io.Reader
	if body != nil {
		data, err := json.Marshal(body)
		if err != nil {
			return nil, fmt.Errorf("encoding a call to the docker engine: %w", err)
		}
		payload = bytes.NewReader(data)
	}
	target := &url.URL{
		Scheme:   "http",
		Host:     client.DummyHost,
		Path:     c.basePath + "/v" + c.library().ClientVersion() + path,
		RawQuery: query.Encode(),
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, target.String(), payload)
	if err != nil {
		return nil, fmt.Errorf("building a call to the docker engine: %w", err)
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Connection", "Upgrade")
	request.Header.Set("Upgrade", "tcp")

	conn, err := c.dial(ctx)
	if err != nil {
		return nil, fmt.Errorf("cannot connect to the Docker daemon at %s: %w", c.host, err)
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	stream, err := upgrade(conn, request)
	if !stop() || err != nil {
		_ = conn.Close()
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nil, err
	}
	return stream, nil
}

func upgrade(conn net.Conn, request *http.Request) (*Stream, error) {
	if err := request.Write(conn); err != nil {
		return nil, fmt.Errorf("error during connect: %w", err)
	}
	head := &io.LimitedReader{R: conn, N: headerLimit}
	reader := bufio.NewReader(head)
	response, err := http.ReadResponse(reader, request)
	if err != nil {
		return nil, fmt.Errorf("error during connect: %w", err)
	}
	if response.StatusCode != http.StatusSwitchingProtocols {
		return nil, answerError(response)
	}
	buffered, err := reader.Peek(reader.Buffered())
	if err != nil {
		return nil, fmt.Errorf("error during connect: %w", err)
	}
	output := bufio.NewReaderSize(io.MultiReader(bytes.NewReader(bytes.Clone(buffered)), conn), 32<<10)
	return NewStream(conn, output), nil
}

// answerError is the error of a call that should have become a stream.
func answerError(response *http.Response) error {
	text, _ := io.ReadAll(io.LimitReader(response.Body, engineErrorLimit))
	var answer struct{ Message string }
	if json.Unmarshal(text, &answer) != nil || answer.Message == "" {
		answer.Message = strings.TrimSpace(string(text))
	}
	return &streamRefusedError{status: response.StatusCode, message: answer.Message}
}

// streamRefusedError is an engine's refusal to open a stream.
type streamRefusedError struct {
	status  int
	message string
}

func (e *streamRefusedError) Error() string {
	return "Error response from daemon: " + e.message
}

// Is makes the refusal one of the classes of errors that plain calls give.
func (e *streamRefusedError) Is(target error) bool {
	return target != nil && errors.Is(classOf(e.status), target)
}
