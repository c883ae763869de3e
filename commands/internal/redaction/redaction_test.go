package redaction_test

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"github.com/sirupsen/logrus"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"gitlab.com/gitlab-org/gitlab-runner/commands/internal/redaction"
)

func formats() map[string]logrus.Formatter {
	return map[string]logrus.Formatter{
		"text": &logrus.TextFormatter{}, "json": &logrus.JSONFormatter{},
		"json as it is": &logrus.JSONFormatter{DisableHTMLEscape: true},
	}
}

func TestSecretsAreHiddenWhereverTheyStand(t *testing.T) {
	const odd = "a\"b\\c<d>\n&e"
	for name, inner := range formats() {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			log := logrus.New()
			f := redaction.New(inner)
			log.SetOutput(&out)
			log.SetFormatter(f)
			f.Learn([]string{"s3cret", odd, "", " "})
			release := f.Hold([]string{"of-a-job"})
			again := f.Hold([]string{"of-a-job"})
			log.WithError(fmt.Errorf("refused: %w", errors.New("password s3cret"))).WithField("odd", odd).WithField("runner", "abcdefghi").
				Warning("of-a-job glcbt-64_anythingLongEnough and glrt-abcdefghijklmnop")
			line := out.String()
			for _, secret := range []string{"s3cret", "of-a-job", "anythingLongEnough", "ijklmnop", `\\c`, "d>", "u003cd"} {
				require.NotContains(t, line, secret)
			}
			require.Contains(t, line, "[MASKED]")
			require.Contains(t, line, "abcdefghi", "the short token of a runner is shown")

			release()
			out.Reset()
			log.Info("of-a-job")
			require.NotContains(t, out.String(), "of-a-job", "somebody still holds it")
			again()
			out.Reset()
			log.Info("of-a-job")
			require.Contains(t, out.String(), "of-a-job")
		})
	}
}

func TestSecretsAreHiddenInATextThatIsNoEntry(t *testing.T) {
	f := redaction.New(&logrus.TextFormatter{})
	f.Learn([]string{"s3cret", "a\"b\\c"})
	release := f.Hold([]string{"of-a-job"})
	got := f.Hide(`s3cret a"b\c "a\"b\\c" of-a-job glrt-abcdefghijklmnop and the rest`)
	require.Equal(t, `[MASKED] [MASKED] "[MASKED]" [MASKED] glrt-[MASKED] and the rest`, got)
	release()
	require.Equal(t, "of-a-job", f.Hide("of-a-job"))
}

func TestNoValueGetsThroughInAnyFormat(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		secret := rapid.StringMatching(`[ -~\n\t]{6,20}[A-Z]{4}[ -~]{1,5}x`).Draw(t, "secret")
		for _, inner := range formats() {
			f := redaction.New(inner)
			f.Learn([]string{secret})
			log := logrus.New()
			entry := logrus.NewEntry(log).WithField("field", "<"+secret+">")
			entry.Message = "message " + secret
			line, err := f.Format(entry)
			require.NoError(t, err)
			require.NotContains(t, string(line), secret[len(secret)-12:])
		}
	})
}
