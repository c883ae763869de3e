package docker

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	api "github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/mount"
	"github.com/docker/docker/api/types/volume"
	"github.com/docker/docker/client"
	"github.com/docker/docker/pkg/stdcopy"
)

const (
	dataPath = "/var/lib/docker"
	seedPath = "/seed"

	// outputTail is how much of a container's output is kept for an error text, in bytes.
	outputTail = 4 << 10
)

// moby is an engine reached through its API.
type moby struct {
	client *client.Client
}

// openMoby reaches the engine that the usual environment variables name. It makes no request.
func openMoby() (*moby, error) {
	c, err := client.NewClientWithOpts(client.FromEnv, client.WithAPIVersionNegotiation())
	if err != nil {
		return nil, fmt.Errorf("preparing the connection to the docker engine: %w", err)
	}
	return &moby{client: c}, nil
}

func (m *moby) Close() error {
	return m.client.Close()
}

// classify makes the engine's errors comparable and keeps their text.
func classify(err error) error {
	switch {
	case err == nil:
		return nil
	case errdefs.IsNotFound(err):
		return fmt.Errorf("%w: %w", errNotFound, err)
	default:
		return err
	}
}

func (m *moby) Image(ctx context.Context, reference string) (image, error) {
	found, err := m.client.ImageInspect(ctx, reference)
	if err != nil {
		return image{}, classify(err)
	}
	return image{id: found.ID, arch: found.Architecture}, nil
}

func (m *moby) SaveImages(ctx context.Context, references []string) (io.ReadCloser, error) {
	archive, err := m.client.ImageSave(ctx, references)
	return archive, classify(err)
}

func (m *moby) Containers(ctx context.Context, group, role string) ([]container, error) {
	summaries, err := m.client.ContainerList(ctx, api.ListOptions{
		All: true,
		Filters: filters.NewArgs(
			filters.Arg("label", labelGroup+"="+group),
			filters.Arg("label", labelRole+"="+role),
		),
	})
	if err != nil {
		return nil, err
	}
	containers := make([]container, 0, len(summaries))
	for _, s := range summaries {
		// A container that is linked to has more names; its own has no second slash.
		i := slices.IndexFunc(s.Names, func(name string) bool { return strings.Count(name, "/") == 1 })
		if i < 0 {
			continue
		}
		containers = append(containers, container{
			id:      s.ID,
			name:    strings.TrimPrefix(s.Names[i], "/"),
			role:    role,
			group:   group,
			hostKey: s.Labels[labelHostKey],
			state:   s.State,
		})
	}
	return containers, nil
}

func (m *moby) Container(ctx context.Context, name string) (container, error) {
	found, err := m.client.ContainerInspect(ctx, name)
	if err != nil {
		return container{}, classify(err)
	}
	c := container{
		id:      found.ID,
		name:    strings.TrimPrefix(found.Name, "/"),
		role:    found.Config.Labels[labelRole],
		group:   found.Config.Labels[labelGroup],
		hostKey: found.Config.Labels[labelHostKey],
		state:   found.State.Status,
	}
	// A time that does not parse stays zero, which readers treat as "long ago".
	c.endedAt, _ = time.Parse(time.RFC3339Nano, found.State.FinishedAt)
	c.startedAt, _ = time.Parse(time.RFC3339Nano, found.State.StartedAt)
	c.createdAt, _ = time.Parse(time.RFC3339Nano, found.Created)
	for _, network := range found.NetworkSettings.Networks {
		if c.address == "" && network != nil {
			c.address = network.IPAddress
		}
	}
	return c, nil
}

func (m *moby) Create(ctx context.Context, s spec) (string, error) {
	config := &api.Config{
		Hostname:   s.name,
		Image:      s.image,
		Entrypoint: s.entrypoint,
		Cmd:        s.command,
		Env:        s.env,
		Labels:     s.labels,
	}
	if s.input {
		config.OpenStdin, config.StdinOnce = true, true
		config.AttachStdin, config.AttachStdout, config.AttachStderr = true, true, true
	}
	initProcess := true
	host := &api.HostConfig{
		Init:        &initProcess,
		NetworkMode: api.NetworkMode(s.network),
		// What the plugin reads back later must be readable whatever driver the engine prefers.
		LogConfig: api.LogConfig{Type: "json-file", Config: map[string]string{"max-size": "1m", "max-file": "2"}},
		Resources: api.Resources{Memory: s.memory, NanoCPUs: s.nanoCPUs},
		Mounts:    mounts(s),
	}
	if s.privileged {
		host.Privileged = true
	} else {
		host.CapAdd = []string{"ALL"}
		host.CapDrop = []string{"SYS_RESOURCE"}
		host.SecurityOpt = []string{"seccomp=unconfined", "apparmor=unconfined"}
		// Empty, not absent: the engine in an instance must see and set what is usually hidden.
		host.MaskedPaths, host.ReadonlyPaths = []string{}, []string{}
	}
	created, err := m.client.ContainerCreate(ctx, config, host, nil, nil, s.name)
	if errdefs.IsConflict(err) {
		return "", fmt.Errorf("%w: %w", errNameTaken, err)
	}
	return created.ID, classify(err)
}

func mounts(s spec) []mount.Mount {
	var mounts []mount.Mount
	if s.data {
		mounts = append(mounts, mount.Mount{Type: mount.TypeVolume, Target: dataPath})
	}
	if s.seed != "" {
		mounts = append(mounts, mount.Mount{
			Type:     mount.TypeVolume,
			Source:   s.seed,
			Target:   seedPath,
			ReadOnly: !s.fillSeed,
			VolumeOptions: &mount.VolumeOptions{
				NoCopy: true,
				Labels: map[string]string{labelSeed: seedData},
			},
		})
	}
	return mounts
}

