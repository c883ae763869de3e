package aws

import (
	"context"
	"encoding/json"
	"encoding/xml"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"gitlab.com/gitlab-org/gitlab-runner/plugins/simulator/faults"
)

// requestLimit bounds a request, in bytes.
const requestLimit = 1 << 20

// The services, as signatures name them.
const (
	scalingService = "autoscaling"
	computeService = "ec2"
	connectService = "ec2-instance-connect"
)

// call is one request, understood.
type call struct {
	service, action string
	// id is the same for all attempts of the SDK at one call.
	id string
	// form has the arguments of the services that take a form, document those of the one that takes JSON.
	form     url.Values
	document map[string]string
}

func refuse(code, format string, args ...any) error {
	return faults.Refuse(http.StatusBadRequest, code, format, args...)
}

// ServeHTTP answers all services at one address: which one is meant stands in the signature.
func (c *Cloud) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, requestLimit))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	signed, err := c.checkSignature(r, body)
	asked := call{service: signed.service, id: r.Header.Get("Amz-Sdk-Invocation-Id")}
	if err != nil {
		asked.service = computeService
		answerFailure(w, asked, faults.Refuse(http.StatusForbidden, "AuthFailure", "%v", err))
		return
	}
	if asked.service == connectService {
		_, asked.action, _ = strings.Cut(r.Header.Get("X-Amz-Target"), ".")
		err = json.Unmarshal(body, &asked.document)
	} else {
		asked.form, err = url.ParseQuery(string(body))
		asked.action = asked.form.Get("Action")
	}
	if err != nil {
		answerFailure(w, asked, refuse("MalformedQueryString", "%v", err))
		return
	}
	fault, hit := c.Faults.Next(asked.action)
	if hit && !fault.Lost {
		answerFailure(w, asked, fault.Refusal())
		return
	}
	answer, err := c.do(r.Context(), asked)
	switch {
	case err != nil:
		answerFailure(w, asked, err)
	case hit:
		answerFailure(w, asked, faults.Refuse(http.StatusServiceUnavailable, "ServiceUnavailable", "the answer was lost"))
	case asked.service == connectService:
		w.Header().Set("Content-Type", "application/x-amz-json-1.1")
		_ = json.NewEncoder(w).Encode(answer)
	default:
		answerXML(w, http.StatusOK, answer)
	}
}

// do carries a call out.
func (c *Cloud) do(ctx context.Context, asked call) (any, error) {
	c.Mu.Lock()
	defer c.Mu.Unlock()
	c.countOnce(asked)
	if err := c.reconcile(ctx); err != nil {
		return nil, err
	}
	actions := map[string]func(context.Context, call) (any, error){
		scalingService + " DescribeAutoScalingGroups":           c.describeGroups,
		scalingService + " DescribePolicies":                    c.describePolicies,
		scalingService + " SetDesiredCapacity":                  c.setDesiredCapacity,
		scalingService + " TerminateInstanceInAutoScalingGroup": c.terminateInstance,
		computeService + " DescribeInstances":                   c.describeInstances,
		computeService + " DescribeInstanceStatus":              c.describeStatus,
		computeService + " DescribeInstanceTypes":               c.describeTypes,
		computeService + " DescribeSpotInstanceRequests":        c.describeSpotRequests,
		computeService + " GetPasswordData":                     c.passwordData,
		connectService + " SendSSHPublicKey":                    c.sendKey,
	}
	action, known := actions[asked.service+" "+asked.action]
	if !known {
		return nil, refuse("InvalidAction", "the action %s is not valid for this web service", asked.action)
	}
	return action(ctx, asked)
}

// countOnce counts a call whose answer the SDK did not get, so that it asks again, once. The lock is held.
func (c *Cloud) countOnce(asked call) {
	if asked.id != "" && c.counted[asked.action] == asked.id {
		return
	}
	c.counted[asked.action] = asked.id
	c.Count(asked.action)
}

// page returns the part of a list that a call asks for, and the token of the next one; empty: that was all.
func page[T any](c *Cloud, asked call, list []T) (part []T, next string, err error) {
	from := 0
	if token := asked.form.Get("NextToken"); token != "" {
		if from, err = strconv.Atoi(token); err != nil || from <= 0 || from >= len(list) {
			return nil, "", refuse("InvalidNextToken", "The token %q is not valid", token)
		}
	}
	list = list[from:]
	if size := c.options.PageSize; size > 0 && size < len(list) {
		return list[:size], strconv.Itoa(from + size), nil
	}
	return list, "", nil
}

func answerXML(w http.ResponseWriter, status int, answer any) {
	w.Header().Set("Content-Type", "text/xml")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, xml.Header)
	_ = xml.NewEncoder(w).Encode(answer)
}

// answerFailure answers with an error in the form of the service.
func answerFailure(w http.ResponseWriter, asked call, err error) {
	f := faults.RefusalOf(err, "InternalError")
	type fault struct {
		Code    string `xml:"Code"`
		Message string `xml:"Message"`
	}
	switch asked.service {
	case connectService:
		w.Header().Set("Content-Type", "application/x-amz-json-1.1")
		w.WriteHeader(f.Status)
		_ = json.NewEncoder(w).Encode(map[string]string{"__type": f.Code, "message": f.Message})
	case scalingService:
		answerXML(w, f.Status, struct {
			XMLName xml.Name `xml:"ErrorResponse"`
			Error   fault    `xml:"Error"`
		}{Error: fault{f.Code, f.Message}})
	default:
		answerXML(w, f.Status, struct {
			XMLName xml.Name `xml:"Response"`
			Errors  []fault  `xml:"Errors>Error"`
		}{Errors: []fault{{f.Code, f.Message}}})
	}
}
