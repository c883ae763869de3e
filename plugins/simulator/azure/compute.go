package azure

import (
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/compute/armcompute/v7"

	"gitlab.com/gitlab-org/gitlab-runner/plugins/simulator/faults"
)

const skipParameter = "$skiptoken"

func (c *Cloud) getSet(context.Context, request) (answer, error) { return ok(c.model()) }

// updateSet takes a new capacity, which is all that can be changed.
func (c *Cloud) updateSet(ctx context.Context, r request) (answer, error) {
	if match := r.Header.Get("If-Match"); match != "" && match != c.etag() {
		return answer{}, faults.Refuse(http.StatusPreconditionFailed, "PreconditionFailed", "The etag '%s' does not match '%s'.", match, c.etag())
	}
	var update armcompute.VirtualMachineScaleSetUpdate
	if err := json.Unmarshal(r.body, &update); err != nil {
		return answer{}, faults.Refuse(http.StatusBadRequest, "InvalidRequestContent", "%v", err)
	}
	if update.SKU == nil || update.SKU.Capacity == nil || *update.SKU.Capacity < 0 {
		return answer{}, faults.Refuse(http.StatusBadRequest, "InvalidParameter", "only the capacity can be changed here")
	}
	if *update.SKU.Capacity > int64(c.options.MaxSize) {
		return answer{}, faults.Refuse(http.StatusConflict, "OperationNotAllowed",
			"Operation could not be completed as it results in exceeding approved Total Regional Cores quota.")
	}
	op, err := c.resize(ctx, *update.SKU.Capacity)
	if err != nil {
		return answer{}, err
	}
	model := c.model()
	model.Properties.ProvisioningState = to.Ptr("Updating")
	return answer{status: http.StatusOK, header: c.headers(c.begin(op)), body: model}, nil
}

// deleteInstances takes all machines or, if one of them is not there, none.
func (c *Cloud) deleteInstances(ctx context.Context, r request) (answer, error) {
	var ids armcompute.VirtualMachineScaleSetVMInstanceRequiredIDs
	if err := json.Unmarshal(r.body, &ids); err != nil {
		return answer{}, faults.Refuse(http.StatusBadRequest, "InvalidRequestContent", "%v", err)
	}
	op := &operation{deletion: true}
	for _, id := range ids.InstanceIDs {
		found := c.find(*id)
		if found == nil || found.provisioning == deleting {
			return answer{}, faults.Refuse(http.StatusBadRequest, "InvalidParameter",
				"The provided instanceId %s is not an active Virtual Machine Scale Set VM instanceId.", *id)
		}
		op.vms = append(op.vms, found)
	}
	for _, one := range op.vms {
		if err := c.remove(ctx, one); err != nil {
			return answer{}, err
		}
	}
	return answer{status: http.StatusAccepted, header: c.headers(c.begin(op))}, nil
}

// headers say where the outcome of an operation is.
func (c *Cloud) headers(operation string) map[string]string {
	base := c.options.Address + "/subscriptions/" + c.options.SubscriptionID + "/providers/Microsoft.Compute/locations/westeurope/"
	const version = "?api-version=2025-04-01"
	return map[string]string{
		"Azure-AsyncOperation": base + "operations/" + operation + version,
		"Location":             base + "results/" + operation + version,
	}
}

func (c *Cloud) operation(_ context.Context, r request) (answer, error) {
	op, known := c.operations[r.PathValue("operation")]
	if !known {
		return answer{}, notFound("operation", r.PathValue("operation"))
	}
	state, code := c.outcome(op)
	body := map[string]any{"name": r.PathValue("operation"), "status": state}
	switch state {
	case "":
		body["status"] = "InProgress"
	case failed:
		body["error"] = errorBody(code, "Allocation failed.")["error"]
	}
	return ok(body)
}

func (c *Cloud) result(_ context.Context, r request) (answer, error) {
	op, known := c.operations[r.PathValue("operation")]
	if !known {
		return answer{}, notFound("operation", r.PathValue("operation"))
	}
	if state, _ := c.outcome(op); state == "" {
		return answer{status: http.StatusAccepted, header: c.headers(r.PathValue("operation"))}, nil
	}
	return answer{status: http.StatusOK}, nil
}

