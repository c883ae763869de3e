package aws

import (
	"context"
	"errors"
	"fmt"
	"path"
	"sync"
	"sync/atomic"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/autoscaling"
	"github.com/aws/aws-sdk-go-v2/service/autoscaling/types"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/ec2instanceconnect"
	"github.com/aws/smithy-go"
	"github.com/hashicorp/go-hclog"
	"gitlab.com/gitlab-org/fleeting/fleeting/provider"

	"gitlab.com/gitlab-org/gitlab-runner/plugins/internal/heartbeat"
	"gitlab.com/gitlab-org/gitlab-runner/plugins/internal/sshkey"
)

// parallelDeletes is how many deletions are asked for at once: AWS takes one instance a call.
const parallelDeletes = 8

// InstanceGroup is an autoscaling group. Its configuration is decoded into the embedded Config before Init.
type InstanceGroup struct {
	Config
	// Version and BuildInfo describe the plugin's binary in ProviderInfo.
	Version   string `json:"-"`
	BuildInfo string `json:"-"`

	log      hclog.Logger
	settings provider.Settings
	scaling  *autoscaling.Client
	compute  compute
	connect  *ec2instanceconnect.Client
	// key is the operator's, or one made for this process; empty if the operator looks after credentials.
	key sshkey.Pair
	// spot says that instances may be reclaimed at short notice.
	spot atomic.Bool
	// spotRefused: the operator was told that notices cannot be read.
	spotRefused bool
}

var _ provider.InstanceGroup = (*InstanceGroup)(nil)

// Init finds the group and warns of what will hurt.
func (g *InstanceGroup) Init(ctx context.Context, logger hclog.Logger, settings provider.Settings) (provider.ProviderInfo, error) {
	loaded, err := g.load(ctx)
	if err != nil {
		return provider.ProviderInfo{}, err
	}
	g.log, g.settings = logger.With("group", g.Name, "region", loaded.Region), settings
	if g.key, err = sshkey.For(settings.ConnectorConfig); err != nil {
		return provider.ProviderInfo{}, err
	}
	g.scaling, g.compute, g.connect = autoscaling.NewFromConfig(loaded), newCompute(loaded), ec2instanceconnect.NewFromConfig(loaded)
	group, err := g.describe(ctx)
	if err != nil {
		return provider.ProviderInfo{}, err
	}
	g.spot.Store(mayUseSpot(group))
	(&inspection{group: group, scaling: g.scaling, compute: g.compute, log: g.log}).run(ctx)
	return provider.ProviderInfo{
		ID:        path.Join("aws", loaded.Region, g.Name),
		MaxSize:   int(aws.ToInt32(group.MaxSize)),
		Version:   g.Version,
		BuildInfo: g.BuildInfo,
	}, nil
}

// describe returns the group with its instances, all of them in one answer.
func (g *InstanceGroup) describe(ctx context.Context) (types.AutoScalingGroup, error) {
	answer, err := g.scaling.DescribeAutoScalingGroups(ctx, &autoscaling.DescribeAutoScalingGroupsInput{
		AutoScalingGroupNames: []string{g.Name},
	})
	if err != nil {
		return types.AutoScalingGroup{}, fmt.Errorf("describing autoscaling group %q: %w", g.Name, err)
	}
	if len(answer.AutoScalingGroups) != 1 {
		return types.AutoScalingGroup{}, fmt.Errorf("plugin_config name: there is no autoscaling group %q in this account and region", g.Name)
	}
	return answer.AutoScalingGroups[0], nil
}

// Update reports all instances of the group.
func (g *InstanceGroup) Update(ctx context.Context, fn func(instance string, state provider.State)) error {
	group, err := g.describe(ctx)
	if err != nil {
		return err
	}
	reclaimed, err := g.reclaimed(ctx)
	if err != nil {
		return err
	}
	for _, instance := range group.Instances {
		id := aws.ToString(instance.InstanceId)
		state := stateOf(instance)
		if reclaimed[id] && state == provider.StateRunning {
			state = provider.StateDeleting
		}
		fn(id, state)
	}
	return nil
}

// stateOf translates the place of an instance in the life cycle of its group.
func stateOf(instance types.Instance) provider.State {
	switch instance.LifecycleState {
	case types.LifecycleStateInService:
		// The group is about to replace it.
		if aws.ToString(instance.HealthStatus) == "Unhealthy" {
			return provider.StateDeleting
		}
		return provider.StateRunning
	case types.LifecycleStatePending, types.LifecycleStatePendingWait, types.LifecycleStatePendingProceed:
		return provider.StateCreating
	case types.LifecycleStateTerminated, types.LifecycleStateDetached:
		return provider.StateDeleted
	case types.LifecycleStateTerminating, types.LifecycleStateTerminatingWait, types.LifecycleStateTerminatingProceed,
		types.LifecycleStateDetaching:
		return provider.StateDeleting
	default:
		// Standby, warm pools and what AWS will think of: it is there and takes no jobs.
		return provider.StateCreating
	}
}

