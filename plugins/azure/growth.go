package azure

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/compute/armcompute/v7"
)

const (
	// collisions is how often a change of the capacity is tried that somebody else's comes before.
	collisions = 5

	// operationLimit bounds the watch of one operation.
	operationLimit = time.Hour

	// After Azure ran out of machines the next request waits, longer each time.
	firstStockPause = 30 * time.Second
	maxStockPause   = 5 * time.Minute
)

// growth is what is known of requests for more machines. It is safe for concurrent use.
type growth struct {
	mu sync.Mutex

	// unsure is a request whose outcome is not known: neither its answer nor a look at the capacity came back.
	unsure struct {
		target int64
		n      int
	}

	// begun counts operations.
	begun int
	// The operation of this number failed, and none is begun before a time.
	failed  int
	failure error
	pause   time.Duration
	until   time.Time
}

// listed tells how many machines there are: once those of an unsure request are seen, it is over.
func (g *growth) listed(n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if int64(n) >= g.unsure.target {
		g.unsure.target, g.unsure.n = 0, 0
	}
}

// granted returns how many of n machines an unsure request has brought, now that the capacity is known.
func (g *growth) granted(capacity int64, n int) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	before := 0
	if g.unsure.n > 0 && capacity == g.unsure.target {
		before = min(n, g.unsure.n)
	}
	g.unsure.target, g.unsure.n = 0, 0
	return before
}

func (g *growth) doubt(target int64, n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.unsure.target, g.unsure.n = target, n
}

// begin returns the number of a new operation.
func (g *growth) begin() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.begun++
	return g.begun
}

// ended takes the outcome of an operation. The success of one that began before the last failure says nothing
// of what Azure has now.
func (g *growth) ended(number int, err error, now time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if err == nil {
		if number > g.failed {
			g.failure, g.pause = nil, 0
		}
		return
	}
	g.failed = max(g.failed, number)
	g.pause = min(max(2*g.pause, firstStockPause), maxStockPause)
	g.failure, g.until = err, now.Add(g.pause)
}

// held is why no operation is begun now.
func (g *growth) held(now time.Time) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.failure == nil || !now.Before(g.until) {
		return nil
	}
	return fmt.Errorf("azure could not make the last instances, it is asked again in %s: %w", g.until.Sub(now).Round(time.Second), g.failure)
}

// Increase raises the capacity of the scale set. It returns before the machines exist.
func (g *InstanceGroup) Increase(ctx context.Context, n int) (int, error) {
	if n <= 0 {
		return 0, nil
	}
	if err := g.growth.held(time.Now()); err != nil {
		return 0, err
	}
	// What is granted already; known after the first look.
	granted := -1
	// The target of a change that may have been carried out without an answer.
	var tried int64
	for range collisions {
		set, err := g.scaleSet(ctx)
		if err != nil {
			return max(granted, 0), err
		}
		capacity := deref(deref(set.SKU).Capacity)
		if granted < 0 {
			granted = g.growth.granted(capacity, n)
		}
		room := max(int64(g.model.maxSize)-capacity, 0)
		wanted := min(int64(n-granted), room)
		if tried != 0 && capacity == tried {
			return n, nil
		}
		var full error
		if wanted < int64(n-granted) {
			full = fmt.Errorf("scale set %q has room for %d of %d more instances (it can have %d)", g.Name, room, n-granted, g.model.maxSize)
		}
		if wanted == 0 {
			return granted, full
		}
		tried = capacity + wanted
		err = g.raise(ctx, set, tried)
		if err == nil {
			return granted + int(wanted), full
		}
		if statusOf(err) == http.StatusPreconditionFailed {
			// Somebody else changed it, or it was us and the answer was lost.
			continue
		}
		done := g.raised(ctx, err, tried, int(wanted))
		if done {
			return granted + int(wanted), full
		}
		return granted, errors.Join(full, explain(fmt.Errorf("raising the capacity of scale set %q to %d: %w", g.Name, tried, err)))
	}
	return 0, fmt.Errorf("the capacity of scale set %q is changed by others all the time; is it used by another runner or by autoscale?", g.Name)
}

// raised tells whether a change that failed was carried out all the same. It remembers a change of which that
// cannot be told, unless the caller's time is over: then the caller does not count on an answer.
func (g *InstanceGroup) raised(ctx context.Context, failure error, target int64, n int) bool {
	if ctx.Err() != nil {
		return false
	}
	if status := statusOf(failure); status != 0 && status < http.StatusInternalServerError {
		return false
	}
	if unsent := (*throttledError)(nil); errors.As(failure, &unsent) {
		return false
	}
	set, err := g.scaleSet(ctx)
	if err != nil {
		g.growth.doubt(target, n)
		return false
	}
	return deref(deref(set.SKU).Capacity) == target
}

// raise sets the capacity, unless the scale set is not as it was seen.
func (g *InstanceGroup) raise(ctx context.Context, seen armcompute.VirtualMachineScaleSet, capacity int64) error {
	sku := armcompute.SKU{Capacity: to.Ptr(capacity)}
	if seen.SKU != nil {
		sku.Name, sku.Tier = seen.SKU.Name, seen.SKU.Tier
	}
	operation, err := g.clients.sets.BeginUpdate(ctx, g.ResourceGroupName, g.Name,
		armcompute.VirtualMachineScaleSetUpdate{SKU: &sku},
		&armcompute.VirtualMachineScaleSetsClientBeginUpdateOptions{IfMatch: seen.Etag})
	if err != nil {
		return plain(err)
	}
	number := g.growth.begin()
	watch(g, operation, func(err error) {
		if code := codeOf(err); code == "OperationPreempted" || code == "Canceled" {
			// A later change of the scale set took it over.
			return
		}
		err = explain(err)
		g.growth.ended(number, err, time.Now())
		if err != nil {
			g.log.Error("azure could not make all instances", "capacity", capacity, "err", err)
		}
	})
	return nil
}

// watch waits for an operation in the background and tells its outcome, unless the plugin shuts down
// before.
func watch[T any](g *InstanceGroup, operation *runtime.Poller[T], tell func(error)) {
	g.work.Go(func() {
		ctx, cancel := context.WithTimeout(g.ctx, operationLimit)
		defer cancel()
		for {
			_, err := operation.PollUntilDone(ctx, &runtime.PollUntilDoneOptions{Frequency: g.pause})
			if err == nil || operation.Done() {
				tell(plain(err))
				return
			}
			// It is the look that failed, not the operation.
			select {
			case <-ctx.Done():
				return
			case <-time.After(g.pause):
			}
		}
	})
}

// explain adds what to do to an error of Azure's that is known.
func explain(err error) error {
	switch codeOf(err) {
	case "AllocationFailed", "ZonalAllocationFailed":
		return fmt.Errorf("azure has no machines of this size there at the moment; allow more zones or another size: %w", err)
	case "OverconstrainedAllocationRequest", "OverconstrainedZonalAllocationRequest":
		return fmt.Errorf("azure has no machines that fulfil all conditions; ask for less in zones, size, placement group or spot price: %w", err)
	case "SkuNotAvailable":
		return fmt.Errorf("azure does not offer this size there; choose another size or region: %w", err)
	case "OperationNotAllowed", "QuotaExceeded":
		return fmt.Errorf("azure does not allow more instances; have the quota of the subscription raised, or lower max_instances: %w", err)
	case "AuthorizationFailed":
		return fmt.Errorf("the runner's identity lacks a permission, see the plugin's README: %w", err)
	}
	return err
}
