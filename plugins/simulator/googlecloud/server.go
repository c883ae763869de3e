package googlecloud

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"

	"gitlab.com/gitlab-org/gitlab-runner/plugins/simulator/faults"
)

// requestLimit bounds a request, in bytes.
const requestLimit = 1 << 20

// ServeHTTP answers the Compute Engine API and gives tokens out.
func (c *Cloud) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/token" {
		c.giveToken(w, r)
		return
	}
	if !c.allowed(r) {
		answerFailure(w, faults.Refuse(http.StatusUnauthorized, "authError", "invalid credentials"))
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, requestLimit))
	if err != nil {
		answerFailure(w, faults.Refuse(http.StatusBadRequest, "badRequest", "%v", err))
		return
	}
	method, do, err := c.route(r, body)
	if err != nil {
		answerFailure(w, err)
		return
	}
	fault, hit := c.Faults.Next(method)
	if hit && !fault.Lost {
		answerFailure(w, fault.Refusal())
		return
	}
	answer, err := c.do(r.Context(), method, do)
	switch {
	case err != nil:
		answerFailure(w, err)
	case hit:
		answerFailure(w, faults.Refuse(http.StatusServiceUnavailable, "backendError", "the answer was lost"))
	default:
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(answer)
	}
}

// action is what a request asks for.
type action func(ctx context.Context) (any, error)

// route finds out what a request asks for: /projects/<project>/<zones or regions>/<location>/<collection>/<name>
// and maybe a verb, or an operation's wait.
func (c *Cloud) route(r *http.Request, body []byte) (string, action, error) {
	missing := faults.Refuse(http.StatusNotFound, "notFound", "the resource %s was not found", r.URL.Path)
	parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	if len(parts) < 6 || parts[0] != "projects" || parts[1] != c.options.Project {
		return "", nil, missing
	}
	place, collection, name, verb := parts[3], parts[4], parts[5], "get"
	if len(parts) > 6 {
		verb = parts[6]
	}
	query := r.URL.Query()
	switch {
	case collection == "instanceGroupManagers" && name == c.options.Group && place == c.options.Location:
		switch verb {
		case "get":
			return verb, c.getGroup, nil
		case "listManagedInstances":
			return verb, func(context.Context) (any, error) { return c.listManaged(query) }, nil
		case "createInstances":
			return verb, func(context.Context) (any, error) { return c.createInstances(query.Get("requestId"), body) }, nil
		case "deleteInstances":
			return verb, func(ctx context.Context) (any, error) { return c.deleteInstances(ctx, body) }, nil
		}
	case collection == "autoscalers" && c.options.Autoscaler != "":
		return "getAutoscaler", func(context.Context) (any, error) {
			return map[string]any{"name": name, "autoscalingPolicy": map[string]string{"mode": c.options.Autoscaler}}, nil
		}, nil
	case collection == "operations":
		return "wait", func(context.Context) (any, error) { return done(name), nil }, nil
	case collection == "instances" && place == c.zone():
		switch verb {
		case "get":
			return "getInstance", func(context.Context) (any, error) { return c.getInstance(name) }, nil
		case "setMetadata":
			return verb, func(ctx context.Context) (any, error) { return c.setMetadata(ctx, name, body) }, nil
		case "serialPort":
			return verb, func(context.Context) (any, error) { return c.serialPort(name, query.Get("start")) }, nil
		}
	}
	return "", nil, missing
}

// decode reads the document that came with a request.
func decode(body []byte, into any) error {
	if err := json.Unmarshal(body, into); err != nil {
		return faults.Refuse(http.StatusBadRequest, "badRequest", "%v", err)
	}
	return nil
}

// do carries a request out.
func (c *Cloud) do(ctx context.Context, method string, act action) (any, error) {
	c.Mu.Lock()
	defer c.Mu.Unlock()
	c.Count(method)
	if err := c.reconcile(ctx); err != nil {
		return nil, err
	}
	return act(ctx)
}

func answerFailure(w http.ResponseWriter, err error) {
	f := faults.RefusalOf(err, "backendError")
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(f.Status)
	_ = json.NewEncoder(w).Encode(map[string]any{"error": map[string]any{
		"code": f.Status, "message": f.Message,
		"errors": []map[string]string{{"domain": "global", "reason": f.Code, "message": f.Message}},
	}})
}
