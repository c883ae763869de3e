package pipeline

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func lookup(key string) (string, bool) {
	value, ok := map[string]string{"A": "one", "B": "two", "EMPTY": "", "PATTERN": "/^o/", "PATH": "a/b"}[key]
	return value, ok
}

func TestConditions(t *testing.T) {
	for condition, want := range map[string]bool{
		`$A`:                       true,
		`${A}`:                     true,
		`$EMPTY`:                   false,
		`$NONE`:                    false,
		`$A == "one"`:              true,
		`$A == 'one'`:              true,
		`"one" == $A`:              true,
		`$A != "one"`:              false,
		`$A == $B`:                 false,
		`$NONE == null`:            true,
		`$EMPTY == null`:           false,
		`$EMPTY == ""`:             true,
		`$NONE == ""`:              false,
		`$NONE != null`:            false,
		`$A =~ /^o/`:               true,
		`$A =~ /^O/`:               false,
		`$A =~ /^O/i`:              true,
		`$A !~ /^o/`:               false,
		`$NONE =~ /./`:             false,
		`$NONE !~ /./`:             true,
		`$A =~ $PATTERN`:           true,
		`$PATH =~ /^a\/b$/`:        true,
		`$A && $EMPTY`:             false,
		`$A || $EMPTY`:             true,
		`$NONE && $A || $B`:        true,
		`$NONE && ($A || $B)`:      false,
		`$A || $B && $NONE`:        true,
		`($A || $B) && $NONE`:      false,
		`$A == "one" && $B =~ /w/`: true,
		"$A == \"one\"\n  && $B":   true,
	} {
		got, err := evaluate(condition, lookup)
		require.NoError(t, err, condition)
		require.Equal(t, want, got, condition)
	}
}

func TestConditionsThatMakeNoSenseAreErrors(t *testing.T) {
	for condition, message := range map[string]string{
		``:          "something is missing at the end",
		`$A ==`:     "something is missing at the end",
		`$A "x"`:    `"x" is not expected`,
		`($A`:       `a ")" is missing`,
		`$A)`:       `")" is not expected`,
		`== $A`:     `"==" is not expected`,
		`$A =~ "x"`: "is not a pattern of the form",
		`$A =~ /(/`: "pattern /(/",
		`$A = "x"`:  "not understood from",
		`"open`:     "not understood from",
	} {
		_, err := evaluate(condition, lookup)
		require.ErrorContains(t, err, message, condition)
	}
}

func FuzzConditionsHoldOrAreRefused(f *testing.F) {
	for _, seed := range []string{`$A == "one" && ($B =~ /x/i || $C != null)`, `((((`, `$A =~ /\//`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, condition string) {
		_, _ = evaluate(condition, lookup)
	})
}
