package images

import (
	"path"
	"strings"

	"github.com/distribution/reference"
	"github.com/docker/docker/api/types/image"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Request is an image that a job wants.
type Request struct {
	Name     string
	Policies []Policy
	// Platform is nil for the engine's own.
	Platform *ocispec.Platform
}

// platformText is the platform as the API takes it.
func (r Request) platformText() string {
	if r.Platform == nil {
		return ""
	}
	return path.Join(r.Platform.OS, r.Platform.Architecture, r.Platform.Variant)
}

// pullName is the name with a tag or a digest.
func (r Request) pullName() string {
	if strings.ContainsAny(r.Name, "@:") {
		return r.Name
	}
	return r.Name + ":latest"
}

// ValidName says whether a text can be the name of an image, with or without tag and digest.
func ValidName(name string) bool {
	_, err := reference.ParseAnyReference(name)
	return err == nil
}

// Image is an image on an engine.
type Image struct {
	ID string
	// Digest is the name it was asked for by, with a digest; empty for an image that did not come from
	// that registry.
	Digest string
	// User, Env and Ports are those of its configuration.
	User  string
	Env   []string
	Ports []string
}

// Reference is what containers are created from.
func (i Image) Reference() string {
	if i.Digest != "" {
		return i.Digest
	}
	return i.ID
}

// Root says whether the image's processes run as root.
func (i Image) Root() bool { return IsRoot(i.User) }

// IsRoot says whether the user key of an image or of a container means root.
func IsRoot(user string) bool {
	name, _, _ := strings.Cut(user, ":")
	return name == "" || name == "0" || name == "root"
}

func fromInspect(name string, answer image.InspectResponse) Image {
	found := Image{ID: answer.ID}
	for _, digest := range answer.RepoDigests {
		// Under other names the image is somebody else's, who may remove them at any time.
		if repositoryPath(digest) == repositoryPath(name) {
			found.Digest = digest
			break
		}
	}
	if answer.Config != nil {
		found.User = answer.Config.User
		found.Env = answer.Config.Env
		for port := range answer.Config.ExposedPorts {
			found.Ports = append(found.Ports, string(port))
		}
	}
	return found
}
