package docker

import (
	"bytes"
	"encoding/binary"
	"io"
	"math"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func frame(kind byte, text string) string {
	return string(append([]byte{kind, 0, 0, 0}, binary.BigEndian.AppendUint32(nil, uint32(len(text)))...)) + text
}

func TestDemultiplexSplitsOutputs(t *testing.T) {
	cases := map[string]struct {
		input, stdout, stderr, err string
	}{
		"nothing":          {},
		"both":             {input: frame(1, "out") + frame(2, "err") + frame(1, "more"), stdout: "outmore", stderr: "err"},
		"empty frame":      {input: frame(1, "") + frame(1, "x"), stdout: "x"},
		"stdin echoed":     {input: frame(0, "in"), stdout: "in"},
		"invalid UTF-8":    {input: frame(1, "\xff\xfe"), stdout: "\xff\xfe"},
		"engine's error":   {input: frame(1, "a") + frame(3, "no space left\n"), stdout: "a", err: "no space left"},
		"unknown kind":     {input: frame(9, "a"), err: "unknown kind 9"},
		"broken header":    {input: "\x01\x00", err: "unexpected EOF"},
		"broken frame":     {input: frame(1, "whole") + frame(2, "cut")[:9], stdout: "whole", stderr: "c", err: "unexpected EOF"},
		"text, not frames": {input: "HTTP/1.1 200 OK\r\n\r\n", err: "unknown kind"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			err := Demultiplex(strings.NewReader(c.input), &stdout, &stderr)
			require.Equal(t, c.stdout, stdout.String())
			require.Equal(t, c.stderr, stderr.String())
			if c.err == "" {
				require.NoError(t, err)
			} else {
				require.ErrorContains(t, err, c.err)
			}
		})
	}
}

func TestAnEnormousFrameNeedsLittleMemory(t *testing.T) {
	const size = math.MaxUint32
	header := append([]byte{1, 0, 0, 0}, binary.BigEndian.AppendUint32(nil, size)...)
	input := io.MultiReader(bytes.NewReader(header), io.LimitReader(zeros{}, 256<<20))
	written := int64(0)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	err := Demultiplex(input, count{&written}, io.Discard)
	runtime.ReadMemStats(&after)
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	require.EqualValues(t, 256<<20, written)
	require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(1<<20))
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

type count struct{ n *int64 }

func (c count) Write(data []byte) (int, error) {
	*c.n += int64(len(data))
	return len(data), nil
}

func FuzzDemultiplexEndsOnAnyInput(f *testing.F) {
	f.Add([]byte(frame(1, "out") + frame(2, "err")))
	f.Add([]byte(frame(3, "error")))
	f.Add([]byte{1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 'x'})
	f.Fuzz(func(t *testing.T, input []byte) {
		var out bytes.Buffer
		_ = Demultiplex(bytes.NewReader(input), &out, &out)
		require.LessOrEqual(t, out.Len(), len(input))
	})
}
