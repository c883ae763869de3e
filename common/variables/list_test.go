package variables_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"gitlab.com/gitlab-org/gitlab-runner/common/spec"
	"gitlab.com/gitlab-org/gitlab-runner/common/variables"
)

func list() variables.List {
	return variables.List{
		{Key: "TWICE", Value: "first"},
		{Key: "NAME", Value: "world"},
		{Key: "TEXT", Value: "hello $NAME, ${NAME}"},
		{Key: "ONCE", Value: "<$TEXT>"},
		{Key: "RAW", Value: "$NAME", Raw: true},
		{Key: "FILE", Value: "content of $NAME", File: true},
		{Key: "AT", Value: "$FILE"},
		{Key: "SPECIAL", Value: "$$ $* $# $@ $! $? $0 $9 $NOBODY|$|${NAME"},
		{Key: "TWICE", Value: "second"},
		{Key: variables.TempDir, Value: "/builds/p.tmp"},
	}
}

func TestExpansionIsASinglePass(t *testing.T) {
	expanded := list().Expand("/tmp/x")
	for key, want := range map[string]string{
		"TEXT": "hello world, world", "ONCE": "<hello $NAME, ${NAME}>", "RAW": "$NAME", "FILE": "content of world",
		"AT": "/tmp/x/FILE", "SPECIAL": "$        |$|NAME", "TWICE": "second",
	} {
		got, there := expanded.Lookup(key)
		require.True(t, there)
		require.Equal(t, want, got, key)
	}
	require.Equal(t, "hello $NAME, ${NAME}", list().Get("TEXT"), "the list itself was changed")
}

func TestATextNeverGetsTheContentOfAFile(t *testing.T) {
	require.Equal(t, "second at /builds/p.tmp/FILE", list().ExpandValue("$TWICE at $FILE"))
}

func TestTheLastEntryWins(t *testing.T) {
	l := list()
	require.Len(t, l.Unique(), len(l)-1)
	require.Contains(t, l.Environment("/tmp/x"), "TWICE=second")
	require.NotContains(t, l.Environment("/tmp/x"), "TWICE=first")
	require.Contains(t, l.Environment("/tmp/x"), "FILE=/tmp/x/FILE")
	require.Equal(t, "third", l.Set(spec.Variable{Key: "TWICE", Value: "third"}).Get("TWICE"))
	require.Equal(t, "second", l.Get("TWICE"))
}

func TestBooleans(t *testing.T) {
	for text, want := range map[string]bool{
		"true": true, "TRUE": true, "tRuE": true, "t": true, "1": true, "01": true,
		"": false, "false": false, "F": false, "0": false, "2": false, "yes": false,
	} {
		require.Equal(t, want, variables.List{{Key: "X", Value: text}}.Bool("X"), text)
	}
}

func TestServicesSeeWhatIsPublicOrTheRunners(t *testing.T) {
	l := variables.List{{Key: "A", Public: true}, {Key: "B"}, {Key: "C", Internal: true}}
	require.Equal(t, variables.List{l[0], l[2]}, l.PublicOrInternal())
}
