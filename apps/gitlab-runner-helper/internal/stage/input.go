package stage

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"gitlab.com/gitlab-org/gitlab-runner/common/plan"
)

// maxPlan is the largest plan that is read.
const maxPlan = 64 << 20

// ReadPlan reads a plan from the beginning of r and returns what follows it.
func ReadPlan(r io.Reader) (*plan.Plan, io.Reader, error) {
	limited := &io.LimitedReader{R: r, N: maxPlan}
	decoder := json.NewDecoder(limited)
	// A field that is not known comes from a runner of another version, and would be work left undone.
	decoder.DisallowUnknownFields()
	var p plan.Plan
	err := decoder.Decode(&p)
	switch {
	case err == nil:
		return &p, io.MultiReader(decoder.Buffered(), r), nil
	case limited.N <= 0:
		return nil, nil, fmt.Errorf("the plan is larger than %d MiB", maxPlan>>20)
	case errors.Is(err, io.EOF):
		return nil, nil, errors.New("there is no plan on standard input")
	default:
		return nil, nil, fmt.Errorf("reading the plan: %w; the runner and its helper have to be of the same version", withoutValues(err))
	}
}

// withoutValues keeps what a plan says out of error texts.
func withoutValues(err error) error {
	var kind *json.UnmarshalTypeError
	if errors.As(err, &kind) {
		return fmt.Errorf("%s is not of type %s", kind.Field, kind.Type)
	}
	return err
}
