package static

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// use is what a host is used for.
type use string

const (
	// idle hosts can be claimed. They are not in the file.
	idle use = ""
	// claimed hosts are instances.
	claimed use = "claimed"
	// resetting hosts were released and have not been reset yet.
	resetting use = "resetting"
	// released hosts are ready to be claimed, but for an update that tells that the last claim is over: a new
	// claim has the same id.
	released use = "released"
)

// fileLimit bounds the file of claims, in bytes.
const fileLimit = 4 << 20

// record is the content of the file.
type record struct {
	Hosts map[string]use `json:"hosts"`
}

// loadClaims reads the file. One that is not there is empty.
func loadClaims(path string) (map[string]use, error) {
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return map[string]use{}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("plugin_config state_file: %w", err)
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, fileLimit))
	if err != nil {
		return nil, fmt.Errorf("plugin_config state_file: %w", err)
	}
	claims, err := parseClaims(data)
	if err != nil {
		return nil, fmt.Errorf("plugin_config state_file: %s is damaged: %w; if no job runs on the hosts, reset them and delete it", path, err)
	}
	return claims, nil
}

func parseClaims(data []byte) (map[string]use, error) {
	var r record
	if err := json.Unmarshal(data, &r); err != nil {
		return nil, err
	}
	claims := map[string]use{}
	for name, u := range r.Hosts {
		switch u {
		case claimed, resetting:
			claims[name] = u
		default:
			return nil, fmt.Errorf("host %q is %q", name, u)
		}
	}
	return claims, nil
}

// saveClaims writes the file whole or not at all.
func saveClaims(path string, claims map[string]use) error {
	kept := record{Hosts: map[string]use{}}
	for name, u := range claims {
		if u == claimed || u == resetting {
			kept.Hosts[name] = u
		}
	}
	data, err := json.MarshalIndent(kept, "", "  ")
	if err != nil {
		return fmt.Errorf("encoding the state of the hosts: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("plugin_config state_file: %w", err)
	}
	file, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return fmt.Errorf("plugin_config state_file: %w", err)
	}
	_, err = file.Write(append(data, '\n'))
	err = errors.Join(err, file.Sync(), file.Close())
	if err == nil {
		err = os.Rename(file.Name(), path)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("plugin_config state_file: %w", err), os.Remove(file.Name()))
	}
	return nil
}
