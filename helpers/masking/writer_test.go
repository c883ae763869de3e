package masking

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"regexp"
	"sort"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

type sink struct {
	bytes.Buffer
	writes int
	closed bool
}

func (s *sink) Write(p []byte) (int, error) {
	s.writes++
	return s.Buffer.Write(p)
}

func (s *sink) Close() error {
	s.closed = true
	return nil
}

func masked(t require.TestingT, o Options, pieces ...string) string {
	var out sink
	w := NewWriter(&out, o)
	for _, piece := range pieces {
		n, err := io.WriteString(w, piece)
		require.NoError(t, err)
		require.Equal(t, len(piece), n)
	}
	require.NoError(t, w.Close())
	require.True(t, out.closed)
	return out.String()
}

func TestMasking(t *testing.T) {
	for name, test := range map[string]struct {
		options Options
		in      []string
		want    string
	}{
		"no secrets":                            {Options{}, []string{"plain\n"}, "plain\n"},
		"a value":                               {Options{Values: []string{"hunter2"}}, []string{"pw: hunter2\n"}, "pw: [MASKED]\n"},
		"a value across writes":                 {Options{Values: []string{"hunter2"}}, []string{"pw: hun", "", "ter", "2\n"}, "pw: [MASKED]\n"},
		"a value that does not come to its end": {Options{Values: []string{"hunter2"}}, []string{"hunter"}, "hunter"},
		"the longer of two values":              {Options{Values: []string{"abc", "abcdef"}}, []string{"abcdef abcde"}, "[MASKED] [MASKED]de"},
		"a value that begins inside another":    {Options{Values: []string{"abc", "bcdef"}}, []string{"xabcdefx"}, "x[MASKED]x"},
		"a value inside a longer beginning":     {Options{Values: []string{"bc", "abcd"}}, []string{"abc", "x abcd"}, "a[MASKED]x [MASKED]"},
		"repeated values":                       {Options{Values: []string{"abcd"}}, []string{"abcdabcd"}, "[MASKED][MASKED]"},
		"overlapping repetitions":               {Options{Values: []string{"aa"}}, []string{"xaaaaax", "aa", "a", "y"}, "x[MASKED]x[MASKED]y"},
		"a value of one byte":                   {Options{Values: []string{"a"}}, []string{"aab"}, "[MASKED][MASKED]b"},
		"a value of several lines":              {Options{Values: []string{"one\ntwo\n"}}, []string{"one\n", "two\n", "one\n", "three\n"}, "[MASKED]\none\nthree\n"},
		"values are trimmed, empty ones unused": {Options{Values: []string{" \n", "", "  key\n"}}, []string{"a key b"}, "a [MASKED] b"},
		"the mask is not searched again":        {Options{Values: []string{"secret", "MASK"}}, []string{"secret"}, "[MASKED]"},
		"URL parameters": {Options{}, []string{"GET /?private_token=abc&x=1&RSS_Token=d?e X-Amz-Signature=f &x-amz-security-token=ü\x00g"},
			"GET /?private_token=[MASKED]&x=1&RSS_Token=[MASKED]?e X-Amz-Signature=f &x-amz-security-token=[MASKED]\x00g"},
		"URL parameters across writes":   {Options{}, []string{"?private_", "token", "=", "ab", "c", "&?x-amz-credential=", "\nnext"}, "?private_token=[MASKED]&?x-amz-credential=[MASKED]\nnext"},
		"parameters that only look like": {Options{}, []string{"?xprivate_token=a&private_tokens=b&x-amz-security-token-=c"}, "?xprivate_token=a&private_tokens=b&x-amz-security-token-=c"},
		"a token":                        {Options{}, []string{"glpat-aB3._=-x end"}, "glpat-[MASKED] end"},
		"a token across writes":          {Options{}, []string{"gl", "pat", "-", "a", "b", "\n"}, "glpat-[MASKED]\n"},
		"a prefix without a token":       {Options{}, []string{"glpat- glpat-", "\n"}, "glpat- glpat-\n"},
		"a token in a token":             {Options{}, []string{"glpat-glpat-x,"}, "glpat-[MASKED],"},
		"default prefixes":               {Options{TokenPrefixes: DefaultTokenPrefixes()}, []string{"glrt-t1_a glrtr-b glcbt-c _gitlab_session=d"}, "glrt-[MASKED] glrtr-[MASKED] glcbt-[MASKED] _gitlab_session=[MASKED]"},
		"a prefix inside a prefix":       {Options{TokenPrefixes: []string{"!-", "x!"}}, []string{"x!-a"}, "x![MASKED]"},
		"a prefix at a prefix's end":     {Options{TokenPrefixes: []string{"x!", "!?"}}, []string{"x!?a"}, "x!?[MASKED]"},
		"all filters": {Options{Values: []string{"hunter2"}}, []string{"?private_token=hunter2&a=glpat-hunter2 glpat-abc"},
			"?private_token=[MASKED]&a=glpat-[MASKED] glpat-[MASKED]"},
	} {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, test.want, masked(t, test.options, test.in...))
			require.Equal(t, test.want, masked(t, test.options, strings.Split(strings.Join(test.in, ""), "")...), "byte by byte")
		})
	}
}

