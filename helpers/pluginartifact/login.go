package pluginartifact

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"oras.land/oras-go/v2/registry/remote"
	"oras.land/oras-go/v2/registry/remote/auth"
	"oras.land/oras-go/v2/registry/remote/credentials"
	"oras.land/oras-go/v2/registry/remote/errcode"
)

// Logins are the credentials of the docker command line: those in the file and those that it leaves to
// helpers.
func Logins() (*credentials.DynamicStore, error) {
	logins, err := credentials.NewStoreFromDocker(credentials.StoreOptions{AllowPlaintextPut: true})
	if err != nil {
		return nil, fmt.Errorf("reading the logins of docker: %w", err)
	}
	return logins, nil
}

// Login tries a name and a password at a registry and stores them if they are good.
func Login(ctx context.Context, logins credentials.Store, server, username, password string) error {
	registry, err := remote.NewRegistry(server)
	if err != nil {
		return fmt.Errorf("server %q: %w: use a host, such as registry.example.com:5000", server, err)
	}
	registry.PlainHTTP = isLoopback(server)
	registry.Client = newClient(registry.PlainHTTP, nil)
	err = credentials.Login(ctx, logins, registry, auth.Credential{Username: username, Password: password})
	var answer *errcode.ErrorResponse
	if errors.As(err, &answer) && answer.StatusCode == http.StatusUnauthorized {
		return fmt.Errorf("registry %s refused the login of %q: check name and password: %w", server, username, err)
	}
	if err != nil {
		return fmt.Errorf("logging in to registry %s: %w", server, err)
	}
	return nil
}
