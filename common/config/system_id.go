package config

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

const (
	systemIDFile   = ".runner_system_id"
	systemIDLength = 12
)

var systemID = regexp.MustCompile(`^[sr]_[0-9a-zA-Z]{12}$`)

// SystemID returns the id of this manager, kept in a file beside the configuration. A file that holds
// none, or none that is valid, gets one: derived from the machine's own id where there is one. An id
// that could not be stored is returned together with the error.
func SystemID(configPath string) (string, error) {
	path := filepath.Join(filepath.Dir(configPath), systemIDFile)
	data, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("reading the system id: %w", err)
	}
	if id := strings.TrimSpace(string(data)); systemID.MatchString(id) {
		return id, nil
	}
	id := newSystemID()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return id, fmt.Errorf("storing the system id: %w", err)
	}
	if err := os.WriteFile(path, []byte(id), 0o600); err != nil {
		return id, fmt.Errorf("storing the system id: %w", err)
	}
	// Who reads the configuration must be able to read it, too, although root may have made it.
	if info, err := os.Stat(configPath); err == nil {
		if err := giveToOwnerOf(path, info); err != nil {
			return id, fmt.Errorf("storing the system id: %w", err)
		}
	}
	return id, nil
}

func newSystemID() string {
	for _, path := range []string{"/etc/machine-id", "/var/lib/dbus/machine-id"} {
		machine, err := os.ReadFile(path)
		if err != nil || strings.TrimSpace(string(machine)) == "" {
			continue
		}
		mac := hmac.New(sha256.New, []byte(strings.TrimSpace(string(machine))))
		mac.Write([]byte("gitlab-runner"))
		return "s_" + hex.EncodeToString(mac.Sum(nil))[:systemIDLength]
	}
	return "r_" + rand.Text()[:systemIDLength]
}
