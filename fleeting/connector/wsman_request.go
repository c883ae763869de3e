package connector

import (
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"strings"
	"time"
)

// WS-Management, as far as running a command needs it ([MS-WSMV], "winrs").

const (
	// wsmanEnvelope is the largest message that we accept, in bytes, which the server is told.
	wsmanEnvelope = 150 << 10
	// wsmanOperation is how long the server holds a request for output back when there is none.
	wsmanOperation = 20 * time.Second

	wsmanCreate  = "http://schemas.xmlsoap.org/ws/2004/09/transfer/Create"
	wsmanDelete  = "http://schemas.xmlsoap.org/ws/2004/09/transfer/Delete"
	wsmanShell   = "http://schemas.microsoft.com/wbem/wsman/1/windows/shell"
	wsmanCommand = wsmanShell + "/Command"
	wsmanReceive = wsmanShell + "/Receive"
	wsmanSend    = wsmanShell + "/Send"
	wsmanSignal  = wsmanShell + "/Signal"

	wsmanTerminate = wsmanShell + "/signal/terminate"
	wsmanDone      = wsmanShell + "/CommandState/Done"
)

// wsmanRequest is a message to a WinRM service.
type wsmanRequest struct {
	action string
	// shell is the shell the message is for, unless it opens one.
	shell   string
	options [][2]string
	body    string
}

func openShellRequest() wsmanRequest {
	return wsmanRequest{
		action: wsmanCreate,
		// 65001 is UTF-8.
		options: [][2]string{{"WINRS_NOPROFILE", "FALSE"}, {"WINRS_CODEPAGE", "65001"}},
		body: `<rsp:Shell><rsp:InputStreams>stdin</rsp:InputStreams>` +
			`<rsp:OutputStreams>stdout stderr</rsp:OutputStreams></rsp:Shell>`,
	}
}

func closeShellRequest(shell string) wsmanRequest {
	return wsmanRequest{action: wsmanDelete, shell: shell}
}

// commandRequest starts a command. Bytes arrive at it unchanged only if its input is a pipe.
func commandRequest(shell, command string, piped bool) wsmanRequest {
	console := "TRUE"
	if piped {
		console = "FALSE"
	}
	return wsmanRequest{
		action:  wsmanCommand,
		shell:   shell,
		options: [][2]string{{"WINRS_CONSOLEMODE_STDIN", console}, {"WINRS_SKIP_CMD_SHELL", "FALSE"}},
		body:    `<rsp:CommandLine><rsp:Command>` + escapeXML(command) + `</rsp:Command></rsp:CommandLine>`,
	}
}

func receiveRequest(shell, command string) wsmanRequest {
	return wsmanRequest{
		action: wsmanReceive,
		shell:  shell,
		body: `<rsp:Receive><rsp:DesiredStream CommandId="` + escapeXML(command) +
			`">stdout stderr</rsp:DesiredStream></rsp:Receive>`,
	}
}

func sendRequest(shell, command string, input []byte, end bool) wsmanRequest {
	last := ""
	if end {
		last = ` End="true"`
	}
	return wsmanRequest{
		action: wsmanSend,
		shell:  shell,
		body: fmt.Sprintf(`<rsp:Send><rsp:Stream Name="stdin" CommandId="%s"%s>%s</rsp:Stream></rsp:Send>`,
			escapeXML(command), last, base64.StdEncoding.EncodeToString(input)),
	}
}

func terminateRequest(shell, command string) wsmanRequest {
	return wsmanRequest{
		action: wsmanSignal,
		shell:  shell,
		body: `<rsp:Signal CommandId="` + escapeXML(command) + `"><rsp:Code>` + wsmanTerminate +
			`</rsp:Code></rsp:Signal>`,
	}
}

// envelope is the SOAP message for the service at url.
func (r wsmanRequest) envelope(url string) string {
	var b strings.Builder
	b.WriteString(`<?xml version="1.0" encoding="utf-8"?>` +
		`<env:Envelope xmlns:env="http://www.w3.org/2003/05/soap-envelope"` +
		` xmlns:a="http://schemas.xmlsoap.org/ws/2004/08/addressing"` +
		` xmlns:w="http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd"` +
		` xmlns:p="http://schemas.microsoft.com/wbem/wsman/1/wsman.xsd"` +
		` xmlns:rsp="` + wsmanShell + `"><env:Header>`)
	fmt.Fprintf(&b, `<a:To>%s</a:To><a:ReplyTo><a:Address env:mustUnderstand="true">`+
		`http://schemas.xmlsoap.org/ws/2004/08/addressing/role/anonymous</a:Address></a:ReplyTo>`, escapeXML(url))
	fmt.Fprintf(&b, `<w:MaxEnvelopeSize env:mustUnderstand="true">%d</w:MaxEnvelopeSize>`, wsmanEnvelope)
	fmt.Fprintf(&b, `<w:OperationTimeout>PT%dS</w:OperationTimeout>`, int(wsmanOperation.Seconds()))
	fmt.Fprintf(&b, `<a:MessageID>uuid:%s</a:MessageID>`, newUUID())
	b.WriteString(`<w:Locale env:mustUnderstand="false" xml:lang="en-US"/><p:DataLocale env:mustUnderstand="false" xml:lang="en-US"/>`)
	fmt.Fprintf(&b, `<a:Action env:mustUnderstand="true">%s</a:Action>`, r.action)
	if r.shell != "" {
		fmt.Fprintf(&b, `<w:SelectorSet><w:Selector Name="ShellId">%s</w:Selector></w:SelectorSet>`, escapeXML(r.shell))
	}
	b.WriteString(`<w:ResourceURI env:mustUnderstand="true">` + wsmanShell + `/cmd</w:ResourceURI>`)
	if len(r.options) > 0 {
		b.WriteString(`<w:OptionSet>`)
		for _, option := range r.options {
			fmt.Fprintf(&b, `<w:Option Name="%s">%s</w:Option>`, option[0], option[1])
		}
		b.WriteString(`</w:OptionSet>`)
	}
	b.WriteString(`</env:Header><env:Body>` + r.body + `</env:Body></env:Envelope>`)
	return b.String()
}

// escapeXML protects carriage returns as well, which parsers drop otherwise.
func escapeXML(s string) string {
	return strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", `"`, "&quot;", "\r", "&#xD;").Replace(s)
}

func newUUID() string {
	var id [16]byte
	_, _ = rand.Read(id[:]) // never fails
	id[6] = id[6]&0x0f | 0x40
	id[8] = id[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", id[0:4], id[4:6], id[6:8], id[8:10], id[10:])
}
