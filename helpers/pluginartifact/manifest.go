package pluginartifact

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"

	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/content"

	"gitlab.com/gitlab-org/gitlab-runner/helpers/plugindir"
)

// The media types of Docker, which some tools still write.
const (
	dockerIndex    = "application/vnd.docker.distribution.manifest.list.v2+json"
	dockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
	dockerConfig   = "application/vnd.docker.container.image.v1+json"
)

// Platform is where an executable runs.
type Platform struct {
	OS, Arch string
}

// Here is the platform of this process.
func Here() Platform { return Platform{runtime.GOOS, runtime.GOARCH} }

// String is the usual form, such as linux/amd64.
func (p Platform) String() string { return p.OS + "/" + p.Arch }

// ErrNoPlatform says that an artifact has nothing for a platform.
var ErrNoPlatform = errors.New("nothing for this platform")

// layer is what an artifact has for one platform.
type layer struct {
	ocispec.Descriptor
	version string
}

// layerFor reads the index and the manifest and returns the layer for a platform.
func (s *Source) layerFor(ctx context.Context, root ocispec.Descriptor, p Platform) (layer, error) {
	body, err := s.fetchSmall(ctx, root)
	if err != nil {
		return layer{}, fmt.Errorf("fetching the index: %w", err)
	}
	switch root.MediaType {
	case ocispec.MediaTypeImageIndex, dockerIndex:
		chosen, err := chooseManifest(body, p)
		if err != nil {
			return layer{}, err
		}
		if body, err = s.fetchSmall(ctx, chosen); err != nil {
			return layer{}, fmt.Errorf("fetching the manifest: %w", err)
		}
		_, found, err := parseManifest(body)
		return found, err
	case ocispec.MediaTypeImageManifest, dockerManifest:
		config, found, err := parseManifest(body)
		if err != nil {
			return layer{}, err
		}
		return found, s.checkPlatform(ctx, config, p)
	default:
		return layer{}, fmt.Errorf("media type %q is neither that of an index nor that of a manifest", root.MediaType)
	}
}

// checkPlatform looks whether an image that stands alone is for a platform. Where it does not say, the
// executable's header will.
func (s *Source) checkPlatform(ctx context.Context, config ocispec.Descriptor, p Platform) error {
	if config.MediaType != ocispec.MediaTypeImageConfig && config.MediaType != dockerConfig {
		return nil
	}
	body, err := s.fetchSmall(ctx, config)
	if err != nil {
		return fmt.Errorf("fetching the configuration: %w", err)
	}
	var image struct {
		OS           string `json:"os"`
		Architecture string `json:"architecture"`
	}
	if err := json.Unmarshal(body, &image); err != nil {
		return fmt.Errorf("reading the configuration: %w", err)
	}
	if found := (Platform{image.OS, image.Architecture}); image.OS != "" && found != p {
		return fmt.Errorf("%w: %s is wanted, the artifact is for %s", ErrNoPlatform, p, found)
	}
	return nil
}

// chooseManifest finds a platform's manifest in an index.
func chooseManifest(body []byte, p Platform) (ocispec.Descriptor, error) {
	var index ocispec.Index
	if err := json.Unmarshal(body, &index); err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("reading the index: %w", err)
	}
	var there []string
	for _, manifest := range index.Manifests {
		if manifest.Platform == nil || manifest.Platform.OS == "unknown" {
			continue // an attestation, or something else that is no plugin
		}
		found := Platform{manifest.Platform.OS, manifest.Platform.Architecture}
		if found == p {
			return manifest, nil
		}
		if !slices.Contains(there, found.String()) {
			there = append(there, found.String())
		}
	}
	if len(there) == 0 {
		return ocispec.Descriptor{}, fmt.Errorf("%w: %s is wanted, the artifact names no platforms", ErrNoPlatform, p)
	}
	return ocispec.Descriptor{}, fmt.Errorf("%w: %s is wanted, the artifact is for %s", ErrNoPlatform, p, strings.Join(there, ", "))
}

// parseManifest finds the configuration and the plugin's layer in a manifest.
func parseManifest(body []byte) (ocispec.Descriptor, layer, error) {
	var manifest ocispec.Manifest
	if err := json.Unmarshal(body, &manifest); err != nil {
		return ocispec.Descriptor{}, layer{}, fmt.Errorf("reading the manifest: %w", err)
	}
	for _, l := range manifest.Layers {
		version, ok := l.Annotations[layerAnnotation]
		if !ok {
			continue
		}
		if !plugindir.IsVersion(version) {
			return ocispec.Descriptor{}, layer{}, fmt.Errorf("the annotation %s is %q, which is no version such as 1.2.3", layerAnnotation, version)
		}
		if l.Size < 0 || l.Size > maxLayer {
			return ocispec.Descriptor{}, layer{}, fmt.Errorf("the layer has %d bytes: at most %d are taken", l.Size, maxLayer)
		}
		if err := l.Digest.Validate(); err != nil {
			return ocispec.Descriptor{}, layer{}, fmt.Errorf("the layer's digest: %w", err)
		}
		return manifest.Config, layer{Descriptor: l, version: version}, nil
	}
	return ocispec.Descriptor{}, layer{}, fmt.Errorf("no layer has the annotation %s: this is no fleeting plugin", layerAnnotation)
}

// fetchSmall fetches a document whole and verifies it.
func (s *Source) fetchSmall(ctx context.Context, d ocispec.Descriptor) ([]byte, error) {
	if d.Size < 0 || d.Size > maxManifest {
		return nil, fmt.Errorf("%s has %d bytes: at most %d are taken", d.Digest, d.Size, maxManifest)
	}
	if err := d.Digest.Validate(); err != nil {
		return nil, fmt.Errorf("digest %q: %w", d.Digest, err)
	}
	return content.FetchAll(ctx, s.store, d)
}

func versioned() specs.Versioned { return specs.Versioned{SchemaVersion: 2} }
