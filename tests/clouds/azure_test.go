//go:build system

package clouds

import (
	"fmt"
	"testing"
)

func TestTheExampleForAzureRunsJobs(t *testing.T) {
	for name, args := range map[string][]string{"uniform": nil, "flexible": {"--flexible"}} {
		t.Run(name, func(t *testing.T) {
			const password = "my-scale-set-static-password"
			s := open(t, "azure", append([]string{"--group", "my-docker-scale-set", "--password", password, "--retry-after", "2"}, args...)...)
			// The managed identity, as processes in Azure get it.
			t.Setenv("IDENTITY_ENDPOINT", s.address+"/identity/token")
			t.Setenv("IDENTITY_HEADER", "simulated")
			const last = `resource_group_name = "my-resource-group"`
			s.start("azure.toml", last, fmt.Sprintf("%s\n      endpoint = %q", last, s.address))
			s.runExample(`{"operation": "List", "times": 4, "status": 429, "code": "TooManyRequests", "message": "slow down"}`)
		})
	}
}
