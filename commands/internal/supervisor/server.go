package supervisor

import (
	"context"
	"errors"
	"net"
	"time"

	"github.com/sirupsen/logrus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"gitlab.com/gitlab-org/gitlab-runner/commands/processwrapper"
)

const (
	// maxRequest bounds a request, in bytes.
	maxRequest = 64 << 10
	// closeGrace is how long calls under way, and clients that stay connected, are waited for.
	closeGrace = time.Second
)

// Server lets others watch and stop a process.
type Server struct {
	grpc *grpc.Server
	done chan struct{}
}

// Serve serves on a listener, which is its own from now on. Close it.
func Serve(listener net.Listener, p *Process, log logrus.FieldLogger) *Server {
	s := &Server{grpc: grpc.NewServer(grpc.MaxRecvMsgSize(maxRequest)), done: make(chan struct{})}
	processwrapper.RegisterProcessWrapperServer(s.grpc, service{process: p, log: log})
	go func() {
		defer close(s.done)
		if err := s.grpc.Serve(listener); err != nil {
			log.WithError(err).Error("The process goes on, and can no longer be watched and stopped over gRPC")
		}
	}()
	return s
}

// Close stops serving.
func (s *Server) Close() {
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		s.grpc.GracefulStop()
	}()
	select {
	case <-stopped:
	case <-time.After(closeGrace):
		s.grpc.Stop()
	}
	<-stopped
	<-s.done
}

// service speaks the contract.
type service struct {
	processwrapper.UnimplementedProcessWrapperServer
	process *Process
	log     logrus.FieldLogger
}

// CheckStatus implements [processwrapper.ProcessWrapperServer].
func (s service) CheckStatus(context.Context, *processwrapper.CheckStatusRequest) (*processwrapper.CheckStatusResponse, error) {
	now, failure := s.process.Status()
	return &processwrapper.CheckStatusResponse{Status: statusOf(now), FailureReason: failure}, nil
}

func statusOf(s Status) processwrapper.Status {
	switch s {
	case Running:
		return processwrapper.Status_STATUS_RUNNING
	case InShutdown:
		return processwrapper.Status_STATUS_IN_SHUTDOWN
	case Stopped:
		return processwrapper.Status_STATUS_STOPPED
	default:
		return processwrapper.Status_STATUS_UNKNOWN
	}
}

// InitGracefulShutdown implements [processwrapper.ProcessWrapperServer].
func (s service) InitGracefulShutdown(_ context.Context, request *processwrapper.InitGracefulShutdownRequest) (*processwrapper.InitGracefulShutdownResponse, error) {
	var callback *Callback
	log := s.log
	if asked := request.GetCallback(); asked != nil {
		callback = &Callback{URL: asked.GetUrl(), Method: asked.GetMethod(), Headers: asked.GetHeaders()}
		log = log.WithField("callback", callback.host())
	}
	if err := s.process.InitGracefulShutdown(callback); err != nil {
		return nil, s.refuse("graceful", err)
	}
	log.Info("The process was asked to finish its work and end")
	return &processwrapper.InitGracefulShutdownResponse{}, nil
}

// InitForcefulShutdown implements [processwrapper.ProcessWrapperServer].
func (s service) InitForcefulShutdown(context.Context, *processwrapper.InitForcefulShutdownRequest) (*processwrapper.InitForcefulShutdownResponse, error) {
	if err := s.process.InitForcefulShutdown(); err != nil {
		return nil, s.refuse("forceful", err)
	}
	s.log.Info("The process was asked to abort its work and end")
	return &processwrapper.InitForcefulShutdownResponse{}, nil
}

// refuse is what a client is told of an error.
func (s service) refuse(kind string, err error) error {
	s.log.WithError(err).Warningf("A %s shutdown was refused", kind)
	code := codes.Internal
	switch {
	case errors.Is(err, ErrNotRunning):
		code = codes.FailedPrecondition
	case errors.Is(err, ErrCallback):
		code = codes.InvalidArgument
	case errors.Is(err, ErrNoSignals):
		code = codes.Unimplemented
	}
	return status.Error(code, err.Error())
}
