package docker

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/api/types/volume"
	"github.com/docker/docker/client"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"gitlab.com/gitlab-org/gitlab-runner/helpers/docker"
)

// fakeEngine is an engine in memory. It writes down what it is asked; tests say what its containers do.
type fakeEngine struct {
	// run is what a container does when it is started, or a command in one: args are its command.
	run func(args []string, io *fakeIO) int
	// images are those the engine has, by name. A pull adds one.
	images map[string]image.InspectResponse
	// pull is called for each pull, if set.
	pull func(ctx context.Context, ref string) error
	// create is called for each creation of a container, with the kind of it, if set.
	create func(kind string)
	// loads is told the name of a loaded image, if set.
	loads func(name string)
	// vanished makes the next creation of a helper container fail for want of its image.
	vanished bool
	// fail makes calls fail, by the text that calls have.
	fail map[string]error

	mu     sync.Mutex
	halted bool
	// thawed is closed when an engine that hangs goes on; nil while it does not hang.
	thawed     chan struct{}
	calls      []string
	containers map[string]*fakeContainer
	execs      map[string]*fakeRun
	networks   map[string]bool
	next       int
	// volumes are those that the engine tells of, removedVolumes those that were removed.
	volumes        []*volume.Volume
	removedVolumes []string
}

// fakeIO are the streams of a container or of a command in one. Killed is closed when it is stopped.
type fakeIO struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	killed         chan struct{}
}

type fakeContainer struct {
	name  string
	spec  docker.Container
	conn  net.Conn
	runs  *fakeRun
	waits []chan docker.Exit
}

type fakeRun struct {
	done chan struct{}
	code int
	kill func()
}

func newFakeEngine(run func(args []string, io *fakeIO) int) *fakeEngine {
	return &fakeEngine{
		run: run, images: map[string]image.InspectResponse{}, fail: map[string]error{},
		containers: map[string]*fakeContainer{}, execs: map[string]*fakeRun{}, networks: map[string]bool{},
	}
}

// called writes a call down and returns the error it is to have.
func (f *fakeEngine) called(format string, args ...any) error {
	text := fmt.Sprintf(format, args...)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls = append(f.calls, text)
	if f.halted {
		return unreachable()
	}
	return f.fail[text]
}

// unreachable is the error of a call to an engine that does not run: that of the library, which nobody else can make.
func unreachable() error {
	nobody, err := client.NewClientWithOpts(client.WithHost("unix:///nobody.listens.here"))
	if err != nil {
		return err
	}
	defer nobody.Close()
	_, err = nobody.Ping(context.Background())
	return err
}

// halt ends the engine, but not its containers, and breaks off their streams and what is waited for. Nothing
// answers until resume.
func (f *fakeEngine) halt() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.halted = true
	for _, c := range f.containers {
		for _, waiting := range c.waits {
			waiting <- docker.Exit{Err: io.ErrUnexpectedEOF}
		}
		c.waits = nil
		if c.conn != nil {
			_ = c.conn.Close()
		}
	}
}

func (f *fakeEngine) resume() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.halted = false
}

// hang has the engine answer no more, or again.
func (f *fakeEngine) hang(hung bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case hung && f.thawed == nil:
		f.thawed = make(chan struct{})
	case !hung && f.thawed != nil:
		close(f.thawed)
		f.thawed = nil
	}
}

func (f *fakeEngine) Ping(ctx context.Context) error {
	f.mu.Lock()
	halted, thawed := f.halted, f.thawed
	f.mu.Unlock()
	if halted {
		return unreachable()
	}
	if thawed == nil {
		return nil
	}
	select {
	case <-thawed:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (f *fakeEngine) log() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.calls)
}

func (f *fakeEngine) find(id string) (*fakeContainer, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for key, c := range f.containers {
		if key == id || c.name == id {
			return c, nil
		}
	}
	return nil, fmt.Errorf("no such container: %s: %w", id, errdefs.ErrNotFound)
}

// kind is the last part of a container's name: what it is for.
func kind(name string) string { return name[strings.LastIndex(name, "-")+1:] }

