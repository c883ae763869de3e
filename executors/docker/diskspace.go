package docker

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/docker/docker/api/types/volume"

	"gitlab.com/gitlab-org/gitlab-runner/executors/docker/internal/blueprint"
	"gitlab.com/gitlab-org/gitlab-runner/helpers/docker"
)

// Cache volumes are removed when the disk that they are on is fuller than highWater, the longest unused
// first, until it is expected to be down to lowWater, in percent. That is done on machines which a
// provisioner gave us; the engine of a machine with a life of its own is left alone.
const (
	highWater = 85
	lowWater  = 70
	// diskInterval is the time between two looks at a machine's disk.
	diskInterval = 10 * time.Minute
	diskLimit    = 5 * time.Second
)

// disk is the size of a file system in bytes.
type disk struct {
	total, used int64
}

// excess is how much is to be removed, 0 below the high-water mark.
func (d disk) excess() int64 {
	if d.total <= 0 || d.used*100 < d.total*highWater {
		return 0
	}
	return d.used - d.total*lowWater/100
}

// lookAtDisk finds out, from the helper container, how full the disk of the volumes is. It is the last
// thing that is done in that container.
func (e *executor) lookAtDisk(ctx context.Context) disk {
	e.helper.mu.Lock()
	id := e.helper.id
	e.helper.mu.Unlock()
	if e.env == nil || id == "" || len(e.plan.OpenVolumes) == 0 || !e.machine.diskDue(time.Now()) {
		return disk{}
	}
	ctx, cancel := context.WithTimeout(ctx, diskLimit)
	defer cancel()
	output, err := e.command(ctx, id, docker.Command{Args: []string{"df", "-Pk", e.plan.OpenVolumes[0]}})
	if err != nil {
		return disk{}
	}
	return parseDisk(output)
}

// parseDisk reads the portable output of df, sizes in KiB.
func parseDisk(output string) disk {
	lines := strings.Split(strings.TrimSpace(output), "\n")
	fields := strings.Fields(lines[len(lines)-1])
	if len(fields) < 6 {
		return disk{}
	}
	total, err := strconv.ParseInt(fields[1], 10, 64)
	if err != nil || total < 0 || total > 1<<50 {
		return disk{}
	}
	used, err := strconv.ParseInt(fields[2], 10, 64)
	if err != nil || used < 0 || used > total {
		return disk{}
	}
	return disk{total: total << 10, used: used << 10}
}

// makeRoom removes cache volumes until enough of them are gone. Volumes in use stay: the engine keeps
// them.
func (e *executor) makeRoom(ctx context.Context, full disk) {
	excess := full.excess()
	if excess == 0 {
		return
	}
	volumes, err := e.engine.VolumeUsage(ctx)
	if err != nil {
		e.log.WithError(err).Warning("the disk of the machine is nearly full, and its volumes cannot be listed")
		return
	}
	removed, freed := 0, int64(0)
	for _, victim := range leastRecent(volumes, e.machine.lastUse) {
		if freed >= excess {
			break
		}
		if err := e.engine.VolumeRemove(ctx, victim.Name); err != nil {
			continue
		}
		removed++
		freed += sizeOf(victim)
	}
	e.log.WithField("removed", removed).Warning(fmt.Sprintf(
		"the disk of the machine was more than %d %% full: removed cache volumes with %d MiB", highWater, freed>>20))
}

// leastRecent returns the volumes that may be removed, the longest unused first.
func leastRecent(volumes []*volume.Volume, lastUse func(name string) time.Time) []*volume.Volume {
	candidates := slices.DeleteFunc(slices.Clone(volumes), func(v *volume.Volume) bool {
		return v.Labels[blueprint.LabelManaged] != "true" || v.Labels[blueprint.LabelReusable] != "true" ||
			v.UsageData != nil && v.UsageData.RefCount > 0
	})
	used := func(v *volume.Volume) time.Time {
		if last := lastUse(v.Name); !last.IsZero() {
			return last
		}
		created, err := time.Parse(time.RFC3339, v.CreatedAt)
		if err != nil {
			return time.Time{}
		}
		return created
	}
	slices.SortStableFunc(candidates, func(a, b *volume.Volume) int {
		if order := used(a).Compare(used(b)); order != 0 {
			return order
		}
		return cmp.Compare(a.Name, b.Name)
	})
	return candidates
}

func sizeOf(v *volume.Volume) int64 {
	if v.UsageData == nil {
		return 0
	}
	return max(0, v.UsageData.Size)
}
