package cache

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"gitlab.com/gitlab-org/gitlab-runner/helpers/archive"
)

const (
	metadataFile = "metadata.json"
	maxMetadata  = 64 << 10
)

// metadata stands beside a local archive.
type metadata struct {
	// CacheKey is the key as the user knows it.
	CacheKey string `json:"cachekey"`
	// Contents identifies the files in the archive, if it was made here.
	Contents string `json:"contents,omitempty"`
}

// openStore opens the directory of a local archive and returns the archive's name in it.
func openStore(file string) (store *os.Root, name string, err error) {
	if !filepath.IsAbs(file) {
		return nil, "", fmt.Errorf("the cache's file %q is not an absolute path", file)
	}
	store, err = os.OpenRoot(filepath.Dir(file))
	if err != nil {
		return nil, "", fmt.Errorf("opening the directory of the cache: %w", err)
	}
	return store, filepath.Base(file), nil
}

// makeStore is openStore for a directory that may have to be made.
func makeStore(file string) (store *os.Root, name string, err error) {
	if filepath.IsAbs(file) {
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			return nil, "", fmt.Errorf("making the directory of the cache: %w", err)
		}
	}
	return openStore(file)
}

func readMetadata(store *os.Root) metadata {
	var m metadata
	f, _, err := archive.OpenRegular(store, metadataFile)
	if err != nil {
		return m
	}
	defer f.Close()
	// Metadata that cannot be read is as good as none.
	if json.NewDecoder(io.LimitReader(f, maxMetadata)).Decode(&m) != nil {
		return metadata{}
	}
	return m
}

func writeMetadata(store *os.Root, m metadata) error {
	content, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("describing the cache: %w", err)
	}
	_ = store.Remove(metadataFile)
	if err := store.WriteFile(metadataFile, content, 0o600); err != nil {
		return fmt.Errorf("describing the cache: %w", err)
	}
	return nil
}

// contents describes files as they are now.
type contents struct {
	// digest identifies names, kinds, sizes and, to the second as archives keep them, times.
	digest string
	newest time.Time
}

func survey(root *os.Root, names []string) contents {
	hash := sha256.New()
	var c contents
	for _, name := range names {
		info, err := root.Lstat(name)
		if err != nil {
			// It vanished, and will not be in the archive.
			continue
		}
		if info.Mode().Type() == fs.ModeSymlink {
			// Unpacking does not restore a link's time.
			to, _ := root.Readlink(name)
			fmt.Fprintf(hash, "%q > %q\n", name, to)
			continue
		}
		if info.ModTime().After(c.newest) {
			c.newest = info.ModTime()
		}
		if info.IsDir() {
			fmt.Fprintf(hash, "%q\n", name+"/")
			continue
		}
		fmt.Fprintf(hash, "%q %d %d %s\n", name, info.Size(), info.ModTime().Unix(), info.Mode())
	}
	c.digest = hex.EncodeToString(hash.Sum(nil))
	return c
}
