package network

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"

	"github.com/sirupsen/logrus"
)

const (
	// statusNoAnswer: the request failed on the way, or the answer was not what it has to be.
	statusNoAnswer = -1
	// statusClientError: no request was made.
	statusClientError = -100

	// maxJSON bounds the answers that are read as a whole. The largest are jobs.
	maxJSON = 64 << 20
	// maxMessage bounds what is read of an answer that is only good for a message.
	maxMessage = 64 << 10
	// maxShownMessage bounds what of it stands in a log or an error.
	maxShownMessage = 2 << 10
)

// answer is what came back for a request.
type answer struct {
	method, url   string
	status        int
	err           error
	header        http.Header
	body          io.ReadCloser
	tls           *tls.ConnectionState
	correlationID string
	retried       bool
	conn          *connection

	excerpt     []byte
	excerptRead bool
}

func (a *answer) close() {
	if a.body != nil {
		drain(a.body)
	}
}

// text is the beginning of the body.
func (a *answer) text() string {
	if !a.excerptRead && a.body != nil {
		// What could be read before an error is all there is to show.
		a.excerpt, _ = io.ReadAll(io.LimitReader(a.body, maxMessage))
		a.excerptRead = true
	}
	return string(a.excerpt)
}

// problem is the error that an unwanted answer stands for.
func (a *answer) problem() error {
	if a.err != nil {
		return a.err
	}
	status := fmt.Sprintf("%d %s", a.status, http.StatusText(a.status))
	if location := cleanText(a.header.Get("Location")); location != "" {
		status += ", the server points to " + location
	}
	message := errorMessage(a.header.Get("Content-Type"), []byte(a.text()))
	if message == "" || message == status {
		return fmt.Errorf("%s %s: %s", a.method, a.url, status)
	}
	return fmt.Errorf("%s %s: %s (%s)", a.method, a.url, status, message)
}

func (a *answer) logFields() logrus.Fields {
	fields := logrus.Fields{"correlation_id": a.correlationID}
	if a.status > 0 {
		fields["responseStatus"] = fmt.Sprintf("%d %s", a.status, http.StatusText(a.status))
	}
	return fields
}

// json sends in as JSON. An answer with the wanted status is decoded into out; one that is not JSON
// then counts as none. A nil out asks for no JSON.
func (c *Client) json(ctx context.Context, cred Credentials, r request, in any, wanted int, out any) *answer {
	if r.header == nil {
		r.header = http.Header{}
	}
	if in != nil {
		content, err := json.Marshal(in)
		if err != nil {
			return &answer{method: r.method, url: cleanText(cred.URL), status: statusNoAnswer,
				err: fmt.Errorf("encoding the request: %w", err)}
		}
		r.header.Set("Content-Type", "application/json")
		r.setBody(content)
	}
	if out != nil {
		r.header.Set("Accept", "application/json")
	}
	a := c.stream(ctx, cred, r)
	if a.conn != nil {
		a.conn.rememberLastUpdate(a.header)
	}
	if a.status == wanted && out != nil {
		if err := a.decode(out); err != nil {
			a.status = statusNoAnswer
			a.err = fmt.Errorf("%s %s: %w", a.method, a.url, err)
		}
	}
	if a.status != wanted {
		a.err = a.problem()
	}
	a.close()
	return a
}

func (r *request) setBody(content []byte) {
	r.size = int64(len(content))
	r.body = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content)), nil }
}

var errTooLarge = errors.New("the answer is too large")

func (a *answer) decode(out any) error {
	if kind, _, _ := mime.ParseMediaType(a.header.Get("Content-Type")); kind != "application/json" {
		return fmt.Errorf("the answer is not JSON but %q: does url name a GitLab server?", kind)
	}
	content, err := io.ReadAll(io.LimitReader(a.body, maxJSON+1))
	if err != nil {
		return fmt.Errorf("reading the answer: %w", err)
	}
	if len(content) > maxJSON {
		return errTooLarge
	}
	if raw, ok := out.(*[]byte); ok {
		*raw = content
		return nil
	}
	if err := json.Unmarshal(content, out); err != nil {
		return fmt.Errorf("decoding the answer: %w", err)
	}
	return nil
}

// requestID is a random (version 4) UUID without dashes.
func requestID() string {
	var id [16]byte
	_, _ = rand.Read(id[:]) // never fails
	id[6] = id[6]&0x0f | 0x40
	id[8] = id[8]&0x3f | 0x80
	return hex.EncodeToString(id[:])
}

// publicHeader is a header without what could be a secret.
func publicHeader(header http.Header) map[string]string {
	public := map[string]string{}
	for name, values := range header {
		switch name {
		case "Set-Cookie", "Location", "Www-Authenticate":
		default:
			public[name] = strings.Join(values, ", ")
		}
	}
	return public
}
