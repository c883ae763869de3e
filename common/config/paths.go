package config

import (
	"os"
	"path/filepath"
	"runtime"
)

// DefaultDir is where the configuration is kept unless a command is told otherwise.
func DefaultDir() string {
	if runtime.GOOS == "windows" {
		return "."
	}
	if os.Getuid() == 0 {
		return "/etc/gitlab-runner"
	}
	if home, err := os.UserHomeDir(); err == nil {
		return filepath.Join(home, ".gitlab-runner")
	}
	return "."
}

// DefaultPath is the configuration file in DefaultDir.
func DefaultPath() string { return filepath.Join(DefaultDir(), "config.toml") }

// DefaultCertsDir is where certificates of servers are looked for by the server's name.
func DefaultCertsDir() string { return filepath.Join(DefaultDir(), "certs") }
