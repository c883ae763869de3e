package wire

import (
	"context"
	"errors"
	"fmt"
	"net"
	"reflect"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"pgregory.net/rapid"

	dummy "gitlab.com/gitlab-org/fleeting/fleeting/plugin/fleeting-plugin-dummy"
	"gitlab.com/gitlab-org/fleeting/fleeting/provider"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// connection is a client and what it is connected with.
type connection struct {
	*Client
	conn *grpc.ClientConn
}

// serve connects a client to a server in this process.
func serve(t *testing.T, s InstanceGroupServer) (connection, *grpc.Server) {
	t.Helper()
	listener := bufconn.Listen(1 << 20)
	grpcServer := grpc.NewServer()
	RegisterInstanceGroupServer(grpcServer, s)
	var tasks sync.WaitGroup
	tasks.Go(func() { _ = grpcServer.Serve(listener) })
	conn, err := grpc.NewClient("passthrough:///memory", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) { return listener.Dial() }))
	require.NoError(t, err)
	t.Cleanup(func() {
		_ = conn.Close()
		grpcServer.Stop()
		tasks.Wait()
	})
	return connection{NewClient(conn), conn}, grpcServer
}

func serveGroup(t *testing.T, group provider.InstanceGroup) (connection, *grpc.Server) {
	t.Helper()
	return serve(t, &server{impl: group, logger: hclog.NewNullLogger()})
}

// oldPlugin knows nothing of what was added later.
type oldPlugin struct {
	UnimplementedInstanceGroupServer
}

func (oldPlugin) Init(context.Context, *InitRequest) (*InitReply, error) {
	return &InitReply{Id: "old"}, nil
}

func TestOlderPluginsLackCapabilitiesOnly(t *testing.T) {
	client, _ := serve(t, oldPlugin{})
	ctx := t.Context()
	info, err := client.Init(ctx, nil, provider.Settings{})
	require.NoError(t, err)
	require.Equal(t, provider.ProviderInfo{ID: "old"}, info)
	require.NoError(t, client.Heartbeat(ctx, "x"))
	_, err = client.Suspend(ctx, []string{"x"})
	require.ErrorIs(t, err, provider.ErrSuspendResumeNotSupported)
	_, err = client.Resume(ctx, []string{"x"})
	require.ErrorIs(t, err, provider.ErrSuspendResumeNotSupported)
	_, err = client.Increase(ctx, 1)
	require.ErrorContains(t, err, "plugin call Increase: Unimplemented")
}

// cloudError is what the client library of a cloud returns that speaks gRPC itself.
type cloudError struct{ *dummy.InstanceGroup }

func (cloudError) Increase(context.Context, int) (int, error) {
	return 2, status.Error(codes.Unavailable, "region is down")
}

func (cloudError) Heartbeat(context.Context, string) error {
	return status.Error(codes.Unimplemented, "no such API")
}

func (cloudError) Shutdown(context.Context) error { return errors.New("") }

func TestErrorsOfAnImplementationAreNotThoseOfTheConnection(t *testing.T) {
	client, _ := serveGroup(t, cloudError{&dummy.InstanceGroup{}})
	n, err := client.Increase(t.Context(), 3)
	require.Equal(t, 2, n)
	require.EqualError(t, err, "rpc error: code = Unavailable desc = region is down")
	require.NotErrorIs(t, err, ErrNoAnswer)
	require.ErrorContains(t, client.Heartbeat(t.Context(), "x"), "no such API")
	require.EqualError(t, client.Shutdown(t.Context()), "unknown error", "an error without a text is still one")
}

func TestLostConnectionIsToldFromARefusal(t *testing.T) {
	entered := make(chan struct{})
	client, grpcServer := serveGroup(t, hanging{&dummy.InstanceGroup{}, entered})
	var stopping sync.WaitGroup
	stopping.Go(func() {
		<-entered
		grpcServer.Stop()
	})
	_, err := client.Increase(t.Context(), 1)
	require.ErrorIs(t, err, ErrNoAnswer)
	require.ErrorContains(t, err, "Increase")
	stopping.Wait()
}

func TestConnectionClosedOnThisSideIsToldFromARefusal(t *testing.T) {
	entered := make(chan struct{})
	client, _ := serveGroup(t, hanging{&dummy.InstanceGroup{}, entered})
	var closing sync.WaitGroup
	closing.Go(func() {
		<-entered
		require.NoError(t, client.conn.Close())
	})
	_, err := client.Increase(t.Context(), 1)
	require.ErrorIs(t, err, ErrNoAnswer)
	closing.Wait()
}

func TestCallerMayGiveUp(t *testing.T) {
	entered := make(chan struct{})
	client, _ := serveGroup(t, hanging{&dummy.InstanceGroup{}, entered})
	ctx, cancel := context.WithCancelCause(t.Context())
	var canceling sync.WaitGroup
	canceling.Go(func() {
		<-entered
		cancel(errors.New("enough"))
	})
	_, err := client.Increase(ctx, 1)
	require.ErrorIs(t, err, context.Canceled)
	canceling.Wait()
}

