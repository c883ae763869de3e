package googlecloud

import (
	"context"
	"net/http"
	"net/url"
	"path"
	"strconv"
	"strings"

	"google.golang.org/api/compute/v1"

	"gitlab.com/gitlab-org/gitlab-runner/plugins/simulator/faults"
)

// batchLimit is how many instances one request may name.
const batchLimit = 1000

// defaultPage is how many instances one answer has if no number was asked for.
const defaultPage = 500

// zone is where the instances of the group are: a region has several zones, and one is enough.
func (c *Cloud) zone() string {
	if strings.Count(c.options.Location, "-") == 1 {
		return c.options.Location + "-b"
	}
	return c.options.Location
}

// link is the address of something in the project.
func (c *Cloud) link(parts ...string) string {
	return c.options.Address + "/projects/" + c.options.Project + "/" + path.Join(parts...)
}

func done(name string) *compute.Operation {
	return &compute.Operation{Name: name, Status: "DONE"}
}

func (c *Cloud) getGroup(context.Context) (any, error) {
	group := &compute.InstanceGroupManager{
		Name: c.options.Group, TargetSize: int64(len(c.instances)), Status: &compute.InstanceGroupManagerStatus{},
		UpdatePolicy: &compute.InstanceGroupManagerUpdatePolicy{Type: "OPPORTUNISTIC"},
	}
	if c.options.Autoscaler != "" {
		group.Status.Autoscaler = c.link("zones", c.zone(), "autoscalers", "scaler")
	}
	if c.options.Autohealing {
		group.AutoHealingPolicies = []*compute.InstanceGroupManagerAutoHealingPolicy{{HealthCheck: "check"}}
	}
	if c.options.Proactive {
		group.UpdatePolicy.Type = "PROACTIVE"
	}
	return group, nil
}

func (c *Cloud) listManaged(query url.Values) (any, error) {
	size, _ := strconv.Atoi(query.Get("maxResults"))
	if size <= 0 {
		size = defaultPage
	}
	if c.options.PageSize > 0 {
		size = min(size, c.options.PageSize)
	}
	from, _ := strconv.Atoi(query.Get("pageToken"))
	answer := &compute.InstanceGroupManagersListManagedInstancesResponse{}
	for i := from; i < len(c.instances); i++ {
		if len(answer.ManagedInstances) == size {
			answer.NextPageToken = strconv.Itoa(i)
			break
		}
		one := c.instances[i]
		if one.late.Missing(false) {
			continue
		}
		managed := &compute.ManagedInstance{
			Name: one.name, Instance: c.link("zones", c.zone(), "instances", one.name),
			CurrentAction: one.action, InstanceStatus: one.status,
		}
		if one.fault != "" {
			managed.LastAttempt = &compute.ManagedInstanceLastAttempt{Errors: &compute.ManagedInstanceLastAttemptErrors{
				Errors: []*compute.ManagedInstanceLastAttemptErrorsErrors{{Code: one.fault, Message: "the zone does not have enough resources"}},
			}}
		}
		answer.ManagedInstances = append(answer.ManagedInstances, managed)
	}
	return answer, nil
}

// checkBatch refuses a request that names too many instances.
func checkBatch(instances int) error {
	if instances > batchLimit {
		return faults.Refuse(http.StatusBadRequest, "invalid", "more than %d instances in one request", batchLimit)
	}
	return nil
}

func (c *Cloud) createInstances(requestID string, body []byte) (any, error) {
	if requestID != "" && c.requests[requestID] {
		return done("create"), nil
	}
	var asked compute.InstanceGroupManagersCreateInstancesRequest
	if err := decode(body, &asked); err != nil {
		return nil, err
	}
	if err := checkBatch(len(asked.Instances)); err != nil {
		return nil, err
	}
	for _, one := range asked.Instances {
		if c.find(one.Name) != nil {
			return nil, faults.Refuse(http.StatusBadRequest, "invalid", "instance %s exists", one.Name)
		}
	}
	for _, one := range asked.Instances {
		c.instances = append(c.instances, &instance{name: one.Name, action: "CREATING", late: c.Late()})
	}
	c.requests[requestID] = true
	return done("create"), nil
}

func (c *Cloud) deleteInstances(ctx context.Context, body []byte) (any, error) {
	var asked compute.InstanceGroupManagersDeleteInstancesRequest
	if err := decode(body, &asked); err != nil {
		return nil, err
	}
	if err := checkBatch(len(asked.Instances)); err != nil {
		return nil, err
	}
	var members []*instance
	for _, link := range asked.Instances {
		found := c.find(path.Base(link))
		switch {
		case found != nil:
			members = append(members, found)
		case !asked.SkipInstancesOnValidationError:
			return nil, faults.Refuse(http.StatusBadRequest, "invalid", "instance %s is not a member of the group", link)
		}
	}
	for _, found := range members {
		found.action = "DELETING"
		if found.machine == "" {
			continue
		}
		if err := c.options.Machines.Terminate(ctx, found.machine); err != nil {
			return nil, err
		}
	}
	return done("delete"), nil
}
