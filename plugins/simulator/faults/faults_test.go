package faults

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestFaultsHitTheCallsTheyAreMeantFor(t *testing.T) {
	var l List
	l.Add(Fault{Operation: "List", Times: 2, Code: "Throttling"})
	l.Add(Fault{Operation: "List", Skip: 1, Code: "Later"})
	l.Add(Fault{Code: "Any"})
	var codes []string
	for _, operation := range []string{"List", "Create", "List", "List", "List", "Create"} {
		hit, ok := l.Next(operation)
		if !ok {
			hit.Code = "-"
		}
		codes = append(codes, hit.Code)
	}
	require.Equal(t, []string{"Throttling", "Any", "Throttling", "-", "Later", "-"}, codes)
}

func TestFaultsComeByHTTP(t *testing.T) {
	var l List
	post := func(body string) int {
		answer := httptest.NewRecorder()
		l.ServeHTTP(answer, httptest.NewRequest(http.MethodPost, "/_faults", strings.NewReader(body)))
		return answer.Code
	}
	require.Equal(t, http.StatusNoContent, post(`{"operation": "Create", "status": 503, "lost": true}`))
	require.Equal(t, http.StatusBadRequest, post(`[`))
	hit, ok := l.Next("Create")
	require.True(t, ok)
	require.Equal(t, Fault{Operation: "Create", Times: 1, Status: 503, Lost: true}, hit)
}
