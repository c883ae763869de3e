package wire

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"gitlab.com/gitlab-org/fleeting/fleeting/provider"
)

// ErrNoAnswer says that the connection was lost during a call: the plugin may or may not have done
// what it was asked for.
var ErrNoAnswer = errors.New("the plugin gave no answer")

// Client makes the calls of a provider.InstanceGroup (but for Init, which carries the configuration)
// over one connection. It is safe for concurrent use.
type Client struct {
	rpc InstanceGroupClient
}

// NewClient returns a client on a connection.
func NewClient(conn grpc.ClientConnInterface) *Client {
	return &Client{rpc: NewInstanceGroupClient(conn)}
}

// Init sends the configuration (JSON, may be empty) and the settings.
func (c *Client) Init(ctx context.Context, config []byte, settings provider.Settings) (provider.ProviderInfo, error) {
	reply, err := c.rpc.Init(ctx, &InitRequest{
		Config:   config,
		Settings: &Settings{ConnectorConfig: connectorConfigToWire(settings.ConnectorConfig)},
	})
	if err != nil {
		return provider.ProviderInfo{}, callError(ctx, "Init", err)
	}
	return providerInfoFromWire(reply), nil
}

// Update calls fn for every instance of the group.
func (c *Client) Update(ctx context.Context, fn func(instance string, state provider.State)) error {
	// Ends the stream also when it is left early.
	streaming, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)

	stream, err := c.rpc.Update(streaming, &UpdateRequest{})
	if err != nil {
		return callError(ctx, "Update", err)
	}
	for {
		reply, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return callError(ctx, "Update", err)
		}
		for _, instance := range reply.GetInstances() {
			fn(instance.GetId(), provider.State(instance.GetState()))
		}
	}
}

// Increase asks for n more instances.
func (c *Client) Increase(ctx context.Context, n int) (int, error) {
	reply, err := c.rpc.Increase(ctx, &IncreaseRequest{Count: int64(n)})
	if err != nil {
		return 0, callError(ctx, "Increase", err)
	}
	return int(reply.GetSucceeded()), replyError(reply.GetError())
}

// Decrease asks for the deletion of instances.
func (c *Client) Decrease(ctx context.Context, instances []string) ([]string, error) {
	reply, err := c.rpc.Decrease(ctx, &InstancesRequest{Ids: instances})
	if err != nil {
		return nil, callError(ctx, "Decrease", err)
	}
	return reply.GetSucceeded(), replyError(reply.GetError())
}

// ConnectInfo returns the connection data of an instance.
func (c *Client) ConnectInfo(ctx context.Context, instance string) (provider.ConnectInfo, error) {
	reply, err := c.rpc.ConnectInfo(ctx, &InstanceRequest{Id: instance})
	if err != nil {
		return provider.ConnectInfo{}, callError(ctx, "ConnectInfo", err)
	}
	return connectInfoFromWire(reply), nil
}

// Heartbeat returns nil for a healthy instance, and for every instance of a plugin that is too old to
// know the call.
func (c *Client) Heartbeat(ctx context.Context, instance string) error {
	_, err := c.rpc.Heartbeat(ctx, &InstanceRequest{Id: instance})
	if err == nil || status.Code(err) == codes.Unimplemented {
		return nil
	}
	return callError(ctx, "Heartbeat", err)
}

// Suspend asks for the suspension of instances.
func (c *Client) Suspend(ctx context.Context, instances []string) ([]string, error) {
	reply, err := c.rpc.Suspend(ctx, &InstancesRequest{Ids: instances})
	return suspendResult(ctx, "Suspend", reply, err)
}

// Resume asks for suspended instances to be started.
func (c *Client) Resume(ctx context.Context, instances []string) ([]string, error) {
	reply, err := c.rpc.Resume(ctx, &InstancesRequest{Ids: instances})
	return suspendResult(ctx, "Resume", reply, err)
}

func suspendResult(ctx context.Context, method string, reply *InstancesReply, err error) ([]string, error) {
	switch {
	case status.Code(err) == codes.Unimplemented:
		return nil, provider.ErrSuspendResumeNotSupported
	case err != nil:
		return nil, callError(ctx, method, err)
	}
	return reply.GetSucceeded(), replyError(reply.GetError())
}

// Shutdown ends the group's work.
func (c *Client) Shutdown(ctx context.Context) error {
	if _, err := c.rpc.Shutdown(ctx, &ShutdownRequest{}); err != nil {
		return callError(ctx, "Shutdown", err)
	}
	return nil
}

// replyError is an error that came beside a partial success.
func replyError(text string) error {
	if text == "" {
		return nil
	}
	return errors.New(text)
}

// callError returns an implementation's error as it was, and says of every other failure what
// happened to the call.
func callError(ctx context.Context, method string, err error) error {
	st := status.Convert(err)
	switch st.Code() {
	case codes.Unknown:
		if timedOut(ctx, st.Message()) {
			return fmt.Errorf("plugin call %s: not done in time: %w", method, context.DeadlineExceeded)
		}
		return errors.New(st.Message())
	case codes.DeadlineExceeded:
		return fmt.Errorf("plugin call %s: no answer in time: %w", method, context.DeadlineExceeded)
	case codes.Canceled:
		if ctx.Err() != nil {
			return fmt.Errorf("plugin call %s: %w", method, context.Canceled)
		}
		// The connection was closed on this side, because the process at its other end is gone.
		return fmt.Errorf("plugin call %s: %w: %s", method, ErrNoAnswer, st.Message())
	case codes.Unavailable:
		return fmt.Errorf("plugin call %s: %w: %s", method, ErrNoAnswer, st.Message())
	default:
		return fmt.Errorf("plugin call %s: %s: %s", method, st.Code(), st.Message())
	}
}

// deadlineSkew is how much earlier than here a deadline may pass in the plugin.
const deadlineSkew = 50 * time.Millisecond

// timedOut tells whether a plugin's answer is that the call's own deadline, of which it was told, has
// passed there. It may come before the deadline has passed here.
func timedOut(ctx context.Context, message string) bool {
	deadline, ok := ctx.Deadline()
	return ok && time.Until(deadline) < deadlineSkew && strings.Contains(message, context.DeadlineExceeded.Error())
}
