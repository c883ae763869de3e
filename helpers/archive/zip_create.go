package archive

import (
	"archive/zip"
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"math"
	"os"
	"time"
	"unicode/utf8"

	"golang.org/x/sync/errgroup"
)

const (
	// chunkSize is how much of a file is compressed at once. Larger files are cut.
	chunkSize = 1 << 20
	// historySize is how far back deflate looks.
	historySize = 32 << 10
)

// part is one chunk of a file, or a whole small entry, on its way from the reader by a worker to the
// writer.
type part struct {
	entry       entry
	first, last bool
	// small means that a worker opens and reads the file itself.
	small bool
	// gone is set by the worker of a small file that vanished.
	gone bool

	buffer     []byte
	history    []byte
	data       []byte
	compressed bytes.Buffer
	// ready is closed when the worker is done.
	ready chan struct{}
}

// reset leaves nothing but memory to be used again.
func (p *part) reset() {
	p.entry = entry{}
	p.first, p.last, p.small, p.gone = false, false, false, false
	p.history, p.data = nil, nil
	p.compressed.Reset()
	p.ready = make(chan struct{})
}

func (p *part) room() {
	if p.buffer == nil {
		p.buffer = make([]byte, historySize+chunkSize)
	}
}

// zipJob packs files into a zip: a reader cuts them into parts in order, workers compress the parts
// side by side, a writer writes them in order. The parts in being are bounded.
type zipJob struct {
	root *os.Root
	opts Options
	// free holds the parts that nobody uses; it bounds memory.
	free    chan *part
	work    chan *part
	ordered chan *part
}

func createZip(ctx context.Context, w io.Writer, root *os.Root, names []string, opts Options) error {
	count := workers()
	inFlight := 4*count + 4
	job := &zipJob{
		root: root, opts: opts,
		free:    make(chan *part, inFlight),
		work:    make(chan *part, inFlight),
		ordered: make(chan *part, inFlight),
	}
	for range inFlight {
		job.free <- &part{}
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		defer close(job.work)
		defer close(job.ordered)
		return job.read(ctx, names)
	})
	for range count {
		group.Go(func() error { return job.compress(ctx) })
	}
	group.Go(func() error { return job.write(ctx, w) })
	return group.Wait()
}