func (f *fakeEngine) ImageInspect(_ context.Context, ref string, _ *ocispec.Platform) (image.InspectResponse, error) {
	if err := f.called("inspect image %s", ref); err != nil {
		return image.InspectResponse{}, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	found, ok := f.images[ref]
	if !ok {
		return found, fmt.Errorf("no such image: %s: %w", ref, errdefs.ErrNotFound)
	}
	return found, nil
}

func (f *fakeEngine) ImagePull(ctx context.Context, pull docker.Pull, _ func(docker.Progress)) error {
	if err := f.called("pull %s", pull.Ref); err != nil {
		return err
	}
	if f.pull != nil {
		if err := f.pull(ctx, pull.Ref); err != nil {
			return err
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.images[strings.TrimSuffix(pull.Ref, ":latest")] = image.InspectResponse{ID: "sha256:" + pull.Ref}
	f.images[pull.Ref] = image.InspectResponse{ID: "sha256:" + pull.Ref}
	return nil
}

func (f *fakeEngine) ImageLoad(_ context.Context, archive io.Reader) (string, error) {
	if err := f.called("load"); err != nil {
		return "", err
	}
	data, err := io.ReadAll(archive)
	if f.loads != nil {
		f.loads(string(data))
	}
	return string(data), err
}

func (f *fakeEngine) ImageTag(_ context.Context, id, ref string) error {
	f.mu.Lock()
	f.images[ref] = image.InspectResponse{ID: "sha256:" + id}
	f.mu.Unlock()
	return f.called("tag %s %s", id, ref)
}

func (f *fakeEngine) ContainerCreate(_ context.Context, spec docker.Container) (string, []string, error) {
	if err := f.called("create %s", kind(spec.Name)); err != nil {
		return "", nil, err
	}
	if f.create != nil {
		f.create(kind(spec.Name))
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.vanished && kind(spec.Name) == "predefined" {
		f.vanished = false
		return "", nil, fmt.Errorf("no such image: %s: %w", spec.Config.Image, errdefs.ErrNotFound)
	}
	f.next++
	id := fmt.Sprintf("%012d", f.next)
	f.containers[id] = &fakeContainer{name: spec.Name, spec: spec}
	return id, nil, nil
}

func (f *fakeEngine) ContainerAttach(_ context.Context, id string) (*docker.Stream, error) {
	c, err := f.find(id)
	if err != nil {
		return nil, err
	}
	near, far := net.Pipe()
	f.mu.Lock()
	defer f.mu.Unlock()
	c.conn = far
	return docker.NewStream(near, near), nil
}

func (f *fakeEngine) ContainerStart(_ context.Context, id string) error {
	c, err := f.find(id)
	if err != nil {
		return err
	}
	if err := f.called("start %s", kind(c.name)); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	args := c.spec.Config.Cmd
	c.runs = f.begin(args, c.conn, func(code int) {
		f.mu.Lock()
		defer f.mu.Unlock()
		for _, waiting := range c.waits {
			waiting <- docker.Exit{Code: code}
		}
		c.waits = nil
	})
	return nil
}

// begin runs a command on one side of a connection. Without a connection nobody reads its output.
func (f *fakeEngine) begin(args []string, conn net.Conn, ended func(code int)) *fakeRun {
	killed := make(chan struct{})
	run := &fakeRun{done: make(chan struct{}), kill: sync.OnceFunc(func() { close(killed) })}
	streams := &fakeIO{stdin: strings.NewReader(""), stdout: io.Discard, stderr: io.Discard, killed: killed}
	if conn != nil {
		streams.stdin = conn
		streams.stdout, streams.stderr = frames{conn, 1}, frames{conn, 2}
	}
	go func() {
		defer close(run.done)
		run.code = f.run(args, streams)
		if conn != nil {
			_ = conn.Close()
		}
		ended(run.code)
	}()
	return run
}

// frames writes in the engine's format.
type frames struct {
	out    io.Writer
	stream byte
}

func (s frames) Write(data []byte) (int, error) {
	frame := append([]byte{s.stream, 0, 0, 0}, binary.BigEndian.AppendUint32(nil, uint32(len(data)))...)
	if _, err := s.out.Write(append(frame, data...)); err != nil {
		return 0, err
	}
	return len(data), nil
}

func (f *fakeEngine) ContainerWait(ctx context.Context, id string, running bool) <-chan docker.Exit {
	exit := make(chan docker.Exit, 2)
	c, err := f.find(id)
	if err != nil {
		exit <- docker.Exit{Err: err}
		return exit
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.halted {
		exit <- docker.Exit{Err: unreachable()}
		return exit
	}
	if running && c.runs != nil {
		select {
		case <-c.runs.done:
			exit <- docker.Exit{Code: c.runs.code}
			return exit
		default:
		}
	}
	c.waits = append(c.waits, exit)
	context.AfterFunc(ctx, func() {
		select {
		case exit <- docker.Exit{Err: context.Cause(ctx)}:
		default:
		}
	})
	return exit
}

func (f *fakeEngine) ContainerStop(_ context.Context, id string, _ *int) error {
	c, err := f.find(id)
	if err != nil {
		return err
	}
	err = f.called("stop %s", kind(c.name))
	f.kill(c)
	return err
}

func (f *fakeEngine) kill(c *fakeContainer) {
	f.mu.Lock()
	run := c.runs
	f.mu.Unlock()
	if run != nil {
		run.kill()
		<-run.done
	}
}

func (f *fakeEngine) ContainerRemove(_ context.Context, id string, _ bool) error {
	c, err := f.find(id)
	if err != nil {
		return err
	}
	if err := f.called("remove %s", kind(c.name)); err != nil {
		return err
	}
	f.kill(c)
	f.mu.Lock()
	defer f.mu.Unlock()
	for key, other := range f.containers {
		if other == c {
			delete(f.containers, key)
		}
	}
	return nil
}

func (f *fakeEngine) ContainerInspect(_ context.Context, id string) (container.InspectResponse, error) {
	c, err := f.find(id)
	if err != nil {
		return container.InspectResponse{}, err
	}
	if err := f.called("inspect %s", kind(c.name)); err != nil {
		return container.InspectResponse{}, err
	}
	return container.InspectResponse{
		ContainerJSONBase: &container.ContainerJSONBase{ID: id, State: &container.State{Status: container.StateRunning, Running: true}},
		NetworkSettings: &container.NetworkSettings{Networks: map[string]*network.EndpointSettings{
			"bridge": {IPAddress: "192.0.2.7"},
		}},
	}, nil
}

func (f *fakeEngine) ContainerList(context.Context, ...string) ([]container.Summary, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var list []container.Summary
	for id, c := range f.containers {
		list = append(list, container.Summary{ID: id, Labels: c.spec.Config.Labels})
	}
	return list, nil
}

func (f *fakeEngine) ContainerLogs(_ context.Context, _ string, _ docker.LogOptions, stdout, _ io.Writer) error {
	_, err := io.WriteString(stdout, "what the service printed\n")
	return err
}

func (f *fakeEngine) Exec(_ context.Context, id string, command docker.Command) (*docker.Exec, error) {
	c, err := f.find(id)
	if err != nil {
		return nil, err
	}
	if err := f.called("exec %s %s", kind(c.name), strings.Join(command.Args[:min(2, len(command.Args))], " ")); err != nil {
		return nil, err
	}
	near, far := net.Pipe()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.next++
	execID := fmt.Sprint("exec", f.next)
	f.execs[execID] = f.begin(command.Args, far, func(int) {})
	return &docker.Exec{ID: execID, Stream: docker.NewStream(closer{near}, near)}, nil
}

// closer ends the connection where the real one ends its input: a pipe has one direction only.
type closer struct{ net.Conn }

func (c closer) CloseWrite() error { return c.Close() }

func (f *fakeEngine) ExecInspect(_ context.Context, id string) (container.ExecInspect, error) {
	f.mu.Lock()
	run := f.execs[id]
	f.mu.Unlock()
	<-run.done
	return container.ExecInspect{ExecID: id, ExitCode: run.code}, nil
}

func (f *fakeEngine) NetworkCreate(_ context.Context, name string, _ network.CreateOptions) (string, error) {
	f.mu.Lock()
	f.networks[name] = true
	f.mu.Unlock()
	return name, f.called("create network")
}

func (f *fakeEngine) NetworkRemove(_ context.Context, name string) error {
	f.mu.Lock()
	delete(f.networks, name)
	f.mu.Unlock()
	return f.called("remove network")
}

func (f *fakeEngine) NetworkInspect(context.Context, string) (network.Inspect, error) {
	return network.Inspect{}, nil
}

func (f *fakeEngine) NetworkList(context.Context, ...string) ([]network.Summary, error) {
	return nil, nil
}

func (f *fakeEngine) VolumeRemove(_ context.Context, name string) error {
	f.mu.Lock()
	f.removedVolumes = append(f.removedVolumes, name)
	f.mu.Unlock()
	return f.called("remove volume")
}

func (f *fakeEngine) VolumeUsage(context.Context) ([]*volume.Volume, error) { return f.volumes, nil }

func (f *fakeEngine) VolumeList(context.Context, ...string) ([]*volume.Volume, error) {
	return nil, nil
}

func (f *fakeEngine) Close() error { return nil }
