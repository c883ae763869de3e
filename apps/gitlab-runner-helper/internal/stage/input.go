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

// ReadPlan reads a plan from the beginning of r, whose rest it may read in part.
func ReadPlan(r io.Reader) (*plan.Plan, error) {
	limited := &io.LimitedReader{R: r, N: maxPlan}
	decoder := json.NewDecoder(limited)
	// A field that is not known comes from a runner of another version, and would be work left undone.
	decoder.DisallowUnknownFields()
	var p plan.Plan
	err := decoder.Decode(&p)
	switch {
	case err == nil:
		return &p, nil
	case limited.N <= 0:
		return nil, fmt.Errorf("the plan is larger than %d MiB", maxPlan>>20)
	case errors.Is(err, io.EOF):
		return nil, errors.New("there is no plan on standard input")
	default:
		return nil, fmt.Errorf("reading the plan: %w; the runner and its helper have to be of the same version", withoutValues(err))
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
