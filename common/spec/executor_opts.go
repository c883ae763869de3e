package spec

import (
	"encoding/json"
	"fmt"
	"sort"
)

// UnmarshalJSON accepts the known options and collects the names of all others.
func (o *ExecutorOpts) UnmarshalJSON(data []byte) error {
	*o = ExecutorOpts{}
	var kinds map[string]json.RawMessage
	if err := json.Unmarshal(data, &kinds); err != nil {
		return fmt.Errorf("executor_opts: %w", err)
	}
	for kind, raw := range kinds {
		var known map[string]*string
		switch kind {
		case "docker":
			known = map[string]*string{"platform": &o.Docker.Platform, "user": &o.Docker.User}
		case "kubernetes":
			// Meant for another executor: accepted and without effect.
			known = map[string]*string{"user": new(string)}
		default:
			o.Unsupported = append(o.Unsupported, kind)
			continue
		}
		if err := o.decodeKind(kind, raw, known); err != nil {
			return err
		}
	}
	sort.Strings(o.Unsupported)
	return nil
}

func (o *ExecutorOpts) decodeKind(kind string, raw json.RawMessage, known map[string]*string) error {
	var options map[string]json.RawMessage
	if err := json.Unmarshal(raw, &options); err != nil {
		return fmt.Errorf("executor_opts.%s: %w", kind, err)
	}
	for name, value := range options {
		target, ok := known[name]
		if !ok {
			o.Unsupported = append(o.Unsupported, kind+"."+name)
			continue
		}
		text, err := stringOrInteger(value)
		if err != nil {
			return fmt.Errorf("executor_opts.%s.%s: %w", kind, name, err)
		}
		*target = text
	}
	return nil
}

func stringOrInteger(raw json.RawMessage) (string, error) {
	var text *string
	if err := json.Unmarshal(raw, &text); err == nil {
		if text == nil {
			return "", nil
		}
		return *text, nil
	}
	var number int64
	if err := json.Unmarshal(raw, &number); err != nil {
		return "", fmt.Errorf("neither a string nor an integer: %s", truncate(raw))
	}
	return fmt.Sprint(number), nil
}

func truncate(raw []byte) string {
	const limit = 64
	if len(raw) > limit {
		return string(raw[:limit]) + "…"
	}
	return string(raw)
}
