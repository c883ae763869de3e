package common

import (
	"bytes"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"gitlab.com/gitlab-org/gitlab-runner/helpers/masking"
)

// hidden are the values of a job.
type hidden struct {
	values []string
	rules  *masking.Rules
}

func newHidden() *hidden {
	h := &hidden{}
	h.hide("first-secret")
	return h
}

func (h *hidden) currentRules() *masking.Rules { return h.rules }

func (h *hidden) hide(values ...string) {
	h.values = append(h.values, values...)
	h.rules = masking.NewRules(masking.Options{Values: h.values})
}

// kept is a stream's end.
type kept struct {
	bytes.Buffer
	closed int
}

func (k *kept) Close() error { k.closed++; return nil }

// through writes pieces through a mask and returns what came of them.
func through(t require.TestingT, commands bool, pieces ...string) (string, []string) {
	var sink kept
	h := newHidden()
	m := newGrowingMask(h, &sink, commands)
	for _, piece := range pieces {
		n, err := m.Write([]byte(piece))
		require.NoError(t, err)
		require.Equal(t, len(piece), n)
	}
	require.NoError(t, m.Close())
	require.Equal(t, 1, sink.closed)
	return sink.String(), h.values[1:]
}

func TestValuesThatAScriptNamesAreHiddenFromTheNextLineOn(t *testing.T) {
	for name, c := range map[string]struct {
		text, want string
		added      []string
	}{
		"a command":              {"new-value\n::add-mask:: new-value \r\nit is new-value, first-secret\n", "new-value\nit is [MASKED], [MASKED]\n", []string{"new-value"}},
		"without an end":         {"a\n::add-mask::x y", "a\n", []string{"x y"}},
		"not at the beginning":   {" ::add-mask::x\n", " ::add-mask::x\n", nil},
		"only its beginning":     {"::add-mask", "::add-mask", nil},
		"only its beginning, \n": {"::add-mask:\n:add-mask::\n", "::add-mask:\n:add-mask::\n", nil},
		"too long":               {"::add-mask::" + strings.Repeat("x", 2*longestCommand) + "\nnext\n", "next\n", nil},
		"two":                    {"::add-mask::one\n::add-mask::two\nonetwo\n", "[MASKED][MASKED]\n", []string{"one", "two"}},
	} {
		t.Run(name, func(t *testing.T) {
			got, added := through(t, true, c.text)
			require.Equal(t, c.want, got)
			require.Equal(t, len(c.added), len(added))
			require.Subset(t, c.added, added)
		})
	}
	got, added := through(t, false, "::add-mask::x\nx\n")
	require.Equal(t, "::add-mask::x\nx\n", got, "services name nothing")
	require.Empty(t, added)
}

func TestAMaskThatGrowsDoesNotDependOnHowOutputIsCut(t *testing.T) {
	line := rapid.OneOf(
		rapid.StringMatching(`[abc:]{0,20}`), rapid.StringMatching(`::add-mask::[abc]{1,4}`), rapid.Just("first-secret"), rapid.Just("::add-mask::"),
	)
	rapid.Check(t, func(t *rapid.T) {
		text := strings.Join(rapid.SliceOf(line).Draw(t, "lines"), "\n")
		want, added := through(t, true, text)
		var pieces []string
		for rest := text; rest != ""; {
			n := rapid.IntRange(1, len(rest)).Draw(t, "piece")
			pieces, rest = append(pieces, rest[:n]), rest[n:]
		}
		got, addedInPieces := through(t, true, pieces...)
		require.Equal(t, want, got)
		require.Equal(t, added, addedInPieces)
	})
}

func TestAStreamLearnsWhatAnotherOneHeard(t *testing.T) {
	var one, other kept
	h := newHidden()
	script, service := newGrowingMask(h, &one, true), newGrowingMask(h, &other, false)
	write := func(m *growingMask, text string) {
		_, err := m.Write([]byte(text))
		require.NoError(t, err)
	}
	write(service, "a token\n")
	write(script, "::add-mask::token\n")
	write(service, "this line had begun: token\nand the token\n")
	require.NoError(t, service.Close())
	require.Equal(t, "a token\nthis line had begun: token\nand the [MASKED]\n", other.String())
}
