package commands

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/urfave/cli/v3"
	"golang.org/x/term"

	"gitlab.com/gitlab-org/gitlab-runner/common/config"
	"gitlab.com/gitlab-org/gitlab-runner/helpers/pluginartifact"
	"gitlab.com/gitlab-org/gitlab-runner/helpers/plugindir"
)

const (
	flagUpgrade       = "upgrade"
	flagFrom          = "from"
	flagUsername      = "username"
	flagPasswordStdin = "password-stdin"
)

func fleetingCommand(env Environment, log *logrus.Logger) *cli.Command {
	return &cli.Command{
		Name:        "fleeting",
		Usage:       "install and list the plugins of autoscalers",
		Description: "Example:\n  gitlab-runner fleeting install --config /etc/gitlab-runner/config.toml",
		Flags:       []cli.Flag{configFlag()},
		Commands: []*cli.Command{
			{
				Name:      "install",
				Usage:     "install plugins",
				ArgsUsage: "[PLUGIN...]",
				Description: "Example:\n  gitlab-runner fleeting install --upgrade\n" +
					"  gitlab-runner fleeting install --from /media/plugins aws:1.2\n\n" +
					"Installs those that the configuration names, or those of the command line.\n" +
					"DIR may be a tar archive, too.",
				Flags: []cli.Flag{
					&cli.BoolFlag{Name: flagUpgrade, Usage: "look for newer versions of what is installed"},
					&cli.StringFlag{Name: flagFrom, Usage: "take plugins from the OCI layout `DIR`, not from registries"},
				},
				Action: func(ctx context.Context, c *cli.Command) error {
					ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
					defer stop()
					i := installer{env: env, log: log, upgrade: c.Bool(flagUpgrade), from: c.String(flagFrom)}
					return i.run(ctx, c)
				},
			},
			{
				Name:        "list",
				Usage:       "show which plugins the configuration names and where they are",
				Description: "Example:\n  gitlab-runner fleeting list",
				Action:      func(_ context.Context, c *cli.Command) error { return listPlugins(env, log, c) },
			},
			{
				Name:      "login",
				Usage:     "store the login of a registry that has plugins",
				ArgsUsage: "[SERVER]",
				Description: "Example:\n  gitlab-runner fleeting login --username me --password-stdin \\\n" +
					"    registry.example.com < password\n\n" +
					"Without SERVER it is that of registry.gitlab.com. On a terminal, what is\n" +
					"missing is asked for.",
				Flags: []cli.Flag{
					&cli.StringFlag{Name: flagUsername, Usage: "log in as `NAME`"},
					&cli.StringFlag{Name: flagPassword, Usage: "log in with `PASSWORD`; others can see it then"},
					&cli.BoolFlag{Name: flagPasswordStdin, Usage: "read the password from the standard input"},
				},
				Action: func(ctx context.Context, c *cli.Command) error { return login(ctx, env, log, c) },
			},
		},
	}
}

// wantedPlugin is a plugin with the runner entry that names it, if one does.
type wantedPlugin struct {
	name   string
	runner *config.Runner
}

// line is what is printed of a plugin that is there.
func (w wantedPlugin) line(path string) string {
	if w.runner == nil {
		return fmt.Sprintf("plugin: %s, path: %s", w.name, path)
	}
	return fmt.Sprintf("runner: %s, plugin: %s, path: %s", w.runner.ShortToken(), w.name, path)
}

func (w wantedPlugin) fault(err error) string {
	if w.runner == nil {
		return fmt.Sprintf("plugin: %s, error: %v", w.name, err)
	}
	return fmt.Sprintf("runner: %s, plugin: %s, error: %v", w.runner.ShortToken(), w.name, err)
}

// wantedPlugins are those of the command line, or else those of the configuration.
func wantedPlugins(log *logrus.Logger, c *cli.Command) ([]wantedPlugin, error) {
	var wanted []wantedPlugin
	for _, name := range c.Args().Slice() {
		wanted = append(wanted, wantedPlugin{name: name})
	}
	if len(wanted) > 0 {
		return wanted, nil
	}
	file, err := config.Load(c.String(flagConfig))
	if err != nil {
		return nil, err
	}
	for _, runner := range file.Runners {
		if runner.Autoscaler != nil {
			wanted = append(wanted, wantedPlugin{runner.Autoscaler.Plugin, runner})
		}
	}
	if len(wanted) == 0 {
		log.WithField("ConfigFile", file.Path).Warning("No runner entry has a table [runners.autoscaler]: there is no plugin")
	}
	return wanted, nil
}

// installLimit bounds the installation of one plugin, on a slow line.
const installLimit = 15 * time.Minute

// installer installs plugins one after the other.
type installer struct {
	env     Environment
	log     *logrus.Logger
	upgrade bool
	// from is an OCI layout, empty for the registries that the plugins' names tell.
	from string
}

func (i installer) run(ctx context.Context, c *cli.Command) error {
	wanted, err := wantedPlugins(i.log, c)
	if err != nil {
		return err
	}
	names := map[string]bool{}
	for _, w := range wanted {
		names[w.name] = true
	}
	fetched := map[string]string{}
	failed := 0
	for _, w := range wanted {
		path, done := fetched[w.name]
		if !done {
			found, err := i.install(ctx, w.name, len(names) == 1)
			if err != nil {
				failed++
				fmt.Fprintln(i.env.Stderr, w.fault(err))
				continue
			}
			if found.Already {
				i.log.WithField("path", found.Path).Infof("The plugin %s is installed already", w.name)
				continue
			}
			path = found.Path
			fetched[w.name] = path
		}
		if _, err := fmt.Fprintln(i.env.Stdout, w.line(path)); err != nil {
			return err
		}
	}
	if failed > 0 {
		return fmt.Errorf("%d of %d plugins could not be installed", failed, len(wanted))
	}
	return nil
}

