package docker

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"
)

// fakeEngine is an engine in memory. Instances print the ready line as soon as they are started,
// unless mute.
type fakeEngine struct {
	mu         sync.Mutex
	images     map[string]image
	containers map[string]*fakeContainer
	volumes    map[string]seedVolume
	removed    []string
	created    int
	// full holds the volumes that were filled to the end.
	full map[string]int

	// mute instances do not come up; crash is printed by instances that end at once.
	mute  bool
	crash string
	// unprivileged engines cannot start privileged containers.
	unprivileged bool
	// fillStatus is the exit status of the command seed.
	fillStatus int
	// fail returns the error of an operation, if any.
	fail func(operation, name string) error
	// listed is called after a listing was taken and before it is returned.
	listed func()
	closed bool
}

type fakeContainer struct {
	id      string
	spec    spec
	state   string
	status  int
	files   map[string]file
	output  bytes.Buffer
	created time.Time
	started time.Time
	ended   time.Time
	// startedAtByte is where the output of the present run begins.
	startedAtByte int
	changed       chan struct{}
}

func newFakeEngine() *fakeEngine {
	return &fakeEngine{
		images: map[string]image{
			defaultImage: {id: "sha256:instance", arch: "amd64"},
			"busybox":    {id: "sha256:busybox", arch: "amd64"},
		},
		containers: map[string]*fakeContainer{},
		volumes:    map[string]seedVolume{},
		full:       map[string]int{},
	}
}

// enter locks the engine and returns the planned error of an operation.
func (e *fakeEngine) enter(ctx context.Context, operation, name string) error {
	e.mu.Lock()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if e.fail != nil {
		return e.fail(operation, e.resolve(name))
	}
	return nil
}

func (e *fakeEngine) find(name string) (*fakeContainer, error) {
	c := e.containers[e.resolve(name)]
	if c == nil {
		return nil, fmt.Errorf("%w: no container %s", errNotFound, name)
	}
	return c, nil
}

// resolve returns the name of a container that is given by name or id.
func (e *fakeEngine) resolve(reference string) string {
	for name, c := range e.containers {
		if c.id == reference {
			return name
		}
	}
	return reference
}

func (c *fakeContainer) change() {
	close(c.changed)
	c.changed = make(chan struct{})
}

func (c *fakeContainer) print(line string) {
	c.output.WriteString(line + "\n")
	c.change()
}

func (c *fakeContainer) end(status int) {
	c.state, c.status, c.ended = containerExited, status, time.Now()
	c.change()
}

// with runs fn on a container, if it is there, under the engine's lock.
func (e *fakeEngine) with(name string, fn func(c *fakeContainer)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if c := e.containers[name]; c != nil {
		fn(c)
	}
}

func (e *fakeEngine) setMute(mute bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.mute = mute
}

