package autoscaler

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"gitlab.com/gitlab-org/fleeting/fleeting/connector"
	"gitlab.com/gitlab-org/fleeting/fleeting/provider"
	"gitlab.com/gitlab-org/gitlab-runner/common/config"
	"gitlab.com/gitlab-org/gitlab-runner/executors"
	"gitlab.com/gitlab-org/gitlab-runner/helpers/diagnosis"
	"gitlab.com/gitlab-org/gitlab-runner/helpers/pause"
	"gitlab.com/gitlab-org/gitlab-runner/helpers/plugindir"
)

const (
	stepPlugin   = "plugin"
	stepGroup    = "group"
	stepInstance = "instance"

	// examineDial bounds the connection to an instance. It has been running for a while: what does not
	// answer by then will not.
	examineDial = 20 * time.Second
	// examineBoot bounds the creation of an instance.
	examineBoot = 5 * time.Minute
	examinePoll = time.Second
	// examineUndo bounds what is done at the end, whatever became of the examination.
	examineUndo = 30 * time.Second
)

// Examine tries what jobs of an entry will need: the plugin, its group, an instance and what runs there.
// It makes an instance only if there is none and create says so, and removes that one in the end.
func (p *Provider) Examine(ctx context.Context, runner *config.Runner, create bool, report diagnosis.Report) {
	if runner.Autoscaler == nil {
		report.Fail(stepPlugin, "the table [runners.autoscaler] is missing", "write it: the executor "+p.options.Name+" needs it")
		return
	}
	e := &examination{options: p.options, runner: runner, report: report}
	e.run(ctx, create)
}

type examination struct {
	options Options
	runner  *config.Runner
	report  diagnosis.Report
	group   provider.InstanceGroup
}

func (e *examination) run(ctx context.Context, create bool) {
	a := e.runner.Autoscaler
	plugin, ok := e.launch(a)
	if !ok {
		return
	}
	defer plugin.Kill()
	e.group = plugin.InstanceGroup()
	if !e.init(ctx, a) {
		return
	}
	defer e.undo(ctx, "shutting the plugin down", e.group.Shutdown)
	running, ok := e.look(ctx)
	if !ok {
		return
	}
	if len(running) == 0 {
		if !create {
			e.report.Warn(stepInstance, "no instance is running: nothing could be tried on one", "run it again with --create, or when instances are there")
			return
		}
		created, ok := e.create(ctx)
		if created != "" {
			defer e.undo(ctx, "removing the instance "+created, func(ctx context.Context) error {
				_, err := e.group.Decrease(ctx, []string{created})
				return err
			})
		}
		if !ok {
			return
		}
		running = []string{created}
	}
	e.visit(ctx, running[0])
}

func (e *examination) launch(a *config.Autoscaler) (Plugin, bool) {
	pluginConfig, err := json.Marshal(a.PluginConfig)
	if err != nil {
		e.report.Fail(stepPlugin, err.Error(), "check [runners.autoscaler.plugin_config]")
		return nil, false
	}
	plugin, err := e.options.Plugins.Launch(a.Plugin, pluginConfig, newLogger(e.options.Log, "fleeting-plugin"))
	switch {
	case errors.Is(err, plugindir.ErrNotFound):
		e.report.Fail(stepPlugin, err.Error(), "run gitlab-runner fleeting install, as the user that gitlab-runner runs as")
		return nil, false
	case err != nil:
		e.report.Fail(stepPlugin, err.Error(), "run the plugin by hand with the argument version: it must be a program for this machine, built for this runner")
		return nil, false
	}
	e.report.OK(stepPlugin, a.Plugin+" starts")
	return plugin, true
}

func (e *examination) init(ctx context.Context, a *config.Autoscaler) bool {
	settings, err := connectorSettings(a.ConnectorConfig)
	if err != nil {
		e.report.Fail(stepGroup, err.Error(), "check key_path in [runners.autoscaler.connector_config], and who may read the file")
		return false
	}
	bounded, stop := context.WithTimeout(ctx, startTimeout)
	defer stop()
	info, err := e.group.Init(bounded, newLogger(e.options.Log, "fleeting-plugin"), settings)
	if err != nil {
		e.report.Fail(stepGroup, err.Error(), "check [runners.autoscaler.plugin_config], and the plugin's credentials and permissions")
		return false
	}
	if a.MaxInstances > info.MaxSize && info.MaxSize > 0 {
		e.report.Warn(stepGroup, fmt.Sprintf("%s holds %d instances, max_instances is %d", info.ID, info.MaxSize, a.MaxInstances), "raise the size of the group, or lower max_instances")
	}
	return true
}

