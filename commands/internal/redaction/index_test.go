package redaction

import (
	"fmt"
	"strings"
	"testing"

	"github.com/sirupsen/logrus"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"gitlab.com/gitlab-org/gitlab-runner/helpers/masking"
)

// The package masking hides the values of one job in a stream; a line of the log has to come out alike, whatever
// values have come and gone.
func TestIndexHidesWhatIsHeldAsTheMaskOfJobLogsDoes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		value := rapid.StringMatching(`[abc]{3,8}`)
		var x index
		held := map[string]int{}
		t.Repeat(map[string]func(*rapid.T){
			"add": func(t *rapid.T) {
				v := value.Draw(t, "value")
				x.add(v)
				held[v]++
			},
			"remove": func(t *rapid.T) {
				var all []string
				for v := range held {
					all = append(all, v)
				}
				if len(all) == 0 {
					t.Skip()
				}
				v := rapid.SampledFrom(all).Draw(t, "value")
				x.remove(v)
				if held[v]--; held[v] == 0 {
					delete(held, v)
				}
			},
			"": func(t *rapid.T) {
				text := rapid.StringMatching(`[abcx]{0,60}`).Draw(t, "text")
				var values []string
				for v := range held {
					values = append(values, v)
				}
				var want buffer
				w := masking.NewWriter(&want, masking.Options{Values: values})
				_, err := w.Write([]byte(text))
				require.NoError(t, err)
				require.NoError(t, w.Close())
				require.Equal(t, want.String(), x.hide(text, masked))
			},
		})
		for v, count := range held {
			for range count {
				x.remove(v)
			}
		}
		require.Empty(t, x.heads, "nothing is kept of what is gone")
	})
}

// A job that begins and ends, and a line between, while 200 others with 50 values each are running.
func BenchmarkLineOfAJobAmongManyWithManyValues(b *testing.B) {
	values := func(job int) []string {
		out := make([]string, 50)
		for i := range out {
			out[i] = fmt.Sprintf("value-%d-of-job-%d-%s", i, job, strings.Repeat("s", 20))
		}
		return out
	}
	f := New(&logrus.TextFormatter{DisableColors: true})
	for job := range 200 {
		defer f.Hold(values(job))()
	}
	entry := logrus.NewEntry(logrus.New()).WithField("job", 7)
	entry.Message = strings.Repeat("what a manager says of a job ", 5)
	mine := values(200)
	for b.Loop() {
		release := f.Hold(mine)
		if _, err := f.Format(entry); err != nil {
			b.Fatal(err)
		}
		release()
	}
}
