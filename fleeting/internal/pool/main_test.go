package pool

import (
	"flag"
	"os"
	"testing"
)

// TestMain raises the number of histories that each property is tried with to what is fast enough for
// every run; -rapid.checks sets another number. The race detector has nothing to find here and is slow.
func TestMain(m *testing.M) {
	flag.Parse()
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "rapid.checks" })
	if !given && !testing.Short() {
		if err := flag.Set("rapid.checks", histories); err != nil {
			panic(err)
		}
	}
	os.Exit(m.Run())
}
