// Command gitlab-runner takes jobs from GitLab and runs them. See README.md.
package main

import (
	"context"
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
	os.Exit(app.ExitCode(app.Run(context.Background(), os.Args)))
}
