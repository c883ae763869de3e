// Package project finds the project's own folder, for what tests and tools build or read there. It looks at the
// working directory and above, so it serves only programs that are run inside a checkout. Only packages of tests
// may import it.
package project

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// Root is the folder of the project that the working directory is in.
func Root() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("looking for the project's root: %w", err)
	}
	for {
		// Only the root has a workspace of modules: some of the folders below it are modules, too.
		if _, err := os.Stat(filepath.Join(dir, "go.work")); err == nil {
			return dir, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", errors.New("the project's root is not above the working directory")
		}
		dir = parent
	}
}
