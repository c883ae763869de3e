package commands

import (
	"errors"
	"fmt"
	"os"
	"runtime/pprof"
)

// cpuProfile writes what the processor was used for, from start to stop.
type cpuProfile struct {
	// file is nil while nothing is written.
	file *os.File
}

// start begins to write a profile to a file, unless path is empty.
func (p *cpuProfile) start(path string) error {
	if path == "" {
		return nil
	}
	file, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("--%s: %w", flagCPUProfile, err)
	}
	if err := pprof.StartCPUProfile(file); err != nil {
		return errors.Join(fmt.Errorf("--%s: %w", flagCPUProfile, err), file.Close())
	}
	p.file = file
	return nil
}

// stop completes the file.
func (p *cpuProfile) stop() error {
	if p.file == nil {
		return nil
	}
	pprof.StopCPUProfile()
	if err := p.file.Close(); err != nil {
		return fmt.Errorf("--%s: %w", flagCPUProfile, err)
	}
	return nil
}