// install installs one plugin. The only one that is wanted may be in a layout that does not name it.
func (i installer) install(ctx context.Context, name string, only bool) (pluginartifact.Installed, error) {
	path, err := plugindir.Find(name)
	if err == nil && !i.upgrade {
		return pluginartifact.Installed{Path: path, Already: true}, nil
	}
	if err != nil && !errors.Is(err, plugindir.ErrNotFound) {
		return pluginartifact.Installed{}, err
	}
	if err == nil && !plugindir.IsInstalled(name) {
		// A file of the user's own: there is nothing to compare it with.
		return pluginartifact.Installed{Path: path, Already: true}, nil
	}
	ref, err := plugindir.Installable(name)
	if err != nil {
		return pluginartifact.Installed{}, err
	}
	dir, err := plugindir.Dir()
	if err != nil {
		return pluginartifact.Installed{}, err
	}
	source, err := i.source(ctx, ref, only)
	if err != nil {
		return pluginartifact.Installed{}, err
	}
	i.log.Infof("Installing plugin %s", ref)
	ctx, stop := context.WithTimeoutCause(ctx, installLimit, fmt.Errorf("it took longer than %s", installLimit))
	defer stop()
	return source.Install(ctx, ref, pluginartifact.Here(), dir)
}

func (i installer) source(ctx context.Context, ref plugindir.Reference, only bool) (*pluginartifact.Source, error) {
	if i.from != "" {
		return pluginartifact.Layout(ctx, i.from, only)
	}
	logins, err := pluginartifact.Logins()
	if err != nil {
		return nil, err
	}
	return pluginartifact.Registry(ref, logins)
}

func listPlugins(env Environment, log *logrus.Logger, c *cli.Command) error {
	wanted, err := wantedPlugins(log, c)
	if err != nil {
		return err
	}
	failed := 0
	for _, w := range wanted {
		path, err := plugindir.Find(w.name)
		if err != nil {
			failed++
			fmt.Fprintln(env.Stderr, w.fault(err))
			continue
		}
		if _, err := fmt.Fprintln(env.Stdout, w.line(path)); err != nil {
			return err
		}
	}
	if failed > 0 {
		return fmt.Errorf("%d of %d plugins are not installed", failed, len(wanted))
	}
	return nil
}

const (
	defaultPluginRegistry = "registry.gitlab.com"
	// maxPassword bounds what is read as a password, in bytes.
	maxPassword = 64 << 10
)

func login(ctx context.Context, env Environment, log *logrus.Logger, c *cli.Command) error {
	server := c.Args().First()
	if server == "" {
		server = defaultPluginRegistry
	}
	username, password, err := credentials(env, log, c, server)
	if err != nil {
		return err
	}
	logins, err := pluginartifact.Logins()
	if err != nil {
		return err
	}
	if err := pluginartifact.Login(ctx, logins, server, username, password); err != nil {
		return err
	}
	_, err = fmt.Fprintf(env.Stdout, "Logged in to %s. The login is kept by %s\n", server, logins.ConfigPath())
	return err
}

// credentials are those of the flags, with what is missing read from the terminal if there is one.
func credentials(env Environment, log *logrus.Logger, c *cli.Command, server string) (username, password string, err error) {
	username, password = c.String(flagUsername), c.String(flagPassword)
	if password != "" && c.Bool(flagPasswordStdin) {
		return "", "", errors.New("--password and --password-stdin exclude each other")
	}
	if password != "" {
		log.Warning("--password can be seen by other users of this machine: use --password-stdin")
	}
	if c.Bool(flagPasswordStdin) {
		if username == "" {
			return "", "", errors.New("--password-stdin needs --username")
		}
		text, err := io.ReadAll(io.LimitReader(env.Stdin, maxPassword))
		if err != nil {
			return "", "", fmt.Errorf("reading the password: %w", err)
		}
		password = strings.TrimRight(string(text), "\r\n")
	}
	if username != "" && password != "" {
		return username, password, nil
	}
	terminal, ok := env.Stdin.(*os.File)
	if !ok || !term.IsTerminal(int(terminal.Fd())) {
		return "", "", errors.New("name and password are missing: use --username and --password-stdin")
	}
	return ask(env, terminal, server, username, password)
}

func ask(env Environment, terminal *os.File, server, username, password string) (string, string, error) {
	if username == "" {
		fmt.Fprintf(env.Stderr, "Name at %s: ", server)
		line, err := bufio.NewReader(io.LimitReader(terminal, maxPassword)).ReadString('\n')
		if err != nil {
			return "", "", fmt.Errorf("reading the name: %w", err)
		}
		username = strings.TrimSpace(line)
	}
	if password == "" {
		text, err := askPassword(env, terminal, fmt.Sprintf("Password of %s: ", username))
		if err != nil {
			return "", "", fmt.Errorf("reading the password: %w", err)
		}
		password = text
	}
	if username == "" || password == "" {
		return "", "", errors.New("name and password must not be empty")
	}
	return username, password, nil
}

// askPassword asks once nothing that is typed is shown any more.
func askPassword(env Environment, terminal *os.File, prompt string) (password string, err error) {
	before, err := term.MakeRaw(int(terminal.Fd()))
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, term.Restore(int(terminal.Fd()), before)) }()
	return term.NewTerminal(struct {
		io.Reader
		io.Writer
	}{terminal, env.Stderr}, "").ReadPassword(prompt)
}
