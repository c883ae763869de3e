package azure

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"regexp"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"gitlab.com/gitlab-org/fleeting/fleeting/provider"
	"golang.org/x/crypto/ssh"
)

// namePattern is what Azure allows in names, or less: names become part of paths.
var namePattern = regexp.MustCompile(`^[\p{L}\p{N}_().-]{1,90}$`)

// Config is the plugin's part of the runner's configuration.
type Config struct {
	// Name is the name of the scale set.
	Name string `json:"name"`
	// SubscriptionID and ResourceGroupName say where the scale set is.
	SubscriptionID    string `json:"subscription_id"`
	ResourceGroupName string `json:"resource_group_name"`
	// Cloud is "public", "government" or "china"; empty selects "public".
	Cloud string `json:"cloud"`
	// Endpoint is the address of Azure Resource Manager; empty selects that of the cloud.
	Endpoint string `json:"endpoint"`
}

// check finds what cannot work. An error names each bad key.
func (c Config) check(settings provider.Settings) error {
	var errs []error
	bad := func(key, format string, args ...any) {
		errs = append(errs, fmt.Errorf("%s: %s", key, fmt.Sprintf(format, args...)))
	}
	for key, value := range map[string]string{
		"name": c.Name, "subscription_id": c.SubscriptionID, "resource_group_name": c.ResourceGroupName,
	} {
		switch {
		case value == "":
			bad("plugin_config "+key, "must be set")
		case !namePattern.MatchString(value) || strings.Trim(value, ".") == "":
			bad("plugin_config "+key, "%.100q is no name that Azure gives", value)
		}
	}
	if _, err := c.cloud(); err != nil {
		errs = append(errs, err)
	}
	if len(settings.Key) > 0 {
		if _, err := ssh.ParsePrivateKey(settings.Key); err != nil {
			bad("connector_config key_path", "%v", err)
		}
	}
	if len(settings.Key) == 0 && settings.Password == "" {
		bad("connector_config", "set key_path or password, and use_static_credentials = true: the plugin makes no credentials, "+
			"it uses those that the scale set gives its machines")
	}
	return errors.Join(errs...)
}

// cloud is where to log in and whom to speak to.
func (c Config) cloud() (cloud.Configuration, error) {
	var chosen cloud.Configuration
	switch strings.ToLower(c.Cloud) {
	case "", "public", "azurepublic":
		chosen = cloud.AzurePublic
	case "government", "azuregovernment":
		chosen = cloud.AzureGovernment
	case "china", "azurechina":
		chosen = cloud.AzureChina
	default:
		return chosen, fmt.Errorf("plugin_config cloud: %.40q is not one of public, government, china", c.Cloud)
	}
	if c.Endpoint == "" {
		return chosen, nil
	}
	u, err := url.Parse(c.Endpoint)
	if err != nil || u.Host == "" || u.Scheme != "https" && !(u.Scheme == "http" && loopback(u.Hostname())) {
		return chosen, fmt.Errorf("plugin_config endpoint: %.200q must be an https URL, or http on this machine", c.Endpoint)
	}
	audience := chosen.Services[cloud.ResourceManager].Audience
	chosen.Services = map[cloud.ServiceName]cloud.ServiceConfiguration{
		cloud.ResourceManager: {Audience: audience, Endpoint: strings.TrimSuffix(c.Endpoint, "/")},
	}
	return chosen, nil
}

func (c Config) insecure() bool { return strings.HasPrefix(c.Endpoint, "http://") }

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
