package pipeline

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"gitlab.com/gitlab-org/gitlab-runner/common/spec"
	"gitlab.com/gitlab-org/gitlab-runner/common/variables"
)

// maxParts is how many jobs one job of the file may become.
const maxParts = 200

// parts makes the jobs that a job of the file becomes.
func (c *compiler) parts(l *link, m *mapping) ([]*link, error) {
	value := m.get("parallel")
	if value == nil {
		l.job.Variables = append(l.job.Variables, public("CI_NODE_TOTAL", "1"))
		return c.add(l, "", nil), nil
	}
	var links []*link
	if matrix, ok := value.(*mapping); ok {
		rows, err := matrixOf(matrix)
		if err != nil {
			return nil, in("parallel", err)
		}
		for i, row := range rows {
			var values []string
			for _, v := range row {
				values = append(values, v.Value)
			}
			links = append(links, c.add(c.part(l, row, i+1, len(rows)), ": ["+strings.Join(values, ", ")+"]", row)...)
		}
		return links, nil
	}
	count, err := integer(value)
	if err == nil && (count < 1 || count > maxParts) {
		err = fmt.Errorf("has to be between 1 and %d", maxParts)
	}
	if err != nil {
		return nil, in("parallel", err)
	}
	for i := range count {
		links = append(links, c.add(c.part(l, nil, i+1, count), fmt.Sprintf(" %d/%d", i+1, count), nil)...)
	}
	return links, nil
}

func public(key, value string) spec.Variable {
	return spec.Variable{Key: key, Value: value, Public: true, Raw: true}
}

// part is a copy for one part.
func (c *compiler) part(l *link, row variables.List, index, total int) *link {
	job := *l.job
	job.Variables = append(append(variables.List(nil), job.Variables...), row...)
	job.Variables = append(job.Variables, public("CI_NODE_INDEX", strconv.Itoa(index)), public("CI_NODE_TOTAL", strconv.Itoa(total)))
	part := *l
	part.job = &job
	return &part
}

func (c *compiler) add(l *link, suffix string, row variables.List) []*link {
	l.job.Name += suffix
	l.job.matrix = row
	l.job.Variables = append(l.job.Variables, c.options.Overrides...)
	c.pipeline.Jobs = append(c.pipeline.Jobs, l.job)
	return []*link{l}
}

// matrixOf is every combination of values of each entry of a matrix.
func matrixOf(m *mapping) ([]variables.List, error) {
	for _, key := range m.keys {
		if key != "matrix" {
			return nil, fmt.Errorf("%s is not known", key)
		}
	}
	var rows []variables.List
	for i, entry := range items(m.get("matrix")) {
		axes, ok := entry.(*mapping)
		if !ok || len(axes.keys) == 0 {
			return nil, fmt.Errorf("matrix: entry %d has to be a mapping of variables", i+1)
		}
		combined := []variables.List{nil}
		for _, key := range axes.keys {
			values, err := texts(axes.get(key))
			if err == nil && len(values) == 0 {
				err = errors.New("has no values")
			}
			if err != nil {
				return nil, in("matrix: "+key, err)
			}
			var next []variables.List
			for _, row := range combined {
				for _, value := range values {
					next = append(next, append(append(variables.List(nil), row...), spec.Variable{Key: key, Value: value, Public: true}))
				}
			}
			if combined = next; len(combined)+len(rows) > maxParts {
				return nil, fmt.Errorf("matrix: more than %d jobs", maxParts)
			}
		}
		rows = append(rows, combined...)
	}
	if len(rows) == 0 {
		return nil, errors.New("matrix: is empty")
	}
	return rows, nil
}

// needMatrix reads the parts of a job that are needed.
func needMatrix(value any) ([]map[string]string, error) {
	m, ok := value.(*mapping)
	if !ok {
		return nil, errors.New("has to be a mapping with matrix")
	}
	rows, err := matrixOf(m)
	if err != nil {
		return nil, err
	}
	var out []map[string]string
	for _, row := range rows {
		wanted := map[string]string{}
		for _, v := range row {
			wanted[v.Key] = v.Value
		}
		out = append(out, wanted)
	}
	return out, nil
}
