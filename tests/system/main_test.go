//go:build system

package system

import (
	"fmt"
	"os"
	"testing"
)

// TestMain refuses to run without what has to be built, so that no test can be taken for passed.
func TestMain(m *testing.M) {
	for _, path := range []string{"../../out/binaries/gitlab-runner", "../../out/plugins"} {
		if _, err := os.Stat(path); err != nil {
			fmt.Fprintf(os.Stderr, "system tests: %v; run make system\n", err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}
