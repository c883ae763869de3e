package aws

import (
	"context"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/autoscaling"
	"github.com/aws/aws-sdk-go-v2/service/autoscaling/types"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/hashicorp/go-hclog"
)

// inspection looks at a group for settings that will hurt, and warns of each with its remedy. Nothing of it
// stops the plugin: what may not be asked is not looked at.
type inspection struct {
	group   types.AutoScalingGroup
	scaling *autoscaling.Client
	compute compute
	log     hclog.Logger
}

func (i *inspection) run(ctx context.Context) {
	for _, finding := range groupFindings(i.group) {
		i.log.Warn(finding)
	}
	i.policies(ctx)
	i.architectures(ctx)
}

// groupFindings is what the group itself tells.
func groupFindings(group types.AutoScalingGroup) []string {
	var found []string
	suspended := func(process string) bool {
		return slices.ContainsFunc(group.SuspendedProcesses, func(p types.SuspendedProcess) bool {
			return aws.ToString(p.ProcessName) == process
		})
	}
	if len(group.AvailabilityZones) > 1 && !suspended("AZRebalance") {
		found = append(found, "the autoscaling group may terminate instances with jobs on them to spread them evenly over its availability zones: suspend its process AZRebalance")
	}
	if aws.ToBool(group.CapacityRebalance) {
		found = append(found, "the autoscaling group terminates spot instances that are at risk, with the jobs on them, before they are reclaimed: turn capacity rebalancing off")
	}
	if !aws.ToBool(group.NewInstancesProtectedFromScaleIn) {
		found = append(found, "new instances are not protected from scale-in, so that AWS may choose instances with jobs on them when the desired capacity is lowered: turn instance scale-in protection on")
	}
	if aws.ToInt32(group.MinSize) > 0 {
		found = append(found, "the autoscaling group's minimum capacity keeps instances from being deleted: set it to 0")
	}
	if aws.ToInt32(group.MaxSize) == 0 {
		found = append(found, "the autoscaling group's maximum capacity is 0, so that no instance can be made: set it to max_instances or more")
	}
	return found
}

// policies finds scaling policies, which change the desired capacity behind the runner's back.
func (i *inspection) policies(ctx context.Context) {
	request := &autoscaling.DescribePoliciesInput{AutoScalingGroupName: i.group.AutoScalingGroupName}
	var names []string
	err := pages(func(token *string) (*string, error) {
		request.NextToken = token
		page, err := i.scaling.DescribePolicies(ctx, request)
		if err != nil {
			return nil, err
		}
		for _, policy := range page.ScalingPolicies {
			if policy.Enabled == nil || *policy.Enabled {
				names = append(names, aws.ToString(policy.PolicyName))
			}
		}
		return page.NextToken, nil
	})
	if err != nil {
		// What was found before still hurts.
		i.log.Info("cannot look for scaling policies: allow autoscaling:DescribePolicies to be warned of them", "err", err)
	}
	if len(names) > 0 {
		i.log.Warn("scaling policies change the size of the autoscaling group against the runner's decisions: remove them", "policies", strings.Join(names, ", "))
	}
}

// architectures finds groups whose instances may have different processors, for which no helper image and no
// job image fits all.
func (i *inspection) architectures(ctx context.Context) {
	policy := i.group.MixedInstancesPolicy
	if policy == nil || policy.LaunchTemplate == nil {
		return
	}
	var names []ec2types.InstanceType
	for _, override := range policy.LaunchTemplate.Overrides {
		if override.InstanceType != nil {
			names = append(names, ec2types.InstanceType(*override.InstanceType))
		}
	}
	if len(names) < 2 {
		return
	}
	request := &ec2.DescribeInstanceTypesInput{InstanceTypes: names}
	found := map[string]bool{}
	err := pages(func(token *string) (*string, error) {
		request.NextToken = token
		page, err := i.compute.types(ctx, request)
		if err != nil {
			return nil, err
		}
		for _, one := range page.InstanceTypes {
			if one.ProcessorInfo != nil && len(one.ProcessorInfo.SupportedArchitectures) > 0 {
				arm := slices.Contains(one.ProcessorInfo.SupportedArchitectures, ec2types.ArchitectureTypeArm64)
				found[map[bool]string{true: "arm64", false: "amd64"}[arm]] = true
			}
		}
		return page.NextToken, nil
	})
	if err != nil {
		i.log.Info("cannot look at the processors of the instance types: allow ec2:DescribeInstanceTypes to be warned of mixed ones", "err", err)
	}
	if len(found) > 1 {
		i.log.Warn("the autoscaling group mixes instance types with arm64 and amd64 processors: a job cannot know which it gets; use a group for each")
	}
}
