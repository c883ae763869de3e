package connector

import (
	"bytes"
	"encoding/base64"
	"encoding/xml"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// wsmanOperationTimeout is the fault for a request that waited in vain for output.
const wsmanOperationTimeout = "2150858793"

// wsmanFault is an error reported by a WinRM service.
type wsmanFault struct {
	code   string
	reason string
}

func (f *wsmanFault) Error() string {
	return fmt.Sprintf("the server reported a fault (code %q): %s", f.code, f.reason)
}

// wsmanOutput is the answer to a request for output.
type wsmanOutput struct {
	stdout, stderr []byte
	done           bool
	exitCode       int
}

// wsmanBody is the part of the answers that matters. Elements are matched by their local names.
type wsmanBody struct {
	Fault *struct {
		Subcode string `xml:"Code>Subcode>Value"`
		Reason  string `xml:"Reason>Text"`
		Detail  struct {
			Code    string `xml:"Code,attr"`
			Message string `xml:"Message"`
		} `xml:"Detail>WSManFault"`
	}
	Selectors []struct {
		Name  string `xml:"Name,attr"`
		Value string `xml:",chardata"`
	} `xml:"ResourceCreated>ReferenceParameters>SelectorSet>Selector"`
	ShellID   string `xml:"Shell>ShellId"`
	CommandID string `xml:"CommandResponse>CommandId"`
	Streams   []struct {
		Name string `xml:"Name,attr"`
		Data string `xml:",chardata"`
	} `xml:"ReceiveResponse>Stream"`
	State struct {
		State    string `xml:"State,attr"`
		ExitCode string `xml:"ExitCode"`
	} `xml:"ReceiveResponse>CommandState"`
}

// parseWSMan reads an answer; a fault becomes a *wsmanFault.
func parseWSMan(text []byte) (wsmanBody, error) {
	var envelope struct {
		XMLName xml.Name  `xml:"Envelope"`
		Body    wsmanBody `xml:"Body"`
	}
	if err := xml.NewDecoder(bytes.NewReader(text)).Decode(&envelope); err != nil {
		return wsmanBody{}, fmt.Errorf("the server's answer is not a SOAP message: %w", remoteError{err})
	}
	if fault := envelope.Body.Fault; fault != nil {
		code := fault.Detail.Code
		if code == "" {
			code = fault.Subcode
		}
		reason := fault.Detail.Message
		if strings.TrimSpace(reason) == "" {
			reason = fault.Reason
		}
		reason = cleanText(reason[:min(len(reason), maxErrorText)])
		return wsmanBody{}, &wsmanFault{code: code[:min(len(code), 64)], reason: reason}
	}
	return envelope.Body, nil
}

func (b wsmanBody) shell() (string, error) {
	for _, selector := range b.Selectors {
		if selector.Name == "ShellId" {
			return checkID("shell", selector.Value)
		}
	}
	return checkID("shell", b.ShellID)
}

func (b wsmanBody) command() (string, error) { return checkID("command", b.CommandID) }

func checkID(what, id string) (string, error) {
	const hexDigits = "0123456789abcdefABCDEF-{}"
	if id = strings.TrimSpace(id); id == "" || len(id) > 64 || strings.Trim(id, hexDigits) != "" {
		return "", fmt.Errorf("the server's answer has no valid %s id", what)
	}
	return id, nil
}

func (b wsmanBody) output() (wsmanOutput, error) {
	var out wsmanOutput
	for _, stream := range b.Streams {
		data, err := base64.StdEncoding.DecodeString(strings.TrimSpace(stream.Data))
		if err != nil {
			return wsmanOutput{}, fmt.Errorf("decoding the command's output: %w", err)
		}
		switch stream.Name {
		case "stdout":
			out.stdout = append(out.stdout, data...)
		case "stderr":
			out.stderr = append(out.stderr, data...)
		}
	}
	if b.State.State != wsmanDone {
		return out, nil
	}
	out.done = true
	if b.State.ExitCode == "" {
		return wsmanOutput{}, errors.New("the server's answer lacks the exit code")
	}
	code, err := strconv.ParseInt(b.State.ExitCode, 10, 64)
	if err != nil || code < -1<<31 || code >= 1<<32 {
		return wsmanOutput{}, fmt.Errorf("the server's answer has the invalid exit code %.32q", b.State.ExitCode)
	}
	out.exitCode = int(uint32(code))
	return out, nil
}
