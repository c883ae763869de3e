package pluginhost

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin/runner"

	"gitlab.com/gitlab-org/fleeting/fleeting/internal/wire"
)

// pipeGrace is how long the output of a process that exited is still read. A child of the plugin may
// hold the pipes open for longer.
const pipeGrace = 500 * time.Millisecond

// process is an operating system process that ends with this one: its standard input is a pipe which
// this process holds open, and where the system can do so it kills the process itself.
type process struct {
	path   string
	env    []string
	output *output

	pid      int
	lifeline *os.File // write end of the standard input
	stdout   *pipe
	exited   chan struct{}
	tasks    sync.WaitGroup

	mu      sync.Mutex
	running *os.Process
	killed  error // why it was killed
	exitErr error
}

var _ runner.Runner = (*process)(nil)

func newProcess(path string, log hclog.Logger) *process {
	return &process{path: path, output: newOutput(log), exited: make(chan struct{})}
}

// Start starts the process; go-plugin calls it once.
func (p *process) Start(context.Context) error {
	stdinR, stdinW, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("make pipe: %w", err)
	}
	stdoutR, stdoutW, err := os.Pipe()
	if err != nil {
		return errors.Join(fmt.Errorf("make pipe: %w", err), stdinR.Close(), stdinW.Close())
	}
	stderrR, stderrW, err := os.Pipe()
	if err != nil {
		return errors.Join(fmt.Errorf("make pipe: %w", err), stdinR.Close(), stdinW.Close(), stdoutR.Close(), stdoutW.Close())
	}

	cmd := exec.Command(p.path)
	cmd.Env = append(p.env, wire.LifelineEnv+"="+wire.LifelineStdin)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdinR, stdoutW, stderrW
	cmd.SysProcAttr = attached()

	stdout, stderr := newPipe(stdoutR), newPipe(stderrR)
	started := make(chan error, 1)
	p.tasks.Go(func() {
		// The kernel sends the parent-death signal when the thread ends that started the process: this
		// goroutine keeps its thread until the process has ended.
		runtime.LockOSThread()
		err := p.run(cmd)
		started <- err
		if err == nil {
			p.reap(cmd, stdout, stderr)
		}
	})
	err = <-started
	closeErr := errors.Join(stdinR.Close(), stdoutW.Close(), stderrW.Close())
	if err != nil {
		close(p.exited)
		return errors.Join(err, closeErr, stdinW.Close(), stdoutR.Close(), stderrR.Close())
	}
	p.lifeline, p.stdout = stdinW, stdout
	p.tasks.Go(func() { _, _ = io.Copy(p.output, stderr) })
	return nil
}

// run starts the command, unless the process was killed before.
func (p *process) run(cmd *exec.Cmd) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.killed != nil {
		return p.killed
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	p.running, p.pid = cmd.Process, cmd.Process.Pid
	return nil
}

// reap waits for the end of the process and of its output.
func (p *process) reap(cmd *exec.Cmd, pipes ...*pipe) {
	err := cmd.Wait()
	p.mu.Lock()
	p.running = nil
	switch {
	case p.killed != nil:
		p.exitErr = p.killed
	case err != nil:
		p.exitErr = err
	default:
		p.exitErr = errors.New("exit status 0")
	}
	p.mu.Unlock()

	grace, cancel := context.WithTimeout(context.Background(), pipeGrace)
	defer cancel()
	for _, pipe := range pipes {
		select {
		case <-pipe.ended:
		case <-grace.Done():
		}
		_ = pipe.Close()
	}
	close(p.exited)
}

// kill ends the process and its children at once and notes why. It may be called at any time.
func (p *process) kill(cause error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.killed == nil {
		p.killed = cause
	}
	if p.running != nil {
		killTree(p.running)
	}
}

// wait returns when the process has ended and nothing of it is left in this one.
func (p *process) wait() {
	p.tasks.Wait()
	if p.lifeline != nil {
		_ = p.lifeline.Close()
	}
}

// exitError is how the process ended; valid once exited is closed.
func (p *process) exitError() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.exitErr
}

// lastWords returns the end of what the process wrote, as a key and a value for the log; nothing if
// it wrote nothing.
func (p *process) lastWords() []any {
	if words := p.output.lastWords(); words != "" {
		return []any{"output", words}
	}
	return nil
}

// Diagnose has nothing to add to an error of Start: newSession adds the output.
func (p *process) Diagnose(context.Context) string { return "" }

// Stdout is what go-plugin reads the handshake from.
func (p *process) Stdout() io.ReadCloser { return p.stdout }

// Stderr is empty for go-plugin: the process reads its error output itself.
func (p *process) Stderr() io.ReadCloser { return io.NopCloser(strings.NewReader("")) }

// Name is the path of the executable.
func (p *process) Name() string { return p.path }

// Wait waits for the end of the process.
func (p *process) Wait(context.Context) error {
	<-p.exited
	return nil
}

// Kill ends the process.
func (p *process) Kill(context.Context) error {
	p.kill(errStopped)
	return nil
}

// ID is the process id; empty before the start.
func (p *process) ID() string {
	if p.pid == 0 {
		return ""
	}
	return strconv.Itoa(p.pid)
}

// PluginToHost returns the address as it is: plugin and host share a file system.
func (p *process) PluginToHost(network, addr string) (string, string, error) {
	return network, addr, nil
}

// HostToPlugin returns the address as it is.
func (p *process) HostToPlugin(network, addr string) (string, string, error) {
	return network, addr, nil
}

// pipe is the read end of a pipe that tells when it has been read to its end.
type pipe struct {
	*os.File
	ended chan struct{}
	once  sync.Once
}

func newPipe(f *os.File) *pipe { return &pipe{File: f, ended: make(chan struct{})} }

// Read reads from the pipe.
func (p *pipe) Read(b []byte) (int, error) {
	n, err := p.File.Read(b)
	if err != nil {
		p.once.Do(func() { close(p.ended) })
	}
	return n, err
}

// WriteTo hides that of os.File, which would go past Read.
func (p *pipe) WriteTo(w io.Writer) (int64, error) {
	return io.Copy(w, struct{ io.Reader }{p})
}

// afterFunc runs fn after d unless stop is called before; stop waits for fn if it runs.
func afterFunc(d time.Duration, fn func()) (stop func()) {
	done := make(chan struct{})
	timer := time.AfterFunc(d, func() {
		defer close(done)
		fn()
	})
	return func() {
		if !timer.Stop() {
			<-done
		}
	}
}
