package main

import (
	"errors"
	"flag"
	"net/http"
	"os"

	"gitlab.com/gitlab-org/gitlab-runner/plugins/simulator/googlecloud"
	"gitlab.com/gitlab-org/gitlab-runner/plugins/simulator/machines"
)

func googleCloud() cloud {
	var options googlecloud.Options
	var credentials string
	return cloud{
		flags: func(flags *flag.FlagSet) {
			flags.StringVar(&options.Project, "project", "my-gcp-project", "`ID` of the project")
			flags.StringVar(&options.Location, "location", "europe-west1-b", "`ZONE` or region that the group is in")
			flags.StringVar(&credentials, "credentials-file", "", "write the service account's credentials to `FILE`")
		},
		open: func(set *machines.Set, group, address string, _ int) (http.Handler, error) {
			if credentials == "" {
				return nil, errors.New("--credentials-file is missing")
			}
			options.Machines, options.Group, options.Address = set, group, address
			c, err := googlecloud.New(options)
			if err != nil {
				return nil, err
			}
			text, err := c.Credentials()
			if err != nil {
				return nil, err
			}
			if err := os.WriteFile(credentials, text, 0o600); err != nil {
				return nil, err
			}
			mux := http.NewServeMux()
			mux.Handle("/_faults", &c.Faults)
			mux.Handle("/", c)
			return mux, nil
		},
	}
}
