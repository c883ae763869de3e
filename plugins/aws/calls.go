package aws

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
)

// compute is the calls of EC2 that the plugin makes. They are functions, and nothing here holds the SDK's client
// as a value that reflection reaches: that would keep each of EC2's hundreds of calls in the program, 25 MB of
// them.
type compute struct {
	instances    func(context.Context, *ec2.DescribeInstancesInput, ...func(*ec2.Options)) (*ec2.DescribeInstancesOutput, error)
	status       func(context.Context, *ec2.DescribeInstanceStatusInput, ...func(*ec2.Options)) (*ec2.DescribeInstanceStatusOutput, error)
	types        func(context.Context, *ec2.DescribeInstanceTypesInput, ...func(*ec2.Options)) (*ec2.DescribeInstanceTypesOutput, error)
	spotRequests func(context.Context, *ec2.DescribeSpotInstanceRequestsInput, ...func(*ec2.Options)) (*ec2.DescribeSpotInstanceRequestsOutput, error)
	password     func(context.Context, *ec2.GetPasswordDataInput, ...func(*ec2.Options)) (*ec2.GetPasswordDataOutput, error)
}

// pages asks for one page after the other, until there is no next one. The SDK's own paginators would hold the
// client.
func pages(ask func(token *string) (next *string, err error)) error {
	var token *string
	for {
		next, err := ask(token)
		if err != nil || aws.ToString(next) == "" {
			return err
		}
		token = next
	}
}

func newCompute(loaded aws.Config) compute {
	client := ec2.NewFromConfig(loaded)
	return compute{
		instances:    client.DescribeInstances,
		status:       client.DescribeInstanceStatus,
		types:        client.DescribeInstanceTypes,
		spotRequests: client.DescribeSpotInstanceRequests,
		password:     client.GetPasswordData,
	}
}
