package azure

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"gitlab.com/gitlab-org/gitlab-runner/plugins/simulator/faults"
)

const (
	// requestLimit bounds a request, in bytes.
	requestLimit = 1 << 20

	tokenPath  = "/identity/token"
	tokenLife  = time.Hour
	identityID = "X-IDENTITY-HEADER"
)

func notFound(what, name string) error {
	return faults.Refuse(http.StatusNotFound, "ResourceNotFound", "The %s '%s' was not found.", what, name)
}

// answer is what a call returns.
type answer struct {
	status int
	header map[string]string
	body   any
}

func ok(body any) (answer, error) { return answer{status: http.StatusOK, body: body}, nil }

// request is one call, understood.
type request struct {
	*http.Request
	body []byte
}

// TokenEndpoint is what IDENTITY_ENDPOINT is to be, for a process that has the managed identity.
func (c *Cloud) TokenEndpoint() string { return c.options.Address + tokenPath }

// route is one kind of call, by the name of the SDK's method.
type route struct {
	pattern, operation string
	do                 func(ctx context.Context, r request) (answer, error)
}

func (c *Cloud) routes() []route {
	const (
		group   = "/subscriptions/{subscription}/resourceGroups/{group}/providers/"
		set     = group + "Microsoft.Compute/virtualMachineScaleSets/{set}"
		machine = set + "/virtualMachines/{id}"
	)
	return []route{
		{"GET " + set, "Get", c.getSet},
		{"PATCH " + set, "Update", c.updateSet},
		{"POST " + set + "/delete", "DeleteInstances", c.deleteInstances},
		{"GET " + set + "/virtualMachines", "List", c.listUniform},
		{"GET " + machine + "/instanceView", "InstanceView", c.instanceView},
		{"GET " + machine + "/networkInterfaces", "NetworkInterfaces", c.interfacesOf},
		{"GET " + machine + "/networkInterfaces/{nic}/ipconfigurations/{ip}/publicipaddresses", "PublicIPAddresses", c.addressesOf},
		{"GET " + group + "Microsoft.Compute/virtualMachines", "List", c.listFlexible},
		{"GET " + group + "Microsoft.Compute/virtualMachines/{id}", "GetMachine", c.getMachine},
		{"GET " + group + "Microsoft.Compute/virtualMachines/{id}/instanceView", "InstanceView", c.instanceView},
		{"GET " + group + "Microsoft.Network/networkInterfaces/{nic}", "NetworkInterfaces", c.getInterface},
		{"GET " + group + "Microsoft.Network/publicIPAddresses/{ip}", "PublicIPAddresses", c.getAddress},
		{"GET " + group + "Microsoft.Insights/autoscalesettings", "Autoscale", c.autoscale},
		{"GET /subscriptions/{subscription}/providers/Microsoft.Compute/locations/{location}/operations/{operation}", "Operation", c.operation},
		{"GET /subscriptions/{subscription}/providers/Microsoft.Compute/locations/{location}/results/{operation}", "Operation", c.result},
	}
}

// Handler answers all calls.
func (c *Cloud) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+tokenPath, c.giveToken)
	for _, one := range c.routes() {
		mux.HandleFunc(one.pattern, func(w http.ResponseWriter, r *http.Request) { c.serve(w, r, one) })
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		write(w, answer{}, faults.Refuse(http.StatusNotFound, "InvalidResourceType", "there is no %s %s here", r.Method, r.URL.Path))
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// Names of providers are in either case, by the SDK too.
		r.URL.Path = strings.Replace(r.URL.Path, "/providers/microsoft.", "/providers/Microsoft.", 1)
		mux.ServeHTTP(w, r)
	})
}

// giveToken is the endpoint of a managed identity.
func (c *Cloud) giveToken(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get(identityID) != c.options.Secret {
		http.Error(w, `{"error": "unauthorized_client"}`, http.StatusUnauthorized)
		return
	}
	resource := r.URL.Query().Get("resource")
	if !strings.HasPrefix(resource, "https://management.") {
		http.Error(w, `{"error": "invalid_resource"}`, http.StatusBadRequest)
		return
	}
	c.Mu.Lock()
	defer c.Mu.Unlock()
	c.Count("Token")
	write(w, answer{status: http.StatusOK, body: map[string]string{
		"access_token": c.token, "resource": resource, "token_type": "Bearer",
		"expires_on": strconv.FormatInt(time.Now().Add(tokenLife).Unix(), 10),
	}}, nil)
}

// serve checks the token, lets faults happen, and carries a call out.
func (c *Cloud) serve(w http.ResponseWriter, r *http.Request, asked route) {
	c.Mu.Lock()
	defer c.Mu.Unlock()
	if r.Header.Get("Authorization") != "Bearer "+c.token {
		w.Header().Set("WWW-Authenticate", `Bearer error="invalid_token"`)
		write(w, answer{}, faults.Refuse(http.StatusUnauthorized, "AuthenticationFailed", "Authentication failed."))
		return
	}
	if r.URL.Query().Get("api-version") == "" {
		write(w, answer{}, faults.Refuse(http.StatusBadRequest, "MissingApiVersionParameter", "The api-version query parameter is required."))
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, requestLimit))
	if err != nil {
		write(w, answer{}, faults.Refuse(http.StatusBadRequest, "InvalidRequestContent", "%v", err))
		return
	}
	c.Count(asked.operation)
	fault, hit := c.Faults.Next(asked.operation)
	if hit && !fault.Lost {
		if fault.Status == http.StatusTooManyRequests {
			w.Header().Set("Retry-After", strconv.Itoa(c.options.RetryAfter))
		}
		write(w, answer{}, fault.Refusal())
		return
	}
	result, err := c.do(r.Context(), asked, request{Request: r, body: body})
	if hit {
		// The connection is cut.
		panic(http.ErrAbortHandler)
	}
	write(w, result, err)
}

func (c *Cloud) do(ctx context.Context, asked route, r request) (answer, error) {
	o := c.options
	if r.PathValue("subscription") != o.SubscriptionID {
		return answer{}, faults.Refuse(http.StatusNotFound, "SubscriptionNotFound", "The subscription '%s' could not be found.", r.PathValue("subscription"))
	}
	if group := r.PathValue("group"); group != "" && !strings.EqualFold(group, o.ResourceGroup) {
		return answer{}, faults.Refuse(http.StatusNotFound, "ResourceGroupNotFound", "Resource group '%s' could not be found.", group)
	}
	if set := r.PathValue("set"); set != "" && !strings.EqualFold(set, o.Name) {
		return answer{}, notFound("Resource", "Microsoft.Compute/virtualMachineScaleSets/"+set)
	}
	if err := c.reconcile(ctx); err != nil {
		return answer{}, err
	}
	return asked.do(ctx, r)
}

func write(w http.ResponseWriter, a answer, err error) {
	if err != nil {
		f := faults.RefusalOf(err, "InternalServerError")
		a = answer{status: f.Status, body: errorBody(f.Code, f.Message)}
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	for name, value := range a.header {
		w.Header().Set(name, value)
	}
	w.WriteHeader(a.status)
	if a.body != nil {
		_ = json.NewEncoder(w).Encode(a.body)
	}
}

func errorBody(code, message string) map[string]any {
	return map[string]any{"error": map[string]string{"code": code, "message": message}}
}
