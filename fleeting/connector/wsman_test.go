package connector

import (
	"bytes"
	"encoding/xml"
	"io"
	"net/http"
	"testing"

	"github.com/bodgit/ntlmssp"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestWSManRequestsCarryAnyText(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		// XML has no way to write most control characters.
		text := rapid.StringMatching(`[ -~\t\n\rä€]*`).Draw(t, "command")
		request := commandRequest("SHELL", text, true)
		var got soapRequest
		require.NoError(t, xml.Unmarshal([]byte(request.envelope("http://[::1]:5985/wsman")), &got))
		require.Equal(t, text, got.Command)
		require.Equal(t, "SHELL", got.Selector)
		require.Equal(t, wsmanCommand, got.Action)
	})
}

func TestWSManRequestForTheRecord(t *testing.T) {
	request := sendRequest("SHELL", "COMMAND", []byte("dir\r\n"), true)
	got := request.envelope("http://host:5985/wsman")
	require.Regexp(t, `<a:MessageID>uuid:[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}</a:MessageID>`, got)
	require.Contains(t, got, `<w:OperationTimeout>PT20S</w:OperationTimeout>`)
	require.Contains(t, got, `<w:Selector Name="ShellId">SHELL</w:Selector>`)
	require.Contains(t, got, `<rsp:Send><rsp:Stream Name="stdin" CommandId="COMMAND" End="true">ZGlyDQo=</rsp:Stream></rsp:Send>`)
}

func TestWSManAnswers(t *testing.T) {
	const done = `<rsp:CommandState State="` + wsmanDone + `">`
	tests := map[string]struct {
		body    string
		want    wsmanOutput
		wantErr string
	}{
		"running": {
			body: `<rsp:ReceiveResponse><rsp:Stream Name="stdout">aGkg</rsp:Stream><rsp:Stream Name="stderr">b2g=</rsp:Stream>` +
				`<rsp:Stream Name="stdout">
				eW91</rsp:Stream></rsp:ReceiveResponse>`,
			want: wsmanOutput{stdout: []byte("hi you"), stderr: []byte("oh")},
		},
		"done":              {body: `<rsp:ReceiveResponse>` + done + `<rsp:ExitCode>3</rsp:ExitCode></rsp:CommandState></rsp:ReceiveResponse>`, want: wsmanOutput{done: true, exitCode: 3}},
		"without exit code": {body: `<rsp:ReceiveResponse>` + done + `</rsp:CommandState></rsp:ReceiveResponse>`, wantErr: "lacks the exit code"},
		"huge exit code":    {body: `<rsp:ReceiveResponse>` + done + `<rsp:ExitCode>4294967296</rsp:ExitCode></rsp:CommandState></rsp:ReceiveResponse>`, wantErr: "invalid exit code"},
		"no base64":         {body: `<rsp:ReceiveResponse><rsp:Stream Name="stdout">!</rsp:Stream></rsp:ReceiveResponse>`, wantErr: "decoding the command's output"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var text bytes.Buffer
			reply(&text, tt.body)
			body, err := parseWSMan(text.Bytes())
			require.NoError(t, err)
			got, err := body.output()
			if tt.wantErr != "" {
				require.ErrorContains(t, err, tt.wantErr)
				return
			}
			require.NoError(t, err)
			require.Equal(t, tt.want, got)
		})
	}
}

func FuzzParseWSMan(f *testing.F) {
	for _, body := range []string{
		`<rsp:ReceiveResponse><rsp:Stream Name="stdout">aGk=</rsp:Stream></rsp:ReceiveResponse>`,
		`<rsp:Shell><rsp:ShellId>ABC</rsp:ShellId></rsp:Shell>`,
		`<s:Fault><s:Detail><f:WSManFault Code="1"/></s:Detail></s:Fault>`,
	} {
		var text bytes.Buffer
		reply(&text, body)
		f.Add(text.Bytes())
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		body, err := parseWSMan(text)
		if err != nil {
			require.Less(t, len(err.Error()), 2*maxErrorText)
			return
		}
		body.output()
		if id, err := body.shell(); err == nil {
			require.NotContains(t, id, "<")
		}
		body.command()
	})
}

func FuzzSplitSealed(f *testing.F) {
	server := loggedInNTLM(f)
	f.Add(server.seal([]byte("message")))
	f.Add([]byte("--Encrypted Boundary\r\n" + sealOctets + "\r\n\x10\x00\x00\x00--Encrypted Boundary"))
	f.Fuzz(func(t *testing.T, body []byte) {
		signature, _, err := splitSealed(body)
		if err == nil {
			require.Len(t, signature, sealSignatureLen)
		}
	})
}

func FuzzNTLMChallenge(f *testing.F) {
	client := newNTLMClient(f)
	negotiate, err := client.Authenticate(nil, nil)
	require.NoError(f, err)
	server := &ntlmServer{flags: ntlmServerFlags}
	challenge, err := server.begin(negotiate)
	require.NoError(f, err)
	f.Add(challenge)
	f.Fuzz(func(t *testing.T, challenge []byte) {
		client := newNTLMClient(t)
		client.Authenticate(nil, nil)
		checked := checkChallenge(challenge)
		if _, err := client.Authenticate(challenge, nil); err == nil && checked == nil {
			require.NotNil(t, client.SecuritySession())
		}
	})
}

func newNTLMClient(t testing.TB) *ntlmssp.Client {
	client, err := ntlmssp.NewClient(ntlmssp.SetUserInfo("user", "secret"), ntlmssp.SetVersion(ntlmssp.DefaultVersion()))
	require.NoError(t, err)
	return client
}

func loggedInNTLM(t testing.TB) *ntlmServer {
	client, server := newNTLMClient(t), &ntlmServer{user: "user", password: "secret", flags: ntlmServerFlags}
	negotiate, err := client.Authenticate(nil, nil)
	require.NoError(t, err)
	challenge, err := server.begin(negotiate)
	require.NoError(t, err)
	authenticate, err := client.Authenticate(challenge, nil)
	require.NoError(t, err)
	require.NoError(t, server.finish(authenticate))
	return server
}

// FuzzWinRMAnswer has a server answer a login with any bytes.
func FuzzWinRMAnswer(f *testing.F) {
	f.Add([]byte("HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Negotiate AAAA\r\nContent-Length: 0\r\n\r\n"))
	f.Add([]byte("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"))
	f.Add([]byte("HTTP/1.1 100 Continue\r\n\r\n"))
	f.Fuzz(func(t *testing.T, answer []byte) {
		client, server := memoryPipe()
		go io.Copy(io.Discard, server)
		go func() {
			server.Write(answer)
			server.(*memoryConn).CloseWrite()
		}()
		endpoint := &winrmEndpoint{address: "instance:5985", url: "http://instance:5985/wsman", username: "user", password: "secret"}
		l := newLane(endpoint, client)
		defer l.close()
		if err := l.logIn(t.Context()); err != nil {
			require.Less(t, len(err.Error()), 2*maxErrorText)
			require.NotContains(t, err.Error(), "secret")
		}
		got, err := l.exchange(t.Context(), nil, soapType, "", nil)
		if err == nil {
			require.Less(t, got.status, 1000)
			require.NotEqual(t, http.StatusContinue, got.status)
		}
	})
}
