package fleet

import "time"

// backoff is an exponential delay: one second after the first failure, twice that after each further
// one up to a limit, none after a success.
type backoff struct {
	limit    time.Duration
	failures int
	failedAt time.Time
	until    time.Time
}

// fail records the failure of an attempt that began at the given time. Attempts that were under way
// when an earlier one failed tell nothing new and do not lengthen the delay.
func (b *backoff) fail(began, now time.Time) {
	if b.failures > 0 && !began.After(b.failedAt) {
		return
	}
	b.failures++
	b.failedAt = now
	b.until = now.Add(doubled(time.Second, b.failures-1, b.limit))
}

func (b *backoff) succeed() { *b = backoff{limit: b.limit} }

// doubled returns base × 2^times, at most limit.
func doubled(base time.Duration, times int, limit time.Duration) time.Duration {
	for ; times > 0 && base < limit; times-- {
		base *= 2
	}
	return min(base, limit)
}
