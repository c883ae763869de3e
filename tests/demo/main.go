// Command demo runs the product's main job for real and shows it: `gitlab-runner run` with the
// docker-autoscaler executor takes the jobs of a small pipeline from a stand-in for GitLab, on instances
// that a fleeting plugin makes. It ends with 0 only if every job ended as expected and nothing is left.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"gitlab.com/gitlab-org/gitlab-runner/tests/rig"
	"gitlab.com/gitlab-org/gitlab-runner/tests/s3server"
	"gitlab.com/gitlab-org/gitlab-runner/tests/sample"
)

const (
	group    = "demo"
	patience = 10 * time.Minute
)

func main() {
	if err := demonstrate(); err != nil {
		fmt.Fprintf(os.Stderr, "\ndemo: FAILED: %v\n", err)
		os.Exit(1)
	}
	fmt.Println("\ndemo: every job ended as expected, and nothing is left")
}

func demonstrate() error {
	ctx, stop := context.WithTimeout(context.Background(), patience)
	defer stop()
	before, err := rig.Count()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "gitlab-runner-demo-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := run(ctx, dir); err != nil {
		return err
	}
	left, err := before.Since()
	if err != nil {
		return err
	}
	if len(left) > 0 {
		return fmt.Errorf("this was left behind:\n  %s", strings.Join(left, "\n  "))
	}
	return nil
}

// run is the demonstration from the registration of the runner to its end.
func run(ctx context.Context, dir string) (err error) {
	out := &screen{began: time.Now()}
	r, err := rig.New(rig.Options{Dir: dir})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	store, err := s3server.Start(filepath.Join(dir, "store"), r.Gateway+":0")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()

	out.say("the stand-in for GitLab is at %s", r.Coordinator.URL())
	if err := register(ctx, out, r, store); err != nil {
		return err
	}
	manager, err := r.Start()
	if err != nil {
		return err
	}
	out.say("gitlab-runner run is process %d", manager.PID())
	pipeline, err := sample.Start(r.Coordinator, sample.Project, cases())
	if err != nil {
		return errors.Join(err, manager.Stop(ctx))
	}
	show := watch(out, r, manager)
	waitErr := pipeline.Pipeline.Wait(ctx)
	out.say("the pipeline has ended; the runner is told to stop")
	stopErr := manager.Stop(ctx)
	show.close()
	if err := errors.Join(waitErr, stopErr); err != nil {
		return err
	}
	table(pipeline.Pipeline.Jobs())
	problems := append(pipeline.Mismatches(), r.Coordinator.Violations()...)
	if len(problems) > 0 {
		return fmt.Errorf("not as expected:\n  %s", strings.Join(problems, "\n  "))
	}
	return nil
}

// cases are the sample's jobs. The cache is a distributed one here, so that a job on another instance
// must find it.
func cases() []sample.Case {
	all := sample.Cases()
	for i := range all {
		if all[i].Spec.Name == "use cache" {
			all[i].Want.Log = append(all[i].Want.Log, "cache: hit")
		}
	}
	return all
}

// register adds the runner with the register command, as a user would.
func register(ctx context.Context, out *screen, r *rig.Rig, store *s3server.Server) error {
	var template strings.Builder
	template.WriteString("[[runners]]\n")
	r.Tables(&template, rig.Config{
		Group: group, Capacity: 1, MaxUseCount: 1, MaxInstances: 3, IdleCount: 1,
		Images: rig.JobImages, DeleteOnShutdown: true, Cache: store.RunnerConfig(),
	})
	path := filepath.Join(r.Dir, "template.toml")
	if err := os.WriteFile(path, []byte(template.String()), 0o600); err != nil {
		return err
	}
	if err := r.WriteConfig("concurrent = 3\ncheck_interval = 1\nshutdown_timeout = 60\n"); err != nil {
		return err
	}
	printed, err := r.Runner(ctx, "register", "--config", r.ConfigPath(), "--non-interactive",
		"--url", r.Coordinator.URL(), "--token", r.Coordinator.RunnerToken(), "--name", "demo",
		"--executor", "docker-autoscaler", "--template-config", path, "--request-concurrency", "3")
	if err != nil {
		return fmt.Errorf("%w\n%s", err, printed)
	}
	out.say("the runner is registered:")
	text, err := os.ReadFile(r.ConfigPath())
	if err != nil {
		return err
	}
	fmt.Println("    " + strings.ReplaceAll(strings.TrimSpace(string(text)), "\n", "\n    "))
	return nil
}
