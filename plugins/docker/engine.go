package docker

import (
	"context"
	"errors"
	"io"
	"time"
)

// Labels of everything the plugin makes. The first is for people too: it finds what a group left
// behind.
const (
	labelGroup   = "com.gitlab.fleeting.group"
	labelRole    = "com.gitlab.fleeting.role"
	labelHostKey = "com.gitlab.fleeting.host-key"
	labelSeed    = "com.gitlab.fleeting.seed"
)

// Roles of containers.
const (
	roleInstance = "instance"
	roleProbe    = "probe"
	roleSeed     = "seed"
)

// States of containers, in the engine's words.
const (
	containerCreated  = "created"
	containerRunning  = "running"
	containerPaused   = "paused"
	containerRemoving = "removing"
	containerExited   = "exited"
	containerDead     = "dead"
)

var (
	// errNotFound: the engine does not know the container, image or volume.
	errNotFound = errors.New("not found")
	// errNameTaken: a container of this name exists.
	errNameTaken = errors.New("the name is taken")
)

// engine is what the group needs of a Docker Engine. Containers are named by their names or
// ids. Every
// method may be called from any goroutine. Removing and stopping what is not there, or is already
// going, is not an error.
type engine interface {
	// Image describes an image of the engine, or fails with errNotFound.
	Image(ctx context.Context, reference string) (image, error)
	// SaveImages returns an archive of images, which the caller closes.
	SaveImages(ctx context.Context, references []string) (io.ReadCloser, error)

	// Containers lists the group's containers of one role, whatever their state.
	Containers(ctx context.Context, group, role string) ([]container, error)
	// Container describes one container, or fails with errNotFound.
	Container(ctx context.Context, name string) (container, error)

	// Create makes a container and does not start it. It returns the container's id, and fails with
	// errNameTaken or errNotFound where that is the reason.
	Create(ctx context.Context, spec spec) (string, error)
	// Put writes files into a container, whether it runs or not.
	Put(ctx context.Context, name string, files []file) error
	Start(ctx context.Context, name string) error
	// Feed starts a container that was created with an input, feeds it, and waits for its end. It
	// returns the exit status and the last part of what the container printed.
	Feed(ctx context.Context, name string, input io.Reader) (status int, output string, err error)
	// Log returns what the container printed since a time (zero: ever), and with follow what it
	// prints until it ends. The caller closes it.
	Log(ctx context.Context, name string, since time.Time, follow bool) (io.ReadCloser, error)
	// Stop asks a container to shut down and kills it after the grace period.
	Stop(ctx context.Context, name string, grace time.Duration) error
	Rename(ctx context.Context, name, newName string) error
	// Remove kills and removes a container with its anonymous volumes.
	Remove(ctx context.Context, name string) error

	// SeedVolumes lists the volumes that carry labelSeed.
	SeedVolumes(ctx context.Context) ([]seedVolume, error)
	// CreateSeedVolume makes a volume with a value of labelSeed. One that exists stays as it is.
	CreateSeedVolume(ctx context.Context, name, value string) error
	RemoveVolume(ctx context.Context, name string) error

	Close() error
}

// image is what is known about an image.
type image struct {
	id string
	// arch is in Go's words.
	arch string
}

// container is a container as the engine reports it.
type container struct {
	// id stays when the name changes.
	id      string
	name    string
	role    string
	group   string
	hostKey string
	state   string
	// address is the container's address in its network; empty unless it runs. Containers leaves
	// it, and the times, empty.
	address   string
	createdAt time.Time
	startedAt time.Time
	endedAt   time.Time
}

// spec is a container to create.
type spec struct {
	name       string
	image      string
	entrypoint []string
	command    []string
	env        []string
	labels     map[string]string
	network    string
	memory     int64
	nanoCPUs   int64
	privileged bool
	// seed is the volume with the image store, if any. It is mounted read-only unless fillSeed, and
	// made if need be.
	seed     string
	fillSeed bool
	// data asks for an anonymous volume for the instance's engine.
	data bool
	// input says that the container will be fed.
	input bool
}

// file is a file to write into a container, owned by its root. Its folder is made.
type file struct {
	path    string
	mode    int64
	content []byte
}

// seedVolume is a volume that carries labelSeed.
type seedVolume struct {
	name      string
	value     string
	createdAt time.Time
}
