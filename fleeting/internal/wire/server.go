package wire

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/hashicorp/go-hclog"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"gitlab.com/gitlab-org/fleeting/fleeting/provider"
)

const (
	// maxErrorText bounds an error's text in bytes: gRPC carries it in a header.
	maxErrorText = 4 << 10
	// updateBatch is the number of instances in one message of an update.
	updateBatch = 512
)

// server answers a host's calls with a plugin's implementation.
type server struct {
	UnimplementedInstanceGroupServer

	impl   provider.InstanceGroup
	logger hclog.Logger
}

// Init decodes the configuration into the implementation and initialises it.
func (s *server) Init(ctx context.Context, req *InitRequest) (*InitReply, error) {
	if len(req.GetConfig()) > 0 {
		if err := json.Unmarshal(req.GetConfig(), s.impl); err != nil {
			return nil, status.Error(codes.Unknown, errorText(fmt.Errorf("decode plugin configuration: %w", err)))
		}
	}
	info, err := s.impl.Init(ctx, s.logger, provider.Settings{
		ConnectorConfig: connectorConfigFromWire(req.GetSettings().GetConnectorConfig()),
	})
	if err != nil {
		return nil, applicationError(err)
	}
	return providerInfoToWire(info), nil
}

// Update streams the group's content in batches.
func (s *server) Update(_ *UpdateRequest, stream grpc.ServerStreamingServer[UpdateReply]) error {
	var (
		mu      sync.Mutex
		batch   []*InstanceState
		sendErr error
	)
	flush := func() {
		if sendErr == nil && len(batch) > 0 {
			sendErr = stream.Send(&UpdateReply{Instances: batch})
		}
		batch = nil
	}
	err := s.impl.Update(stream.Context(), func(instance string, state provider.State) {
		// Nothing forbids an implementation to report from several goroutines.
		mu.Lock()
		defer mu.Unlock()
		batch = append(batch, &InstanceState{Id: instance, State: string(state)})
		if len(batch) >= updateBatch {
			flush()
		}
	})
	if err != nil {
		return applicationError(err)
	}
	mu.Lock()
	defer mu.Unlock()
	flush()
	return sendErr
}

// Increase answers with the count and, beside it, the error.
func (s *server) Increase(ctx context.Context, req *IncreaseRequest) (*IncreaseReply, error) {
	succeeded, err := s.impl.Increase(ctx, int(req.GetCount()))
	return &IncreaseReply{Succeeded: int64(succeeded), Error: errorText(err)}, nil
}

// Decrease answers with the ids and, beside them, the error.
func (s *server) Decrease(ctx context.Context, req *InstancesRequest) (*InstancesReply, error) {
	succeeded, err := s.impl.Decrease(ctx, req.GetIds())
	return &InstancesReply{Succeeded: succeeded, Error: errorText(err)}, nil
}

// Suspend answers like Decrease.
func (s *server) Suspend(ctx context.Context, req *InstancesRequest) (*InstancesReply, error) {
	succeeded, err := s.impl.Suspend(ctx, req.GetIds())
	return suspendReply(succeeded, err)
}

// Resume answers like Decrease.
func (s *server) Resume(ctx context.Context, req *InstancesRequest) (*InstancesReply, error) {
	succeeded, err := s.impl.Resume(ctx, req.GetIds())
	return suspendReply(succeeded, err)
}

// suspendReply lets the one error which hosts compare by identity cross as a status of its own.
func suspendReply(succeeded []string, err error) (*InstancesReply, error) {
	if errors.Is(err, provider.ErrSuspendResumeNotSupported) {
		return nil, status.Error(codes.Unimplemented, errorText(err))
	}
	return &InstancesReply{Succeeded: succeeded, Error: errorText(err)}, nil
}

// ConnectInfo answers with the connection data of one instance.
func (s *server) ConnectInfo(ctx context.Context, req *InstanceRequest) (*ConnectInfoReply, error) {
	info, err := s.impl.ConnectInfo(ctx, req.GetId())
	if err != nil {
		return nil, applicationError(err)
	}
	return connectInfoToWire(info), nil
}

// Heartbeat answers without an error for a healthy instance.
func (s *server) Heartbeat(ctx context.Context, req *InstanceRequest) (*HeartbeatReply, error) {
	if err := s.impl.Heartbeat(ctx, req.GetId()); err != nil {
		return nil, applicationError(err)
	}
	return &HeartbeatReply{}, nil
}

// Shutdown ends the implementation's work; the process lives on.
func (s *server) Shutdown(ctx context.Context, _ *ShutdownRequest) (*ShutdownReply, error) {
	if err := s.impl.Shutdown(ctx); err != nil {
		return nil, applicationError(err)
	}
	return &ShutdownReply{}, nil
}

// applicationError makes every error of an implementation one status: were an implementation's own
// gRPC status passed through, the host would take a cloud's Unavailable for its plugin's.
func applicationError(err error) error {
	return status.Error(codes.Unknown, errorText(err))
}

// errorText returns what crosses of an error; empty only for nil.
func errorText(err error) string {
	if err == nil {
		return ""
	}
	text := strings.ToValidUTF8(err.Error(), "\uFFFD")
	if text == "" {
		return "unknown error"
	}
	if len(text) > maxErrorText {
		text = strings.ToValidUTF8(text[:maxErrorText], "") + " [cut]"
	}
	return text
}
