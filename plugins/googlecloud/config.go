package googlecloud

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"

	"google.golang.org/api/option"
)

// Config is the plugin's part of the runner's configuration.
type Config struct {
	// Name is that of the managed instance group.
	Name string `json:"name"`
	// Project is the id of its project.
	Project string `json:"project"`
	// Zone is where the group is, such as "europe-west1-b"; a region, such as "europe-west1", is a group of
	// that region.
	Zone string `json:"zone"`
	// CredentialsFile is a JSON file with credentials of any kind; empty selects the application default
	// credentials, workload identity and the machine's own service account among them.
	CredentialsFile string `json:"credentials_file"`
	// Endpoint replaces the address of the Compute Engine API; empty selects Google's.
	Endpoint string `json:"endpoint"`
}

var (
	namePattern   = regexp.MustCompile(`^[a-z]([-a-z0-9]{0,61}[a-z0-9])?$`)
	zonePattern   = regexp.MustCompile(`^[a-z]+-[a-z]+[0-9]+-[a-z]$`)
	regionPattern = regexp.MustCompile(`^[a-z]+-[a-z]+[0-9]+$`)
)

// check names each bad key.
func (c Config) check() error {
	var errs []error
	bad := func(key, format string, args ...any) {
		errs = append(errs, fmt.Errorf("plugin_config %s: %s", key, fmt.Sprintf(format, args...)))
	}
	if !namePattern.MatchString(c.Name) {
		bad("name", "%q is no name of an instance group: lower-case letters, digits and dashes", c.Name)
	}
	if c.Project == "" {
		bad("project", "the id of the project is missing")
	}
	if !zonePattern.MatchString(c.Zone) && !regionPattern.MatchString(c.Zone) {
		bad("zone", "%q is neither a zone, such as europe-west1-b, nor a region, such as europe-west1", c.Zone)
	}
	return errors.Join(errs...)
}

// regional says that the group is one of a region.
func (c Config) regional() bool { return regionPattern.MatchString(c.Zone) }

// credentialsLimit bounds a file with credentials, in bytes.
const credentialsLimit = 1 << 20

// options are how the API is reached.
func (c Config) options() ([]option.ClientOption, error) {
	var options []option.ClientOption
	if c.Endpoint != "" {
		options = append(options, option.WithEndpoint(c.Endpoint))
	}
	if c.CredentialsFile == "" {
		return options, nil
	}
	file, err := os.Open(c.CredentialsFile)
	if err != nil {
		return nil, fmt.Errorf("plugin_config credentials_file: %w", err)
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, credentialsLimit))
	if err != nil {
		return nil, fmt.Errorf("plugin_config credentials_file: %w", err)
	}
	var kind struct {
		Type option.CredentialsType `json:"type"`
	}
	if err := json.Unmarshal(text, &kind); err != nil || kind.Type == "" {
		return nil, fmt.Errorf("plugin_config credentials_file: %s is no file of Google's credentials: it has no type", c.CredentialsFile)
	}
	return append(options, option.WithAuthCredentialsJSON(kind.Type, text)), nil
}
