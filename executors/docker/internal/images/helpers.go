package images

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"time"

	"github.com/docker/docker-credential-helpers/client"
	"github.com/docker/docker/api/types/registry"
)

// errPathTraversal ends the look-up of credentials: the name of a helper comes from a job, and must not
// reach programs outside the search path.
var errPathTraversal = errors.New("path traversal is not allowed")

const (
	helperPrefix  = "docker-credential-"
	helperTimeout = 30 * time.Second
	// helperOutputLimit bounds what a credential helper may print.
	helperOutputLimit = 1 << 20
	// tokenUser is the user name by which a helper says that its secret is an identity token.
	tokenUser = "<token>"
)

func checkHelperName(name string) error {
	if strings.ContainsAny(name, `/\`) {
		return fmt.Errorf("credential helper %q: %w", name, errPathTraversal)
	}
	return nil
}

func helperList(ctx context.Context, name string) (map[string]string, error) {
	program, err := helperProgram(ctx, name)
	if err != nil {
		return nil, err
	}
	return client.List(program)
}

func helperGet(ctx context.Context, name, server string) (*registry.AuthConfig, error) {
	program, err := helperProgram(ctx, name)
	if err != nil {
		return nil, err
	}
	found, err := client.Get(program, server)
	if err != nil {
		return nil, err
	}
	if found.Username == tokenUser {
		return &registry.AuthConfig{IdentityToken: found.Secret}, nil
	}
	return &registry.AuthConfig{Username: found.Username, Password: found.Secret}, nil
}

func helperProgram(ctx context.Context, name string) (client.ProgramFunc, error) {
	if err := checkHelperName(name); err != nil {
		return nil, err
	}
	return func(args ...string) client.Program {
		return &helperProcess{ctx: ctx, name: helperPrefix + name, args: args}
	}, nil
}

// helperProcess is one run of a credential helper. It ends with the context, and after helperTimeout.
type helperProcess struct {
	ctx   context.Context
	name  string
	args  []string
	input io.Reader
}

func (p *helperProcess) Input(in io.Reader) { p.input = in }

func (p *helperProcess) Output() ([]byte, error) {
	ctx, cancel := context.WithTimeout(p.ctx, helperTimeout)
	defer cancel()
	command := exec.CommandContext(ctx, p.name, p.args...)
	command.Stdin = p.input
	command.WaitDelay = time.Second
	output := &boundedBuffer{}
	command.Stdout = output
	if err := command.Run(); err != nil {
		return output.Bytes(), fmt.Errorf("running %s: %w", p.name, err)
	}
	return output.Bytes(), nil
}

type boundedBuffer struct{ bytes.Buffer }

func (b *boundedBuffer) Write(data []byte) (int, error) {
	if b.Len()+len(data) > helperOutputLimit {
		return 0, fmt.Errorf("output is longer than %d bytes", helperOutputLimit)
	}
	return b.Buffer.Write(data)
}
