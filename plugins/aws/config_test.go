package aws

import (
	"net/http"
	"net/http/httptest"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
)

// metadataService is that of an EC2 instance in a region.
func metadataService(t *testing.T, region string) string {
	t.Helper()
	const session = "a-session"
	mux := http.NewServeMux()
	mux.HandleFunc("PUT /latest/api/token", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Aws-Ec2-Metadata-Token-Ttl-Seconds", r.Header.Get("X-Aws-Ec2-Metadata-Token-Ttl-Seconds"))
		_, _ = w.Write([]byte(session))
	})
	mux.HandleFunc("GET /latest/dynamic/instance-identity/document", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Aws-Ec2-Metadata-Token") != session {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		_, _ = w.Write([]byte(`{"region": "` + region + `"}`))
	})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return server.URL
}

func TestTheRegionIsTheNearestThatIsNamed(t *testing.T) {
	for name, c := range map[string]struct {
		key, profile, environment, instance string
		want                                string
	}{
		"the key's":                         {key: "eu-west-1", profile: "eu-west-2", environment: "eu-west-3", instance: "us-east-1", want: "eu-west-1"},
		"the environment's":                 {profile: "eu-west-2", environment: "eu-west-3", instance: "us-east-1", want: "eu-west-3"},
		"the profile's":                     {profile: "eu-west-2", instance: "us-east-1", want: "eu-west-2"},
		"that of the manager's own machine": {instance: "us-east-1", want: "us-east-1"},
		"none":                              {},
	} {
		t.Run(name, func(t *testing.T) {
			config := files(t, "http://192.0.2.1", "AKIDEXAMPLE", secret)
			config.Region = c.key
			profile := "[default]\n"
			if c.profile != "" {
				profile += "region = " + c.profile + "\n"
			}
			require.NoError(t, os.WriteFile(config.ConfigFile, []byte(profile), 0o600))
			t.Setenv("AWS_REGION", c.environment)
			t.Setenv("AWS_DEFAULT_REGION", "")
			t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
			if c.instance != "" {
				t.Setenv("AWS_EC2_METADATA_DISABLED", "false")
				t.Setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", metadataService(t, c.instance))
			}
			loaded, err := config.load(t.Context())
			if c.want == "" {
				require.ErrorContains(t, err, "plugin_config region: no region is known; set region")
				return
			}
			require.NoError(t, err)
			require.Equal(t, c.want, loaded.Region)
		})
	}
}
