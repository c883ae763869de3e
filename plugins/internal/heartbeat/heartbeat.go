// Package heartbeat is what the plugins of clouds share about the health of instances: what the cloud does not say is
// held against no instance. The runner counts every error as one of the instance, and replaces it after a few, with the
// jobs on it. It also waits for the answer before it gives the instance a job.
//
// The plugins of clouds import it.
package heartbeat

import (
	"context"
	"time"

	"github.com/hashicorp/go-hclog"
)

// Limit is how long a cloud is asked for.
const Limit = 5 * time.Second

// Unanswered is what comes of a heartbeat that the cloud did not answer, as it refuses or throttles the question or is
// not reached: nothing but a warning, unless it is the end of ctx. ctx is that of the call, without the limit.
func Unanswered(ctx context.Context, log hclog.Logger, instance string, err error) error {
	if ctx.Err() != nil {
		return err
	}
	log.Warn("the health of an instance is not known: it is taken for healthy", "instance", instance, "err", err)
	return nil
}
