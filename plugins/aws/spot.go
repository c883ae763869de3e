package aws

import (
	"context"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/autoscaling/types"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

// reclaimCodes are the statuses of a spot request whose instance is about to be taken away.
var reclaimCodes = []string{"marked-for-termination", "marked-for-stop"}

// mayUseSpot says whether the group itself buys spot instances. Where its launch template does, only the instances
// tell, once they are described.
func mayUseSpot(group types.AutoScalingGroup) bool {
	policy := group.MixedInstancesPolicy
	if policy == nil || policy.InstancesDistribution == nil {
		return false
	}
	share := policy.InstancesDistribution.OnDemandPercentageAboveBaseCapacity
	return share != nil && *share < 100
}

// reclaimed returns the instances that were given notice. Where that may not be asked, none was, and the
// operator is told once.
func (g *InstanceGroup) reclaimed(ctx context.Context) (map[string]bool, error) {
	if !g.spot.Load() || g.spotRefused {
		return nil, nil
	}
	found := map[string]bool{}
	request := &ec2.DescribeSpotInstanceRequestsInput{
		Filters: []ec2types.Filter{{Name: aws.String("status-code"), Values: reclaimCodes}},
	}
	err := pages(func(token *string) (*string, error) {
		request.NextToken = token
		page, err := g.compute.spotRequests(ctx, request)
		if err != nil {
			return nil, err
		}
		for _, one := range page.SpotInstanceRequests {
			found[aws.ToString(one.InstanceId)] = true
		}
		return page.NextToken, nil
	})
	if isCode(err, "UnauthorizedOperation") {
		g.spotRefused = true
		g.log.Warn("interruption notices of spot instances cannot be read: allow ec2:DescribeSpotInstanceRequests; jobs may be sent to instances that are about to go", "err", err)
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("asking for interruption notices of spot instances: %w", err)
	}
	return found, nil
}
