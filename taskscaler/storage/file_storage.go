package storage

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"sync"
	"unicode/utf8"
)

const (
	stateSuffix      = ".json"
	temporarySuffix  = ".tmp"
	quarantineSuffix = ".corrupt"

	// maxStateSize is far beyond any state: some thousand acquisitions.
	maxStateSize = 1 << 20
)

// FileStorage is a Storage of one JSON file per instance. One process at a time may use a directory.
type FileStorage struct {
	dir   string
	files fileSystem

	// mu serialises changes, as writes of one state share the name of their temporary file.
	mu sync.Mutex
}

var _ Storage = (*FileStorage)(nil)

// NewFileStorage returns a storage in a directory, which it creates if necessary (with access for the
// owner only), and removes what an interrupted Put left there.
func NewFileStorage(dir string) (*FileStorage, error) {
	files, err := openDirectory(dir)
	if err != nil {
		return nil, fmt.Errorf("opening state directory %q: %w", dir, err)
	}
	return newFileStorage(dir, files)
}

func newFileStorage(dir string, files fileSystem) (*FileStorage, error) {
	names, err := files.list()
	if err != nil {
		return nil, fmt.Errorf("listing state directory %q: %w", dir, err)
	}
	for _, name := range names {
		if strings.HasSuffix(name, stateSuffix+temporarySuffix) {
			if err := files.remove(name); err != nil {
				return nil, fmt.Errorf("removing unfinished state file %q: %w", filepath.Join(dir, name), err)
			}
		}
	}
	return &FileStorage{dir: dir, files: files}, nil
}

// List returns all states. A file that is not a complete state is renamed, with ".corrupt" added to
// its name, and the error names it.
func (s *FileStorage) List() ([]State, error) {
	s.mu.Lock()
	defer s.mu.Unlock()

	names, err := s.files.list()
	if err != nil {
		return nil, fmt.Errorf("listing state directory %q: %w", s.dir, err)
	}
	var states []State
	var problems []error
	for _, name := range names {
		if !strings.HasSuffix(name, stateSuffix) {
			continue
		}
		state, err := s.load(name)
		if err == nil {
			states = append(states, state)
			continue
		}
		if pathError := (*fs.PathError)(nil); errors.As(err, &pathError) {
			// The content may be good: leave it for a time when it can be read.
			problems = append(problems, fmt.Errorf("reading state file %q: %w", filepath.Join(s.dir, name), err))
			continue
		}
		problems = append(problems, s.quarantine(name, err))
	}
	return states, errors.Join(problems...)
}

// Put writes the state beside the old one, has it written to the disk and only then moves it to the
// old one's place.
func (s *FileStorage) Put(state State) error {
	content, err := encode(state)
	if err != nil {
		return fmt.Errorf("encoding state of instance %q: %w", state.ID, err)
	}

	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.replace(fileName(state.ID), content); err != nil {
		return fmt.Errorf("storing state of instance %q: %w", state.ID, err)
	}
	return nil
}

// Delete removes the state of an instance.
func (s *FileStorage) Delete(id string) error {
	s.mu.Lock()
	defer s.mu.Unlock()

	err := s.files.remove(fileName(id))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = s.files.sync()
	}
	if err != nil {
		return fmt.Errorf("deleting state of instance %q: %w", id, err)
	}
	return nil
}

func (s *FileStorage) replace(name string, content []byte) error {
	temporary := name + temporarySuffix
	f, err := s.files.create(temporary)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = s.files.rename(temporary, name)
	}
	if err != nil {
		return errors.Join(err, s.files.remove(temporary))
	}
	return s.files.sync()
}

func (s *FileStorage) load(name string) (State, error) {
	content, err := s.files.read(name, maxStateSize)
	if err != nil {
		return State{}, err
	}
	state, err := decode(content)
	if err != nil {
		return State{}, err
	}
	if fileName(state.ID) != name {
		return State{}, fmt.Errorf("holds the state of another instance, %q", state.ID)
	}
	return state, nil
}

func (s *FileStorage) quarantine(name string, reason error) error {
	path := filepath.Join(s.dir, name)
	if err := s.files.rename(name, name+quarantineSuffix); err != nil {
		return fmt.Errorf("state file %q cannot be used (%w) nor be set aside: %w", path, reason, err)
	}
	return fmt.Errorf("state file %q cannot be used and was renamed to %q: %w", path, name+quarantineSuffix, reason)
}

// envelope is the content of a file. The checksum tells a file that was changed or cut from one that
// is as it was written.
type envelope struct {
	Version  int             `json:"version"`
	Checksum string          `json:"sha256"`
	State    json.RawMessage `json:"state"`
}

const envelopeVersion = 1

func encode(state State) ([]byte, error) {
	if !utf8.ValidString(state.ID) {
		return nil, errors.New("the id is not valid UTF-8")
	}
	raw, err := json.Marshal(state)
	if err != nil {
		return nil, err
	}
	return json.Marshal(envelope{Version: envelopeVersion, Checksum: checksum(raw), State: raw})
}

func decode(content []byte) (State, error) {
	var outer envelope
	if err := json.Unmarshal(content, &outer); err != nil {
		return State{}, fmt.Errorf("not a complete state: %w", err)
	}
	if outer.Version != envelopeVersion {
		return State{}, fmt.Errorf("written in version %d of the format, only %d is known", outer.Version, envelopeVersion)
	}
	if outer.Checksum != checksum(outer.State) {
		return State{}, errors.New("checksum does not match the content")
	}
	var state State
	if err := json.Unmarshal(outer.State, &state); err != nil {
		return State{}, fmt.Errorf("not a state: %w", err)
	}
	return state, nil
}

func checksum(content []byte) string {
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:])
}

// fileName is unique for an id, valid on every file system whatever the id contains, and begins with
// the readable part of the id.
func fileName(id string) string {
	const maxReadable = 64
	readable := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9', r == '-', r == '_':
			return r
		case r >= 'A' && r <= 'Z':
			return r + ('a' - 'A')
		default:
			return '_'
		}
	}, id)
	if len(readable) > maxReadable {
		// The end of an id tells instances apart.
		readable = readable[len(readable)-maxReadable:]
	}
	return readable + "-" + checksum([]byte(id))[:16] + stateSuffix
}
