package config

import (
	"encoding/base64"
	"encoding/json"
	"net/url"
	"regexp"
	"strings"
)

// secretName matches names of keys and variables whose values are not to be shown.
var secretName = regexp.MustCompile(`(?i)password|passwd|secret|token|credential|private_?key|access_?key|account_?key|api_?key|_key$|dsn`)

// Secrets returns the values in the configuration that must not be shown: tokens, passwords, keys of
// caches, credentials of registries, and what stands under a telling name in environment and
// plugin_config. Values of files that it names are not among them.
func (c *Config) Secrets() []string {
	secrets := []string{c.SentryDSN}
	// The other part of the user is public, and some name it so.
	if dsn, err := url.Parse(c.SentryDSN); err == nil && dsn.User != nil {
		password, _ := dsn.User.Password()
		secrets = append(secrets, password)
	}
	for _, r := range c.Runners {
		secrets = append(secrets, r.Token)
		for _, assignment := range r.Environment {
			name, value, _ := strings.Cut(assignment, "=")
			if name == "DOCKER_AUTH_CONFIG" {
				secrets = append(secrets, registrySecrets(value)...)
			} else if secretName.MatchString(name) {
				secrets = append(secrets, value)
			}
		}
		if cache := r.Cache; cache != nil {
			if cache.S3 != nil {
				secrets = append(secrets, cache.S3.SecretKey, cache.S3.SessionToken)
			}
			if cache.GCS != nil {
				secrets = append(secrets, cache.GCS.PrivateKey)
			}
			if cache.Azure != nil {
				secrets = append(secrets, cache.Azure.AccountKey)
			}
		}
		if a := r.Autoscaler; a != nil {
			secrets = append(secrets, a.ConnectorConfig.Password)
			secrets = append(secrets, secretsIn(a.PluginConfig)...)
		}
	}
	var out []string
	for _, secret := range secrets {
		if secret != "" {
			out = append(out, secret)
		}
	}
	return out
}

// secretsIn looks for telling names in a table of any shape.
func secretsIn(table map[string]any) []string {
	var secrets []string
	for name, value := range table {
		switch v := value.(type) {
		case string:
			if secretName.MatchString(name) {
				secrets = append(secrets, v)
			}
		case map[string]any:
			secrets = append(secrets, secretsIn(v)...)
		case []map[string]any:
			for _, inner := range v {
				secrets = append(secrets, secretsIn(inner)...)
			}
		}
	}
	return secrets
}

// registrySecrets are the credentials in the text of a docker configuration.
func registrySecrets(text string) []string {
	var file struct {
		Auths map[string]struct {
			Auth, Password, IdentityToken, RegistryToken string
		}
	}
	if json.Unmarshal([]byte(text), &file) != nil {
		// Whatever it is, it was meant as one.
		return []string{text}
	}
	var secrets []string
	for _, auth := range file.Auths {
		secrets = append(secrets, auth.Auth, auth.Password, auth.IdentityToken, auth.RegistryToken)
		if decoded, err := base64.StdEncoding.DecodeString(auth.Auth); err == nil {
			if _, password, ok := strings.Cut(string(decoded), ":"); ok {
				secrets = append(secrets, password)
			}
		}
	}
	return secrets
}
