package commands

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"

	"github.com/sirupsen/logrus"
	"github.com/urfave/cli/v3"

	"gitlab.com/gitlab-org/gitlab-runner/common/config"
	"gitlab.com/gitlab-org/gitlab-runner/executors/docker"
	dockerautoscaler "gitlab.com/gitlab-org/gitlab-runner/executors/docker/autoscaler"
	"gitlab.com/gitlab-org/gitlab-runner/network"
)

func registerCommand(env Environment, log *logrus.Logger) *cli.Command {
	flags := []cli.Flag{
		configFlag(),
		&cli.StringFlag{Name: "template-config", Usage: "take what is not given from the one entry in `FILE`", Sources: fromEnv("TEMPLATE_CONFIG_FILE")},
		&cli.BoolFlag{Name: "non-interactive", Aliases: []string{"n"}, Usage: "ask nothing", Sources: fromEnv("REGISTER_NON_INTERACTIVE")},
		&cli.BoolFlag{Name: "leave-runner", Usage: "do not remove the runner if it cannot be saved", Sources: fromEnv("REGISTER_LEAVE_RUNNER")},
		&cli.StringFlag{Name: "registration-token", Aliases: []string{"r"}, Usage: "register with a registration `TOKEN` (deprecated)", Sources: fromEnv("REGISTRATION_TOKEN")},
		&cli.StringFlag{Name: "tag-list", Usage: "`TAGS`, separated by commas (registration token only)", Sources: fromEnv("RUNNER_TAG_LIST")},
		&cli.BoolFlag{Name: "run-untagged", Usage: "run jobs without tags (registration token only)", Sources: fromEnv("REGISTER_RUN_UNTAGGED")},
		&cli.BoolFlag{Name: "locked", Value: true, Usage: "lock to the project (registration token only)", Sources: fromEnv("REGISTER_LOCKED")},
		&cli.StringFlag{Name: "access-level", Usage: "`LEVEL`: not_protected or ref_protected (registration token only)", Sources: fromEnv("REGISTER_ACCESS_LEVEL")},
		&cli.IntFlag{Name: "maximum-timeout", Usage: "give jobs at most `SECONDS` (registration token only)", Sources: fromEnv("REGISTER_MAXIMUM_TIMEOUT")},
		&cli.BoolFlag{Name: "paused", Usage: "register paused (registration token only)", Sources: fromEnv("REGISTER_PAUSED")},
		&cli.StringFlag{Name: "maintenance-note", Usage: "a `NOTE` for administrators (registration token only)", Sources: fromEnv("REGISTER_MAINTENANCE_NOTE")},
		&cli.StringFlag{Name: "name", Aliases: []string{"description"}, Usage: "`NAME` of the runner", Sources: fromEnv("RUNNER_NAME")},
		&cli.StringFlag{Name: "url", Aliases: []string{"u"}, Usage: "`URL` of GitLab", Sources: fromEnv("CI_SERVER_URL")},
		&cli.StringFlag{Name: "token", Aliases: []string{"t"}, Usage: "authentication `TOKEN` of the runner", Sources: fromEnv("CI_SERVER_TOKEN")},
		&cli.StringFlag{Name: "executor", Usage: "run jobs with `EXECUTOR`: docker or docker-autoscaler", Sources: fromEnv("RUNNER_EXECUTOR")},
	}
	flags = append(flags, entryFlagsOf()...)
	return &cli.Command{
		Name:  "register",
		Usage: "add a runner to the configuration",
		Description: "Example:\n" +
			"  gitlab-runner register --non-interactive --url https://gitlab.example.com \\\n" +
			"    --token glrt-… --executor docker-autoscaler --docker-image busybox:latest \\\n" +
			"    --template-config autoscaler.toml",
		DisableSliceFlagSeparator: true,
		Flags:                     flags,
		Action: func(ctx context.Context, c *cli.Command) error {
			announce(env, log, c)
			r := registration{command: c, log: log, in: bufio.NewReader(env.Stdin), out: env.Stderr}
			r.client = network.New(network.Options{Version: env.Version, CertsDir: config.DefaultCertsDir(), Logger: log})
			defer r.client.Close()
			ctx, stop := signal.NotifyContext(ctx, os.Interrupt)
			defer stop()
			return r.run(ctx)
		},
	}
}

