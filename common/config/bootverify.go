package config

import (
	"cmp"
	"fmt"
	"time"
)

// BootVerify is [runners.experimental.boot_verify]: one job of the runner's own at the start of the process. Zero
// durations select the defaults.
type BootVerify struct {
	Enabled bool `toml:"enabled"`
	// Timeout is that of the whole verification of the entry.
	Timeout time.Duration `toml:"timeout,omitzero"`
	// AcquireMinBackoff and AcquireMaxBackoff are the first and the longest pause between tries to get room for it.
	AcquireMinBackoff time.Duration `toml:"acquire_min_backoff,omitzero"`
	AcquireMaxBackoff time.Duration `toml:"acquire_max_backoff,omitzero"`
}

const (
	defaultVerifyTimeout = 5 * time.Minute
	defaultMinBackoff    = time.Second
	defaultMaxBackoff    = 10 * time.Second

	// shortestVerifyTimeout and shortestBackoff are below what anybody means who writes a unit.
	shortestVerifyTimeout = time.Second
	shortestBackoff       = time.Millisecond
)

// VerifiesAtBoot says whether the entry is verified at the start of the process.
func (r *Runner) VerifiesAtBoot() bool {
	return r.Experimental != nil && r.Experimental.BootVerify != nil && r.Experimental.BootVerify.Enabled
}

// BootVerification is how the entry is verified, defaults filled in.
func (r *Runner) BootVerification() BootVerify {
	var set BootVerify
	if r.Experimental != nil && r.Experimental.BootVerify != nil {
		set = *r.Experimental.BootVerify
	}
	return set.filled()
}

// filled has the defaults in the place of what is not set. One pause that is set alone takes the other along.
func (v BootVerify) filled() BootVerify {
	v.Timeout = cmp.Or(v.Timeout, defaultVerifyTimeout)
	least, most := v.AcquireMinBackoff, v.AcquireMaxBackoff
	v.AcquireMinBackoff, v.AcquireMaxBackoff = cmp.Or(least, defaultMinBackoff), cmp.Or(most, defaultMaxBackoff)
	if least == 0 {
		v.AcquireMinBackoff = min(v.AcquireMinBackoff, v.AcquireMaxBackoff)
	}
	if most == 0 {
		v.AcquireMaxBackoff = max(v.AcquireMinBackoff, v.AcquireMaxBackoff)
	}
	return v
}

func (v *BootVerify) problems() []problem {
	var all []problem
	for _, d := range []struct {
		key             string
		value, shortest time.Duration
		example         string
	}{
		{"timeout", v.Timeout, shortestVerifyTimeout, "5m0s"},
		{"acquire_min_backoff", v.AcquireMinBackoff, shortestBackoff, "1s"},
		{"acquire_max_backoff", v.AcquireMaxBackoff, shortestBackoff, "10s"},
	} {
		switch {
		case d.value < 0:
			all = append(all, problem{path: d.key, err: fmt.Errorf("%s is %s: it must not be negative", d.key, d.value)})
		case d.value != 0 && d.value < d.shortest:
			all = append(all, problem{path: d.key, err: fmt.Errorf("%s is %s: write a duration with its unit, such as %q", d.key, d.value, d.example)})
		}
	}
	if len(all) > 0 {
		return all
	}
	if set := v.filled(); set.AcquireMinBackoff > set.AcquireMaxBackoff {
		all = append(all, problem{path: "acquire_min_backoff", err: fmt.Errorf("acquire_min_backoff is %s, above acquire_max_backoff = %s: it is the shorter of the two",
			set.AcquireMinBackoff, set.AcquireMaxBackoff)})
	}
	return all
}
