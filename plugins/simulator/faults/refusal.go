package faults

import (
	"errors"
	"fmt"
	"net/http"
)

// Refusal is an answer of a cloud that is an error.
type Refusal struct {
	// Status and Code are an HTTP status and the cloud's own code of the error.
	Status        int
	Code, Message string
}

func (r *Refusal) Error() string { return r.Code + ": " + r.Message }

// Refuse returns a refusal as an error.
func Refuse(status int, code, format string, args ...any) error {
	return &Refusal{Status: status, Code: code, Message: fmt.Sprintf(format, args...)}
}

// RefusalOf returns how an error is answered: as the refusal that it is, or as a failure of the cloud itself,
// with the code that the cloud has for those.
func RefusalOf(err error, internal string) *Refusal {
	var r *Refusal
	if errors.As(err, &r) {
		return r
	}
	return &Refusal{Status: http.StatusInternalServerError, Code: internal, Message: err.Error()}
}

// Refusal is the answer that the fault gives.
func (f Fault) Refusal() *Refusal {
	return &Refusal{Status: f.Status, Code: f.Code, Message: f.Message}
}
