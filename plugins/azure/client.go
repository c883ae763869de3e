package azure

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/arm"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/compute/armcompute/v7"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/network/armnetwork/v7"
)

const (
	// Retries of one request. Longer waits that Azure asks for are kept between calls, not within one.
	maxRetries        = 3
	defaultRetryDelay = time.Second
	maxRetryDelay     = 10 * time.Second

	// maxPause bounds how long Azure is believed that it wants to be left alone.
	maxPause = 10 * time.Minute
)

// clients are the parts of Azure that are spoken to.
type clients struct {
	sets       *armcompute.VirtualMachineScaleSetsClient
	setVMs     *armcompute.VirtualMachineScaleSetVMsClient
	vms        *armcompute.VirtualMachinesClient
	interfaces *armnetwork.InterfacesClient
	publicIPs  *armnetwork.PublicIPAddressesClient
	resources  *arm.Client
	endpoint   string
}

func newClients(c Config, retryDelay time.Duration) (*clients, error) {
	cloud, err := c.cloud()
	if err != nil {
		return nil, err
	}
	base := policy.ClientOptions{
		Cloud:                           cloud,
		InsecureAllowCredentialWithHTTP: c.insecure(),
		Retry:                           policy.RetryOptions{MaxRetries: maxRetries, RetryDelay: retryDelay, MaxRetryDelay: maxRetryDelay},
		PerRetryPolicies:                []policy.Policy{&throttle{now: time.Now}},
	}
	credential, err := azidentity.NewDefaultAzureCredential(&azidentity.DefaultAzureCredentialOptions{
		ClientOptions: policy.ClientOptions{Cloud: cloud},
	})
	if err != nil {
		return nil, fmt.Errorf("finding credentials for azure: %w", err)
	}
	return openClients(c.SubscriptionID, credential, &arm.ClientOptions{ClientOptions: base, DisableRPRegistration: true})
}

func openClients(subscription string, credential azcore.TokenCredential, options *arm.ClientOptions) (*clients, error) {
	compute, err := armcompute.NewClientFactory(subscription, credential, options)
	if err != nil {
		return nil, fmt.Errorf("preparing to speak to azure: %w", err)
	}
	network, err := armnetwork.NewClientFactory(subscription, credential, options)
	if err != nil {
		return nil, fmt.Errorf("preparing to speak to azure: %w", err)
	}
	resources, err := arm.NewClient("fleeting-plugin-azure", "v1.0.0", credential, options)
	if err != nil {
		return nil, fmt.Errorf("preparing to speak to azure: %w", err)
	}
	return &clients{
		sets:       compute.NewVirtualMachineScaleSetsClient(),
		setVMs:     compute.NewVirtualMachineScaleSetVMsClient(),
		vms:        compute.NewVirtualMachinesClient(),
		interfaces: network.NewInterfacesClient(),
		publicIPs:  network.NewPublicIPAddressesClient(),
		resources:  resources,
		endpoint:   resources.Endpoint(),
	}, nil
}

// throttle keeps quiet for as long as Azure asked for in an answer with status 429. It is safe for concurrent
// use.
type throttle struct {
	now func() time.Time

	mu    sync.Mutex
	until time.Time
}

// throttledError says that a request was not sent.
type throttledError struct{ wait time.Duration }

func (e *throttledError) Error() string {
	return fmt.Sprintf("azure asked to be left alone for another %s (too many requests)", e.wait.Round(time.Second))
}

// NonRetriable keeps the SDK from trying at once again.
func (*throttledError) NonRetriable() {}

// Do sends a request, or says when that may be done.
func (t *throttle) Do(req *policy.Request) (*http.Response, error) {
	t.mu.Lock()
	wait := t.until.Sub(t.now())
	t.mu.Unlock()
	if wait > 0 {
		return nil, &throttledError{wait: wait}
	}
	resp, err := req.Next()
	if err != nil || resp.StatusCode != http.StatusTooManyRequests {
		return resp, err
	}
	// Shorter waits are the SDK's own.
	if pause := retryAfter(resp.Header, t.now()); pause > maxRetryDelay {
		t.mu.Lock()
		t.until = t.now().Add(min(pause, maxPause))
		t.mu.Unlock()
	}
	return resp, nil
}

func retryAfter(h http.Header, now time.Time) time.Duration {
	text := h.Get("Retry-After")
	if seconds, err := strconv.Atoi(text); err == nil {
		return min(time.Duration(seconds), maxPause/time.Second) * time.Second
	}
	if at, err := http.ParseTime(text); err == nil {
		return at.Sub(now)
	}
	return 0
}

// statusOf is the HTTP status of Azure's answer; 0 if there was none.
func statusOf(err error) int {
	if answer := (*azcore.ResponseError)(nil); errors.As(err, &answer) {
		return answer.StatusCode
	}
	return 0
}

// codeOf is the code of Azure's error, empty if there is none.
func codeOf(err error) string {
	if answer := (*azcore.ResponseError)(nil); errors.As(err, &answer) {
		return answer.ErrorCode
	}
	return ""
}

// deref returns what a pointer of the SDK points to, or nothing.
func deref[T any](p *T) T {
	if p == nil {
		var none T
		return none
	}
	return *p
}