func TestOrdinaryOutputIsNotHeldBack(t *testing.T) {
	var out sink
	w := NewWriter(&out, Options{Values: []string{"secret-value"}})
	for _, step := range []struct{ write, want string }{
		{"Password: ", "Password: "},
		{"line\nse", "Password: line\n"},
		{"lected", "Password: line\nselected"},
		{" glpat-", "Password: line\nselected glpat-"},
		{"x", "Password: line\nselected glpat-[MASKED]"},
	} {
		before := out.writes
		_, err := io.WriteString(w, step.write)
		require.NoError(t, err)
		require.Equal(t, step.want, out.String())
		require.LessOrEqual(t, out.writes, before+1, "one write makes one write")
	}
}

func TestMemoryIsBoundedByTheLongestValue(t *testing.T) {
	rules := NewRules(Options{Values: []string{"aa", strings.Repeat("ab", 500)}})
	w := rules.NewWriter(&sink{}).(*writer)
	for range 10_000 {
		_, err := w.Write([]byte("aaaaaaabababaabababa"))
		require.NoError(t, err)
		require.Less(t, cap(w.values.held), 4096)
		require.Less(t, cap(w.values.spans), 2*maxSpans)
	}
}

type failingSink struct{ err error }

func (f failingSink) Write([]byte) (int, error) { return 0, f.err }
func (f failingSink) Close() error              { return nil }

func TestErrorsOfTheUnderlyingWriterAreReported(t *testing.T) {
	broken := errors.New("broken")
	w := NewWriter(failingSink{broken}, Options{Values: []string{"abc"}})
	_, err := io.WriteString(w, "text")
	require.ErrorIs(t, err, broken)
	_, err = io.WriteString(w, "ab")
	require.NoError(t, err, "nothing to pass on yet")
	require.ErrorIs(t, w.Close(), broken)
}

// naive is the specification: three passes over the whole text.
func naive(o Options, text string) string {
	return naiveTokens(o.TokenPrefixes, naiveParameters(naiveValues(o.Values, text)))
}

func naiveValues(values []string, text string) string {
	var spans []span
	for _, value := range values {
		value = strings.TrimSpace(value)
		for at := 0; value != "" && at+len(value) <= len(text); at++ {
			if strings.HasPrefix(text[at:], value) {
				spans = append(spans, span{at, at + len(value)})
			}
		}
	}
	sort.Slice(spans, func(i, j int) bool {
		return spans[i].start < spans[j].start || spans[i].start == spans[j].start && spans[i].end > spans[j].end
	})
	var out strings.Builder
	done := 0
	for i := 0; i < len(spans); {
		start, end := spans[i].start, spans[i].end
		for i++; i < len(spans) && spans[i].start < end; i++ {
			end = max(end, spans[i].end)
		}
		out.WriteString(text[done:start] + mask)
		done = end
	}
	return out.String() + text[done:]
}

var naiveParameter = func() *regexp.Regexp {
	var names []string
	for _, name := range []string{"private_token", "authenticity_token", "rss_token", "x-amz-signature", "x-amz-credential", "x-amz-security-token"} {
		// (?i) would fold letters beyond ASCII too.
		names = append(names, regexp.MustCompile(`[a-z]`).ReplaceAllStringFunc(name, func(letter string) string {
			return "[" + letter + strings.ToUpper(letter) + "]"
		}))
	}
	return regexp.MustCompile(`([?&](?:` + strings.Join(names, "|") + `)=)[^?&\x00-\x20\x7f]*`)
}()

func naiveParameters(text string) string {
	return naiveParameter.ReplaceAllString(text, "${1}"+mask)
}

