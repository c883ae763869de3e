// Command gitlab-runner takes jobs from GitLab and runs them. See README.md.
package main

import (
	"context"
	"fmt"
	"os"

	"gitlab.com/gitlab-org/gitlab-runner/commands"
	"gitlab.com/gitlab-org/gitlab-runner/helpers/version"
)

func main() {
	app := commands.New(commands.Environment{
		Version: version.Get(),
		Stdin:   os.Stdin,
		Stdout:  os.Stdout,
		Stderr:  os.Stderr,
	})
	if err := app.Run(context.Background(), os.Args); err != nil {
		fmt.Fprintf(os.Stderr, "\x1b[31;1mFATAL: %v\x1b[0;m\n", err)
		os.Exit(1)
	}
}
