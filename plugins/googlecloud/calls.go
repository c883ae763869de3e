package googlecloud

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"path"

	"google.golang.org/api/compute/v1"
	"google.golang.org/api/googleapi"
)

// pageSize is how many instances one answer has; more are not given.
const pageSize = 500

// calls are the calls of the Compute Engine API that the plugin makes, on a group of a zone or of a region. They
// are functions, and nothing here holds the SDK's service as a value that reflection reaches: that would keep all
// of the API in the program.
type calls struct {
	group   func(ctx context.Context) (*compute.InstanceGroupManager, error)
	managed func(ctx context.Context, page string) ([]*compute.ManagedInstance, string, error)
	create  func(ctx context.Context, names []string, requestID string) error
	remove  func(ctx context.Context, instances []string) error
	// mode is that of an autoscaler that works on the group.
	mode        func(ctx context.Context, autoscaler string) (string, error)
	instance    func(ctx context.Context, zone, name string) (*compute.Instance, error)
	setMetadata func(ctx context.Context, zone, name string, metadata *compute.Metadata) error
	serial      func(ctx context.Context, zone, name string, start int64) (string, int64, error)
}

func open(ctx context.Context, c Config) (calls, error) {
	options, err := c.options()
	if err != nil {
		return calls{}, err
	}
	service, err := compute.NewService(ctx, options...)
	if err != nil {
		return calls{}, fmt.Errorf("preparing the connection to the Compute Engine API: %w; set credentials_file, or run gcloud auth application-default login", err)
	}
	out := zonal(service, c)
	if c.regional() {
		out = regional(service, c)
	}
	out.instance = func(ctx context.Context, zone, name string) (*compute.Instance, error) {
		return service.Instances.Get(c.Project, zone, name).Context(ctx).Do()
	}
	out.setMetadata = func(ctx context.Context, zone, name string, metadata *compute.Metadata) error {
		operation, err := service.Instances.SetMetadata(c.Project, zone, name, metadata).Context(ctx).Do()
		if err != nil {
			return err
		}
		for operation.Status != "DONE" {
			// It answers when the operation is done, or after two minutes.
			if operation, err = service.ZoneOperations.Wait(c.Project, zone, operation.Name).Context(ctx).Do(); err != nil {
				return err
			}
		}
		return operationError(operation)
	}
	out.serial = func(ctx context.Context, zone, name string, start int64) (string, int64, error) {
		answer, err := service.Instances.GetSerialPortOutput(c.Project, zone, name).Port(passwordPort).Start(start).Context(ctx).Do()
		if err != nil {
			return "", start, err
		}
		return answer.Contents, answer.Next, nil
	}
	return out, nil
}

func zonal(service *compute.Service, c Config) calls {
	managers := service.InstanceGroupManagers
	return calls{
		group: func(ctx context.Context) (*compute.InstanceGroupManager, error) {
			return managers.Get(c.Project, c.Zone, c.Name).Context(ctx).Do()
		},
		managed: func(ctx context.Context, page string) ([]*compute.ManagedInstance, string, error) {
			answer, err := managers.ListManagedInstances(c.Project, c.Zone, c.Name).MaxResults(pageSize).PageToken(page).Context(ctx).Do()
			if err != nil {
				return nil, "", err
			}
			return answer.ManagedInstances, answer.NextPageToken, nil
		},
		create: func(ctx context.Context, names []string, requestID string) error {
			_, err := managers.CreateInstances(c.Project, c.Zone, c.Name, &compute.InstanceGroupManagersCreateInstancesRequest{
				Instances: named(names),
			}).RequestId(requestID).Context(ctx).Do()
			return err
		},
		remove: func(ctx context.Context, instances []string) error {
			_, err := managers.DeleteInstances(c.Project, c.Zone, c.Name, &compute.InstanceGroupManagersDeleteInstancesRequest{
				Instances: instances, SkipInstancesOnValidationError: true,
			}).Context(ctx).Do()
			return err
		},
		mode: func(ctx context.Context, autoscaler string) (string, error) {
			found, err := service.Autoscalers.Get(c.Project, c.Zone, path.Base(autoscaler)).Context(ctx).Do()
			return modeOf(found), err
		},
	}
}

func regional(service *compute.Service, c Config) calls {
	managers := service.RegionInstanceGroupManagers
	return calls{
		group: func(ctx context.Context) (*compute.InstanceGroupManager, error) {
			return managers.Get(c.Project, c.Zone, c.Name).Context(ctx).Do()
		},
		managed: func(ctx context.Context, page string) ([]*compute.ManagedInstance, string, error) {
			answer, err := managers.ListManagedInstances(c.Project, c.Zone, c.Name).MaxResults(pageSize).PageToken(page).Context(ctx).Do()
			if err != nil {
				return nil, "", err
			}
			return answer.ManagedInstances, answer.NextPageToken, nil
		},
		create: func(ctx context.Context, names []string, requestID string) error {
			_, err := managers.CreateInstances(c.Project, c.Zone, c.Name, &compute.RegionInstanceGroupManagersCreateInstancesRequest{
				Instances: named(names),
			}).RequestId(requestID).Context(ctx).Do()
			return err
		},
		remove: func(ctx context.Context, instances []string) error {
			_, err := managers.DeleteInstances(c.Project, c.Zone, c.Name, &compute.RegionInstanceGroupManagersDeleteInstancesRequest{
				Instances: instances, SkipInstancesOnValidationError: true,
			}).Context(ctx).Do()
			return err
		},
		mode: func(ctx context.Context, autoscaler string) (string, error) {
			found, err := service.RegionAutoscalers.Get(c.Project, c.Zone, path.Base(autoscaler)).Context(ctx).Do()
			return modeOf(found), err
		},
	}
}

func named(names []string) []*compute.PerInstanceConfig {
	var out []*compute.PerInstanceConfig
	for _, name := range names {
		out = append(out, &compute.PerInstanceConfig{Name: name})
	}
	return out
}

func modeOf(found *compute.Autoscaler) string {
	if found == nil || found.AutoscalingPolicy == nil {
		return ""
	}
	return found.AutoscalingPolicy.Mode
}

func operationError(operation *compute.Operation) error {
	if operation.Error == nil {
		return nil
	}
	var errs []error
	for _, one := range operation.Error.Errors {
		errs = append(errs, fmt.Errorf("%s: %s", one.Code, one.Message))
	}
	return errors.Join(errs...)
}

// isStatus says whether Google answered with a status.
func isStatus(err error, status int) bool {
	var fault *googleapi.Error
	return errors.As(err, &fault) && fault.Code == status
}

// refused says whether Google itself answered that it will not do it, so that nothing was done.
func refused(err error) bool {
	var fault *googleapi.Error
	return errors.As(err, &fault) && fault.Code < http.StatusInternalServerError
}
