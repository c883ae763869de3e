// Command bench measures jobs that do nothing, side by side in one run: the docker executor on the local
// engine, docker-autoscaler through the tunnel to an instance, and the floor, which is one container of
// the same image made, started and awaited by the engine's API.
//
// Figures of different machines, or of different runs, say little; the ratios of one run do.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/client"

	"gitlab.com/gitlab-org/gitlab-runner/tests/coordinator"
	"gitlab.com/gitlab-org/gitlab-runner/tests/rig"
)

const (
	group    = "bench"
	image    = "busybox:latest"
	patience = 10 * time.Minute
)

func main() {
	jobs := flag.Int("jobs", 20, "jobs of each measurement, one after the other")
	burst := flag.Int("burst", 80, "jobs of the measurement with eight at once")
	flag.Parse()
	if err := measure(*jobs, *burst); err != nil {
		fmt.Fprintf(os.Stderr, "bench: %v\n", err)
		os.Exit(1)
	}
}

// figures are what was measured of one kind.
type figures struct {
	name      string
	durations []time.Duration
	firstLog  []time.Duration
	perMinute float64
	manager   time.Duration // processor time per job
	engine    time.Duration // processor time per job
	rss       int64
}

func measure(jobs, burst int) error {
	ctx, stop := context.WithTimeout(context.Background(), patience)
	defer stop()
	local, err := floor(ctx, jobs)
	if err != nil {
		return err
	}
	docker, err := executor(ctx, jobs, burst, rig.Config{Executor: "docker"})
	if err != nil {
		return fmt.Errorf("docker: %w", err)
	}
	autoscaled, err := executor(ctx, jobs, burst, rig.Config{
		Group: group, Capacity: 8, MaxInstances: 1, IdleCount: 8, Images: []string{image}, DeleteOnShutdown: true,
	})
	if err != nil {
		return fmt.Errorf("docker-autoscaler: %w", err)
	}
	show(local, docker, autoscaled)
	return nil
}

// floor is one container made, started and awaited by the API of the local engine.
func floor(ctx context.Context, n int) (figures, error) {
	result := figures{name: "one container, by the API"}
	engine, err := client.NewClientWithOpts(client.FromEnv, client.WithAPIVersionNegotiation())
	if err != nil {
		return result, err
	}
	defer engine.Close()
	one := func() (time.Duration, error) {
		began := time.Now()
		made, err := engine.ContainerCreate(ctx, &container.Config{Image: image, Cmd: []string{"true"}}, &container.HostConfig{}, nil, nil, "")
		if err != nil {
			return 0, err
		}
		ended, failed := engine.ContainerWait(ctx, made.ID, container.WaitConditionNextExit)
		if err := engine.ContainerStart(ctx, made.ID, container.StartOptions{}); err != nil {
			return 0, err
		}
		select {
		case <-ended:
		case err := <-failed:
			return 0, err
		}
		took := time.Since(began)
		return took, engine.ContainerRemove(ctx, made.ID, container.RemoveOptions{Force: true})
	}
	for range n {
		took, err := one()
		if err != nil {
			return result, fmt.Errorf("the floor: %w", err)
		}
		result.durations = append(result.durations, took)
	}
	began := time.Now()
	failures := make(chan error, 8)
	for range 8 {
		go func() {
			for range n {
				if _, err := one(); err != nil {
					failures <- err
					return
				}
			}
			failures <- nil
		}()
	}
	for range 8 {
		if err := <-failures; err != nil {
			return result, fmt.Errorf("the floor, eight at once: %w", err)
		}
	}
	result.perMinute = float64(8*n) / time.Since(began).Minutes()
	return result, nil
}

