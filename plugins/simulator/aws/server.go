package aws

import (
	"context"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
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
	// form has the arguments of the services that take a form, document those of the one that takes JSON.
	form     url.Values
	document map[string]string
}

// failure is an answer that is an error.
type failure struct {
	status        int
	code, message string
}

func (f *failure) Error() string { return f.code + ": " + f.message }

func refuse(code, format string, args ...any) error {
	return &failure{status: http.StatusBadRequest, code: code, message: fmt.Sprintf(format, args...)}
}

// ServeHTTP answers all services at one address: which one is meant stands in the signature.
func (c *Cloud) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, requestLimit))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	signed, err := c.checkSignature(r, body)
	asked := call{service: signed.service}
	if err != nil {
		asked.service = computeService
		answerFailure(w, asked, &failure{status: http.StatusForbidden, code: "AuthFailure", message: err.Error()})
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
		answerFailure(w, asked, &failure{status: fault.Status, code: fault.Code, message: fault.Message})
		return
	}
	answer, err := c.do(r.Context(), asked)
	switch {
	case err != nil:
		answerFailure(w, asked, err)
	case hit:
		answerFailure(w, asked, &failure{status: http.StatusServiceUnavailable, code: "ServiceUnavailable", message: "the answer was lost"})
	case asked.service == connectService:
		w.Header().Set("Content-Type", "application/x-amz-json-1.1")
		_ = json.NewEncoder(w).Encode(answer)
	default:
		answerXML(w, http.StatusOK, answer)
	}
}

// do carries a call out.
func (c *Cloud) do(ctx context.Context, asked call) (any, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.calls[asked.action]++
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

func answerXML(w http.ResponseWriter, status int, answer any) {
	w.Header().Set("Content-Type", "text/xml")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, xml.Header)
	_ = xml.NewEncoder(w).Encode(answer)
}

// answerFailure answers with an error in the form of the service.
func answerFailure(w http.ResponseWriter, asked call, err error) {
	f, ok := err.(*failure)
	if !ok {
		f = &failure{status: http.StatusInternalServerError, code: "InternalError", message: err.Error()}
	}
	type fault struct {
		Code    string `xml:"Code"`
		Message string `xml:"Message"`
	}
	switch asked.service {
	case connectService:
		w.Header().Set("Content-Type", "application/x-amz-json-1.1")
		w.WriteHeader(f.status)
		_ = json.NewEncoder(w).Encode(map[string]string{"__type": f.code, "message": f.message})
	case scalingService:
		answerXML(w, f.status, struct {
			XMLName xml.Name `xml:"ErrorResponse"`
			Error   fault    `xml:"Error"`
		}{Error: fault{f.code, f.message}})
	default:
		answerXML(w, f.status, struct {
			XMLName xml.Name `xml:"Response"`
			Errors  []fault  `xml:"Errors>Error"`
		}{Errors: []fault{{f.code, f.message}}})
	}
}
