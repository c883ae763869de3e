//go:build unix

package pluginhost

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"
)

// dummyBinary is the dummy plugin, built once.
var dummyBinary string

// hostEnv has the test binary act as a host: see actAsHost.
const hostEnv = "TEST_ACT_AS_HOST"

func TestMain(m *testing.M) {
	if os.Getenv(hostEnv) != "" {
		actAsHost()
		return
	}
	dir, err := os.MkdirTemp("", "pluginhost")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	dummyBinary = filepath.Join(dir, "fleeting-plugin-dummy")
	build := exec.Command("go", "build", "-o", dummyBinary, "../../plugin/fleeting-plugin-dummy/cmd/fleeting-plugin-dummy")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build the dummy plugin: %v\n%s", err, out)
		os.Exit(1)
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		_ = os.RemoveAll(dir)
		os.Exit(code)
	}))
}
