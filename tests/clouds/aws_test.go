//go:build system

package clouds

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestTheExampleForAWSRunsJobs(t *testing.T) {
	s := open(t, "aws", "--group", "my-docker-asg")
	config, credentials := filepath.Join(s.Dir, "aws-config"), filepath.Join(s.Dir, "aws-credentials")
	require.NoError(t, os.WriteFile(config, fmt.Appendf(nil, "[default]\nregion = eu-west-1\nendpoint_url = %s\n", s.address), 0o600))
	require.NoError(t, os.WriteFile(credentials, []byte("[default]\naws_access_key_id = AKIDEXAMPLE\naws_secret_access_key = simulated\n"), 0o600))
	s.start("aws.toml", "/home/user/.aws/config", config, "/home/user/.aws/credentials", credentials)
	s.runExample(`{"operation": "DescribeAutoScalingGroups", "times": 4, "status": 400, "code": "Throttling", "message": "Rate exceeded"}`)
}
