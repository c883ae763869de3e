package machines

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/pkg/stdcopy"
)

// letPasswordIn has a machine take a password: the name and the password are on standard input.
const letPasswordIn = `set -eu
IFS=: read -r user password
id "$user" >/dev/null 2>&1 || useradd --create-home --shell /bin/bash --groups docker "$user"
printf '%s:%s\n' "$user" "$password" | chpasswd
sed -i 's/^PasswordAuthentication .*/PasswordAuthentication yes/' /etc/ssh/sshd_config
kill -HUP "$(cat /run/sshd.pid)"
`

// SetPassword lets a password log in on a machine as a user, who may use the machine's engine and is made if there
// is no such user.
func (s *Set) SetPassword(ctx context.Context, id, user, password string) error {
	if strings.ContainsAny(user, ":\n") || strings.Contains(password, "\n") {
		return errors.New("a user with a colon, or a password with several lines, cannot be set")
	}
	exec, err := s.engine.ContainerExecCreate(ctx, id, container.ExecOptions{
		Cmd: []string{"bash", "-c", letPasswordIn}, AttachStdin: true, AttachStdout: true, AttachStderr: true,
	})
	if err != nil {
		return fmt.Errorf("giving user %q on machine %q a password: %w", user, id, err)
	}
	stream, err := s.engine.ContainerExecAttach(ctx, exec.ID, container.ExecAttachOptions{})
	if err != nil {
		return fmt.Errorf("giving user %q on machine %q a password: %w", user, id, err)
	}
	defer stream.Close()
	_, err = io.WriteString(stream.Conn, user+":"+password+"\n")
	if err = errors.Join(err, stream.CloseWrite()); err != nil {
		return fmt.Errorf("giving user %q on machine %q a password: %w", user, id, err)
	}
	var output strings.Builder
	if _, err := stdcopy.StdCopy(&output, &output, stream.Reader); err != nil {
		return fmt.Errorf("giving user %q on machine %q a password: %w", user, id, err)
	}
	ended, err := s.engine.ContainerExecInspect(ctx, exec.ID)
	if err != nil {
		return fmt.Errorf("giving user %q on machine %q a password: %w", user, id, err)
	}
	if ended.ExitCode != 0 {
		return fmt.Errorf("giving user %q on machine %q a password: %s", user, id, strings.TrimSpace(output.String()))
	}
	return nil
}

// SetPassword remembers who may log in.
func (m *Memory) SetPassword(ctx context.Context, id, user, password string) error {
	return m.Authorize(ctx, id, user, "password "+password)
}
