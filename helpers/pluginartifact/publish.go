package pluginartifact

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/klauspost/compress/gzip"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/mod/semver"
	"oras.land/oras-go/v2/content"
	"oras.land/oras-go/v2/registry"

	"gitlab.com/gitlab-org/gitlab-runner/helpers/plugindir"
)

// Target is where artifacts are published: a repository, or a layout.
type Target interface {
	content.Storage
	content.Resolver
	content.Tagger
	registry.TagLister
}

// Release is one version of a plugin.
type Release struct {
	// Name is the plugin's program, such as fleeting-plugin-aws.
	Name    string
	Version string
	// Binaries are the paths of the executables.
	Binaries map[Platform]string
}

// Publish writes a release and returns the tags that it has then: the version, and those that float,
// which are moved only forward. A tag is named prefix + tag. The same release is the same bytes.
func Publish(ctx context.Context, target Target, prefix string, r Release) ([]string, error) {
	if !plugindir.IsVersion(r.Version) {
		return nil, fmt.Errorf("publishing %s: %q is no version such as 1.2.3", r.Name, r.Version)
	}
	index := ocispec.Index{Versioned: versioned(), MediaType: ocispec.MediaTypeImageIndex}
	platforms := slices.SortedFunc(maps.Keys(r.Binaries), func(a, b Platform) int { return strings.Compare(a.String(), b.String()) })
	for _, p := range platforms {
		manifest, err := publishPlatform(ctx, target, r, p)
		if err != nil {
			return nil, fmt.Errorf("publishing %s for %s: %w", r.Name, p, err)
		}
		index.Manifests = append(index.Manifests, manifest)
	}
	root, err := pushJSON(ctx, target, ocispec.MediaTypeImageIndex, index)
	if err != nil {
		return nil, fmt.Errorf("publishing %s: %w", r.Name, err)
	}
	// A repository without a tag is not there, for some registries: the version's own tag comes first.
	if err := target.Tag(ctx, root, prefix+r.Version); err != nil {
		return nil, fmt.Errorf("publishing %s: tagging %s: %w", r.Name, r.Version, err)
	}
	known, err := publishedVersions(ctx, target, prefix)
	if err != nil {
		return nil, fmt.Errorf("publishing %s: listing what is there: %w", r.Name, err)
	}
	tags := tagsOf(r.Version, known)
	for _, tag := range tags[1:] {
		if err := target.Tag(ctx, root, prefix+tag); err != nil {
			return nil, fmt.Errorf("publishing %s: tagging %s: %w", r.Name, tag, err)
		}
	}
	return tags, nil
}

// publishedVersions are the versions that are there.
func publishedVersions(ctx context.Context, target Target, prefix string) ([]string, error) {
	tags, err := registry.Tags(ctx, target)
	if err != nil {
		return nil, err
	}
	var versions []string
	for _, tag := range tags {
		if version, ok := strings.CutPrefix(tag, prefix); ok && plugindir.IsVersion(version) {
			versions = append(versions, version)
		}
	}
	return versions, nil
}

// tagsOf are the tags of a version, itself first, given the versions that are there.
func tagsOf(version string, known []string) []string {
	tags := []string{version}
	v := "v" + version
	if semver.Prerelease(v) != "" {
		return tags
	}
	for _, floating := range []string{semver.MajorMinor(v), semver.Major(v), "vlatest"} {
		tag := strings.TrimPrefix(floating, "v")
		constraint := plugindir.Reference{Constraint: tag}
		if tag == "latest" {
			constraint.Constraint = ""
		}
		if constraint.Highest(known) == version {
			tags = append(tags, tag)
		}
	}
	return tags
}

func publishPlatform(ctx context.Context, target Target, r Release, p Platform) (ocispec.Descriptor, error) {
	if err := checkExecutable(r.Binaries[p], p); err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("%s: %w", r.Binaries[p], err)
	}
	compressed, plain, err := pack(r.Binaries[p], executableOf(p))
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	layer, err := push(ctx, target, ocispec.MediaTypeImageLayerGzip, compressed)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	layer.Annotations = map[string]string{layerAnnotation: r.Version}
	platform := ocispec.Platform{OS: p.OS, Architecture: p.Arch}
	config, err := pushJSON(ctx, target, ocispec.MediaTypeImageConfig, ocispec.Image{
		Platform: platform, RootFS: ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{plain}},
	})
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	manifest, err := pushJSON(ctx, target, ocispec.MediaTypeImageManifest, ocispec.Manifest{
		Versioned: versioned(), MediaType: ocispec.MediaTypeImageManifest, Config: config, Layers: []ocispec.Descriptor{layer},
		Annotations: map[string]string{ocispec.AnnotationTitle: r.Name, ocispec.AnnotationVersion: r.Version},
	})
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	manifest.Platform = &platform
	return manifest, nil
}

// pack makes the layer of an executable, and the digest of what is in it.
func pack(path, name string) ([]byte, digest.Digest, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, "", err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, "", err
	}
	var compressed bytes.Buffer
	zipped := gzip.NewWriter(&compressed)
	plain := digest.Canonical.Digester()
	archive := tar.NewWriter(io.MultiWriter(zipped, plain.Hash()))
	// Without times, so that the same executable is the same layer.
	if err := archive.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o755, Size: info.Size(), Format: tar.FormatUSTAR}); err != nil {
		return nil, "", err
	}
	if _, err := io.Copy(archive, file); err != nil {
		return nil, "", err
	}
	if err := archive.Close(); err != nil {
		return nil, "", err
	}
	if err := zipped.Close(); err != nil {
		return nil, "", err
	}
	return compressed.Bytes(), plain.Digest(), nil
}

func pushJSON(ctx context.Context, target Target, mediaType string, document any) (ocispec.Descriptor, error) {
	body, err := json.Marshal(document)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	return push(ctx, target, mediaType, body)
}

// push writes a blob unless it is there.
func push(ctx context.Context, target Target, mediaType string, body []byte) (ocispec.Descriptor, error) {
	d := content.NewDescriptorFromBytes(mediaType, body)
	there, err := target.Exists(ctx, d)
	if err != nil || there {
		return d, err
	}
	return d, target.Push(ctx, d, bytes.NewReader(body))
}
