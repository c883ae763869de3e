package fleet

import (
	"time"

	"golang.org/x/time/rate"
)

// Config is what stays the same during the life of a State.
type Config struct {
	// CapacityPerInstance is the number of slots of an instance, at least 1.
	CapacityPerInstance int
	// MaxUseCount is how many tasks an instance gets in its life; 0 is no limit.
	MaxUseCount int
	// MaxInstances limits the instances, counted in every state; 0 is no limit.
	MaxInstances int
	// FailureThreshold is the number of consecutive failed health checks after which an instance is
	// removed, at least 1.
	FailureThreshold int
	// Reservations makes Reserve remember the keys it accepted.
	Reservations bool
	// ReservationThrottling keeps one idle instance free of reservations, so that it can be removed.
	ReservationThrottling bool
	// Throttle limits the creation of instances; nil is no limit.
	Throttle *rate.Limiter
}

// Policy is how much capacity is kept without anybody asking for it.
type Policy struct {
	// IdleCount is the number of idle slots to keep at least.
	IdleCount int
	// IdleTime is how long an instance that is not needed stays idle before it is removed.
	IdleTime time.Duration
	// ScaleFactor raises the number of idle slots to this multiple of the acquired ones.
	ScaleFactor float64
	// ScaleFactorLimit bounds what ScaleFactor asks for; 0 is no limit.
	ScaleFactorLimit int
	// Preemptive accepts reservations only against slots that are free now.
	Preemptive bool
}

const (
	// healthCheckDelay is the time from a failed health check to the next one; it doubles with every
	// failure up to maxHealthCheckDelay. A plugin that crashes must be back before all instances have
	// reached the threshold.
	healthCheckDelay    = 2 * time.Second
	maxHealthCheckDelay = 30 * time.Second

	// suspendRetryDelay is the time before a suspension that did not hold is tried again.
	suspendRetryDelay = time.Minute

	// vanishedMemory is how long the id of an instance that vanished is remembered.
	vanishedMemory = 24 * time.Hour

	// trialPatience is how long an instance may take to become ready or fail while failures of others
	// hold back creation. Older ones are not waited for.
	trialPatience = 10 * time.Minute

	// The longest times for which creation is held back by instances that do not get ready and by
	// requests that the group refuses.
	maxReadinessBackoff = 5 * time.Minute
	maxRequestBackoff   = time.Minute
)
