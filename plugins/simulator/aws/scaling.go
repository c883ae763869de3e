package aws

import (
	"context"
	"encoding/xml"
	"strconv"
)

type groupAnswer struct {
	XMLName xml.Name       `xml:"DescribeAutoScalingGroupsResponse"`
	Groups  []groupDetails `xml:"DescribeAutoScalingGroupsResult>AutoScalingGroups>member"`
}

type groupDetails struct {
	Name              string        `xml:"AutoScalingGroupName"`
	MinSize           int           `xml:"MinSize"`
	MaxSize           int           `xml:"MaxSize"`
	DesiredCapacity   int           `xml:"DesiredCapacity"`
	Zones             []string      `xml:"AvailabilityZones>member"`
	Protected         bool          `xml:"NewInstancesProtectedFromScaleIn"`
	SuspendedProcess  []nameOf      `xml:"SuspendedProcesses>member"`
	Instances         []groupMember `xml:"Instances>member"`
	MixedInstances    *mixedPolicy  `xml:"MixedInstancesPolicy"`
	CapacityRebalance bool          `xml:"CapacityRebalance"`
}

type nameOf struct {
	Name string `xml:"ProcessName"`
}

type groupMember struct {
	ID        string `xml:"InstanceId"`
	Zone      string `xml:"AvailabilityZone"`
	State     string `xml:"LifecycleState"`
	Health    string `xml:"HealthStatus"`
	Protected bool   `xml:"ProtectedFromScaleIn"`
}

type mixedPolicy struct {
	OnDemandShare int            `xml:"InstancesDistribution>OnDemandPercentageAboveBaseCapacity"`
	Overrides     []typeOverride `xml:"LaunchTemplate>Overrides>member"`
}

type typeOverride struct {
	Type string `xml:"InstanceType"`
}

func (c *Cloud) describeGroups(_ context.Context, asked call) (any, error) {
	var answer groupAnswer
	name := asked.form.Get("AutoScalingGroupNames.member.1")
	if name != c.options.Group {
		return answer, nil
	}
	details := groupDetails{
		Name: name, MinSize: c.options.MinSize, MaxSize: c.options.MaxSize, DesiredCapacity: c.desired,
		Zones: []string{c.options.Region + zone, c.options.Region + "b"}, Protected: !c.options.Unprotected,
	}
	for _, process := range c.options.SuspendedProcesses {
		details.SuspendedProcess = append(details.SuspendedProcess, nameOf{process})
	}
	if c.options.Spot || len(c.options.InstanceTypes) > 0 {
		details.MixedInstances = &mixedPolicy{OnDemandShare: 100}
		if c.options.Spot {
			details.MixedInstances.OnDemandShare = 0
		}
		for _, one := range c.options.InstanceTypes {
			details.MixedInstances.Overrides = append(details.MixedInstances.Overrides, typeOverride{one})
		}
	}
	for _, one := range c.instances {
		if one.late.Missing(false) {
			continue
		}
		details.Instances = append(details.Instances, groupMember{
			ID: one.id, Zone: c.options.Region + zone, State: one.state, Health: "Healthy", Protected: !c.options.Unprotected,
		})
	}
	answer.Groups = []groupDetails{details}
	return answer, nil
}

func (c *Cloud) describePolicies(_ context.Context, asked call) (any, error) {
	names, next, err := page(c, asked, c.options.Policies)
	if err != nil {
		return nil, err
	}
	type policy struct {
		Name    string `xml:"PolicyName"`
		Enabled bool   `xml:"Enabled"`
	}
	answer := struct {
		XMLName  xml.Name `xml:"DescribePoliciesResponse"`
		Policies []policy `xml:"DescribePoliciesResult>ScalingPolicies>member"`
		Next     string   `xml:"DescribePoliciesResult>NextToken,omitempty"`
	}{Next: next}
	for _, name := range names {
		answer.Policies = append(answer.Policies, policy{name, true})
	}
	return answer, nil
}

func (c *Cloud) setDesiredCapacity(ctx context.Context, asked call) (any, error) {
	wanted, err := strconv.Atoi(asked.form.Get("DesiredCapacity"))
	if err != nil {
		return nil, refuse("ValidationError", "%v", err)
	}
	if asked.form.Get("AutoScalingGroupName") != c.options.Group {
		return nil, refuse("ValidationError", "AutoScalingGroup name not found")
	}
	if wanted > c.options.MaxSize {
		return nil, refuse("ValidationError", "New SetDesiredCapacity value %d is above max value %d for the AutoScalingGroup.", wanted, c.options.MaxSize)
	}
	c.desired = wanted
	if err := c.reconcile(ctx); err != nil {
		return nil, err
	}
	return struct {
		XMLName xml.Name `xml:"SetDesiredCapacityResponse"`
	}{}, nil
}

func (c *Cloud) terminateInstance(ctx context.Context, asked call) (any, error) {
	id := asked.form.Get("InstanceId")
	found := c.find(id)
	if found == nil {
		return nil, refuse("ValidationError", "Instance Id not found - No managed instance found for instance ID: %s", id)
	}
	if asked.form.Get("ShouldDecrementDesiredCapacity") == "true" {
		if c.desired <= c.options.MinSize {
			return nil, refuse("ValidationError", "Currently, desiredSize equals minSize (%d). Terminating instance without replacement will violate group's min size constraint.", c.options.MinSize)
		}
		c.desired--
	}
	found.state = terminating
	if err := c.options.Machines.Terminate(ctx, found.machine); err != nil {
		return nil, err
	}
	return struct {
		XMLName xml.Name `xml:"TerminateInstanceInAutoScalingGroupResponse"`
		Status  string   `xml:"TerminateInstanceInAutoScalingGroupResult>Activity>StatusCode"`
	}{Status: "InProgress"}, nil
}