func (m *moby) Put(ctx context.Context, name string, files []file) error {
	archive, err := archive(files)
	if err != nil {
		return err
	}
	return classify(m.client.CopyToContainer(ctx, name, "/", bytes.NewReader(archive), api.CopyToContainerOptions{}))
}

func archive(files []file) ([]byte, error) {
	var buffer bytes.Buffer
	w := tar.NewWriter(&buffer)
	made := map[string]bool{}
	for _, f := range files {
		if dir := path.Dir(f.path); !made[dir] {
			made[dir] = true
			header := &tar.Header{Typeflag: tar.TypeDir, Name: strings.TrimPrefix(dir, "/") + "/", Mode: 0o755}
			if err := w.WriteHeader(header); err != nil {
				return nil, fmt.Errorf("packing %s: %w", dir, err)
			}
		}
		header := &tar.Header{Name: strings.TrimPrefix(f.path, "/"), Mode: f.mode, Size: int64(len(f.content))}
		if err := w.WriteHeader(header); err != nil {
			return nil, fmt.Errorf("packing %s: %w", f.path, err)
		}
		if _, err := w.Write(f.content); err != nil {
			return nil, fmt.Errorf("packing %s: %w", f.path, err)
		}
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("packing files: %w", err)
	}
	return buffer.Bytes(), nil
}

func (m *moby) Start(ctx context.Context, name string) error {
	return classify(m.client.ContainerStart(ctx, name, api.StartOptions{}))
}

func (m *moby) Feed(ctx context.Context, name string, input io.Reader) (int, string, error) {
	stream, err := m.client.ContainerAttach(ctx, name, api.AttachOptions{Stream: true, Stdin: true, Stdout: true, Stderr: true})
	if err != nil {
		return 0, "", fmt.Errorf("attaching: %w", classify(err))
	}
	// The streams of an attached container know nothing of contexts.
	stop := context.AfterFunc(ctx, stream.Close)
	defer stop()
	defer stream.Close()

	output := &tail{limit: outputTail}
	read := make(chan struct{})
	go func() {
		defer close(read)
		// A broken stream shows in the exit status.
		_, _ = stdcopy.StdCopy(output, output, stream.Reader)
	}()
	if err := m.client.ContainerStart(ctx, name, api.StartOptions{}); err != nil {
		stream.Close()
		<-read
		return 0, "", fmt.Errorf("starting: %w", classify(err))
	}
	_, copyErr := io.Copy(stream.Conn, input)
	if copyErr == nil {
		copyErr = stream.CloseWrite()
	}
	if copyErr != nil {
		stream.Close()
	}
	<-read

	ended, failed := m.client.ContainerWait(ctx, name, api.WaitConditionNotRunning)
	select {
	case end := <-ended:
		if end.StatusCode == 0 && copyErr != nil {
			return 0, output.String(), fmt.Errorf("feeding: %w", copyErr)
		}
		return int(end.StatusCode), output.String(), nil
	case err := <-failed:
		return 0, output.String(), fmt.Errorf("waiting for its end: %w", err)
	}
}

func (m *moby) Log(ctx context.Context, name string, since time.Time, follow bool) (io.ReadCloser, error) {
	options := api.LogsOptions{ShowStdout: true, ShowStderr: true, Follow: follow}
	if !since.IsZero() {
		options.Since = since.Format(time.RFC3339Nano)
	}
	raw, err := m.client.ContainerLogs(ctx, name, options)
	if err != nil {
		return nil, classify(err)
	}
	return newPlainLog(raw), nil
}

func (m *moby) Stop(ctx context.Context, name string, grace time.Duration) error {
	seconds := int(grace.Seconds())
	err := m.client.ContainerStop(ctx, name, api.StopOptions{Timeout: &seconds})
	if errdefs.IsNotFound(err) {
		return nil
	}
	return err
}

func (m *moby) Rename(ctx context.Context, name, newName string) error {
	return classify(m.client.ContainerRename(ctx, name, newName))
}

func (m *moby) Remove(ctx context.Context, name string) error {
	err := m.client.ContainerRemove(ctx, name, api.RemoveOptions{Force: true, RemoveVolumes: true})
	// The engine calls it a conflict that a removal is already under way.
	if errdefs.IsNotFound(err) || errdefs.IsConflict(err) {
		return nil
	}
	return err
}

func (m *moby) SeedVolumes(ctx context.Context) ([]seedVolume, error) {
	list, err := m.client.VolumeList(ctx, volume.ListOptions{Filters: filters.NewArgs(filters.Arg("label", labelSeed))})
	if err != nil {
		return nil, err
	}
	seeds := make([]seedVolume, 0, len(list.Volumes))
	for _, v := range list.Volumes {
		created, _ := time.Parse(time.RFC3339, v.CreatedAt)
		seeds = append(seeds, seedVolume{name: v.Name, value: v.Labels[labelSeed], createdAt: created})
	}
	return seeds, nil
}

func (m *moby) CreateSeedVolume(ctx context.Context, name, value string) error {
	_, err := m.client.VolumeCreate(ctx, volume.CreateOptions{Name: name, Labels: map[string]string{labelSeed: value}})
	return err
}

func (m *moby) RemoveVolume(ctx context.Context, name string) error {
	err := m.client.VolumeRemove(ctx, name, false)
	if errdefs.IsNotFound(err) {
		return nil
	}
	return err
}
