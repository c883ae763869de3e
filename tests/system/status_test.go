//go:build system

package system

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	browserlog "github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"

	"gitlab.com/gitlab-org/gitlab-runner/tests/coordinator"
	"gitlab.com/gitlab-org/gitlab-runner/tests/rig"
)

// screenshotVariable names a file in which a picture of the status page is kept.
const screenshotVariable = "STATUS_SCREENSHOT"

// browser is a headless browser with one page open.
type browser struct {
	*stage
	ctx context.Context

	mu       sync.Mutex
	problems []string
}

// open opens a page. At the end of the test nothing may have gone wrong in it.
func (s *stage) open(url string) *browser {
	s.Helper()
	allocated, stop := chromedp.NewExecAllocator(s.Ctx, append(chromedp.DefaultExecAllocatorOptions[:],
		// Tests run as root in containers, where the browser cannot make its own.
		chromedp.NoSandbox, chromedp.WindowSize(1200, 1000))...)
	ctx, end := chromedp.NewContext(allocated)
	b := &browser{stage: s, ctx: ctx}
	thrown := chromedp.Events(ctx, runtime.ExceptionThrown)
	logged := chromedp.Events(ctx, browserlog.EntryAdded)
	var listening sync.WaitGroup
	listening.Go(func() {
		for event, err := range thrown {
			if err == nil {
				b.complain(event.ExceptionDetails.Text)
			}
		}
	})
	listening.Go(func() {
		for event, err := range logged {
			if err == nil && !strings.Contains(event.Entry.Text, networkChanged) {
				b.complain(event.Entry.Text)
			}
		}
	})
	s.Cleanup(func() {
		end()
		stop()
		listening.Wait()
		require.Empty(s, b.problems, "the page complained")
	})
	require.NoError(s, chromedp.Do(ctx, chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
		if _, err := cdp.Call(ctx, target, runtime.Enable, cdp.Empty{}); err != nil {
			return err
		}
		_, err := cdp.Call(ctx, target, browserlog.Enable, cdp.Empty{})
		return err
	})))
	b.visit(url)
	return b
}

// networkChanged is how the browser breaks requests off when a network of the machine comes or goes, as with every
// instance of any test. The page asks again by itself.
const networkChanged = "net::ERR_NETWORK_CHANGED"

// visit loads the page.
func (b *browser) visit(url string) {
	b.Helper()
	ctx, stop := context.WithTimeout(b.ctx, time.Minute)
	defer stop()
	err := chromedp.Do(ctx, chromedp.Navigate(url))
	for err != nil && strings.Contains(err.Error(), networkChanged) {
		err = chromedp.Do(ctx, chromedp.Navigate(url))
	}
	require.NoError(b, err)
	b.do(chromedp.WaitReady("body[data-ready]"))
}

func (b *browser) complain(text string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.problems = append(b.problems, text)
}

func (b *browser) do(actions ...chromedp.Action[chromedp.Void]) {
	b.Helper()
	ctx, stop := context.WithTimeout(b.ctx, time.Minute)
	defer stop()
	require.NoError(b, chromedp.Do(ctx, actions...))
}

// text is what a reader sees of an element.
func (b *browser) text(selector string) string {
	b.Helper()
	return b.ask(fmt.Sprintf(`document.querySelector(%q)?.innerText || ''`, selector))
}

// ask returns the value of an expression, as text.
func (b *browser) ask(expression string) string {
	b.Helper()
	ctx, stop := context.WithTimeout(b.ctx, time.Minute)
	defer stop()
	value, err := chromedp.Run(ctx, chromedp.Evaluate[string]("String("+expression+")"))
	require.NoError(b, err, expression)
	return value
}

// prefer has the browser ask for a colour scheme.
func (b *browser) prefer(scheme string) {
	b.Helper()
	b.do(chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
		_, err := cdp.Call(ctx, target, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
			Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}},
		})
		return err
	}))
}

// await waits until an element shows a text.
func (b *browser) await(selector, text string) {
	b.Helper()
	b.Eventually(time.Minute, func() bool { return strings.Contains(b.text(selector), text) }, "%s did not show %q", selector, text)
}

// picture is the whole page, for the documentation if that was asked for.
func (b *browser) picture() {
	b.Helper()
	ctx, stop := context.WithTimeout(b.ctx, time.Minute)
	defer stop()
	png, err := chromedp.Run(ctx, chromedp.FullScreenshot(100))
	require.NoError(b, err)
	require.NotEmpty(b, png)
	if path := os.Getenv(screenshotVariable); path != "" {
		require.NoError(b, os.WriteFile(path, png, 0o644))
	}
}

// fleetStatus is what the tests read of the status.
type fleetStatus struct {
	Runners []struct {
		Paused bool
	}
	Jobs []struct {
		ID              int64
		Stage, Instance string
	}
	Fleets []struct {
		Instances []struct {
			ID, Condition, Removal string
			Used                   int
			Tasks                  []struct{ Slot int }
		}
		Events  []struct{ Kind, Instance, Reason string }
		Samples []struct{ Slots, Demand int }
	}
}

