package aws

import (
	"context"
	"encoding/xml"
	"fmt"
	"net/url"
	"strings"
)

// listed are the values of an argument that is a list.
func listed(form url.Values, argument string) []string {
	var values []string
	for i := 1; ; i++ {
		value := form.Get(fmt.Sprintf("%s.%d", argument, i))
		if value == "" {
			return values
		}
		values = append(values, value)
	}
}

// named returns the instances that a call names.
func (c *Cloud) named(asked call) ([]*instance, error) {
	var found []*instance
	for _, id := range listed(asked.form, "InstanceId") {
		one := c.find(id)
		if one == nil {
			return nil, refuse("InvalidInstanceID.NotFound", "The instance ID '%s' does not exist", id)
		}
		found = append(found, one)
	}
	return found, nil
}

// computeState is the state of an instance in EC2's words.
func computeState(one *instance) string {
	return map[string]string{pending: "pending", inService: "running", terminating: "shutting-down"}[one.state]
}

type instanceDetails struct {
	ID           string `xml:"instanceId"`
	State        string `xml:"instanceState>name"`
	Private      string `xml:"privateIpAddress,omitempty"`
	Public       string `xml:"ipAddress,omitempty"`
	Architecture string `xml:"architecture"`
	Platform     string `xml:"platform,omitempty"`
	Zone         string `xml:"placement>availabilityZone"`
	Lifecycle    string `xml:"instanceLifecycle,omitempty"`
}

func (c *Cloud) describeInstances(_ context.Context, asked call) (any, error) {
	found, err := c.named(asked)
	if err != nil {
		return nil, err
	}
	answer := struct {
		XMLName   xml.Name          `xml:"DescribeInstancesResponse"`
		Instances []instanceDetails `xml:"reservationSet>item>instancesSet>item"`
	}{}
	lifecycle := ""
	if c.options.Spot || c.options.SpotTemplate {
		lifecycle = "spot"
	}
	for _, one := range found {
		// The machines have one address: it stands for both.
		answer.Instances = append(answer.Instances, instanceDetails{
			ID: one.id, State: computeState(one), Private: one.address, Public: one.address,
			Architecture: "x86_64", Platform: c.options.Platform, Zone: c.options.Region + zone, Lifecycle: lifecycle,
		})
	}
	return answer, nil
}

func (c *Cloud) describeStatus(_ context.Context, asked call) (any, error) {
	found, err := c.named(asked)
	if err != nil {
		return nil, err
	}
	type status struct {
		ID     string `xml:"instanceId"`
		State  string `xml:"instanceState>name"`
		System string `xml:"systemStatus>status"`
		Own    string `xml:"instanceStatus>status"`
	}
	answer := struct {
		XMLName  xml.Name `xml:"DescribeInstanceStatusResponse"`
		Statuses []status `xml:"instanceStatusSet>item"`
	}{}
	for _, one := range found {
		answer.Statuses = append(answer.Statuses, status{one.id, computeState(one), "ok", "ok"})
	}
	return answer, nil
}

func (c *Cloud) describeTypes(_ context.Context, asked call) (any, error) {
	names, next, err := page(c, asked, listed(asked.form, "InstanceType"))
	if err != nil {
		return nil, err
	}
	type details struct {
		Type          string   `xml:"instanceType"`
		Architectures []string `xml:"processorInfo>supportedArchitectures>item"`
	}
	answer := struct {
		XMLName xml.Name  `xml:"DescribeInstanceTypesResponse"`
		Types   []details `xml:"instanceTypeSet>item"`
		Next    string    `xml:"nextToken,omitempty"`
	}{Next: next}
	for _, name := range names {
		arch := "x86_64"
		if strings.HasPrefix(name, "arm.") {
			arch = "arm64"
		}
		answer.Types = append(answer.Types, details{name, []string{arch}})
	}
	return answer, nil
}

func (c *Cloud) describeSpotRequests(_ context.Context, asked call) (any, error) {
	type request struct {
		ID string `xml:"instanceId"`
	}
	var all []request
	for _, one := range c.instances {
		if one.reclaimed {
			all = append(all, request{one.id})
		}
	}
	requests, next, err := page(c, asked, all)
	if err != nil {
		return nil, err
	}
	return struct {
		XMLName  xml.Name  `xml:"DescribeSpotInstanceRequestsResponse"`
		Requests []request `xml:"spotInstanceRequestSet>item"`
		Next     string    `xml:"nextToken,omitempty"`
	}{Requests: requests, Next: next}, nil
}

func (c *Cloud) passwordData(_ context.Context, asked call) (any, error) {
	id := asked.form.Get("InstanceId")
	if c.find(id) == nil {
		return nil, refuse("InvalidInstanceID.NotFound", "The instance ID '%s' does not exist", id)
	}
	return struct {
		XMLName xml.Name `xml:"GetPasswordDataResponse"`
		Data    string   `xml:"passwordData"`
	}{Data: c.options.PasswordData}, nil
}

func (c *Cloud) sendKey(ctx context.Context, asked call) (any, error) {
	found := c.find(asked.document["InstanceId"])
	if found == nil || found.state != inService {
		return nil, refuse("EC2InstanceNotFoundException", "instance not found")
	}
	if asked.document["AvailabilityZone"] != c.options.Region+zone {
		return nil, refuse("InvalidArgsException", "the instance is in another availability zone")
	}
	if err := c.options.Machines.Authorize(ctx, found.machine, asked.document["InstanceOSUser"], asked.document["SSHPublicKey"]); err != nil {
		return nil, err
	}
	return map[string]any{"RequestId": "1", "Success": true}, nil
}
