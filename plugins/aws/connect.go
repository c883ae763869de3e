package aws

import (
	"context"
	"fmt"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/ec2instanceconnect"
	"gitlab.com/gitlab-org/fleeting/fleeting/provider"
)

// The users that AWS's own images have.
const (
	defaultUser        = "ec2-user"
	defaultWindowsUser = "Administrator"
)

// ConnectInfo returns how to reach an instance, and lets the runner in: by a key that EC2 Instance Connect
// accepts for one minute, or by the password that Windows made for itself.
func (g *InstanceGroup) ConnectInfo(ctx context.Context, instance string) (provider.ConnectInfo, error) {
	found, err := g.instance(ctx, instance)
	if err != nil {
		return provider.ConnectInfo{}, err
	}
	info := provider.ConnectInfo{
		ConnectorConfig: g.settings.ConnectorConfig,
		ID:              instance,
		InternalAddr:    aws.ToString(found.PrivateIpAddress),
		ExternalAddr:    aws.ToString(found.PublicIpAddress),
	}
	if info.OS == "" {
		info.OS = systemOf(found)
	}
	if info.Arch == "" {
		info.Arch = archOf(found.Architecture)
	}
	windows := strings.EqualFold(info.OS, "windows")
	if info.Protocol == "" {
		info.Protocol = provider.ProtocolSSH
		if windows {
			info.Protocol = provider.ProtocolWinRM
		}
	}
	if info.Username == "" {
		info.Username = defaultUser
		if windows {
			info.Username = defaultWindowsUser
		}
	}
	if info.UseStaticCredentials {
		return info, nil
	}
	if info.Protocol == provider.ProtocolSSH && !windows {
		info.Key = g.key.Private
		return info, g.letIn(ctx, instance, info.Username, aws.ToString(found.Placement.AvailabilityZone))
	}
	if info.Password == "" {
		info.Password, err = g.windowsPassword(ctx, instance)
	}
	return info, err
}

// instance describes one instance that runs.
func (g *InstanceGroup) instance(ctx context.Context, id string) (ec2types.Instance, error) {
	answer, err := g.compute.instances(ctx, &ec2.DescribeInstancesInput{InstanceIds: []string{id}})
	if err != nil {
		return ec2types.Instance{}, fmt.Errorf("describing instance %q: %w", id, err)
	}
	for _, reservation := range answer.Reservations {
		for _, one := range reservation.Instances {
			if aws.ToString(one.InstanceId) != id {
				continue
			}
			if one.State != nil && one.State.Name != ec2types.InstanceStateNameRunning {
				return one, fmt.Errorf("instance %q cannot be connected to: it is %s", id, one.State.Name)
			}
			if one.InstanceLifecycle == ec2types.InstanceLifecycleTypeSpot {
				g.spot.Store(true)
			}
			if one.Placement == nil {
				one.Placement = &ec2types.Placement{}
			}
			return one, nil
		}
	}
	return ec2types.Instance{}, fmt.Errorf("instance %q cannot be connected to: EC2 does not know it", id)
}

// letIn has the instance accept the key for the next minute.
func (g *InstanceGroup) letIn(ctx context.Context, instance, user, zone string) error {
	_, err := g.connect.SendSSHPublicKey(ctx, &ec2instanceconnect.SendSSHPublicKeyInput{
		InstanceId: &instance, InstanceOSUser: &user, SSHPublicKey: &g.key.Public, AvailabilityZone: &zone,
	})
	if err != nil {
		return fmt.Errorf("sending the ssh key of user %q to instance %q by EC2 Instance Connect: %w; allow ec2-instance-connect:SendSSHPublicKey and have the package ec2-instance-connect in the image, or set use_static_credentials and key_path in connector_config", user, instance, err)
	}
	return nil
}

func systemOf(instance ec2types.Instance) string {
	// The SDK and the service do not agree on the case.
	if strings.EqualFold(string(instance.Platform), string(ec2types.PlatformValuesWindows)) {
		return "windows"
	}
	return "linux"
}

// archOf translates to Go's words.
func archOf(arch ec2types.ArchitectureValues) string {
	switch arch {
	case ec2types.ArchitectureValuesI386:
		return "386"
	case ec2types.ArchitectureValuesArm64, ec2types.ArchitectureValuesArm64Mac:
		return "arm64"
	default:
		return "amd64"
	}
}