// executor measures jobs on one executor.
func executor(ctx context.Context, jobs, burst int, c rig.Config) (result figures, err error) {
	result.name = "job on " + c.Executor
	if c.Executor == "" {
		result.name = "job on docker-autoscaler"
	}
	dir, err := os.MkdirTemp("", "gitlab-runner-bench-")
	if err != nil {
		return result, err
	}
	defer os.RemoveAll(dir)
	r, err := rig.New(rig.Options{Dir: dir, Coordinator: coordinator.Config{LongPoll: 20 * time.Second}})
	if err != nil {
		return result, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	c.RequestConcurrency = 8
	c.Concurrent = 8
	if err := r.WriteConfig(r.Text(c)); err != nil {
		return result, err
	}
	manager, err := r.Start()
	if err != nil {
		return result, err
	}
	defer func() { err = errors.Join(err, manager.Stop(ctx)) }()

	// The first job warms what every later one finds warm.
	if _, err := run(ctx, r, 1); err != nil {
		return result, err
	}
	for range jobs {
		done, err := run(ctx, r, 1)
		if err != nil {
			return result, err
		}
		times := done[0].Times
		result.durations = append(result.durations, times.Finished.Sub(times.HandedOut))
		result.firstLog = append(result.firstLog, times.FirstTrace.Sub(times.HandedOut))
	}
	return result, result.burst(ctx, r, manager, burst)
}

// cost is processor time used so far.
type cost struct{ manager, bench, machine time.Duration }

func costSoFar(manager *rig.Manager) (cost, rig.Usage, error) {
	of, err := rig.UsageOf(manager.PID())
	if err != nil {
		return cost{}, of, err
	}
	own, err := rig.UsageOf(os.Getpid())
	if err != nil {
		return cost{}, of, err
	}
	machine, err := rig.MachineCPU()
	return cost{manager: of.CPU, bench: own.CPU, machine: machine}, of, err
}

// burst measures eight jobs at once, and what they cost.
func (f *figures) burst(ctx context.Context, r *rig.Rig, manager *rig.Manager, n int) error {
	before, _, err := costSoFar(manager)
	if err != nil {
		return err
	}
	began := time.Now()
	done, err := run(ctx, r, n)
	if err != nil {
		return err
	}
	last := slices.MaxFunc(done, func(a, b coordinator.Record) int { return a.Times.Finished.Compare(b.Times.Finished) })
	f.perMinute = float64(n) / last.Times.Finished.Sub(began).Minutes()
	after, usage, err := costSoFar(manager)
	if err != nil {
		return err
	}
	f.manager = (after.manager - before.manager) / time.Duration(n)
	rest := (after.machine - before.machine) - (after.manager - before.manager) - (after.bench - before.bench)
	f.engine = rest / time.Duration(n)
	f.rss = usage.RSS
	return nil
}

// run gives the manager jobs that do nothing and waits for all of them.
func run(ctx context.Context, r *rig.Rig, n int) ([]coordinator.Record, error) {
	var queued []*coordinator.Job
	for range n {
		job, err := r.Coordinator.Enqueue(coordinator.JobSpec{
			Image: coordinator.Image{Name: image}, Script: []string{"true"},
			Variables: []coordinator.Variable{{Key: "GIT_STRATEGY", Value: "none"}},
		})
		if err != nil {
			return nil, err
		}
		queued = append(queued, job)
	}
	var records []coordinator.Record
	for _, job := range queued {
		if err := job.Wait(ctx); err != nil {
			return nil, fmt.Errorf("waiting for a job: %w", err)
		}
		record := job.Record()
		if record.State != coordinator.StateSuccess {
			return nil, fmt.Errorf("a job ended as %s (%s):\n%s", record.State, record.FailureReason, coordinator.PlainLog(record.Trace))
		}
		records = append(records, record)
	}
	return records, nil
}

func show(all ...figures) {
	fmt.Printf("\n%-28s %8s %8s %8s %10s %10s %10s %10s %8s\n", "", "median", "min", "max", "first log", "per minute", "manager", "engine", "RSS")
	for _, f := range all {
		first, cost := "-", [3]string{"-", "-", "-"}
		if len(f.firstLog) > 0 {
			first = ms(median(f.firstLog))
			cost = [3]string{ms(f.manager), ms(f.engine), fmt.Sprintf("%d MiB", f.rss>>20)}
		}
		fmt.Printf("%-28s %8s %8s %8s %10s %10.0f %10s %10s %8s\n", f.name,
			ms(median(f.durations)), ms(slices.Min(f.durations)), ms(slices.Max(f.durations)), first, f.perMinute, cost[0], cost[1], cost[2])
	}
	fmt.Println()
	base := median(all[0].durations)
	for i, f := range all[1:] {
		line := []string{fmt.Sprintf("%s = %.2f × the floor", f.name, ratio(median(f.durations), base))}
		if i > 0 {
			line = append(line, fmt.Sprintf("%.2f × %s", ratio(median(f.durations), median(all[1].durations)), all[1].name))
		}
		fmt.Println(strings.Join(line, " = "))
	}
}

func ratio(a, b time.Duration) float64 { return float64(a) / float64(b) }

func ms(d time.Duration) string { return fmt.Sprintf("%d ms", d.Milliseconds()) }

func median(durations []time.Duration) time.Duration {
	sorted := slices.Sorted(slices.Values(durations))
	return sorted[len(sorted)/2]
}
