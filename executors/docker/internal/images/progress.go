package images

import (
	"context"
	"sync"
	"time"

	"github.com/docker/go-units"

	"gitlab.com/gitlab-org/gitlab-runner/helpers/docker"
)

// The user is told of a pull that takes longer than progressFirst, and every progressEvery from then on.
const (
	progressFirst = 10 * time.Second
	progressEvery = 30 * time.Second
	// layerLimit bounds how many layers of one pull are followed; no image has more than 128.
	layerLimit = 1024
)

// tally sums up the reports of one pull.
type tally struct {
	mu     sync.Mutex
	layers map[string]layer
}

type layer struct {
	current, total int64
	done           bool
}

func newTally() *tally { return &tally{layers: map[string]layer{}} }

// reset forgets an attempt that failed.
func (t *tally) reset() {
	t.mu.Lock()
	defer t.mu.Unlock()
	clear(t.layers)
}

func (t *tally) add(report docker.Progress) {
	if report.Layer == "" {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	l, known := t.layers[report.Layer]
	if !known && len(t.layers) >= layerLimit {
		return
	}
	switch report.Status {
	case "Pulling fs layer", "Waiting", "Verifying Checksum":
	case "Downloading":
		l.current, l.total = report.Current, max(report.Total, report.Current)
	case "Download complete", "Extracting":
		l.current = l.total
	case "Pull complete", "Already exists":
		l.current, l.done = l.total, true
	default:
		// Reports on the image as a whole carry its tag as the layer.
		return
	}
	t.layers[report.Layer] = l
}

func (t *tally) tell(ctx context.Context, log Log, image string) {
	wait := progressFirst
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		wait = progressEvery
		layers, done, current, total := t.sum()
		log.Print("Still pulling docker image %s: %d of %d layers complete, %s of %s known so far downloaded",
			image, done, layers, units.HumanSize(float64(current)), units.HumanSize(float64(total)))
	}
}

func (t *tally) sum() (layers, done int, current, total int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, l := range t.layers {
		layers++
		current += l.current
		total += l.total
		if l.done {
			done++
		}
	}
	return layers, done, current, total
}