// registration is one run of the register command.
type registration struct {
	command *cli.Command
	log     *logrus.Logger
	client  *network.Client
	in      *bufio.Reader
	out     io.Writer

	file     *config.File
	systemID string
	runner   *config.Runner
}

func (r *registration) run(ctx context.Context) error {
	c := r.command
	if level := c.String("access-level"); level != "" && level != "not_protected" && level != "ref_protected" {
		return fmt.Errorf("--access-level %q is not valid: use not_protected or ref_protected", level)
	}
	var err error
	path := c.String(flagConfig)
	if r.file, err = config.Load(path); err != nil {
		return err
	}
	if r.systemID, err = config.SystemID(path); r.systemID == "" {
		return err
	}
	r.runner = &config.Runner{
		SystemID: r.systemID, Docker: &config.Docker{},
		Cache:    &config.Cache{S3: &config.CacheS3{}, GCS: &config.CacheGCS{}, Azure: &config.CacheAzure{}},
		Executor: c.String("executor"), URL: c.String("url"),
	}
	ignored, err := applyEntryFlags(c, r.runner)
	if err != nil {
		return err
	}
	if len(ignored) > 0 {
		r.log.Warningf("%s have no effect: this runner has no such executor", strings.Join(ignored, ", "))
	}
	if err := r.mergeTemplate(); err != nil {
		return err
	}
	if r.runner.URL, err = r.ask(ctx, "url", "Enter the GitLab instance URL (for example, https://gitlab.com/)", r.runner.URL, ""); err != nil {
		return err
	}
	undo, err := r.identify(ctx)
	if err != nil {
		return err
	}
	if err := r.complete(ctx); err != nil {
		return errors.Join(err, undo())
	}
	if err := ctx.Err(); err != nil {
		return errors.Join(fmt.Errorf("interrupted: %w", err), undo())
	}
	// Others may have written it while questions were asked: a manager exchanges tokens, and the old ones are void.
	if r.file, err = config.Load(path); err != nil {
		return errors.Join(err, undo())
	}
	r.file.Runners = append(r.file.Runners, r.runner)
	if err := r.file.Save(); err != nil {
		return errors.Join(err, undo())
	}
	r.warnAboutLimits()
	r.log.Info("Runner registered successfully. Feel free to start it, but if it's running already the config should be automatically reloaded!")
	r.log.Infof("Configuration (with the authentication token) was saved in %q", path)
	return nil
}

// identify finds out or makes the runner on the server. undo removes what was made.
func (r *registration) identify(ctx context.Context) (undo func() error, err error) {
	c := r.command
	token := c.String("token")
	if token == "" {
		if token, err = r.ask(ctx, "registration-token", "Enter the registration token", c.String("registration-token"), ""); err != nil {
			return nil, err
		}
	}
	if !strings.HasPrefix(token, config.AuthenticationTokenPrefix) && c.String("token") == "" {
		return r.registerLegacy(ctx, token)
	}
	return r.verify(ctx, token)
}

// verify takes over a runner that was created in GitLab.
func (r *registration) verify(ctx context.Context, token string) (func() error, error) {
	if err := r.refuseServerAttributes(); err != nil {
		return nil, err
	}
	for _, other := range r.file.Runners {
		if other.Token == token {
			r.log.Warning("A runner with this token is in the configuration already")
		}
	}
	r.runner.Token = token
	credentials := network.CredentialsOf(r.runner)
	info := r.client.RunnerInfo(r.runner, new(docker.Provider).Features(), "", r.file.Labels)
	identity, err := r.client.VerifyRunner(ctx, credentials, r.systemID, info)
	if err != nil {
		return nil, fmt.Errorf("failed to verify the runner: %w", err)
	}
	if identity.ID == 0 && strings.HasPrefix(token, config.AuthenticationTokenPrefix) {
		return nil, errors.New("failed to verify the runner: the server did not say which runner this is")
	}
	r.adopt(identity)
	r.runner.Token = token
	undo := r.undoWith(func() error {
		return r.client.UnregisterManager(context.WithoutCancel(ctx), credentials, r.systemID)
	})
	if r.runner.Name, err = r.ask(ctx, "name", "Enter a name for the runner. This is stored only in the local config.toml file", r.command.String("name"), hostname()); err != nil {
		return nil, errors.Join(err, undo())
	}
	return undo, nil
}

