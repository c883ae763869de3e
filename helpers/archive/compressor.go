package archive

import (
	"archive/zip"
	"bytes"
	"fmt"

	"github.com/klauspost/compress/flate"
	"github.com/klauspost/compress/zstd"
)

// The method of zip entries that are compressed with zstd.
const methodZstd = zstd.ZipMethodWinZip

// compressor makes the parts of a zip entry's content, one after the other or side by side. One
// goroutine uses it at a time.
type compressor interface {
	// compress appends the compressed form of data to out. The history is what precedes data in the
	// file; last says that nothing follows.
	compress(out *bytes.Buffer, history, data []byte, last bool) error
}

func newCompressor(method uint16, level Level) (compressor, error) {
	if method == methodZstd {
		encoder, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstdLevel(level)), zstd.WithEncoderConcurrency(1))
		if err != nil {
			return nil, fmt.Errorf("starting zstd: %w", err)
		}
		return zstdParts{encoder}, nil
	}
	writer, err := flate.NewWriter(nil, deflateLevel(level))
	if err != nil {
		return nil, fmt.Errorf("starting deflate: %w", err)
	}
	return deflateParts{writer}, nil
}

// deflateParts makes parts that end at a byte's boundary, so that their concatenation is one deflate
// stream, as pigz does.
type deflateParts struct {
	writer *flate.Writer
}

func (d deflateParts) compress(out *bytes.Buffer, history, data []byte, last bool) error {
	d.writer.ResetDict(out, history)
	if _, err := d.writer.Write(data); err != nil {
		return err
	}
	if last {
		return d.writer.Close()
	}
	return d.writer.Flush()
}

// zstdParts makes one frame per part; a zstd stream is any number of frames.
type zstdParts struct {
	encoder *zstd.Encoder
}

func (z zstdParts) compress(out *bytes.Buffer, _, data []byte, _ bool) error {
	out.Grow(len(data)/2 + 64)
	compressed := z.encoder.EncodeAll(data, out.AvailableBuffer())
	_, err := out.Write(compressed)
	return err
}

func method(format Format) uint16 {
	if format == ZipZstd {
		return methodZstd
	}
	return zip.Deflate
}

func deflateLevel(level Level) int {
	switch level {
	case Fastest:
		return 1
	case Fast:
		return 3
	case Slow:
		return 7
	case Slowest:
		return 9
	default:
		return 5
	}
}

func zstdLevel(level Level) zstd.EncoderLevel {
	switch level {
	case Fastest, Fast:
		return zstd.SpeedFastest
	case Slow:
		return zstd.SpeedBetterCompression
	case Slowest:
		return zstd.SpeedBestCompression
	default:
		return zstd.SpeedDefault
	}
}