func TestLateAnswerIsToldFromARefusal(t *testing.T) {
	client, _ := serveGroup(t, hanging{&dummy.InstanceGroup{}, make(chan struct{}, 1)})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, err := client.Increase(ctx, 1)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.ErrorContains(t, err, "plugin call Increase: no answer in time")
}

// hanging enters Increase and does not return from it.
type hanging struct {
	*dummy.InstanceGroup
	entered chan<- struct{}
}

func (h hanging) Increase(ctx context.Context, _ int) (int, error) {
	h.entered <- struct{}{}
	<-ctx.Done()
	return 0, ctx.Err()
}

// parallel reports its instances from several goroutines, and fails in the end if it is told to.
type parallel struct {
	*dummy.InstanceGroup
	err error
}

func (p parallel) Update(_ context.Context, fn func(string, provider.State)) error {
	var reporters sync.WaitGroup
	for i := range 8 {
		reporters.Go(func() {
			for j := range 500 {
				fn(fmt.Sprintf("%d-%d", i, j), provider.StateRunning)
			}
		})
	}
	reporters.Wait()
	return p.err
}

func TestUpdateCarriesEverythingOrFails(t *testing.T) {
	count := func(client connection) (int, error) {
		seen := map[string]provider.State{}
		err := client.Update(t.Context(), func(id string, s provider.State) { seen[id] = s })
		return len(seen), err
	}
	client, _ := serveGroup(t, parallel{InstanceGroup: &dummy.InstanceGroup{}})
	n, err := count(client)
	require.NoError(t, err)
	require.Equal(t, 4000, n)

	client, _ = serveGroup(t, parallel{&dummy.InstanceGroup{}, errors.New("the list is cut")})
	_, err = count(client)
	require.EqualError(t, err, "the list is cut")
}

// byValue cannot be decoded into.
type byValue struct{ *dummy.InstanceGroup }

func TestConfigurationNeedsAPointer(t *testing.T) {
	client, _ := serveGroup(t, byValue{&dummy.InstanceGroup{}})
	_, err := client.Init(t.Context(), []byte(`{}`), provider.Settings{})
	require.ErrorContains(t, err, "decode plugin configuration")
}

func TestServingNothingIsAnError(t *testing.T) {
	require.Error(t, (&grpcPlugin{}).GRPCServer(nil, nil))
}

// echo answers with what it was given.
type echo struct {
	*dummy.InstanceGroup
	info provider.ConnectInfo
	got  provider.Settings
}

func (e *echo) Init(_ context.Context, _ hclog.Logger, settings provider.Settings) (provider.ProviderInfo, error) {
	e.got = settings
	return provider.ProviderInfo{}, nil
}

func (e *echo) ConnectInfo(context.Context, string) (provider.ConnectInfo, error) { return e.info, nil }

func TestEveryFieldCrosses(t *testing.T) {
	group := &echo{InstanceGroup: &dummy.InstanceGroup{}}
	client, _ := serveGroup(t, group)
	rapid.Check(t, func(t *rapid.T) {
		config := provider.ConnectorConfig{
			OS:                   rapid.String().Draw(t, "os"),
			Arch:                 rapid.String().Draw(t, "arch"),
			Protocol:             provider.Protocol(rapid.String().Draw(t, "protocol")),
			ProtocolPort:         rapid.Int().Draw(t, "port"),
			Username:             rapid.String().Draw(t, "username"),
			Password:             string(rapid.SliceOf(rapid.Byte()).Draw(t, "password")),
			Key:                  rapid.SliceOfN(rapid.Byte(), 1, 64).Draw(t, "key"),
			UseStaticCredentials: rapid.Bool().Draw(t, "static"),
			Keepalive:            time.Duration(rapid.Int64().Draw(t, "keepalive")),
			Timeout:              time.Duration(rapid.Int64().Draw(t, "timeout")),
		}
		group.info = provider.ConnectInfo{
			ConnectorConfig: config, ID: rapid.String().Draw(t, "id"),
			ExternalAddr: rapid.String().Draw(t, "external"), InternalAddr: rapid.String().Draw(t, "internal"),
			HostKeys: rapid.SliceOfN(rapid.String(), 1, 3).Draw(t, "host keys"),
		}
		_, err := client.Init(context.Background(), nil, provider.Settings{ConnectorConfig: config})
		if err != nil || !reflect.DeepEqual(group.got.ConnectorConfig, config) {
			t.Fatalf("the settings arrive as %+v: %v", group.got, err)
		}
		info, err := client.ConnectInfo(context.Background(), "x")
		if err != nil || !reflect.DeepEqual(info, group.info) {
			t.Fatalf("the connection info arrives as %+v: %v", info, err)
		}
	})
}

// TestNoFieldIsForgotten fails when a field is added to a type that crosses and not here as well.
func TestNoFieldIsForgotten(t *testing.T) {
	for what, want := range map[reflect.Type]int{
		reflect.TypeFor[provider.ConnectorConfig](): 10,
		reflect.TypeFor[provider.ConnectInfo]():     5,
		reflect.TypeFor[provider.Settings]():        1,
		reflect.TypeFor[provider.ProviderInfo]():    5,
	} {
		require.Equal(t, want, what.NumField(), "%s: extend fleeting.proto, convert.go and TestEveryFieldCrosses", what)
	}
}
