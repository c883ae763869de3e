// Package faults is what goes wrong in a simulated cloud: a list of faults to come, which tests add to from
// the same process or over HTTP. It is safe for concurrent use.
//
// The simulated clouds import it. No plugin does.
package faults

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
)

// Fault is one thing that goes wrong.
type Fault struct {
	// Operation is the name of the call that it hits, in the words of the cloud; empty is any.
	Operation string `json:"operation"`
	// Times is how many calls it hits; 0 is one.
	Times int `json:"times"`
	// Skip is how many calls of the operation go well before.
	Skip int `json:"skip"`
	// Status and Code are the answer: an HTTP status and the cloud's own code of the error.
	Status int    `json:"status"`
	Code   string `json:"code"`
	// Message is the text of the answer.
	Message string `json:"message"`
	// Lost says that the call is carried out and only its answer is lost.
	Lost bool `json:"lost"`
}

// List is the faults to come.
type List struct {
	mu     sync.Mutex
	faults []Fault
}

// Add adds a fault.
func (l *List) Add(f Fault) {
	f.Times = max(f.Times, 1)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.faults = append(l.faults, f)
}

// Next returns the fault that hits a call of the operation, if there is one, and counts it.
func (l *List) Next(operation string) (Fault, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range l.faults {
		f := &l.faults[i]
		if f.Operation != "" && f.Operation != operation {
			continue
		}
		if f.Skip > 0 {
			f.Skip--
			continue
		}
		hit := *f
		if f.Times--; f.Times == 0 {
			l.faults = slices.Delete(l.faults, i, i+1)
		}
		return hit, true
	}
	return Fault{}, false
}

// requestLimit bounds a request, in bytes.
const requestLimit = 64 << 10

// ServeHTTP adds the fault that a POST brings as JSON.
func (l *List) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		http.Error(w, "POST a fault", http.StatusMethodNotAllowed)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, requestLimit))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	var f Fault
	if err := json.Unmarshal(body, &f); err != nil {
		http.Error(w, fmt.Sprintf("this is no fault: %v", err), http.StatusBadRequest)
		return
	}
	l.Add(f)
	w.WriteHeader(http.StatusNoContent)
}
