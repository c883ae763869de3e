package docker

import (
	"context"
	"errors"
	"io"
	"time"

	"gitlab.com/gitlab-org/gitlab-runner/helpers/docker"
)

const (
	// lastOutput is how long output may follow the end of its container.
	lastOutput = 5 * time.Second
	// lingering is how long a container may live on after its output ended.
	lingering = 2 * time.Second
	// waitAttempts and waitPause bound how a lost answer about a container's end is asked for again.
	waitAttempts = 4
	waitPause    = time.Second
)

// event is something that happens once. Its value may be read when done is closed.
type event[T any] struct {
	done  chan struct{}
	value T
}

// later runs a function and tells when it has returned.
func later[T any](run func() T) *event[T] {
	e := &event[T]{done: make(chan struct{})}
	go func() {
		defer close(e.done)
		e.value = run()
	}()
	return e
}

// process is one run of a container: from its start to its end.
type process struct {
	engine engine
	id     string
	stream *docker.Stream

	exit   *event[docker.Exit]
	output *event[error]
	input  *event[struct{}]
}

// startProcess starts a container whose streams are attached to and whose end is waited for, so that
// nothing of either can be missed. The answers are waited for together: only the start depends on them.
// The waiting lasts for as long as life does.
func startProcess(ctx, life context.Context, engine engine, id string) (*process, error) {
	type attachment struct {
		stream *docker.Stream
		err    error
	}
	attached := later(func() attachment {
		stream, err := engine.ContainerAttach(ctx, id)
		return attachment{stream, err}
	})
	exit := engine.ContainerWait(life, id, false)
	<-attached.done
	if attached.value.err != nil {
		return nil, attached.value.err
	}
	p := &process{engine: engine, id: id, stream: attached.value.stream}
	if err := engine.ContainerStart(ctx, id); err != nil {
		_ = p.stream.Close()
		return nil, err
	}
	p.exit = later(func() docker.Exit { return <-exit })
	return p, nil
}

// feed gives the script to the container, and the container's output to the writers, until close.
func (p *process) feed(script string, stdout, stderr io.Writer) {
	p.output = later(func() error { return p.stream.Copy(stdout, stderr) })
	p.input = later(func() struct{} {
		// A container that does not read its input ends all the same.
		_, _ = io.WriteString(p.stream, script)
		_ = p.stream.CloseWrite()
		return struct{}{}
	})
}

// errAlive says that a container lives on although its output ended.
var errAlive = errors.New("the container closed its output and goes on")

// wait returns the exit code when container and output have ended. It returns the cause of ctx when
// that ends first, errAlive when only the output ended, and the error of the connection when that was
// lost.
func (p *process) wait(ctx context.Context) (int, error) {
	select {
	case <-p.exit.done:
		return p.ended()
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	case <-p.output.done:
	}
	select {
	case <-p.exit.done:
		return p.ended()
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	case <-time.After(lingering):
		return 0, errAlive
	}
}

// ended waits for the rest of the output.
func (p *process) ended() (int, error) {
	if err := p.exit.value.Err; err != nil {
		return 0, err
	}
	p.drain(lastOutput)
	return p.exit.value.Code, nil
}

func (p *process) drain(limit time.Duration) {
	select {
	case <-p.output.done:
	case <-time.After(limit):
	}
}

// close ends the streams and waits for what feed started.
func (p *process) close() {
	_ = p.stream.Close()
	<-p.output.done
	<-p.input.done
}

// outputError is the error of the output, if it ended with one.
func (p *process) outputError() error {
	select {
	case <-p.output.done:
		return p.output.value
	default:
		return nil
	}
}
