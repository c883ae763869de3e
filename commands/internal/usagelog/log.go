// Package usagelog keeps account of jobs that ended: one line of JSON each, in files that begin anew after a while,
// and of which the newest are kept. Only package commands imports it.
//
// What it guarantees: a line is in the file when Store returns without an error, and half a one is only ever the last
// of its file. What cannot be written, on a full disk, takes the place of nothing that is there. Files with other names
// are left alone.
package usagelog

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
)

const (
	prefix     = "usage-log-"
	timeFormat = "2006-01-02-15-04-05.000"
	suffix     = ".json"
)

// Options say where the log is and how it is kept.
type Options struct {
	Dir string
	// MaxAge is after how long a file is followed by another one.
	MaxAge time.Duration
	// MaxFiles is how many are kept, the one that is written to among them.
	MaxFiles int
	// Labels are added to those of records, and win over them.
	Labels map[string]string
}

func (o Options) equal(other Options) bool {
	return o.Dir == other.Dir && o.MaxAge == other.MaxAge && o.MaxFiles == other.MaxFiles && maps.Equal(o.Labels, other.Labels)
}

// Log is a log that may be switched on and off. It is off at first. It is safe for concurrent use.
type Log struct {
	mu sync.Mutex
	// options are nil while it is off.
	options *Options
	// file is nil until there is a record for it.
	file   *os.File
	opened time.Time
}

// Use follows options from now on, nil to switch it off. With those in force already the file stays the same; changed
// tells whether they are others.
func (l *Log) Use(options *Options) (changed bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if options == nil && l.options == nil || options != nil && l.options != nil && options.equal(*l.options) {
		return false, nil
	}
	l.options = options
	return true, l.closeFile()
}

// Close switches it off.
func (l *Log) Close() error {
	_, err := l.Use(nil)
	return err
}

// Store writes a record with an id and the time of this moment, if the log is on.
func (l *Log) Store(record Record) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.options == nil {
		return nil
	}
	id, err := uuid.NewV7()
	if err != nil {
		return fmt.Errorf("naming a record of usage: %w", err)
	}
	labels := map[string]string{}
	maps.Copy(labels, record.Labels)
	maps.Copy(labels, l.options.Labels)
	record.UUID, record.Timestamp, record.Labels = id.String(), time.Now().UTC(), labels
	line, err := json.Marshal(record)
	if err != nil {
		return fmt.Errorf("encoding a record of usage: %w", err)
	}
	begins := l.file == nil || record.Timestamp.Sub(l.opened) >= l.options.MaxAge || !l.there()
	if begins {
		if err := l.begin(record.Timestamp); err != nil {
			return fmt.Errorf("beginning a file of usage: %w", err)
		}
	}
	if n, err := l.file.Write(append(line, '\n')); err != nil {
		return fmt.Errorf("writing a record of usage: %w", errors.Join(err, l.takeBack(n)))
	}
	if begins {
		if err := l.tidy(); err != nil {
			return fmt.Errorf("removing old files of usage: %w", err)
		}
	}
	return nil
}

// begin opens the next file.
func (l *Log) begin(now time.Time) error {
	if err := l.closeFile(); err != nil {
		return err
	}
	if err := os.MkdirAll(l.options.Dir, 0o755); err != nil {
		return err
	}
	name := prefix + now.Format(timeFormat) + suffix
	file, err := os.OpenFile(filepath.Join(l.options.Dir, name), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	l.file, l.opened = file, now
	return nil
}

// there says whether the file is still found under its name, where somebody may have removed it.
func (l *Log) there() bool {
	ours, err := l.file.Stat()
	if err != nil {
		return false
	}
	found, err := os.Stat(l.file.Name())
	return err == nil && os.SameFile(ours, found)
}

// takeBack leaves nothing of a line of which so many bytes were written, and no file of nothing else: each line that fails
// would begin one more, and tidy keeps the newest. Where that fails, too, another file begins, so that half a line is the
// last one of its file.
func (l *Log) takeBack(written int) error {
	info, err := l.file.Stat()
	if err != nil {
		return errors.Join(err, l.closeFile())
	}
	rest := info.Size() - int64(written)
	if rest <= 0 {
		name := l.file.Name()
		return errors.Join(l.closeFile(), os.Remove(name))
	}
	if err := l.file.Truncate(rest); err != nil {
		return errors.Join(err, l.closeFile())
	}
	return nil
}

func (l *Log) closeFile() error {
	if l.file == nil {
		return nil
	}
	err := l.file.Close()
	l.file = nil
	return err
}

// tidy removes the oldest files.
func (l *Log) tidy() error {
	entries, err := os.ReadDir(l.options.Dir)
	if err != nil {
		return err
	}
	var names []string
	for _, entry := range entries {
		middle, ours := strings.CutPrefix(entry.Name(), prefix)
		middle, ends := strings.CutSuffix(middle, suffix)
		if _, err := time.Parse(timeFormat, middle); err == nil && ours && ends && entry.Type().IsRegular() {
			names = append(names, entry.Name())
		}
	}
	// Their names sort as their times do.
	slices.Sort(names)
	var errs []error
	for _, name := range names[:max(0, len(names)-l.options.MaxFiles)] {
		errs = append(errs, os.Remove(filepath.Join(l.options.Dir, name)))
	}
	return errors.Join(errs...)
}
