package static

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/gofrs/flock"
)

// ownership is the right to change the file of claims. One process at a time has it: a second manager that is given the
// same file, or somebody who only examines the group, may look. It ends with the process at the latest.
type ownership struct {
	file string
	lock *flock.Flock
}

// lockSuffix makes the name of the file that is locked of that of the claims, which is replaced at each change.
const lockSuffix = ".lock"

func newOwnership(file string) *ownership {
	return &ownership{file: file, lock: flock.New(file + lockSuffix)}
}

// take takes the right, if nobody has it, and says whether this process has it.
func (o *ownership) take() (bool, error) {
	if err := os.MkdirAll(filepath.Dir(o.file), 0o700); err != nil {
		return false, fmt.Errorf("plugin_config state_file: %w", err)
	}
	taken, err := o.lock.TryLock()
	if err != nil {
		return false, fmt.Errorf("plugin_config state_file: locking %s%s: %w", o.file, lockSuffix, err)
	}
	return taken, nil
}

// refusal is the error of who wants to change something without the right.
func (o *ownership) refusal() error {
	return fmt.Errorf("plugin_config state_file: %s is in use by another process, this one may only look: give each manager a name, a state_file and hosts of its own", o.file)
}

// giveBack lets others take the right.
func (o *ownership) giveBack() error {
	if err := o.lock.Unlock(); err != nil {
		return fmt.Errorf("plugin_config state_file: unlocking %s%s: %w", o.file, lockSuffix, err)
	}
	return nil
}
