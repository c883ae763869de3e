package aws

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/feature/ec2/imds"
)

// Config is the plugin's part of the runner's configuration.
type Config struct {
	// Name is that of the autoscaling group.
	Name string `json:"name"`
	// Profile is the profile of the two files below; empty selects the SDK's, "default" unless AWS_PROFILE
	// is set.
	Profile string `json:"profile"`
	// ConfigFile and CredentialsFile replace ~/.aws/config and ~/.aws/credentials.
	ConfigFile      string `json:"config_file"`
	CredentialsFile string `json:"credentials_file"`
	// Region is that of the group; empty selects the profile's, AWS_REGION, or that of the EC2 instance which the
	// manager runs on.
	Region string `json:"region"`
	// Endpoint is an address that all services are called at; empty selects AWS's own, or what the profile's
	// endpoint_url or AWS_ENDPOINT_URL says.
	Endpoint string `json:"endpoint"`
}

// load finds credentials and region the way the AWS command line does. An error names the key.
func (c Config) load(ctx context.Context) (aws.Config, error) {
	if c.Name == "" {
		return aws.Config{}, errors.New("plugin_config name: the name of the autoscaling group is missing")
	}
	var options []func(*config.LoadOptions) error
	if c.Profile != "" {
		options = append(options, config.WithSharedConfigProfile(c.Profile))
	}
	for key, file := range map[string]string{"config_file": c.ConfigFile, "credentials_file": c.CredentialsFile} {
		if file == "" {
			continue
		}
		// The SDK takes a file that is missing for an empty one.
		if _, err := os.Stat(file); err != nil {
			return aws.Config{}, fmt.Errorf("plugin_config %s: %w", key, err)
		}
	}
	if c.ConfigFile != "" {
		options = append(options, config.WithSharedConfigFiles([]string{c.ConfigFile}))
	}
	if c.CredentialsFile != "" {
		options = append(options, config.WithSharedCredentialsFiles([]string{c.CredentialsFile}))
	}
	if c.Region != "" {
		options = append(options, config.WithRegion(c.Region))
	}
	if c.Endpoint != "" {
		address, err := url.Parse(c.Endpoint)
		if err != nil || address.Host == "" || address.Scheme != "http" && address.Scheme != "https" {
			return aws.Config{}, fmt.Errorf("plugin_config endpoint: %q is no address: write it like \"https://host:port\"", c.Endpoint)
		}
		options = append(options, config.WithBaseEndpoint(c.Endpoint))
	}
	loaded, err := config.LoadDefaultConfig(ctx, options...)
	var missing config.SharedConfigProfileNotExistError
	if errors.As(err, &missing) {
		return aws.Config{}, fmt.Errorf("plugin_config profile: %w", err)
	}
	if err != nil {
		return aws.Config{}, fmt.Errorf("loading the AWS configuration: %w", err)
	}
	if loaded.Region == "" {
		if loaded.Region, err = ownRegion(ctx, loaded); err != nil {
			return aws.Config{}, fmt.Errorf("plugin_config region: no region is known; set region, AWS_REGION, or region in the profile (%w)", err)
		}
	}
	return loaded, nil
}

// metadataTimeout bounds the wait for a metadata service, which answers at once where there is one.
const metadataTimeout = 3 * time.Second

// ownRegion is the region of the EC2 instance that this process runs on.
func ownRegion(ctx context.Context, loaded aws.Config) (string, error) {
	ctx, stop := context.WithTimeout(ctx, metadataTimeout)
	defer stop()
	answer, err := imds.NewFromConfig(loaded).GetRegion(ctx, nil)
	if err != nil {
		return "", fmt.Errorf("asking the instance's metadata service: %w", err)
	}
	return answer.Region, nil
}
