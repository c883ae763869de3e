package commands

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kardianos/service"
	"github.com/stretchr/testify/require"

	"gitlab.com/gitlab-org/gitlab-runner/commands/manager"
	"gitlab.com/gitlab-org/gitlab-runner/helpers/version"
)

// describeAs returns what is installed on a platform.
func describeAs(t *testing.T, i installation) *service.Config {
	t.Helper()
	i.Name, i.Program, i.WorkingDir = "gitlab-runner", "/usr/bin/gitlab-runner", "/srv"
	i.homeOf = func(name string) (string, error) { return "/home/" + name, nil }
	description, err := i.describe()
	require.NoError(t, err)
	return description
}

func TestEveryPlatformIsGivenItsText(t *testing.T) {
	no := false
	for name, test := range map[string]struct {
		i         installation
		option    string
		text      []string
		arguments string
	}{
		"systemd": {
			installation{OS: "linux", Platform: platformSystemd, Root: true, User: "ci", Config: "/etc/c.toml"}, "SystemdScript",
			[]string{`ExecStart="/usr/bin/gitlab-runner" "run" "--config" "/etc/c.toml"`, "Restart=always", "WantedBy=multi-user.target"},
			"run --config /etc/c.toml --working-directory /srv --service gitlab-runner --user ci",
		},
		"systemd as another user": {
			installation{OS: "linux", Platform: platformSystemd, Root: true, InitUser: "ci"}, "SystemdScript", []string{"User=ci\n"},
			"run --config /home/ci/config.toml --working-directory /srv --service gitlab-runner",
		},
		"systemd of a user": {
			installation{OS: "linux", Platform: platformSystemd, PerUser: true, Config: "/c"}, "SystemdScript", []string{"WantedBy=default.target"},
			"run --config /c --working-directory /srv --service gitlab-runner",
		},
		"SysV": {
			installation{OS: "linux", Platform: platformSysV, Root: true, User: "ci", Config: "/c"}, "SysvScript", []string{"#!/bin/sh\n", "/var/run/$name.pid"},
			"run --config /c --working-directory /srv --service gitlab-runner --syslog --user ci",
		},
		"OpenRC without syslog": {
			installation{OS: "linux", Platform: platformOpenRC, Root: true, User: "ci", Config: "/c", Syslog: &no}, "OpenRCScript", []string{"#!/sbin/openrc-run\n"},
			"run --config /c --working-directory /srv --service gitlab-runner --user ci",
		},
		"launchd": {
			installation{OS: "darwin", Platform: platformLaunchd, PerUser: true, Config: "/c"}, "LaunchdConfig", []string{"<key>KeepAlive</key>\n\t<true/>", "/home//gitlab-runner.out.log"},
			"run --config /c --working-directory /srv --service gitlab-runner --syslog",
		},
		"Windows": {
			installation{OS: "windows", Platform: "windows-service", User: `.\ci`, Password: "secret", Config: "/c"}, "Password", []string{"secret"},
			"run --config /c --working-directory /srv --service gitlab-runner --syslog",
		},
	} {
		t.Run(name, func(t *testing.T) {
			description := describeAs(t, test.i)
			require.Equal(t, test.arguments, strings.Join(description.Arguments, " "))
			for _, want := range test.text {
				require.Contains(t, description.Option[test.option], want)
			}
			if test.i.OS == "windows" {
				require.Equal(t, `.\ci`, description.UserName)
			}
		})
	}
}

func TestAServiceWithoutAUserOrWithTwoIsRefused(t *testing.T) {
	for _, i := range []installation{{OS: "linux", Root: true}, {OS: "linux", Root: true, User: "a", InitUser: "b"}} {
		_, err := i.describe()
		require.ErrorContains(t, err, "--init-user")
	}
}

// fakeInit is an init system with one service.
type fakeInit struct {
	status service.Status
	err    error
	did    []string
}

func (f *fakeInit) Platform() string { return platformSystemd }
func (f *fakeInit) Service(*service.Config) (service.Service, error) {
	return &fakeService{init: f}, nil
}

