package faults

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

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

func TestErrorsAreAnsweredAsTheRefusalsThatTheyAre(t *testing.T) {
	refused := Refuse(http.StatusConflict, "Busy", "%d are busy", 2)
	require.EqualError(t, refused, "Busy: 2 are busy")
	for name, c := range map[string]struct {
		err  error
		want Refusal
	}{
		"a refusal":         {refused, Refusal{http.StatusConflict, "Busy", "2 are busy"}},
		"a wrapped refusal": {fmt.Errorf("deleting: %w", refused), Refusal{http.StatusConflict, "Busy", "2 are busy"}},
		"a fault":           {Fault{Status: 429, Code: "Slow", Message: "down"}.Refusal(), Refusal{429, "Slow", "down"}},
		"anything else":     {errors.New("no engine"), Refusal{http.StatusInternalServerError, "Internal", "no engine"}},
	} {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, c.want, *RefusalOf(c.err, "Internal"))
		})
	}
}
