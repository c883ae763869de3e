package joblog_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"gitlab.com/gitlab-org/gitlab-runner/common/joblog"
)

func TestAPlainLineIsWhatPeopleRead(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]string{
		"":                                  "",
		"text":                              "text",
		"text\r\n":                          "text",
		"\x1b[0K\x1b[36;1mTitle\x1b[0;m\n":  "Title",
		"10 %\r50 %\r100 %\r":               "100 %",
		"section_start:7:a\r\x1b[0KTitle":   "Title",
		"\x1b]8;;https://example.com\alink": "link",
	} {
		require.Equal(t, want, string(joblog.Plain([]byte(line))), "%q", line)
	}
}
