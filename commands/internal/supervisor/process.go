package supervisor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"time"

	"github.com/sirupsen/logrus"
)

// Status is how far a process is.
type Status int

// The states of a process, in their order.
const (
	// Unknown: it has not been started.
	Unknown Status = iota
	Running
	// InShutdown: it was asked to end.
	InShutdown
	// Stopped: it has ended, by itself or not.
	Stopped
)

const (
	// outputGrace is how long the output of a process that has ended is still read where it has to be
	// copied. Others may hold its pipes open for longer.
	outputGrace = 500 * time.Millisecond
	// callbackGrace is how long the supervisor's own end waits for a callback.
	callbackGrace = 10 * time.Second
)

// The reasons for which a process cannot be asked to end.
var (
	ErrNotRunning = errors.New("no process is running")
	ErrNoSignals  = errors.New("on Windows a process cannot be asked to end, as there are no signals: it is killed when the wrapper ends")
)

// Options say what to run.
type Options struct {
	// Path is the program, Args are its arguments without its name, Env is its whole environment.
	Path string
	Args []string
	Env  []string
	// Stdout and Stderr are where it writes; files are handed to it as they are.
	Stdout, Stderr io.Writer
	Log            logrus.FieldLogger
}

// Process is a child process. All methods are safe for concurrent use. Terminate has to be called for one
// that was started.
type Process struct {
	options Options
	caller  caller

	// ended is closed when the process has ended, settled when nothing of it is left here, a callback
	// included. Both are of use only once the process was started.
	ended   chan struct{}
	settled chan struct{}

	mu      sync.Mutex
	status  Status
	failure string
	child   *os.Process
	// told says that the process was told to abort its work. Told a second time it would end without
	// cleaning up.
	told     bool
	callback *Callback
	// abandon ends attempts to deliver a callback.
	abandon context.CancelCauseFunc
}

// New returns a process that is not started yet.
func New(o Options) *Process {
	return &Process{options: o, caller: newCaller(o.Log), ended: make(chan struct{}), settled: make(chan struct{})}
}

// Start starts the process. It is called once, and Terminate after it.
func (p *Process) Start() error {
	cmd := exec.Command(p.options.Path, p.options.Args...)
	cmd.Env = p.options.Env
	cmd.Stdout, cmd.Stderr = p.options.Stdout, p.options.Stderr
	cmd.WaitDelay = outputGrace
	cmd.SysProcAttr = attached()
	started := make(chan error, 1)
	go func() {
		// Linux takes the end of the thread that started the process for the end of the supervisor: this
		// goroutine keeps its thread until the process has ended.
		runtime.LockOSThread()
		ctx, err := p.run(cmd)
		started <- err
		if err == nil {
			p.watch(ctx, cmd)
		}
	}()
	return <-started
}

// run starts the command. The context is that of a callback.
func (p *Process) run(cmd *exec.Cmd) (context.Context, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting the process: %w", err)
	}
	p.child, p.status = cmd.Process, Running
	ctx, abandon := context.WithCancelCause(context.Background())
	p.abandon = abandon
	p.options.Log.WithField("child", cmd.Process.Pid).Info("Process started")
	return ctx, nil
}

// watch waits for the end of the process and tells of it.
func (p *Process) watch(ctx context.Context, cmd *exec.Cmd) {
	defer close(p.settled)
	err := cmd.Wait()
	if errors.Is(err, exec.ErrWaitDelay) {
		err = nil
	}
	p.mu.Lock()
	p.status = Stopped
	log := p.options.Log.WithField("child", cmd.Process.Pid)
	if err != nil {
		p.failure = err.Error()
		log.WithError(err).Warning("Process ended")
	} else {
		log.Info("Process ended")
	}
	callback := p.callback
	p.mu.Unlock()
	close(p.ended)
	if callback != nil {
		p.caller.deliver(ctx, *callback)
	}
}

// Status returns how far the process is, and why it failed; nothing if it has not ended or has succeeded.
func (p *Process) Status() (status Status, failure string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.status, p.failure
}

// InitGracefulShutdown asks the process to finish its work and end. It does not wait for that: a callback
// is called then, in the place of that of an earlier call.
func (p *Process) InitGracefulShutdown(callback *Callback) error {
	if callback != nil {
		if err := callback.check(); err != nil {
			return err
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.signal(askToFinish); err != nil {
		return err
	}
	p.status = InShutdown
	if callback != nil {
		p.callback = callback
	}
	return nil
}

// InitForcefulShutdown asks the process to abort its work and end. It does not wait for that.
func (p *Process) InitForcefulShutdown() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.abort()
}

func (p *Process) abort() error {
	if err := p.signal(askToAbort); err != nil {
		return err
	}
	p.status, p.told = InShutdown, true
	return nil
}

// Reload asks the process to load its configuration again.
func (p *Process) Reload() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.signal(askToReload)
}

// signal does something to the process if it is there.
func (p *Process) signal(do func(*os.Process) error) error {
	if p.status != Running && p.status != InShutdown {
		return ErrNotRunning
	}
	err := do(p.child)
	if errors.Is(err, os.ErrProcessDone) {
		return ErrNotRunning
	}
	return err
}

// Terminate asks the process to abort its work, unless it was asked to before, and waits for its end. When
// the time is over or ctx ends it kills the process group, which is an error. A callback gets ten seconds
// more. Nothing is left when it returns.
func (p *Process) Terminate(ctx context.Context, timeout time.Duration) error {
	if status, _ := p.Status(); status == Unknown {
		return nil
	}
	err := p.end(ctx, timeout)
	grace := time.NewTimer(callbackGrace)
	defer grace.Stop()
	select {
	case <-p.settled:
	case <-grace.C:
		p.abandon(errors.New("the wrapper ends"))
	case <-ctx.Done():
		p.abandon(context.Cause(ctx))
	}
	<-p.settled
	return err
}

// end has the process end, one way or the other.
func (p *Process) end(ctx context.Context, timeout time.Duration) error {
	cause := p.abortOnce()
	if errors.Is(cause, ErrNotRunning) {
		// It has ended in this moment, and that is noticed in a moment.
		<-p.ended
		return nil
	}
	if cause == nil {
		timer := time.NewTimer(timeout)
		defer timer.Stop()
		select {
		case <-p.ended:
			return nil
		case <-timer.C:
			cause = fmt.Errorf("it was still running %s after it had been asked to end", timeout)
		case <-ctx.Done():
			cause = context.Cause(ctx)
		}
	}
	if !p.kill() {
		return nil
	}
	<-p.ended
	return fmt.Errorf("%s: %w", killed, cause)
}

func (p *Process) abortOnce() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.told && p.status == InShutdown {
		return nil
	}
	return p.abort()
}

// kill kills what is left of the process and says whether that was anything.
func (p *Process) kill() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.status == Stopped {
		return false
	}
	if err := p.signal(killGroup); err != nil && !errors.Is(err, ErrNotRunning) {
		p.options.Log.WithError(err).Error("Killing the process failed")
	}
	return true
}