// look lists the group and returns the instances that run.
func (e *examination) look(ctx context.Context) ([]string, bool) {
	states, err := e.instances(ctx)
	if err != nil {
		e.report.Fail(stepGroup, "listing the instances: "+err.Error(), "check the plugin's credentials and permissions")
		return nil, false
	}
	counts := map[provider.State]int{}
	for _, state := range states {
		counts[state]++
	}
	texts := []string{}
	for _, state := range slices.Sorted(maps.Keys(counts)) {
		texts = append(texts, fmt.Sprintf("%d %s", counts[state], state))
	}
	detail := "no instances"
	if len(texts) > 0 {
		detail = "instances: " + strings.Join(texts, ", ")
	}
	e.report.OK(stepGroup, detail)
	return running(states), true
}

func running(states map[string]provider.State) []string {
	var ids []string
	for id, state := range states {
		if state == provider.StateRunning {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

func (e *examination) instances(ctx context.Context) (map[string]provider.State, error) {
	ctx, stop := context.WithTimeout(ctx, startTimeout)
	defer stop()
	states := map[string]provider.State{}
	err := e.group.Update(ctx, func(instance string, state provider.State) { states[instance] = state })
	return states, err
}

// create makes an instance and waits until it runs. The id is that of the instance also if it never did.
func (e *examination) create(ctx context.Context) (string, bool) {
	const remedy = "look at the group in the cloud: quotas, stock, the image of the machines"
	before, err := e.instances(ctx)
	if err == nil {
		_, err = e.group.Increase(ctx, 1)
	}
	if err != nil {
		e.report.Fail(stepInstance, "creating an instance: "+err.Error(), remedy)
		return "", false
	}
	created, err := e.await(ctx, before)
	if err == nil {
		return created, true
	}
	e.report.Fail(stepInstance, "waiting for the instance: "+err.Error(), remedy)
	if created == "" {
		// It may have appeared since: it must not stay because nobody saw it.
		ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), examineUndo)
		defer stop()
		if states, err := e.instances(ctx); err == nil {
			created, _ = newcomer(before, states)
		}
	}
	return created, false
}

// await waits until an instance runs that was not there before, and returns its id as soon as it is known.
func (e *examination) await(ctx context.Context, before map[string]provider.State) (string, error) {
	ctx, stop := context.WithTimeoutCause(ctx, examineBoot, fmt.Errorf("it does not run after %s", examineBoot))
	defer stop()
	created := ""
	for {
		states, err := e.instances(ctx)
		if err != nil {
			return created, errors.Join(context.Cause(ctx), err)
		}
		id, state := newcomer(before, states)
		if id != "" {
			created = id
		}
		if state == provider.StateRunning {
			return created, nil
		}
		if err := pause.For(ctx, examinePoll); err != nil {
			return created, err
		}
	}
}

// newcomer is an instance that was not there before.
func newcomer(before, now map[string]provider.State) (string, provider.State) {
	for id, state := range now {
		if _, old := before[id]; !old {
			return id, state
		}
	}
	return "", ""
}

// visit connects to an instance and has what runs there examined.
func (e *examination) visit(ctx context.Context, id string) {
	c := e.runner.Autoscaler.ConnectorConfig
	info, err := e.group.ConnectInfo(ctx, id)
	if err != nil {
		e.report.Fail(stepInstance, fmt.Sprintf("%s: asking the plugin how to connect: %v", id, err), "check the plugin's credentials and permissions")
		return
	}
	if info.Timeout <= 0 || info.Timeout > examineDial {
		info.Timeout = examineDial
	}
	client, err := e.options.Connect(ctx, info, connector.DialOptions{UseExternalAddr: c.UseExternalAddr, KnownHosts: &connector.KnownHosts{}})
	if err != nil {
		e.report.Fail(stepInstance, fmt.Sprintf("connecting to %s: %v", id, err), dialRemedy(err))
		return
	}
	defer client.Close()
	e.report.OK(stepInstance, fmt.Sprintf("connected to %s as %q", id, info.Username))
	e.options.Inner.Examine(ctx, e.runner, visited{id, client}, e.report)
}

func dialRemedy(err error) string {
	text := err.Error()
	switch {
	case strings.Contains(text, "unable to authenticate"), strings.Contains(text, "no supported methods remain"):
		return "the instance refused the login: check username, key_path and use_static_credentials in [runners.autoscaler.connector_config]"
	case strings.Contains(text, "host key"):
		return "another machine answers at this address than the plugin says: check the network"
	default:
		return "check that this machine reaches the instance: firewall, port and, for the external address, use_external_addr in [runners.autoscaler.connector_config]"
	}
}

// undo does something in the end, also when the examination is out of time.
func (e *examination) undo(ctx context.Context, what string, do func(context.Context) error) {
	ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), examineUndo)
	defer stop()
	if err := do(ctx); err != nil {
		e.report.Warn(stepGroup, what+": "+err.Error(), "look at the group for what is left")
	}
}

// visited is the environment of an instance that no job has.
type visited struct {
	id     string
	client connector.Client
}

// ID implements executors.Environment.
func (v visited) ID() string { return v.id }

// Connect implements executors.Environment.
func (v visited) Connect(context.Context) (executors.Client, error) { return shared{v.client}, nil }