// instances returns the names of the instances' containers.
func (e *fakeEngine) instances() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	var names []string
	for name, c := range e.containers {
		if c.spec.labels[labelRole] == roleInstance {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

func (e *fakeEngine) Image(ctx context.Context, reference string) (image, error) {
	err := e.enter(ctx, "image", reference)
	defer e.mu.Unlock()
	if err != nil {
		return image{}, err
	}
	found, ok := e.images[reference]
	if !ok {
		return image{}, fmt.Errorf("%w: no image %s", errNotFound, reference)
	}
	return found, nil
}

func (e *fakeEngine) SaveImages(ctx context.Context, references []string) (io.ReadCloser, error) {
	err := e.enter(ctx, "save", strings.Join(references, " "))
	defer e.mu.Unlock()
	return io.NopCloser(strings.NewReader("archive of " + strings.Join(references, " "))), err
}

func (e *fakeEngine) Containers(ctx context.Context, group, role string) ([]container, error) {
	err := e.enter(ctx, "list", role)
	var found []container
	for _, c := range e.containers {
		if c.spec.labels[labelGroup] == group && c.spec.labels[labelRole] == role {
			listed := c.describe()
			listed = container{id: listed.id, name: listed.name, role: role, group: group, hostKey: listed.hostKey, state: listed.state}
			found = append(found, listed)
		}
	}
	hook := e.listed
	e.mu.Unlock()
	if hook != nil && role == roleInstance {
		hook()
	}
	return found, err
}

func (e *fakeEngine) Container(ctx context.Context, name string) (container, error) {
	err := e.enter(ctx, "inspect", name)
	defer e.mu.Unlock()
	if err != nil {
		return container{}, err
	}
	c, err := e.find(name)
	if err != nil {
		return container{}, err
	}
	return c.describe(), nil
}

func (c *fakeContainer) describe() container {
	described := container{
		id:        c.id,
		name:      c.spec.name,
		role:      c.spec.labels[labelRole],
		group:     c.spec.labels[labelGroup],
		hostKey:   c.spec.labels[labelHostKey],
		state:     c.state,
		createdAt: c.created,
		startedAt: c.started,
		endedAt:   c.ended,
	}
	if c.state == containerRunning {
		described.address = "192.0.2.7"
	}
	return described
}

func (e *fakeEngine) Create(ctx context.Context, s spec) (string, error) {
	err := e.enter(ctx, "create", s.name)
	defer e.mu.Unlock()
	if err != nil {
		return "", err
	}
	if e.containers[s.name] != nil {
		return "", errNameTaken
	}
	if s.seed != "" {
		e.addVolume(s.seed, seedData)
	}
	e.created++
	id := fmt.Sprintf("id-%d", e.created)
	e.containers[s.name] = &fakeContainer{
		id: id, spec: s, state: containerCreated, files: map[string]file{}, created: time.Now(), changed: make(chan struct{}),
	}
	return id, nil
}

// addVolume makes a volume unless it exists. The engine is locked.
func (e *fakeEngine) addVolume(name, value string) {
	if _, ok := e.volumes[name]; !ok {
		e.volumes[name] = seedVolume{name: name, value: value, createdAt: time.Now()}
	}
}

func (e *fakeEngine) Put(ctx context.Context, name string, files []file) error {
	err := e.enter(ctx, "put", name)
	defer e.mu.Unlock()
	if err != nil {
		return err
	}
	c, err := e.find(name)
	if err != nil {
		return err
	}
	for _, f := range files {
		c.files[f.path] = f
	}
	return nil
}

func (e *fakeEngine) Start(ctx context.Context, name string) error {
	err := e.enter(ctx, "start", name)
	defer e.mu.Unlock()
	if err != nil {
		return err
	}
	c, err := e.find(name)
	if err != nil {
		return err
	}
	if c.spec.privileged && e.unprivileged {
		return fmt.Errorf("unable to apply caps")
	}
	c.state, c.started, c.startedAtByte = containerRunning, time.Now(), c.output.Len()
	switch {
	case c.spec.labels[labelRole] != roleInstance:
	case e.crash != "":
		c.print(e.crash)
		c.end(1)
	case !e.mute:
		c.print(readyLine)
	}
	return nil
}

func (e *fakeEngine) Feed(ctx context.Context, name string, input io.Reader) (int, string, error) {
	err := e.enter(ctx, "feed", name)
	if err != nil {
		e.mu.Unlock()
		return 0, "", err
	}
	c, err := e.find(name)
	if err != nil {
		e.mu.Unlock()
		return 0, "", err
	}
	c.state = containerRunning
	e.mu.Unlock()
	if _, err := io.Copy(io.Discard, input); err != nil {
		return 0, "", err
	}
	// Others come across a container at work.
	time.Sleep(time.Second)
	e.mu.Lock()
	defer e.mu.Unlock()
	if c.state != containerRunning {
		return 137, "", nil
	}
	c.end(e.fillStatus)
	if e.fillStatus == 0 {
		e.full[c.spec.seed]++
		return 0, "", nil
	}
	return e.fillStatus, "no space left", nil
}

func (e *fakeEngine) Log(ctx context.Context, name string, since time.Time, follow bool) (io.ReadCloser, error) {
	err := e.enter(ctx, "log", name)
	defer e.mu.Unlock()
	if err != nil {
		return nil, err
	}
	c, err := e.find(name)
	if err != nil {
		return nil, err
	}
	at := 0
	if !since.IsZero() && !since.Before(c.started) {
		at = c.startedAtByte
	}
	return io.NopCloser(&fakeLog{ctx: ctx, engine: e, container: c, at: at, follow: follow}), nil
}

type fakeLog struct {
	ctx       context.Context
	engine    *fakeEngine
	container *fakeContainer
	at        int
	follow    bool
}

func (l *fakeLog) Read(p []byte) (int, error) {
	for {
		l.engine.mu.Lock()
		n := copy(p, l.container.output.Bytes()[l.at:])
		l.at += n
		ended := !l.follow || l.container.state != containerRunning
		changed := l.container.changed
		l.engine.mu.Unlock()
		switch {
		case n > 0:
			return n, nil
		case ended:
			return 0, io.EOF
		}
		select {
		case <-changed:
		case <-l.ctx.Done():
			return 0, l.ctx.Err()
		}
	}
}

func (e *fakeEngine) Stop(ctx context.Context, name string, _ time.Duration) error {
	err := e.enter(ctx, "stop", name)
	defer e.mu.Unlock()
	if err != nil {
		return err
	}
	if c := e.containers[name]; c != nil && c.state == containerRunning {
		c.end(0)
	}
	return nil
}

func (e *fakeEngine) Rename(ctx context.Context, name, newName string) error {
	err := e.enter(ctx, "rename", name)
	defer e.mu.Unlock()
	if err != nil {
		return err
	}
	c, err := e.find(name)
	if err != nil {
		return err
	}
	delete(e.containers, name)
	c.spec.name = newName
	e.containers[newName] = c
	return nil
}

func (e *fakeEngine) Remove(ctx context.Context, name string) error {
	err := e.enter(ctx, "remove", name)
	defer e.mu.Unlock()
	if err != nil {
		return err
	}
	name = e.resolve(name)
	if c := e.containers[name]; c != nil {
		c.end(137)
		delete(e.containers, name)
		e.removed = append(e.removed, name)
	}
	return nil
}

func (e *fakeEngine) SeedVolumes(ctx context.Context) ([]seedVolume, error) {
	err := e.enter(ctx, "volumes", "")
	defer e.mu.Unlock()
	var found []seedVolume
	for _, v := range e.volumes {
		found = append(found, v)
	}
	return found, err
}

func (e *fakeEngine) CreateSeedVolume(ctx context.Context, name, value string) error {
	err := e.enter(ctx, "create volume", name)
	defer e.mu.Unlock()
	if err == nil {
		e.addVolume(name, value)
	}
	return err
}

func (e *fakeEngine) RemoveVolume(ctx context.Context, name string) error {
	err := e.enter(ctx, "remove volume", name)
	defer e.mu.Unlock()
	if err != nil {
		return err
	}
	for _, c := range e.containers {
		if c.spec.seed == name {
			return fmt.Errorf("volume %s is in use", name)
		}
	}
	delete(e.volumes, name)
	return nil
}

func (e *fakeEngine) Close() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.closed = true
	return nil
}
