package machines

import (
	"context"
	"errors"
	"fmt"
	"strings"
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
	if err := s.feed(ctx, id, []string{"bash", "-c", letPasswordIn}, user+":"+password+"\n"); err != nil {
		return fmt.Errorf("giving user %q on machine %q a password: %w", user, id, err)
	}
	return nil
}

// SetPassword remembers who may log in.
func (m *Memory) SetPassword(ctx context.Context, id, user, password string) error {
	return m.Authorize(ctx, id, user, "password "+password)
}
