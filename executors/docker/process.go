package docker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"gitlab.com/gitlab-org/gitlab-runner/helpers/docker"
)

const (
	// lastOutput is how long nothing may come of the output after the end of its container, until the rest
	// is given up.
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
	// moved counts what happens to the output.
	moved atomic.Int64
	// outputLost says that the user was told that the output ended before the container did.
	outputLost bool
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
	p.output = later(func() error { return p.stream.Copy(movement{stdout, &p.moved}, movement{stderr, &p.moved}) })
	p.input = later(func() struct{} {
		// A container that does not read its input ends all the same.
		_, _ = io.WriteString(p.stream, script)
		_ = p.stream.CloseWrite()
		return struct{}{}
	})
}

// movement counts the writes that begin and end.
type movement struct {
	io.Writer
	count *atomic.Int64
}

func (m movement) Write(data []byte) (int, error) {
	m.count.Add(1)
	defer m.count.Add(1)
	return m.Writer.Write(data)
}

// errAlive says that a container lives on although its output ended.
var errAlive = errors.New("the container closed its output and goes on")

// wait returns the exit code when container and output have ended. It returns the cause of ctx when
// that ends first, errAlive when only the output ended, and the error of the connection when that was
// lost.
func (p *process) wait(ctx context.Context) (int, error) {
	select {
	case <-p.exit.done:
		return p.ended(ctx)
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	case <-p.output.done:
	}
	select {
	case <-p.exit.done:
		return p.ended(ctx)
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	case <-time.After(lingering):
		return 0, errAlive
	}
}

// ended waits for the rest of the output.
func (p *process) ended(ctx context.Context) (int, error) {
	if err := p.exit.value.Err; err != nil {
		return 0, err
	}
	p.drain(ctx)
	return p.exit.value.Code, nil
}

// drain waits for the end of the output for as long as it moves. A slow connection may take long for what
// the engine still has of it.
func (p *process) drain(ctx context.Context) {
	for {
		before := p.moved.Load()
		select {
		case <-p.output.done:
			return
		case <-ctx.Done():
			return
		case <-time.After(lastOutput):
		}
		if p.moved.Load() == before {
			return
		}
	}
}

// close ends the streams and waits for what feed started.
func (p *process) close() {
	_ = p.stream.Close()
	<-p.output.done
	<-p.input.done
}

// errOutputCut says that the rest of the output did not come.
var errOutputCut = fmt.Errorf("its end did not come within %s after the end of the container", lastOutput)

func (p *process) outputEnded() bool {
	select {
	case <-p.output.done:
		return true
	default:
		return false
	}
}

// outputError says why the output is not complete, once the container has ended.
func (p *process) outputError() error {
	if p.outputEnded() {
		return p.output.value
	}
	return errOutputCut
}
