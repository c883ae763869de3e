package spec

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
)

// UnmarshalJSON decodes an input and refuses one whose content is not of its type.
func (i *Input) UnmarshalJSON(data []byte) error {
	type plain Input
	if err := json.Unmarshal(data, (*plain)(i)); err != nil {
		return err
	}
	if i.Key == "" {
		return errors.New("input without a key")
	}
	if err := i.Value.validate(); err != nil {
		return fmt.Errorf("input %q: %w", i.Key, err)
	}
	return nil
}

func (v InputValue) validate() error {
	content := bytes.TrimSpace(v.Content)
	if len(content) == 0 || bytes.Equal(content, []byte("null")) {
		return errors.New("content is missing")
	}
	kind := "number"
	switch content[0] {
	case '"':
		kind = "string"
	case 't', 'f':
		kind = "boolean"
	case '[':
		kind = "array"
	case '{':
		kind = "struct"
	}
	switch v.Type {
	case "string", "number", "boolean", "array", "struct":
	default:
		return fmt.Errorf("unknown type %q", v.Type)
	}
	if kind != v.Type {
		return fmt.Errorf("content is a %s, its type says %s", kind, v.Type)
	}
	return nil
}