// page returns the machines of one page, and the address of the next.
func (c *Cloud) page(r request) (vms []*vm, next *string) {
	query := r.URL.Query()
	skip, _ := strconv.Atoi(query.Get(skipParameter))
	var visible []*vm
	for _, one := range c.vms {
		if one.late.Missing(skip > 0) {
			continue
		}
		visible = append(visible, one)
	}
	visible = visible[min(skip, len(visible)):]
	if len(visible) > c.options.PageSize {
		visible = visible[:c.options.PageSize]
		query.Set(skipParameter, strconv.Itoa(skip+c.options.PageSize))
		next = to.Ptr(c.options.Address + r.URL.Path + "?" + query.Encode())
	}
	return visible, next
}

func (c *Cloud) listUniform(_ context.Context, r request) (answer, error) {
	if c.options.Flexible {
		return answer{}, faults.Refuse(http.StatusBadRequest, "BadRequest", "the machines of a flexible scale set are listed as machines")
	}
	vms, next := c.page(r)
	list := armcompute.VirtualMachineScaleSetVMListResult{Value: []*armcompute.VirtualMachineScaleSetVM{}, NextLink: next}
	for _, one := range vms {
		p := &armcompute.VirtualMachineScaleSetVMProperties{ProvisioningState: &one.provisioning}
		if r.URL.Query().Get("$expand") == "instanceView" {
			p.InstanceView = &armcompute.VirtualMachineScaleSetVMInstanceView{Statuses: statuses(one)}
		}
		list.Value = append(list.Value, &armcompute.VirtualMachineScaleSetVM{
			InstanceID: to.Ptr(c.id(one)), Name: to.Ptr(c.name(one)), Properties: p,
		})
	}
	return ok(list)
}

func (c *Cloud) listFlexible(_ context.Context, r request) (answer, error) {
	list := armcompute.VirtualMachineListResult{Value: []*armcompute.VirtualMachine{}}
	filter := r.URL.Query().Get("$filter")
	if !strings.EqualFold(filter, "'virtualMachineScaleSet/id' eq '"+c.setPath()+"'") || !c.options.Flexible {
		return ok(list)
	}
	vms, next := c.page(r)
	list.NextLink = next
	for _, one := range vms {
		machine := c.machine(one)
		if r.URL.Query().Get("$expand") == "instanceView" {
			machine.Properties.InstanceView = &armcompute.VirtualMachineInstanceView{Statuses: statuses(one)}
		}
		list.Value = append(list.Value, machine)
	}
	return ok(list)
}

func (c *Cloud) getMachine(_ context.Context, r request) (answer, error) {
	found := c.find(r.PathValue("id"))
	if found == nil || !c.options.Flexible {
		return answer{}, notFound("Resource", r.PathValue("id"))
	}
	return ok(c.machine(found))
}

func (c *Cloud) machine(one *vm) *armcompute.VirtualMachine {
	return &armcompute.VirtualMachine{
		ID: to.Ptr(c.machinePath(one)), Name: to.Ptr(c.name(one)),
		Properties: &armcompute.VirtualMachineProperties{
			ProvisioningState: &one.provisioning,
			HardwareProfile:   &armcompute.HardwareProfile{VMSize: to.Ptr(armcompute.VirtualMachineSizeTypes(c.options.Size))},
			NetworkProfile: &armcompute.NetworkProfile{NetworkInterfaces: []*armcompute.NetworkInterfaceReference{{
				ID:         to.Ptr(c.interfacePath(one)),
				Properties: &armcompute.NetworkInterfaceReferenceProperties{Primary: to.Ptr(true)},
			}}},
		},
	}
}

func (c *Cloud) instanceView(_ context.Context, r request) (answer, error) {
	found := c.find(r.PathValue("id"))
	if found == nil || c.options.Flexible == (r.PathValue("set") != "") {
		return answer{}, notFound("Resource", r.PathValue("id"))
	}
	return ok(map[string]any{"statuses": statuses(found)})
}

// statuses are those of an instance view.
func statuses(one *vm) []*armcompute.InstanceViewStatus {
	code := "ProvisioningState/" + strings.ToLower(one.provisioning)
	if one.failure != "" {
		code += "/" + one.failure
	}
	out := []*armcompute.InstanceViewStatus{{Code: to.Ptr(code)}}
	if one.power != "" {
		out = append(out, &armcompute.InstanceViewStatus{Code: to.Ptr("PowerState/" + one.power)})
	}
	return out
}
