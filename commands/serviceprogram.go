package commands

import (
	"errors"
	"os"
	"runtime"

	"github.com/kardianos/service"
	"github.com/sirupsen/logrus"

	"gitlab.com/gitlab-org/gitlab-runner/commands/manager"
)

// serviceProgram is the runner in the hands of a service manager that calls it instead of sending
// signals, as Windows does. Its work runs between Start and Stop.
type serviceProgram struct {
	// work ends when a signal asks it to.
	work func(signals <-chan manager.Signal) error
	// failed is told when the work ended although nobody asked it to.
	failed func(error)

	signals chan manager.Signal
	stop    chan struct{}
	done    chan struct{}
	err     error
}

func newServiceProgram(work func(<-chan manager.Signal) error, failed func(error)) *serviceProgram {
	return &serviceProgram{
		work: work, failed: failed,
		signals: make(chan manager.Signal), stop: make(chan struct{}), done: make(chan struct{}),
	}
}

// Start implements [service.Interface]: it returns at once, the work goes on.
func (p *serviceProgram) Start(service.Service) error {
	if p.work == nil {
		return errors.New("there is nothing to run")
	}
	go func() {
		p.err = p.work(p.signals)
		close(p.done)
		select {
		case <-p.stop:
		default:
			p.failed(p.err)
		}
	}()
	return nil
}

// Stop implements [service.Interface]: running jobs are waited for.
func (p *serviceProgram) Stop(service.Service) error {
	return p.end(manager.Signal{Kind: manager.Graceful, Name: "service stop"})
}

// Shutdown implements [service.Shutdowner]: the machine goes down, so the jobs are aborted.
func (p *serviceProgram) Shutdown(service.Service) error {
	return p.end(manager.Signal{Kind: manager.Forceful, Name: "system shutdown"})
}

func (p *serviceProgram) end(signal manager.Signal) error {
	close(p.stop)
	select {
	case p.signals <- signal:
	case <-p.done:
	}
	<-p.done
	return p.err
}

// underServiceManager says whether this process was started by one that calls instead of signalling.
func underServiceManager() bool { return runtime.GOOS == "windows" && !service.Interactive() }

// serve works under the service manager until that stops it.
func serve(log *logrus.Logger, name string, work func(<-chan manager.Signal) error) error {
	program := newServiceProgram(work, func(err error) {
		// The service manager gets no other word of a program that gives up; it restarts it as it is
		// told to. What happened is in the log.
		if err != nil {
			tellFatal(log, err.Error())
		}
		os.Exit(1)
	})
	s, err := service.New(program, &service.Config{Name: name})
	if err != nil {
		return err
	}
	return s.Run()
}
