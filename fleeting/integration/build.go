package integration

import (
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"
)

// BuildPluginBinary builds the main package in the directory path, relative to that of the test, and
// returns the path of the executable called name. It is removed at the end of the test, which fails if
// the build does.
func BuildPluginBinary(t *testing.T, path, name string) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), name)
	if runtime.GOOS == "windows" {
		binary += ".exe"
	}
	dir, err := filepath.Abs(path)
	if err != nil {
		t.Fatalf("find the plugin's package %q: %v", path, err)
	}
	build := exec.CommandContext(t.Context(), "go", "build", "-o", binary, ".")
	build.Dir = dir
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the plugin %q in %s: %v\n%s", name, path, err, out)
	}
	return binary
}