// refuseServerAttributes ends a registration that would set what only the server decides. A flag with its
// default value sets nothing.
func (r *registration) refuseServerAttributes() error {
	c := r.command
	var given []string
	for _, attribute := range []struct {
		name string
		set  bool
	}{
		{"tag-list", c.String("tag-list") != ""}, {"run-untagged", c.Bool("run-untagged")}, {"locked", !c.Bool("locked")},
		{"access-level", c.String("access-level") != ""}, {"maximum-timeout", c.Int("maximum-timeout") != 0},
		{"paused", c.Bool("paused")}, {"maintenance-note", c.String("maintenance-note") != ""},
	} {
		if attribute.set {
			given = append(given, "--"+attribute.name)
		}
	}
	if len(given) == 0 {
		return nil
	}
	if r.command.String("token") == "" {
		r.log.Warningf("%s are ignored: this runner was created in GitLab, where they are set", strings.Join(given, ", "))
		return nil
	}
	return fmt.Errorf("runner configuration other than name and executor configuration is reserved (specifically %s) and cannot be specified when registering with a runner authentication token; set it in GitLab", strings.Join(given, ", "))
}

// registerLegacy makes a runner with a registration token.
func (r *registration) registerLegacy(ctx context.Context, token string) (func() error, error) {
	c := r.command
	r.log.Warning("Support for registration tokens and runner parameters in the 'register' command is deprecated: create the runner in GitLab and use its authentication token")
	name, err := r.ask(ctx, "name", "Enter a description for the runner", c.String("name"), hostname())
	if err != nil {
		return nil, err
	}
	tags, err := r.offer(ctx, "tag-list", "Enter tags for the runner (comma-separated)")
	if err != nil {
		return nil, err
	}
	note, err := r.offer(ctx, "maintenance-note", "Enter optional maintenance note for the runner")
	if err != nil {
		return nil, err
	}
	r.runner.Name = name
	r.runner.Token = token
	identity, err := r.client.RegisterRunner(ctx, network.CredentialsOf(r.runner), network.RegisterRequest{
		Description: name, MaintenanceNote: note, TagList: tags,
		RunUntagged: c.Bool("run-untagged") || tags == "", Locked: c.Bool("locked"),
		AccessLevel: c.String("access-level"), MaximumTimeout: c.Int("maximum-timeout"), Paused: c.Bool("paused"),
		Info: r.client.RunnerInfo(&config.Runner{}, new(docker.Provider).Features(), "", r.file.Labels),
	})
	if err != nil {
		return nil, fmt.Errorf("failed to register the runner: %w", err)
	}
	r.adopt(identity)
	credentials := network.CredentialsOf(r.runner)
	return r.undoWith(func() error { return r.client.UnregisterRunner(context.WithoutCancel(ctx), credentials) }), nil
}

func (r *registration) adopt(identity network.RunnerIdentity) {
	r.runner.ID = identity.ID
	if identity.Token != "" {
		r.runner.Token = identity.Token
	}
	r.runner.TokenObtainedAt, r.runner.TokenExpiresAt = identity.TokenObtainedAt, identity.TokenExpiresAt
}

func (r *registration) undoWith(remove func() error) func() error {
	return func() error {
		if r.command.Bool("leave-runner") {
			return nil
		}
		return remove()
	}
}