// Increase raises the desired capacity by n. AWS makes the instances later.
func (g *InstanceGroup) Increase(ctx context.Context, n int) (int, error) {
	if n <= 0 {
		return 0, nil
	}
	group, err := g.describe(ctx)
	if err != nil {
		return 0, err
	}
	desired, most := int(aws.ToInt32(group.DesiredCapacity)), int(aws.ToInt32(group.MaxSize))
	var full error
	if free := max(most-desired, 0); n > free {
		full = fmt.Errorf("autoscaling group %q has room for %d of %d more instances: raise its maximum capacity (%d) or lower max_instances", g.Name, free, n, most)
		n = free
	}
	if n == 0 {
		return 0, full
	}
	wanted := int32(desired + n)
	_, err = g.scaling.SetDesiredCapacity(ctx, &autoscaling.SetDesiredCapacityInput{
		AutoScalingGroupName: &g.Name, DesiredCapacity: &wanted, HonorCooldown: aws.Bool(false),
	})
	if err != nil && !g.carriedOut(ctx, wanted) {
		return 0, errors.Join(fmt.Errorf("setting the desired capacity of autoscaling group %q to %d: %w", g.Name, wanted, err), full)
	}
	return n, full
}

// carriedOut says whether a change whose answer was lost was made after all.
func (g *InstanceGroup) carriedOut(ctx context.Context, wanted int32) bool {
	group, err := g.describe(ctx)
	return err == nil && aws.ToInt32(group.DesiredCapacity) == wanted
}

// Decrease terminates instances and takes their places out of the desired capacity.
func (g *InstanceGroup) Decrease(ctx context.Context, instances []string) ([]string, error) {
	if len(instances) == 0 {
		return nil, nil
	}
	errs := make([]error, len(instances))
	var work sync.WaitGroup
	slots := make(chan struct{}, parallelDeletes)
	for i, id := range instances {
		work.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			errs[i] = g.terminate(ctx, id)
		})
	}
	work.Wait()
	// An answer that was lost leaves open what became of the instance; the group knows.
	going := map[string]bool{}
	if errors.Join(errs...) != nil {
		if group, err := g.describe(ctx); err == nil {
			for _, id := range instances {
				going[id] = true
			}
			for _, instance := range group.Instances {
				state := stateOf(instance)
				going[aws.ToString(instance.InstanceId)] = state == provider.StateDeleting || state == provider.StateDeleted
			}
		}
	}
	var succeeded []string
	var failed []error
	for i, id := range instances {
		if errs[i] == nil || going[id] {
			succeeded = append(succeeded, id)
			continue
		}
		failed = append(failed, errs[i])
	}
	return succeeded, errors.Join(failed...)
}

// terminate asks for the end of one instance. It is asked once: if the answer were lost and the SDK asked
// again, the desired capacity could be lowered twice.
func (g *InstanceGroup) terminate(ctx context.Context, id string) error {
	_, err := g.scaling.TerminateInstanceInAutoScalingGroup(ctx, &autoscaling.TerminateInstanceInAutoScalingGroupInput{
		InstanceId: &id, ShouldDecrementDesiredCapacity: aws.Bool(true),
	}, func(o *autoscaling.Options) { o.Retryer = aws.NopRetryer{} })
	if err != nil {
		return fmt.Errorf("terminating instance %q of autoscaling group %q: %w", id, g.Name, err)
	}
	return nil
}

// Heartbeat asks EC2 for the status of an instance.
func (g *InstanceGroup) Heartbeat(ctx context.Context, instance string) error {
	asking, stop := context.WithTimeout(ctx, heartbeat.Limit)
	defer stop()
	answer, err := g.compute.status(asking, &ec2.DescribeInstanceStatusInput{
		InstanceIds: []string{instance}, IncludeAllInstances: aws.Bool(true),
	})
	if isCode(err, "InvalidInstanceID.NotFound") || err == nil && len(answer.InstanceStatuses) == 0 {
		return fmt.Errorf("%w: instance %q is gone", provider.ErrInstanceUnhealthy, instance)
	}
	if err != nil {
		return heartbeat.Unanswered(ctx, g.log, instance, fmt.Errorf("asking for the status of instance %q: %w", instance, err))
	}
	status := answer.InstanceStatuses[0]
	if status.InstanceState != nil && status.InstanceState.Name != ec2types.InstanceStateNameRunning {
		return fmt.Errorf("%w: instance %q is %s", provider.ErrInstanceUnhealthy, instance, status.InstanceState.Name)
	}
	for _, check := range []*ec2types.InstanceStatusSummary{status.SystemStatus, status.InstanceStatus} {
		if check != nil && check.Status == ec2types.SummaryStatusImpaired {
			return fmt.Errorf("%w: instance %q fails the status checks of EC2", provider.ErrInstanceUnhealthy, instance)
		}
	}
	return nil
}

// Suspend is not supported: stopping an instance makes its group replace it.
func (g *InstanceGroup) Suspend(context.Context, []string) ([]string, error) {
	return nil, provider.ErrSuspendResumeNotSupported
}

// Resume is not supported.
func (g *InstanceGroup) Resume(context.Context, []string) ([]string, error) {
	return nil, provider.ErrSuspendResumeNotSupported
}

// Shutdown has nothing to undo.
func (g *InstanceGroup) Shutdown(context.Context) error { return nil }

func isCode(err error, code string) bool {
	var fault smithy.APIError
	return errors.As(err, &fault) && fault.ErrorCode() == code
}
