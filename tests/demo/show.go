package main

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"time"

	"gitlab.com/gitlab-org/gitlab-runner/tests/coordinator"
	"gitlab.com/gitlab-org/gitlab-runner/tests/rig"
)

// screen prints lines with the time since its beginning, one at a time.
type screen struct {
	began time.Time
	mu    sync.Mutex
}

func (s *screen) say(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fmt.Printf("%6.1fs  %s\n", time.Since(s.began).Seconds(), fmt.Sprintf(format, args...))
}

// shower prints what happens while the jobs run: instances coming and going, and the jobs' logs.
type shower struct {
	*screen
	cancel context.CancelFunc
	events *coordinator.Subscription
	all    sync.WaitGroup
}

func watch(out *screen, r *rig.Rig, manager *rig.Manager) *shower {
	ctx, cancel := context.WithCancel(context.Background())
	s := &shower{screen: out, cancel: cancel, events: r.Coordinator.Subscribe()}
	s.all.Go(func() { s.jobs(ctx) })
	s.all.Go(func() { s.instances(ctx, manager) })
	return s
}

// close prints what is still to be printed and ends.
func (s *shower) close() {
	s.events.Close()
	s.cancel()
	s.all.Wait()
}

// jobs prints the jobs' logs, line by line, as they arrive at the stand-in.
func (s *shower) jobs(ctx context.Context) {
	splitters := map[int64]*coordinator.LineSplitter{}
	for {
		event, err := s.events.Next(context.WithoutCancel(ctx))
		if err != nil {
			return
		}
		if event.Job == nil {
			continue
		}
		name := event.Job.Name()
		switch event.Kind {
		case coordinator.EventHandedOut:
			s.say("[%s] handed out", name)
		case coordinator.EventTrace:
			splitter := splitters[event.Job.ID()]
			if splitter == nil {
				splitter = &coordinator.LineSplitter{}
				splitters[event.Job.ID()] = splitter
			}
			for _, line := range splitter.Write(event.Data) {
				if line.Text != "" {
					s.say("[%s] | %s", name, line.Text)
				}
			}
		case coordinator.EventArtifact:
			s.say("[%s] uploaded %s", name, event.Artifact.Type)
		case coordinator.EventState:
			if event.State.Final() {
				s.say("[%s] ended: %s", name, event.State)
			}
		}
	}
}

// instances prints what becomes of instances, from the manager's log and from the engine.
func (s *shower) instances(ctx context.Context, manager *rig.Manager) {
	alive := map[string]bool{}
	for seen := 0; ; {
		entries, changed := manager.Entries(seen)
		seen += len(entries)
		for _, entry := range entries {
			s.instance(entry)
		}
		alive = s.deleted(alive)
		select {
		case <-changed:
		case <-time.After(500 * time.Millisecond):
		case <-ctx.Done():
			s.deleted(alive)
			return
		}
	}
}

func (s *shower) instance(entry rig.Entry) {
	switch entry.Text("msg") {
	case "increasing instances":
		s.say("<instances> %s requested", entry.Text("amount"))
	case "instance discovery":
		s.say("<instances> %s is %s", entry.Text("id"), entry.Text("state"))
	case "instance is ready":
		nanoseconds, _ := entry["took"].(float64)
		s.say("<instances> %s is ready after %s", entry.Text("instance"), time.Duration(nanoseconds).Round(time.Millisecond))
	case "instance marked for removal":
		s.say("<instances> %s is to be deleted: %s", entry.Text("instance"), entry.Text("reason"))
	}
	if level := entry.Text("level"); level == "warning" || level == "error" {
		s.say("<runner> %s: %s %s %s", level, entry.Text("msg"), entry.Text("error"), entry.Text("err"))
	}
}

// deleted prints the instances that the engine no longer has.
func (s *shower) deleted(alive map[string]bool) map[string]bool {
	names, err := rig.Instances(group)
	if err != nil {
		s.say("<instances> the engine does not answer: %v", err)
		return alive
	}
	now := map[string]bool{}
	for _, name := range names {
		now[name] = true
	}
	for name := range alive {
		if !now[name] {
			s.say("<instances> %s is deleted", name)
		}
	}
	return now
}

var instanceLine = regexp.MustCompile(`Instance (\S+) connected`)

// table prints what became of the jobs.
func table(jobs []*coordinator.Job) {
	fmt.Printf("\n%-18s %-24s %-8s %10s %16s %10s\n", "job", "instance", "state", "queued", "first command", "duration")
	for _, job := range jobs {
		record := job.Record()
		times := record.Times
		name, first := "-", "-"
		if match := instanceLine.FindSubmatch(record.Trace); match != nil {
			name = string(match[1])
		}
		var splitter coordinator.LineSplitter
		for _, line := range splitter.Write(record.Trace) {
			if strings.HasPrefix(line.Text, "$ ") {
				if at, err := time.Parse(time.RFC3339, line.Time); err == nil {
					first = seconds(times.HandedOut, at)
				}
				break
			}
		}
		fmt.Printf("%-18s %-24s %-8s %10s %16s %10s\n", record.Name, name, record.State,
			seconds(times.Pending, times.HandedOut), first, seconds(times.HandedOut, times.Finished))
	}
}

// seconds is the time between two moments, "-" if one of them has not come.
func seconds(from, to time.Time) string {
	if from.IsZero() || to.IsZero() {
		return "-"
	}
	return fmt.Sprintf("%.2f s", to.Sub(from).Seconds())
}
