// Package retry tries again what failed. The helper's caches and artifacts use it.
package retry

import (
	"context"
	"time"

	"gitlab.com/gitlab-org/gitlab-runner/helpers/pause"
)

// Policy is how often, and after which wait, something is tried again.
type Policy struct {
	Repeats int
	Wait    time.Duration
}

// Default is the policy of users who do not ask for another: --retry and --retry-time.
func Default() Policy {
	return Policy{Repeats: 2, Wait: time.Second}
}

// Do tries until that succeeds, is not worth another try, or was repeated as often as the policy allows; the
// error is that of the last try. before is called ahead of each repetition. A context that ends ends the wait,
// and its cause is the error then.
func (p Policy) Do(ctx context.Context, before func(), try func() (again bool, err error)) error {
	for n := 0; ; n++ {
		again, err := try()
		if err == nil || !again || n >= p.Repeats {
			return err
		}
		before()
		if err := pause.For(ctx, p.Wait); err != nil {
			return err
		}
	}
}
