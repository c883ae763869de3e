package connector

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/bodgit/ntlmssp"
)

const (
	// maxWinRMAnswer caps one answer with its header. It leaves room for servers that exceed the
	// envelope size they are told.
	maxWinRMAnswer = 1 << 20

	// winrmRequestTime is how long a request may take, beyond what the server is allowed to wait.
	winrmRequestTime = wsmanOperation + 15*time.Second
)

// lane is a network connection to a WinRM service. NTLM logs in connections, not requests, hence the
// requests of a lane follow one another. It is used by one goroutine at a time.
type lane struct {
	endpoint *winrmEndpoint
	conn     net.Conn
	limit    *io.LimitedReader
	reader   *bufio.Reader
	// session seals the messages; it is nil with TLS.
	session *ntlmssp.SecuritySession
	lastUse time.Time
}

// openLane connects and logs in.
func openLane(ctx context.Context, endpoint *winrmEndpoint) (*lane, error) {
	conn, err := endpoint.connect(ctx)
	if err != nil {
		return nil, err
	}
	l := newLane(endpoint, conn)
	if err := l.logIn(ctx); err != nil {
		l.close()
		return nil, fmt.Errorf("logging in to %s: %w", endpoint.address, err)
	}
	return l, nil
}

func newLane(endpoint *winrmEndpoint, conn net.Conn) *lane {
	limit := &io.LimitedReader{R: conn}
	return &lane{endpoint: endpoint, conn: conn, limit: limit, reader: bufio.NewReader(limit)}
}

func (l *lane) close() { l.conn.Close() }

// logIn authenticates the connection. "Negotiate" is what Windows offers by default, and takes NTLM.
func (l *lane) logIn(ctx context.Context) error {
	client, err := ntlmssp.NewClient(
		ntlmssp.SetUserInfo(l.endpoint.username, l.endpoint.password),
		ntlmssp.SetDomain(l.endpoint.domain),
		ntlmssp.SetVersion(ntlmssp.DefaultVersion()),
	)
	if err != nil {
		return fmt.Errorf("preparing ntlm: %w", err)
	}
	negotiate, err := client.Authenticate(nil, nil)
	if err != nil {
		return fmt.Errorf("preparing ntlm: %w", err)
	}

	scheme := "Negotiate"
	answer, err := l.exchange(ctx, nil, soapType, scheme, negotiate)
	if err == nil && !offers(answer.header, scheme) && offers(answer.header, "NTLM") {
		scheme = "NTLM"
		answer, err = l.exchange(ctx, nil, soapType, scheme, negotiate)
	}
	if err != nil {
		return err
	}
	challenge, err := challengeOf(answer, scheme)
	if err != nil {
		return err
	}
	if !l.endpoint.https {
		if err := checkChallenge(challenge); err != nil {
			return err
		}
	}
	authenticate, err := client.Authenticate(challenge, nil)
	if err != nil {
		return fmt.Errorf("answering the ntlm challenge: %w", remoteError{err})
	}

	answer, err = l.exchange(ctx, nil, soapType, scheme, authenticate)
	if err != nil {
		return err
	}
	if answer.status == http.StatusUnauthorized {
		return errors.New("winrm: unable to authenticate: the server refused the user name or the password")
	}
	if answer.status/100 == 5 || answer.status == http.StatusForbidden || answer.status == http.StatusNotFound {
		return fmt.Errorf("the server answered with http status %d", answer.status)
	}
	if !l.endpoint.https {
		l.session = client.SecuritySession()
	}
	return nil
}

// post sends a SOAP message and returns the answer's.
func (l *lane) post(ctx context.Context, message []byte) ([]byte, error) {
	body, contentType := message, soapType
	if l.session != nil {
		sealed, err := seal(l.session, message)
		if err != nil {
			return nil, err
		}
		body, contentType = sealed, sealedType
	}

	answer, err := l.exchange(ctx, body, contentType, "", nil)
	if err != nil {
		return nil, err
	}
	if l.session == nil || answer.status == http.StatusUnauthorized {
		return answer.body, answer.check()
	}
	if !isSealed(answer.header.Get("Content-Type")) {
		if err := answer.check(); err != nil {
			return nil, err
		}
		return nil, errSealed
	}
	return unseal(l.session, answer.body)
}

