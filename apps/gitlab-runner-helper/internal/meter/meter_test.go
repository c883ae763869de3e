package meter_test

import (
	"bytes"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/gitlab-org/gitlab-runner/apps/gitlab-runner-helper/internal/console"
	"gitlab.com/gitlab-org/gitlab-runner/apps/gitlab-runner-helper/internal/meter"
)

func TestTransferIsToldOfEverySoOften(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		m := meter.Meter{Console: &console.Console{Out: &out}, Every: 10 * time.Second}
		transfer := m.Begin("Downloading cache.zip", 4<<20)
		read := func(n int) {
			_, err := io.Copy(io.Discard, transfer.Reader(strings.NewReader(strings.Repeat("x", n))))
			require.NoError(t, err)
		}
		_, err := transfer.Writer(io.Discard).Write(make([]byte, 1<<20))
		require.NoError(t, err)
		time.Sleep(11 * time.Second)
		read(1 << 20)
		time.Sleep(10 * time.Second)
		transfer.Restart()
		read(100)
		time.Sleep(10 * time.Second)
		transfer.End()
		time.Sleep(time.Minute)
		require.Equal(t, `Downloading cache.zip: 1MiB of 4MiB (25%), 102.4KiB/s
Downloading cache.zip: 2MiB of 4MiB (50%), 102.4KiB/s
Downloading cache.zip: 100B of 4MiB (0%), 3.333B/s
`, out.String())
	})
}

func TestTransferOfUnknownSizeIsToldWithoutAShare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		transfer := meter.Meter{Console: &console.Console{Out: &out}, Every: time.Second}.Begin("Uploading artifacts.zip", -1)
		time.Sleep(1500 * time.Millisecond)
		transfer.End()
		require.Equal(t, "Uploading artifacts.zip: 0B, 0B/s\n", out.String())
	})
}

func TestNothingIsToldUnlessAskedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		transfer := meter.Meter{Console: &console.Console{Out: &out}}.Begin("Uploading", 10)
		time.Sleep(time.Hour)
		transfer.End()
		require.Empty(t, out.String())
	})
}