// complete asks for the executor and what it needs.
func (r *registration) complete(ctx context.Context) error {
	known := []string{"docker", dockerautoscaler.Name}
	for {
		executor, err := r.ask(ctx, "executor", "Enter an executor: "+strings.Join(known, ", "), r.runner.Executor, "")
		if err != nil {
			return err
		}
		if slices.Contains(known, executor) {
			r.runner.Executor = executor
			break
		}
		if r.command.Bool("non-interactive") {
			return fmt.Errorf("executor %q is not known: use one of %s", executor, strings.Join(known, ", "))
		}
		r.log.Errorf("executor %q is not known", executor)
		r.runner.Executor = ""
	}
	image, err := r.ask(ctx, "docker-image", "Enter the default Docker image (for example, ruby:3.3)", r.runner.Docker.Image, "")
	if err != nil {
		return err
	}
	r.runner.Docker.Image = image
	r.addCacheVolume()
	if r.runner.Executor == dockerautoscaler.Name && r.runner.Autoscaler == nil {
		r.log.Warning("The entry has no [runners.autoscaler] yet: add it to the configuration, or register with --template-config")
	}
	return nil
}

func (r *registration) addCacheVolume() {
	const cache = "/cache"
	d := r.runner.Docker
	if d.DisableCache || slices.ContainsFunc(d.Volumes, func(v string) bool { return strings.HasSuffix(v, cache) }) {
		return
	}
	d.Volumes = append(d.Volumes, cache)
}

func (r *registration) warnAboutLimits() {
	if r.runner.Limit > r.file.Concurrent {
		r.log.Warningf("The limit of the runner is %d, but concurrent is %d: that many jobs are never reached", r.runner.Limit, r.file.Concurrent)
	}
	if r.runner.RequestConcurrency > r.file.Concurrent {
		r.log.Warningf("The request_concurrency of the runner is %d, but concurrent is %d: that many requests are never made", r.runner.RequestConcurrency, r.file.Concurrent)
	}
}

// ask returns a value that must not be empty: the one given, or the one the user enters.
func (r *registration) ask(ctx context.Context, key, question, given, fallback string) (string, error) {
	interactive := !r.command.Bool("non-interactive")
	for given == "" || interactive && !r.command.IsSet(key) {
		if given == "" {
			given = fallback
		}
		if !interactive {
			if given != "" {
				return given, nil
			}
			return "", fmt.Errorf("the %s needs to be entered: give --%s", key, key)
		}
		prompt := question + ":\n"
		if given != "" {
			prompt += "[" + given + "]: "
		}
		if _, err := io.WriteString(r.out, prompt); err != nil {
			return "", fmt.Errorf("asking for %s: %w", key, err)
		}
		line, err := r.line(ctx)
		if line = strings.TrimSpace(line); line != "" {
			return line, nil
		}
		if err != nil {
			return "", fmt.Errorf("asking for %s: %w; use --non-interactive if nobody can answer", key, err)
		}
		if given != "" {
			return given, nil
		}
	}
	return given, nil
}

// offer returns a value that may be empty: the one given, or what the user enters.
func (r *registration) offer(ctx context.Context, key, question string) (string, error) {
	if r.command.Bool("non-interactive") || r.command.IsSet(key) {
		return r.command.String(key), nil
	}
	if _, err := io.WriteString(r.out, question+":\n"); err != nil {
		return "", fmt.Errorf("asking for %s: %w", key, err)
	}
	line, err := r.line(ctx)
	if err != nil {
		return "", fmt.Errorf("asking for %s: %w; use --non-interactive if nobody can answer", key, err)
	}
	return strings.TrimSpace(line), nil
}

// line reads an answer. An interrupt does not wait for it: the process ends soon, and what still reads ends
// with it.
func (r *registration) line(ctx context.Context) (string, error) {
	type answer struct {
		text string
		err  error
	}
	answers := make(chan answer, 1)
	go func() {
		text, err := r.in.ReadString('\n')
		answers <- answer{text, err}
	}()
	select {
	case a := <-answers:
		return a.text, a.err
	case <-ctx.Done():
		return "", fmt.Errorf("interrupted: %w", context.Cause(ctx))
	}
}

func hostname() string {
	name, err := os.Hostname()
	if err != nil {
		return ""
	}
	return name
}