// status asks the manager with the fleet command.
func (s *stage) status(address string) fleetStatus {
	s.Helper()
	out, err := s.Runner(s.Ctx, "fleet", "status", "--json", "--address", address)
	require.NoError(s, err, out)
	var status fleetStatus
	require.NoError(s, json.Unmarshal([]byte(out), &status), out)
	return status
}

func TestTheStatusPageShowsARealRunAndSteersIt(t *testing.T) {
	t.Parallel()
	s := newStage(t, coordinator.Config{})
	s.Launch(s.Autoscaled(rig.Config{Capacity: 2, MaxUseCount: 3, MaxInstances: 3, IdleCount: 1}), "--listen-address", "127.0.0.1:0")
	address := s.Listening()
	gate := s.NewGate()
	s.Succeeds(coordinator.JobSpec{Name: "an early one"})
	var jobs []*coordinator.Job
	for i := range 3 {
		jobs = append(jobs, s.Enqueue(coordinator.JobSpec{Name: fmt.Sprint("build ", i), Script: []string{"echo waiting", gate.Wait}}))
	}
	for _, job := range jobs {
		require.NoError(t, job.WaitTrace(s.Ctx, "waiting\n"))
	}

	status := s.status(address)
	require.Len(t, status.Jobs, 3)
	instance := status.Jobs[0].Instance
	require.NotEmpty(t, instance)
	page := s.open("http://" + address + "/status")
	for _, job := range jobs {
		page.await("#jobs", fmt.Sprintf("#%d", job.ID()))
	}
	page.await("#runners", "rig-docker-autoscaler")
	page.await("#jobs", instance)
	page.await("#fleets", "busy")
	page.await("#fleets .timeline", "created")
	page.await("#fleets .timeline", "tasks waiting")
	require.Contains(t, page.ask(`document.querySelector('svg[role=img]').getAttribute('aria-label')`), "Capacity against demand")
	require.Equal(t, "true", page.ask(`[...document.querySelectorAll('th')].every(h => h.scope === 'col')`))
	require.Equal(t, "true", page.ask(`[...document.querySelectorAll('svg path')].every(p => p.getAttribute('d').startsWith('M') && !/NaN/.test(p.getAttribute('d')))`))
	light := page.ask(`getComputedStyle(document.body).backgroundColor`)
	page.prefer("dark")
	require.NotEqual(t, light, page.ask(`getComputedStyle(document.body).backgroundColor`), "it is dark where people want that")

	// Drained on the page, it keeps its jobs until they end, and goes then.
	drain := fmt.Sprintf(`button[data-key$=" %s"]`, instance)
	page.do(chromedp.Click(drain))
	page.await(drain, "Really drain?")
	page.do(chromedp.Click(drain))
	page.await("#notice", "takes no more jobs")
	page.await("#fleets", "instance was drained by the operator")
	require.Len(t, s.status(address).Jobs, 3)
	page.prefer("light")
	page.picture()

	// Paused on the command line, the runner takes no job until it is resumed.
	out, err := s.Runner(s.Ctx, "fleet", "pause", "--address", address, "--runner", "rig-docker-autoscaler")
	require.NoError(t, err, out)
	require.Contains(t, out, "takes no new jobs")
	page.await("#runners", "paused")
	gate.Open()
	s.AllSucceed(jobs...)
	require.NoError(t, s.Fleet.Await(s.Ctx, func(lives []rig.Life) bool {
		for _, life := range lives {
			if life.Name == instance {
				return !life.Destroyed.IsZero()
			}
		}
		return false
	}))
	page.await("#jobs", "No job is running")
	// Requests that were under way when it was paused are over now.
	s.Eventually(soon, func() bool { return s.scrape().value("gitlab_runner_request_concurrency", "") == 0 }, "requests are still made")
	late := s.Enqueue(coordinator.JobSpec{Name: "a late one", Script: []string{"true"}})
	feeds := s.scrape().value("gitlab_runner_worker_feed_failures_total", "")
	s.Eventually(soon, func() bool { return s.scrape().value("gitlab_runner_worker_feed_failures_total", "") > feeds+2 }, "the entry is not looked at")
	require.Equal(t, coordinator.StatePending, late.Record().State)
	out, err = s.Runner(s.Ctx, "fleet", "resume", "--address", address)
	require.NoError(t, err, out)
	s.AllSucceed(late)

	out, err = s.Runner(s.Ctx, "fleet", "status", "--address", address)
	require.NoError(t, err, out)
	require.Contains(t, out, "instance was drained by the operator")
	out, err = s.Runner(s.Ctx, "fleet", "drain", "--address", address, "nobody")
	require.Error(t, err)
	require.Contains(t, out, "there is no such instance")
	s.Stop()
	out, err = s.Runner(s.Ctx, "fleet", "status", "--address", address)
	require.Error(t, err)
	require.Contains(t, out, "no manager answers")
}