// take returns an unused part.
func (j *zipJob) take(ctx context.Context) (*part, error) {
	select {
	case p := <-j.free:
		p.reset()
		return p, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// send never waits: the channels have room for every part.
func (j *zipJob) send(p *part) {
	j.work <- p
	j.ordered <- p
}

func (j *zipJob) read(ctx context.Context, names []string) error {
	for _, name := range names {
		e, ok, err := stat(j.root, name, j.opts)
		if err != nil {
			return err
		}
		if !ok {
			continue
		}
		if e.info.Mode().IsRegular() && e.info.Size() > chunkSize {
			err = j.readLarge(ctx, e)
		} else {
			err = j.readSmall(ctx, e)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (j *zipJob) readSmall(ctx context.Context, e entry) error {
	p, err := j.take(ctx)
	if err != nil {
		return err
	}
	p.entry, p.small, p.first, p.last = e, true, true, true
	j.send(p)
	return nil
}

func (j *zipJob) readLarge(ctx context.Context, e entry) error {
	f, _, ok, err := openEntry(j.root, e, j.opts)
	if err != nil || !ok {
		return err
	}
	defer f.Close()
	// The first part has no history; each later one begins with the end of the one before.
	var tail []byte
	for first := true; ; first = false {
		p, err := j.take(ctx)
		if err != nil {
			return err
		}
		p.room()
		kept := copy(p.buffer, tail)
		n, err := io.ReadFull(f, p.buffer[kept:kept+chunkSize])
		ended := errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
		if err != nil && !ended {
			return fmt.Errorf("reading %s: %w", e.name, err)
		}
		p.entry, p.first, p.last = e, first, ended
		p.history, p.data = p.buffer[:kept], p.buffer[kept:kept+n]
		if !ended {
			tail = append(tail[:0], p.data[len(p.data)-historySize:]...)
		}
		j.send(p)
		if ended {
			return nil
		}
	}
}

func (j *zipJob) compress(ctx context.Context) error {
	compressor, err := newCompressor(method(j.opts.Format), j.opts.Level)
	if err != nil {
		return err
	}
	for p := range j.work {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if p.small {
			if err := j.load(p); err != nil {
				return err
			}
		}
		if len(p.data) > 0 || !p.small {
			if err := compressor.compress(&p.compressed, p.history, p.data, p.last); err != nil {
				return fmt.Errorf("packing %s: %w", p.entry.name, err)
			}
		}
		close(p.ready)
	}
	return nil
}

// load reads the content of a small entry.
func (j *zipJob) load(p *part) error {
	if p.entry.info.Mode().Type() == fs.ModeSymlink {
		p.data = []byte(p.entry.target)
		return nil
	}
	if !p.entry.info.Mode().IsRegular() || p.entry.info.Size() == 0 {
		return nil
	}
	f, size, ok, err := openEntry(j.root, p.entry, Options{})
	if err != nil {
		return err
	}
	if !ok {
		p.gone = true
		return nil
	}
	defer f.Close()
	p.room()
	n, err := io.ReadFull(f, p.buffer[:min(size, chunkSize)])
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		return fmt.Errorf("reading %s: %w", p.entry.name, err)
	}
	p.data = p.buffer[:n]
	return nil
}

func (j *zipJob) write(ctx context.Context, w io.Writer) error {
	out := bufio.NewWriterSize(w, outputBuffer)
	archive := zip.NewWriter(out)
	var header *zip.FileHeader
	var body io.Writer
	for p := range j.ordered {
		select {
		case <-p.ready:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if p.gone {
			j.opts.skip(p.entry.name, "it vanished")
			j.free <- p
			continue
		}
		if p.first {
			var err error
			header = zipHeader(p, method(j.opts.Format))
			body, err = archive.CreateRaw(header)
			if err != nil {
				return fmt.Errorf("packing %s: %w", p.entry.name, err)
			}
		}
		if !p.small {
			count(header, p)
		}
		content := p.compressed.Bytes()
		if header.Method == zip.Store {
			content = p.data
		}
		if _, err := body.Write(content); err != nil {
			return fmt.Errorf("writing the archive: %w", err)
		}
		j.free <- p
	}
	if err := archive.Close(); err != nil {
		return fmt.Errorf("writing the archive: %w", err)
	}
	if err := out.Flush(); err != nil {
		return fmt.Errorf("writing the archive: %w", err)
	}
	return nil
}

// zipHeader describes an entry by its first part. A small one is described completely, others get
// their sizes in a descriptor after the content.
func zipHeader(p *part, method uint16) *zip.FileHeader {
	const (
		sizesFollow = 0x8
		utf8Name    = 0x800
	)
	info := p.entry.info
	header := &zip.FileHeader{Name: p.entry.name, Method: method, Modified: info.ModTime()}
	header.SetMode(info.Mode())
	if info.IsDir() {
		header.Name += "/"
	}
	if !ascii(header.Name) && utf8.ValidString(header.Name) {
		header.Flags |= utf8Name
	}
	//lint:ignore SA1019 CreateRaw takes the time from these
	header.ModifiedDate, header.ModifiedTime = dosTime(info.ModTime())
	header.Extra = extraFields(info)
	if !p.small {
		header.Flags |= sizesFollow
		return header
	}
	count(header, p)
	if p.compressed.Len() >= len(p.data) {
		header.Method = zip.Store
		header.CompressedSize64 = header.UncompressedSize64
	}
	return header
}

// count adds a part to its entry's sums.
func count(header *zip.FileHeader, p *part) {
	header.CRC32 = crc32.Update(header.CRC32, crc32.IEEETable, p.data)
	header.UncompressedSize64 += uint64(len(p.data))
	header.CompressedSize64 += uint64(p.compressed.Len())
	//lint:ignore SA1019 the zip package writes these into the descriptor after the content
	header.UncompressedSize = uint32(min(header.UncompressedSize64, math.MaxUint32))
	//lint:ignore SA1019 as above
	header.CompressedSize = uint32(min(header.CompressedSize64, math.MaxUint32))
}

func ascii(text string) bool {
	for i := range len(text) {
		if text[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// dosTime is for readers that do not know the extra field with the exact time.
func dosTime(t time.Time) (date, clock uint16) {
	t = t.UTC()
	if t.Year() < 1980 || t.Year() > 2107 {
		return 1<<5 | 1, 0
	}
	date = uint16((t.Year()-1980)<<9 | int(t.Month())<<5 | t.Day())
	clock = uint16(t.Hour()<<11 | t.Minute()<<5 | t.Second()/2)
	return date, clock
}

const (
	extraTime  = 0x5455
	extraOwner = 0x7875
)

// extraFields are the time in seconds and, where there is one, the owner.
func extraFields(info fs.FileInfo) []byte {
	le := binary.LittleEndian
	var extra []byte
	if seconds := info.ModTime().Unix(); seconds >= math.MinInt32 && seconds <= math.MaxInt32 {
		extra = le.AppendUint16(extra, extraTime)
		extra = le.AppendUint16(extra, 5)
		extra = append(extra, 1)
		extra = le.AppendUint32(extra, uint32(seconds))
	}
	if uid, gid, ok := owner(info); ok {
		extra = le.AppendUint16(extra, extraOwner)
		extra = le.AppendUint16(extra, 11)
		extra = append(extra, 1, 4)
		extra = le.AppendUint32(extra, uid)
		extra = append(extra, 4)
		extra = le.AppendUint32(extra, gid)
	}
	return extra
}
