package storage

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/gitlab-org/fleeting/fleeting/provider"
)

func exampleState(id string, used int) State {
	return State{
		ID: id,
		ConnectInfo: provider.ConnectInfo{
			ConnectorConfig: provider.ConnectorConfig{
				OS: "linux", Protocol: provider.ProtocolSSH, Username: "root", Password: "<&>", Key: []byte("key\x00\xff"),
				Timeout: time.Minute,
			},
			ID: id, ExternalAddr: "192.0.2.1", HostKeys: []string{"ssh-ed25519 AAAA"},
		},
		UsedCount:     used,
		Acquisitions:  []Acquisition{{Key: "a", Slot: 1}, {Key: "b", Slot: 3, Suspended: true}},
		RemovalReason: "because",
		IdleSince:     time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC),
	}
}

func byID(t require.TestingT, s Storage) map[string]State {
	states, err := s.List()
	require.NoError(t, err)
	found := map[string]State{}
	for _, state := range states {
		require.NotContains(t, found, state.ID)
		found[state.ID] = state
	}
	return found
}

func TestAStateComesBackAsItWasPut(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "deep", "state")
	s, err := NewFileStorage(dir)
	require.NoError(t, err)

	ids := []string{
		"i-0", "zones/europe/i-1", "../../etc/passwd", "/abs", "", "UPPER", "upper", "ünïcode", strings.Repeat("long", 200) + "1",
		strings.Repeat("long", 200) + "2", "a\x00b", "C:\\x", "con", ".", "..",
	}
	for i, id := range ids {
		require.NoError(t, s.Put(exampleState(id, i)))
	}

	again, err := NewFileStorage(dir)
	require.NoError(t, err)
	found := byID(t, again)
	require.Len(t, found, len(ids))
	for i, id := range ids {
		require.Equal(t, exampleState(id, i), found[id])
	}

	parent, err := os.ReadDir(filepath.Dir(dir))
	require.NoError(t, err)
	require.Len(t, parent, 1, "nothing was written outside the directory")
}

func TestPutReplacesAndDeleteRemoves(t *testing.T) {
	s, err := NewFileStorage(t.TempDir())
	require.NoError(t, err)
	require.NoError(t, s.Put(exampleState("i-1", 1)))
	require.NoError(t, s.Put(exampleState("i-2", 1)))
	require.NoError(t, s.Put(exampleState("i-1", 2)))
	require.Equal(t, 2, byID(t, s)["i-1"].UsedCount)

	require.NoError(t, s.Delete("i-1"))
	require.NoError(t, s.Delete("i-1"), "deleting twice is no error")
	require.NoError(t, s.Delete("never-there"))
	require.Equal(t, map[string]State{"i-2": exampleState("i-2", 1)}, byID(t, s))
}

func TestPutRefusesAnIDThatItCouldNotReadBack(t *testing.T) {
	s, err := NewFileStorage(t.TempDir())
	require.NoError(t, err)
	require.ErrorContains(t, s.Put(exampleState("i-\xff", 1)), "not valid UTF-8")
}

func TestFilesAreReadableByTheirOwnerOnly(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("Windows has no permission bits; the directory inherits the access list of its parent")
	}
	dir := filepath.Join(t.TempDir(), "state")
	require.NoError(t, os.Mkdir(dir, 0o755))
	s, err := NewFileStorage(dir)
	require.NoError(t, err)
	require.NoError(t, s.Put(exampleState("i-1", 1)))

	info, err := os.Stat(dir)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o700), info.Mode().Perm())
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	require.NoError(t, err)
	require.Len(t, files, 1)
	info, err = os.Stat(files[0])
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
}

func TestNewFileStorageNamesADirectoryItCannotUse(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(path, nil, 0o600))
	_, err := NewFileStorage(path)
	require.ErrorContains(t, err, fmt.Sprintf("opening state directory %q", path))
}

func TestAnUnusableFileIsSetAsideAndNamedAndTheOthersAreRead(t *testing.T) {
	good, err := encode(exampleState("i-bad", 1))
	require.NoError(t, err)
	other, err := encode(exampleState("i-other", 1))
	require.NoError(t, err)

	tests := map[string]struct {
		content []byte
		message string
	}{
		"empty":               {nil, "not a complete state"},
		"half written":        {good[:len(good)/2], "not a complete state"},
		"zeroes":              {make([]byte, 512), "not a complete state"},
		"changed":             {[]byte(strings.Replace(string(good), `"used_count":1`, `"used_count":0`, 1)), "checksum"},
		"of another instance": {other, `another instance, "i-other"`},
		"of a later version":  {[]byte(strings.Replace(string(good), `"version":1`, `"version":2`, 1)), "version 2"},
		"no state":            {[]byte(`{"version":1,"sha256":"` + checksum([]byte("[]")) + `","state":[]}`), "not a state"},
		"too large":           {append(good, make([]byte, maxStateSize)...), "larger than 1048576 bytes"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			s, err := NewFileStorage(dir)
			require.NoError(t, err)
			require.NoError(t, s.Put(exampleState("i-good", 1)))
			path := filepath.Join(dir, fileName("i-bad"))
			require.NoError(t, os.WriteFile(path, tt.content, 0o600))

			states, err := s.List()
			require.ErrorContains(t, err, path)
			require.ErrorContains(t, err, tt.message)
			require.Equal(t, []State{exampleState("i-good", 1)}, states)

			kept, readErr := os.ReadFile(path + ".corrupt")
			require.NoError(t, readErr)
			require.Equal(t, len(tt.content), len(kept))
			require.Len(t, byID(t, s), 1, "the second time it is not in the way any more")
			require.NoError(t, s.Put(exampleState("i-bad", 2)))
			require.Len(t, byID(t, s), 2)
		})
	}
}

func TestLinksOutOfTheDirectoryAreNotFollowed(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("creating links needs a privilege on Windows")
	}
	dir, outside := t.TempDir(), filepath.Join(t.TempDir(), "outside")
	require.NoError(t, os.WriteFile(outside, []byte("untouched"), 0o600))
	require.NoError(t, os.Symlink(outside, filepath.Join(dir, fileName("i-1")+temporarySuffix)))
	s, err := NewFileStorage(dir)
	require.NoError(t, err)
	require.Error(t, s.Put(exampleState("i-1", 1)))

	content, err := os.ReadFile(outside)
	require.NoError(t, err)
	require.Equal(t, "untouched", string(content))
}

func TestConcurrentUse(t *testing.T) {
	s, err := NewFileStorage(t.TempDir())
	require.NoError(t, err)
	var group sync.WaitGroup
	for i := range 8 {
		group.Go(func() {
			for n := range 10 {
				id := fmt.Sprint("i-", (i+n)%4)
				if err := s.Put(exampleState(id, n)); err != nil {
					t.Error(err)
				}
				if _, err := s.List(); err != nil {
					t.Error(err)
				}
				if err := s.Delete(id); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	require.Empty(t, byID(t, s))
}

func FuzzDecode(f *testing.F) {
	good, err := encode(exampleState("i-1", 1))
	require.NoError(f, err)
	f.Add(good)
	f.Add([]byte("{}"))
	f.Add([]byte(`{"version":1,"sha256":"","state":null}`))
	f.Fuzz(func(t *testing.T, content []byte) {
		state, err := decode(content)
		if err != nil {
			return
		}
		again, err := encode(state)
		require.NoError(t, err)
		reread, err := decode(again)
		require.NoError(t, err)
		require.Equal(t, state, reread)
	})
}
