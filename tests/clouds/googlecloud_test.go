//go:build system

package clouds

import (
	"fmt"
	"path/filepath"
	"testing"
)

// TestTheExampleForGoogleCloudRunsJobs takes the example at its word: what it calls a zone is a region.
func TestTheExampleForGoogleCloudRunsJobs(t *testing.T) {
	credentials := filepath.Join(t.TempDir(), "credentials.json")
	s := open(t, "googlecloud", "--group", "my-docker-instance-group", "--location", "europe-west1", "--credentials-file", credentials)
	s.start("googlecloud.toml",
		"/home/user/.config/gcloud/application_default_credentials.json\" #", credentials+"\" #",
		"[runners.autoscaler.plugin_config]", fmt.Sprintf("[runners.autoscaler.plugin_config]\n      endpoint = %q\n", s.address))
	s.runExample(`{"operation": "listManagedInstances", "times": 4, "status": 403, "code": "rateLimitExceeded", "message": "Rate Limit Exceeded"}`)
}