func naiveTokens(prefixes []string, text string) string {
	prefixes = append([]string{PersonalAccessTokenPrefix}, prefixes...)
	var out strings.Builder
	from := 0
	for at := 0; at < len(text); at++ {
		behind := false
		for _, prefix := range prefixes {
			behind = behind || prefix != "" && strings.HasSuffix(text[from:at], prefix)
		}
		if !behind || !inTokenAlphabet(text[at]) {
			continue
		}
		out.WriteString(text[from:at] + mask)
		for at < len(text) && inTokenAlphabet(text[at]) {
			at++
		}
		from = at
		at--
	}
	return out.String() + text[from:]
}

func TestMaskingIsThatOfTheSpecificationHoweverTheTextIsCut(t *testing.T) {
	fragment := rapid.OneOf(
		rapid.StringMatching(`[ab]{1,6}`),
		rapid.StringMatching(`[abc\n&?= -]{0,8}`),
		rapid.SampledFrom([]string{"glpat-", "gl", "private_token=", "?Private_Token=", "&x-amz-signature=", "[MASKED]", "\x00", "é", "\xff", "tok-"}),
	)
	rapid.Check(t, func(t *rapid.T) {
		o := Options{
			Values:        rapid.SliceOfN(rapid.StringMatching(`[ab\n]{0,6}`), 0, 5).Draw(t, "values"),
			TokenPrefixes: rapid.SliceOfN(rapid.SampledFrom([]string{"", "tok-", "k-a", "!", "b=", "lp"}), 0, 3).Draw(t, "prefixes"),
		}
		pieces := rapid.SliceOfN(fragment, 0, 20).Draw(t, "text")
		require.Equal(t, naive(o, strings.Join(pieces, "")), masked(t, o, pieces...))
	})
}

func FuzzMasking(f *testing.F) {
	f.Add("a ab\x00aab?private_token=x&glpat-y", "ab\naab", "tok-\nab", uint(3))
	f.Add("aaaaaa", "aa\naaa", "", uint(1))
	f.Add("abcabcd", "bc\nabcd\ncab", "glpat-", uint(2))
	f.Fuzz(func(t *testing.T, text, values, prefixes string, cut uint) {
		if len(text) > 2000 || len(values) > 200 || len(prefixes) > 200 {
			return // The specification is slow.
		}
		o := Options{Values: strings.Split(values, "\n"), TokenPrefixes: strings.Split(prefixes, "\n")}
		var pieces []string
		for rest, size := text, int(cut%17)+1; rest != ""; {
			n := min(size, len(rest))
			pieces, rest = append(pieces, rest[:n]), rest[n:]
		}
		require.Equal(t, naive(o, text), masked(t, o, pieces...))
	})
}

func secretsForBenchmark(count int) []string {
	random := rand.New(rand.NewPCG(1, 2))
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	secrets := make([]string, count)
	for i := range secrets {
		secret := make([]byte, 12+random.IntN(40))
		for j := range secret {
			secret[j] = alphabet[random.IntN(len(alphabet))]
		}
		secrets[i] = string(secret)
	}
	return secrets
}

func BenchmarkMasking(b *testing.B) {
	secrets := secretsForBenchmark(50)
	var log strings.Builder
	for i := 0; log.Len() < 1<<20; i++ {
		fmt.Fprintf(&log, "[%d/2048] Compiling package gitlab.example.com/group/project/internal/module%d (https://host/path?a=b&c=d)\n", i, i*7)
		if i%100 == 0 {
			fmt.Fprintf(&log, "token is %s and glpat-abcdefghijk\n", secrets[i/100%50])
		}
	}
	texts := map[string][]byte{
		"log":     []byte(log.String()),
		"hostile": bytes.Repeat([]byte(secrets[0][:len(secrets[0])-1]), 1<<20/len(secrets[0])),
	}
	for _, name := range []string{"log", "hostile"} {
		text := texts[name]
		b.Run(name, func(b *testing.B) {
			w := NewWriter(discard{}, Options{Values: secrets, TokenPrefixes: DefaultTokenPrefixes()})
			b.SetBytes(int64(len(text)))
			for b.Loop() {
				for rest := text; len(rest) > 0; {
					n := min(32<<10, len(rest))
					if _, err := w.Write(rest[:n]); err != nil {
						b.Fatal(err)
					}
					rest = rest[n:]
				}
			}
		})
	}
	b.Run("NewRules", func(b *testing.B) {
		for b.Loop() {
			NewRules(Options{Values: secrets, TokenPrefixes: DefaultTokenPrefixes()})
		}
	})
}

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }
func (discard) Close() error                { return nil }
