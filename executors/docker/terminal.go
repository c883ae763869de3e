package docker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"gitlab.com/gitlab-org/gitlab-runner/executors/docker/internal/blueprint"
	"gitlab.com/gitlab-org/gitlab-runner/helpers/docker"
)

// terminalWait is how long a terminal waits for the user's container to run.
const terminalWait = 15 * time.Second

var errNoBuildContainer = errors.New("timeout for waiting for build container")

// userContainer tells others which container runs the user's script just now. It is safe for concurrent use.
type userContainer struct {
	mu sync.Mutex
	id string
	// begun is closed when there is one; nil if nobody waits.
	begun chan struct{}
}

func (u *userContainer) begin(id string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.id = id
	if u.begun != nil {
		close(u.begun)
		u.begun = nil
	}
}

func (u *userContainer) end() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.id = ""
}

// await returns the container's id as soon as there is one.
func (u *userContainer) await(ctx context.Context) (string, error) {
	for {
		u.mu.Lock()
		id := u.id
		if u.begun == nil {
			u.begun = make(chan struct{})
		}
		begun := u.begun
		u.mu.Unlock()
		if id != "" {
			return id, nil
		}
		select {
		case <-begun:
		case <-ctx.Done():
			return "", context.Cause(ctx)
		}
	}
}

// OpenTerminal opens a shell beside the user's script, in its container.
func (e *executor) OpenTerminal(ctx context.Context) (io.ReadWriteCloser, error) {
	waiting, stop := context.WithTimeoutCause(ctx, terminalWait, errNoBuildContainer)
	defer stop()
	id, err := e.user.await(waiting)
	if err != nil {
		return nil, err
	}
	exec, err := e.engine.Exec(ctx, id, docker.Command{
		Args: blueprint.TerminalCommand(e.job.Runner.Shell, e.server.OS), Env: []string{"TERM=xterm"}, Stdin: true, Terminal: true,
	})
	if err != nil {
		return nil, fmt.Errorf("opening a shell in the build container: %w", err)
	}
	return exec, nil
}