// winrmAnswer is an HTTP answer, read completely.
type winrmAnswer struct {
	status int
	header http.Header
	body   []byte
}

// check returns an error for an answer that is no SOAP message. Faults come with status 500.
func (a winrmAnswer) check() error {
	isSOAP := strings.HasPrefix(strings.ToLower(a.header.Get("Content-Type")), "application/soap+xml")
	if (a.status == http.StatusOK || a.status == http.StatusInternalServerError) && isSOAP {
		return nil
	}
	if a.status == http.StatusUnauthorized {
		return errors.New("the server wants another login on a logged in connection")
	}
	return fmt.Errorf("the server answered with http status %d and no SOAP message", a.status)
}

// exchange sends one HTTP request and reads the answer. After an error the lane is of no more use.
func (l *lane) exchange(ctx context.Context, body []byte, contentType, scheme string, token []byte) (winrmAnswer, error) {
	ctx, cancel := context.WithTimeout(ctx, winrmRequestTime)
	defer cancel()
	release := context.AfterFunc(ctx, l.close)
	defer release()

	answer, err := l.roundTrip(body, contentType, scheme, token)
	if err == nil {
		return answer, nil
	}
	if ctx.Err() != nil {
		return winrmAnswer{}, fmt.Errorf("no answer from %s: %w", l.endpoint.address, contextError(ctx))
	}
	return winrmAnswer{}, remoteError{err}
}

func (l *lane) roundTrip(body []byte, contentType, scheme string, token []byte) (winrmAnswer, error) {
	request, err := http.NewRequest(http.MethodPost, l.endpoint.url, bytes.NewReader(body))
	if err != nil {
		return winrmAnswer{}, fmt.Errorf("building the request: %w", err)
	}
	request.Header.Set("Content-Type", contentType)
	request.Header.Set("User-Agent", "fleeting")
	if token != nil {
		request.Header.Set("Authorization", scheme+" "+base64.StdEncoding.EncodeToString(token))
	}
	if err := request.Write(l.conn); err != nil {
		return winrmAnswer{}, fmt.Errorf("sending the request: %w", err)
	}

	l.limit.N = maxWinRMAnswer
	response, err := http.ReadResponse(l.reader, request)
	if err != nil {
		return winrmAnswer{}, fmt.Errorf("reading the answer: %w", err)
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	if l.limit.N <= 0 {
		return winrmAnswer{}, fmt.Errorf("the answer is larger than %d bytes", maxWinRMAnswer)
	}
	if err != nil {
		return winrmAnswer{}, fmt.Errorf("reading the answer: %w", err)
	}
	if response.Close && response.StatusCode != http.StatusUnauthorized {
		return winrmAnswer{}, errors.New("the server closes the connection after an answer")
	}
	l.lastUse = time.Now()
	return winrmAnswer{status: response.StatusCode, header: response.Header, body: content}, nil
}

func offers(header http.Header, scheme string) bool {
	for _, value := range header.Values("WWW-Authenticate") {
		name, _, _ := strings.Cut(strings.TrimSpace(value), " ")
		if strings.EqualFold(name, scheme) {
			return true
		}
	}
	return false
}

// challengeOf returns the NTLM challenge in the answer to a request that began a login.
func challengeOf(answer winrmAnswer, scheme string) ([]byte, error) {
	if answer.status != http.StatusUnauthorized {
		return nil, fmt.Errorf("the server answered with http status %d to a login", answer.status)
	}
	for _, value := range answer.header.Values("WWW-Authenticate") {
		name, token, _ := strings.Cut(strings.TrimSpace(value), " ")
		if !strings.EqualFold(name, scheme) || token == "" {
			continue
		}
		challenge, err := base64.StdEncoding.DecodeString(strings.TrimSpace(token))
		if err != nil {
			return nil, errors.New("the server's NTLM challenge is not base64")
		}
		return challenge, nil
	}
	return nil, errors.New("the server offers neither Negotiate nor NTLM authentication: enable one of them in its WinRM service")
}
