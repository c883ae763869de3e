package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/urfave/cli/v3"

	"gitlab.com/gitlab-org/gitlab-runner/apps/gitlab-runner-helper/internal/console"
	"gitlab.com/gitlab-org/gitlab-runner/apps/gitlab-runner-helper/internal/stage"
	"gitlab.com/gitlab-org/gitlab-runner/helpers/relay"
	"gitlab.com/gitlab-org/gitlab-runner/helpers/version"
	"gitlab.com/gitlab-org/gitlab-runner/network"
)

var errGivenUp = errors.New("the stage was given up: standard input ended")

func runStageCommand(stdin io.Reader, c *console.Console) *cli.Command {
	return &cli.Command{
		Name:  "run-stage",
		Usage: "do the work of a plan that comes on standard input, until that ends",
		Action: func(ctx context.Context, _ *cli.Command) error {
			return runStage(ctx, stdin, c)
		},
	}
}

// runStage does what the plan on standard input says. Whoever started it gives it up by closing that.
func runStage(ctx context.Context, stdin io.Reader, c *console.Console) error {
	p, rest, err := stage.ReadPlan(stdin)
	if err != nil {
		return err
	}
	if !p.KeepUmask {
		clearUmask()
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	if p.Relay != "" {
		r, err := relay.Listen(ctx, p.Relay, newStandardStreams(rest, c.Out))
		if err != nil {
			return fmt.Errorf("%w; a container that shares the network of others has to have this port for itself", err)
		}
		defer r.Close()
		go func() {
			<-r.Lost()
			cancel(errGivenUp)
		}()
		c = &console.Console{Out: c.Err, Err: c.Err}
	} else {
		// The reading ends with standard input or with the process.
		go func() {
			_, _ = io.Copy(io.Discard, rest)
			cancel(errGivenUp)
		}()
	}
	return stage.Runner{Console: c, Coordinator: newCoordinator(c), Environment: os.Environ()}.Run(ctx, p)
}

// standardStreams are the two directions of a relay. A read of standard input cannot be ended, so that it
// is left to a goroutine that lasts as long as the input or the process.
type standardStreams struct {
	*io.PipeReader
	io.Writer
}

func newStandardStreams(stdin io.Reader, stdout io.Writer) standardStreams {
	r, w := io.Pipe()
	go func() {
		_, err := io.Copy(w, stdin)
		_ = w.CloseWithError(err)
	}()
	return standardStreams{r, stdout}
}

func newCoordinator(c *console.Console) *network.Client {
	return network.New(network.Options{Version: version.Get(), Logger: c.Logger()})
}
