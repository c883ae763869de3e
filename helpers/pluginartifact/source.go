// Package pluginartifact moves fleeting plugins between OCI registries or layouts and the plugin
// directory, whose layout is that of package plugindir.
//
// An artifact is an index with one manifest per platform. The first layer with the annotation
// com.gitlab.fleeting.layer is a tar archive with the executable; the annotation is the version. What
// comes from a source is bounded and not trusted: digests are verified, and an executable that is not
// one of this platform is refused, before anything appears in the plugin directory.
//
// Commands install by it, the program that releases plugins publishes by it. It imports helpers only.
package pluginartifact

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path"
	"slices"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/content"
	"oras.land/oras-go/v2/content/oci"
	"oras.land/oras-go/v2/errdef"
	"oras.land/oras-go/v2/registry"
	"oras.land/oras-go/v2/registry/remote"
	"oras.land/oras-go/v2/registry/remote/auth"
	"oras.land/oras-go/v2/registry/remote/credentials"
	"oras.land/oras-go/v2/registry/remote/errcode"
	"oras.land/oras-go/v2/registry/remote/retry"

	"gitlab.com/gitlab-org/gitlab-runner/helpers/plugindir"
)

// ErrNoVersion says that a source has no version of the plugin that satisfies the constraint.
var ErrNoVersion = errors.New("no such version")

// Source is a place that has artifacts.
type Source struct {
	store store
	// place names the source in errors.
	place string
	// prefixes are put before a tag, in this order, to get the names under which it is looked for.
	prefixes func(ref plugindir.Reference) []string
	// remote says that the source is asked over the network.
	remote bool
}

// store is what registries and layouts have in common.
type store interface {
	content.Fetcher
	content.Resolver
	registry.TagLister
}

// Registry is the registry that a reference names. Credentials may be nil for none.
func Registry(ref plugindir.Reference, logins credentials.Store) (*Source, error) {
	repository, err := Repository(ref.Registry+"/"+ref.Repository, logins)
	if err != nil {
		return nil, err
	}
	return &Source{
		store: repository, place: "registry " + ref.Registry, remote: true,
		prefixes: func(plugindir.Reference) []string { return []string{""} },
	}, nil
}

// Repository is one repository of a registry. A registry on this machine is asked without TLS.
func Repository(name string, logins credentials.Store) (*remote.Repository, error) {
	repository, err := remote.NewRepository(name)
	if err != nil {
		return nil, fmt.Errorf("repository %q: %w", name, err)
	}
	repository.PlainHTTP = isLoopback(repository.Reference.Registry)
	repository.Client = newClient(repository.PlainHTTP, logins)
	repository.TagListMaxPages = maxTagPages
	return repository, nil
}

func newClient(loopback bool, logins credentials.Store) *auth.Client {
	client := &auth.Client{Client: retry.NewClient(), Cache: auth.NewCache()}
	client.SetUserAgent("gitlab-runner")
	if logins != nil {
		client.Credential = credentials.Credential(logins)
	}
	if loopback {
		// The registry is on this machine: its own token server may be, too.
		client.BlockedRealmPrefixes = []netip.Prefix{}
	}
	return client
}

// isLoopback says whether a registry is on this machine, as Docker decides it.
func isLoopback(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	ip := net.ParseIP(strings.Trim(host, "[]"))
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// Layout is an OCI layout on this machine: a directory, or a tar archive of one. Artifacts in it are
// named by their full reference or by name:version; with alone, which says that it has one plugin only,
// by the version.
func Layout(ctx context.Context, file string, alone bool) (*Source, error) {
	info, err := os.Stat(file)
	if err != nil {
		return nil, fmt.Errorf("reading the OCI layout: %w", err)
	}
	var layout *oci.ReadOnlyStore
	if info.IsDir() {
		layout, err = oci.NewFromFS(ctx, os.DirFS(file))
	} else {
		layout, err = oci.NewFromTar(ctx, file)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s is no OCI layout: %w", file, err)
	}
	if err != nil {
		return nil, fmt.Errorf("reading the OCI layout %s: %w", file, err)
	}
	return &Source{store: layout, place: "OCI layout " + file, prefixes: func(ref plugindir.Reference) []string {
		names := []string{ref.Registry + "/" + ref.Repository + ":", path.Base(ref.Repository) + ":"}
		if alone {
			names = append(names, "")
		}
		return names
	}}, nil
}

// resolve finds what a reference names: its tag, or the highest version that there is.
func (s *Source) resolve(ctx context.Context, ref plugindir.Reference) (ocispec.Descriptor, error) {
	tag := ref.Constraint
	if tag == "" {
		tag = "latest"
	}
	for _, prefix := range s.prefixes(ref) {
		found, err := s.store.Resolve(ctx, prefix+tag)
		if err == nil {
			return found, nil
		}
		if !errors.Is(err, errdef.ErrNotFound) {
			return ocispec.Descriptor{}, s.explain(ref, err)
		}
	}
	tags, err := registry.Tags(ctx, s.store)
	if err != nil {
		return ocispec.Descriptor{}, s.explain(ref, err)
	}
	versions := map[string]string{}
	for _, prefix := range s.prefixes(ref) {
		for _, tag := range tags {
			version, ok := strings.CutPrefix(tag, prefix)
			if ok && plugindir.IsVersion(version) && versions[version] == "" {
				versions[version] = tag
			}
		}
	}
	list := make([]string, 0, len(versions))
	for version := range versions {
		list = append(list, version)
	}
	best := ref.Highest(list)
	if best == "" {
		return ocispec.Descriptor{}, s.noVersion(ref, list, tags)
	}
	found, err := s.store.Resolve(ctx, versions[best])
	if err != nil {
		return ocispec.Descriptor{}, s.explain(ref, err)
	}
	return found, nil
}

func (s *Source) noVersion(ref plugindir.Reference, versions, tags []string) error {
	const shown = 20
	what := "versions"
	if len(versions) == 0 {
		what, versions = "names", slices.Clone(tags)
	}
	if len(versions) == 0 {
		return fmt.Errorf("%w of plugin %s in the %s: it has none", ErrNoVersion, ref, s.place)
	}
	slices.SortFunc(versions, func(a, b string) int { return -compareVersions(a, b) })
	more := ""
	if len(versions) > shown {
		more = fmt.Sprintf(" and %d more", len(versions)-shown)
		versions = versions[:shown]
	}
	return fmt.Errorf("%w of plugin %s in the %s: its %s are %s%s", ErrNoVersion, ref, s.place, what, strings.Join(versions, ", "), more)
}

// explain says of a failure what to do about it.
func (s *Source) explain(ref plugindir.Reference, err error) error {
	var answer *errcode.ErrorResponse
	if errors.As(err, &answer) {
		switch answer.StatusCode {
		case http.StatusUnauthorized, http.StatusForbidden:
			return fmt.Errorf("plugin %s: the %s refused access: run `gitlab-runner fleeting login %s`: %w", ref, s.place, ref.Registry, err)
		case http.StatusNotFound:
			return fmt.Errorf("plugin %s: the %s has no repository %s, or hides it from who is not logged in: %w", ref, s.place, ref.Repository, err)
		}
	}
	if s.remote && errors.Is(err, auth.ErrBasicCredentialNotFound) {
		return fmt.Errorf("plugin %s: the %s wants a login: run `gitlab-runner fleeting login %s`: %w", ref, s.place, ref.Registry, err)
	}
	return fmt.Errorf("plugin %s: asking the %s: %w", ref, s.place, err)
}