// fakeService is the service of a fakeInit. What is embedded is never called.
type fakeService struct {
	service.Service
	init *fakeInit
}

func (s *fakeService) Status() (service.Status, error) { return s.init.status, s.init.err }
func (s *fakeService) Install() error                  { return s.init.do("install") }
func (s *fakeService) Uninstall() error                { return s.init.do("uninstall") }
func (s *fakeService) Start() error                    { return s.init.do("start") }
func (s *fakeService) Stop() error                     { return s.init.do("stop") }
func (s *fakeService) Restart() error                  { return s.init.do("restart") }

func (f *fakeInit) do(what string) error {
	f.did = append(f.did, what)
	return f.err
}

func runWith(t *testing.T, init InitSystem, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	var out, errs bytes.Buffer
	app := New(Environment{Version: version.Get(), Stdin: strings.NewReader(""), Stdout: &out, Stderr: &errs, Init: init})
	code = app.ExitCode(app.Run(t.Context(), append([]string{"gitlab-runner"}, args...)))
	return out.String(), errs.String(), code
}

func TestServiceCommandsSayWhatBecameOfThem(t *testing.T) {
	for _, test := range []struct {
		init           fakeInit
		command        string
		stdout, stderr string
		code           int
	}{
		{fakeInit{status: service.StatusRunning}, "status", "x: Service is running\n", "", 0},
		{fakeInit{status: service.StatusStopped}, "status", "", "x: Service has stopped\n", 1},
		{fakeInit{}, "status", "", "x: Service status unknown\n", 1},
		{fakeInit{err: service.ErrNotInstalled}, "status", "", "x: the service is not installed\n", 1},
		{fakeInit{}, "start", "", "", 0},
		{fakeInit{err: errors.New("no such unit")}, "stop", "", "\x1b[31;1mFATAL: failed to stop x: no such unit             \x1b[0;m\n", 1},
	} {
		stdout, stderr, code := runWith(t, &test.init, test.command, "--service", "x")
		require.Equal(t, test.stdout, stdout)
		require.Equal(t, test.stderr, stderr)
		require.Equal(t, test.code, code)
	}
	f := new(fakeInit)
	for _, command := range []string{"start", "restart", "stop", "uninstall"} {
		_, stderr, code := runWith(t, f, command)
		require.Zero(t, code, stderr)
	}
	require.Equal(t, []string{"start", "restart", "stop", "uninstall"}, f.did)
}

func TestInstallMakesAnEmptyConfigurationButKeepsOneThatIsThere(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new", "config.toml")
	i := installation{OS: "linux", Platform: platformSystemd, Root: true, User: "ci", Name: "x", Program: "/p", Config: path}
	require.NoError(t, install(newLogger(new(bytes.Buffer)), new(fakeInit), i))
	require.FileExists(t, path)
	require.NoError(t, os.WriteFile(path, []byte("concurrent = 7\n"), 0o600))
	require.NoError(t, install(newLogger(new(bytes.Buffer)), new(fakeInit), i))
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, "concurrent = 7\n", string(text))
}

func TestAServiceManagersStopIsGracefulAndAShutdownIsNot(t *testing.T) {
	for kind, end := range map[manager.SignalKind]func(*serviceProgram) error{
		manager.Graceful: func(p *serviceProgram) error { return p.Stop(nil) },
		manager.Forceful: func(p *serviceProgram) error { return p.Shutdown(nil) },
	} {
		program := newServiceProgram(func(signals <-chan manager.Signal) error {
			require.Equal(t, kind, (<-signals).Kind)
			return errors.New("ended")
		}, func(error) { require.Fail(t, "the stop was asked for") })
		require.NoError(t, program.Start(nil))
		require.EqualError(t, end(program), "ended")
	}
	told := make(chan error)
	program := newServiceProgram(func(<-chan manager.Signal) error { return errors.New("gave up") }, func(err error) { told <- err })
	require.NoError(t, program.Start(nil))
	require.EqualError(t, <-told, "gave up")
}
