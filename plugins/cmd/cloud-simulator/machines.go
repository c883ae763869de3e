package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"time"

	"gitlab.com/gitlab-org/gitlab-runner/plugins/simulator/machines"
)

const (
	// bootLimit bounds the boot of all machines, bootPause is the wait between two looks at them.
	bootLimit = 2 * time.Minute
	bootPause = 100 * time.Millisecond
)

// machinesCloud is no cloud: machines that are there from the beginning, and tell their addresses.
func machinesCloud() cloud {
	var user, key string
	return cloud{
		flags: func(flags *flag.FlagSet) {
			flags.StringVar(&user, "user", "ci", "`NAME` of the user of each machine")
			flags.StringVar(&key, "authorized-key", "", "`LINE` of authorized_keys that lets the user in")
		},
		open: func(set *machines.Set, _, _ string, size int) (http.Handler, error) {
			ctx, cancel := context.WithTimeout(context.Background(), bootLimit)
			defer cancel()
			addresses, err := boot(ctx, set, size, user, key)
			if err != nil {
				return nil, err
			}
			return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				_ = json.NewEncoder(w).Encode(addresses)
			}), nil
		},
	}
}

// boot starts machines, waits for them, and lets a user in.
func boot(ctx context.Context, set *machines.Set, n int, user, key string) ([]string, error) {
	for range n {
		if _, err := set.Launch(ctx); err != nil {
			return nil, err
		}
	}
	for {
		list, err := set.List(ctx)
		if err != nil {
			return nil, err
		}
		var addresses []string
		for _, one := range list {
			if one.State == machines.Running {
				addresses = append(addresses, one.Address)
			}
		}
		if len(addresses) == n {
			for _, one := range list {
				if err := set.Authorize(ctx, one.ID, user, key); err != nil {
					return nil, err
				}
			}
			return addresses, nil
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("%d of %d machines have booted: %w", len(addresses), n, context.Cause(ctx))
		case <-time.After(bootPause):
		}
	}
}
