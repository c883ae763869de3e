package s3server

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"

	"gitlab.com/gitlab-org/gitlab-runner/tests/project"
)

const (
	programModule  = "github.com/versity/versitygw"
	programVersion = "v1.8.0"
	programName    = "versitygw"
)

// Install builds the server's program if it is not there, which it tells progress first, and returns the
// program's path. Go's module proxy, or a cache of its modules, has to be within reach for that.
func Install(ctx context.Context, progress io.Writer) (string, error) {
	root, err := project.Root()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(root, "out", "tools", programName+"-"+programVersion)
	name := programName
	if runtime.GOOS == "windows" {
		name += ".exe"
	}
	program := filepath.Join(dir, name)
	if _, err := os.Stat(program); err == nil {
		return program, nil
	}
	fmt.Fprintf(progress, "building the S3 server (%s@%s): about a minute\n", programModule, programVersion)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("making the directory of the S3 server: %w", err)
	}
	// Test processes at the same time may each build one: a rename never shows half a program.
	work, err := os.MkdirTemp(dir, "build-")
	if err != nil {
		return "", fmt.Errorf("making the directory of the S3 server: %w", err)
	}
	defer os.RemoveAll(work)
	cmd := exec.CommandContext(ctx, "go", "install", "-trimpath", "-ldflags", "-s -w", programModule+"/cmd/"+programName+"@"+programVersion)
	cmd.Dir = work
	cmd.Env = append(os.Environ(), "GOBIN="+work, "GOWORK=off", "GOFLAGS=", "GOOS=", "GOARCH=", "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building the S3 server: %w\n%s", err, out)
	}
	if err := os.Rename(filepath.Join(work, name), program); err != nil {
		return "", fmt.Errorf("installing the S3 server: %w", err)
	}
	return program, nil
}
