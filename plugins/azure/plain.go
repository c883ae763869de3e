package azure

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
)

// messageLimit bounds what is repeated of a message of Azure's, in bytes.
const messageLimit = 1 << 10

// answerError is an error of Azure's in one line; the SDK's own text has many.
type answerError struct {
	answer *azcore.ResponseError
	text   string
}

func (e *answerError) Error() string { return e.text }
func (e *answerError) Unwrap() error { return e.answer }

// plain puts an error of the SDK's that is an answer of Azure's in one line.
func plain(err error) error {
	var answer *azcore.ResponseError
	if !errors.As(err, &answer) {
		return err
	}
	text := fmt.Sprintf("azure answered %d %s", answer.StatusCode, answer.ErrorCode)
	if answer.StatusCode == http.StatusOK {
		// The outcome of an operation.
		text = "azure says " + answer.ErrorCode
	}
	if message := messageOf(answer.RawResponse); message != "" {
		text += ": " + message
	}
	return &answerError{answer: answer, text: text}
}

func messageOf(resp *http.Response) string {
	if resp == nil {
		return ""
	}
	body, err := runtime.Payload(resp)
	if err != nil {
		return ""
	}
	var told struct {
		Error struct {
			Message string `json:"message"`
		} `json:"error"`
	}
	if json.Unmarshal(body, &told) != nil {
		return ""
	}
	return told.Error.Message[:min(len(told.Error.Message), messageLimit)]
}
