// Command install builds the S3 server of the tests, unless it is there already, and prints its path.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"

	"gitlab.com/gitlab-org/gitlab-runner/tests/s3server"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	program, err := s3server.Install(ctx, os.Stderr)
	if err != nil {
		fmt.Fprintln(os.Stderr, "install:", err)
		stop()
		os.Exit(1)
	}
	fmt.Println(program)
}
