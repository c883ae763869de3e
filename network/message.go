package network

import (
	"encoding/json"
	"encoding/xml"
	"mime"
	"sort"
	"strings"
)

// errorMessage finds the server's own words in an answer: GitLab's JSON, or the XML of an object
// storage. It returns a single line, empty if there are none.
func errorMessage(contentType string, body []byte) string {
	kind, _, _ := mime.ParseMediaType(contentType)
	message := ""
	switch kind {
	case "application/json":
		message = jsonMessage(body)
	case "application/xml", "text/xml":
		message = xmlMessage(body)
	}
	message = strings.Join(strings.Fields(message), " ")
	if len(message) > maxShownMessage {
		message = strings.ToValidUTF8(message[:maxShownMessage], "") + "…"
	}
	return message
}

func jsonMessage(body []byte) string {
	var answer struct {
		Message json.RawMessage `json:"message"`
		Error   json.RawMessage `json:"error"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return ""
	}
	for _, raw := range []json.RawMessage{answer.Message, answer.Error} {
		if text := flatten(raw); text != "" {
			return text
		}
	}
	return ""
}

// flatten makes one text of a message, which is a text, or an object of texts or lists of texts.
func flatten(raw json.RawMessage) string {
	var text string
	if json.Unmarshal(raw, &text) == nil {
		return text
	}
	var list []string
	if json.Unmarshal(raw, &list) == nil {
		return strings.Join(list, "; ")
	}
	var object map[string]json.RawMessage
	if json.Unmarshal(raw, &object) != nil {
		return ""
	}
	parts := make([]string, 0, len(object))
	for key, value := range object {
		parts = append(parts, key+": "+flatten(value))
	}
	sort.Strings(parts)
	return strings.Join(parts, ", ")
}

func xmlMessage(body []byte) string {
	var answer struct {
		XMLName xml.Name `xml:"Error"`
		Code    string   `xml:"Code"`
		Message string   `xml:"Message"`
	}
	if err := xml.Unmarshal(body, &answer); err != nil {
		return ""
	}
	return strings.TrimPrefix(answer.Code+": "+answer.Message, ": ")
}
