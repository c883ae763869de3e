package main

import (
	"flag"
	"net/http"

	"gitlab.com/gitlab-org/gitlab-runner/plugins/simulator/azure"
	"gitlab.com/gitlab-org/gitlab-runner/plugins/simulator/machines"
)

func azureCloud() cloud {
	var options azure.Options
	return cloud{
		flags: func(flags *flag.FlagSet) {
			flags.StringVar(&options.SubscriptionID, "subscription", "9b3c4602-cde2-4089-bed8-889e5a3e7102", "the subscription's `ID`")
			flags.StringVar(&options.ResourceGroup, "resource-group", "my-resource-group", "the resource group's `NAME`")
			flags.StringVar(&options.Secret, "secret", "simulated", "what a process with the managed identity shows to get a token")
			flags.BoolVar(&options.Flexible, "flexible", false, "the scale set is of flexible orchestration")
			flags.IntVar(&options.RetryAfter, "retry-after", 60, "for how many `SECONDS` throttled clients are to wait")
			flags.StringVar(&options.User, "user", "azureuser", "`NAME` of the administrator of each machine")
			flags.StringVar(&options.Password, "password", "", "the administrator's password; there is nothing behind it that needs a secret")
			flags.StringVar(&options.AuthorizedKey, "authorized-key", "", "`LINE` of authorized_keys that lets the administrator in")
		},
		open: func(set *machines.Set, group, address string, size int) (http.Handler, error) {
			options.Machines, options.Name, options.Address, options.MaxSize = set, group, address, size
			c := azure.New(options)
			mux := http.NewServeMux()
			mux.Handle("/_faults", &c.Faults)
			mux.Handle("/", c.Handler())
			return mux, nil
		},
	}
}
