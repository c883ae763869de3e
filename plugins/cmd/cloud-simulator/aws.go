package main

import (
	"flag"
	"net/http"

	"gitlab.com/gitlab-org/gitlab-runner/plugins/simulator/aws"
	"gitlab.com/gitlab-org/gitlab-runner/plugins/simulator/machines"
)

func awsCloud() cloud {
	var options aws.Options
	return cloud{
		flags: func(flags *flag.FlagSet) {
			flags.StringVar(&options.Region, "region", "eu-west-1", "`REGION` that the group is in")
			flags.StringVar(&options.AccessKey, "access-key", "AKIDEXAMPLE", "the `ID` of the one key that there is")
			flags.StringVar(&options.SecretKey, "secret-key", "simulated", "what belongs to it; there is nothing behind it that needs a secret")
		},
		open: func(set *machines.Set, group, _ string, size int) (http.Handler, error) {
			options.Machines, options.Group, options.MaxSize = set, group, size
			options.SuspendedProcesses = []string{"AZRebalance"}
			c := aws.New(options)
			mux := http.NewServeMux()
			mux.Handle("/_faults", &c.Faults)
			mux.Handle("/", c)
			return mux, nil
		},
	}
}
