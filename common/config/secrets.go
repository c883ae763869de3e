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

// placeName matches names whose values say where a secret is. Errors have to show them.
var placeName = regexp.MustCompile(`(?i)_(file|path)$`)

// Secrets returns the values in the configuration that must not be shown: tokens, passwords, those in addresses
// included, keys of caches, credentials of registries, and what stands under a telling name in environment, plugin_config
// and nesting_config. Values of files that it names are not among them.
func (c *Config) Secrets() []string {
	// The other part of the user is public, and some name it so.
	secrets := []string{c.SentryDSN, passwordIn(c.SentryDSN)}
	for _, r := range c.Runners {
		secrets = append(secrets, r.Token, passwordIn(r.URL), passwordIn(r.CloneURL))
		for _, assignment := range r.Environment {
			name, value, _ := strings.Cut(assignment, "=")
			if name == "DOCKER_AUTH_CONFIG" {
				secrets = append(secrets, registrySecrets(value)...)
			} else {
				secrets = append(secrets, secretsUnder(name, value)...)
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
			if vm := a.VMIsolation; vm != nil {
				secrets = append(secrets, vm.ConnectorConfig.Password)
				secrets = append(secrets, secretsIn(vm.NestingConfig)...)
			}
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
		secrets = append(secrets, secretsUnder(name, value)...)
	}
	return secrets
}

// secretsUnder are the secrets in what stands under a name: the texts themselves if the name is a telling one.
func secretsUnder(name string, value any) []string {
	var secrets []string
	switch v := value.(type) {
	case string:
		if secretName.MatchString(name) && !placeName.MatchString(name) {
			return []string{v}
		}
		return []string{passwordIn(v)}
	case map[string]any:
		return secretsIn(v)
	case []map[string]any:
		for _, inner := range v {
			secrets = append(secrets, secretsIn(inner)...)
		}
	case []any:
		// An array in one line is one of these, whatever it holds.
		for _, inner := range v {
			secrets = append(secrets, secretsUnder(name, inner)...)
		}
	}
	return secrets
}

// passwordIn is that of the user in an address, empty if there is none.
func passwordIn(address string) string {
	parsed, err := url.Parse(address)
	if err != nil || parsed.Host == "" || parsed.User == nil {
		return ""
	}
	password, _ := parsed.User.Password()
	return password
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
