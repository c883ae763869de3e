package pipeline

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"bytes"

	"gopkg.in/yaml.v3"
)

// The values of a document are nil, scalar, list, *mapping and reference.
type (
	// scalar keeps the text as it stands in the file, so that 1.10 stays what it is.
	scalar struct {
		kind string
		text string
	}
	list    []any
	mapping struct {
		keys   []string
		values map[string]any
	}
	// reference is the path of a !reference.
	reference []string
)

const (
	kindText   = "!!str"
	kindBool   = "!!bool"
	kindNumber = "!!int"
)

const (
	// maxValues bounds a document after its aliases are resolved, maxDepth how deep it is.
	maxValues = 100_000
	maxDepth  = 60
)

func newMapping() *mapping { return &mapping{values: map[string]any{}} }

func (m *mapping) get(key string) any {
	if m == nil {
		return nil
	}
	return m.values[key]
}

func (m *mapping) has(key string) bool {
	if m == nil {
		return false
	}
	_, ok := m.values[key]
	return ok
}

func (m *mapping) set(key string, value any) {
	if _, ok := m.values[key]; !ok {
		m.keys = append(m.keys, key)
	}
	m.values[key] = value
}

func (m *mapping) without(key string) *mapping {
	out := newMapping()
	for _, k := range m.keys {
		if k != key {
			out.set(k, m.values[k])
		}
	}
	return out
}

// merged is base with what over says: mappings are merged, everything else is replaced.
func merged(base, over *mapping) *mapping {
	out := newMapping()
	for _, key := range base.keys {
		out.set(key, base.values[key])
	}
	for _, key := range over.keys {
		below, nested := out.values[key].(*mapping)
		above, both := over.values[key].(*mapping)
		if nested && both {
			out.set(key, merged(below, above))
			continue
		}
		out.set(key, over.values[key])
	}
	return out
}

// parse reads one YAML document whose top is a mapping.
func parse(data []byte) (*mapping, error) {
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	var document yaml.Node
	if err := decoder.Decode(&document); err != nil {
		if errors.Is(err, io.EOF) {
			return newMapping(), nil
		}
		return nil, errors.New(strings.TrimPrefix(err.Error(), "yaml: "))
	}
	if err := decoder.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		if err != nil {
			return nil, errors.New(strings.TrimPrefix(err.Error(), "yaml: "))
		}
		return nil, errors.New("there is more than one document in the file: spec and inputs are not supported")
	}
	reader := &treeReader{left: maxValues}
	value, err := reader.value(&document, 0)
	if err != nil {
		return nil, err
	}
	switch top := value.(type) {
	case nil:
		return newMapping(), nil
	case *mapping:
		return top, nil
	default:
		return nil, errors.New("the file is not a mapping of keywords and jobs")
	}
}

type treeReader struct{ left int }

func (r *treeReader) value(node *yaml.Node, depth int) (any, error) {
	if r.left--; r.left < 0 {
		return nil, fmt.Errorf("the file has more than %d values after its anchors are resolved", maxValues)
	}
	if depth > maxDepth {
		return nil, fmt.Errorf("line %d: nested more than %d deep", node.Line, maxDepth)
	}
	switch node.Kind {
	case yaml.DocumentNode:
		return r.value(node.Content[0], depth)
	case yaml.AliasNode:
		return r.value(node.Alias, depth+1)
	case yaml.SequenceNode:
		return r.sequence(node, depth)
	case yaml.MappingNode:
		return r.mapping(node, depth)
	default:
		return scalarOf(node), nil
	}
}

func scalarOf(node *yaml.Node) any {
	tag := node.ShortTag()
	if tag == "!!null" {
		return nil
	}
	return scalar{kind: tag, text: node.Value}
}

func (r *treeReader) sequence(node *yaml.Node, depth int) (any, error) {
	items := make(list, 0, len(node.Content))
	for _, item := range node.Content {
		value, err := r.value(item, depth+1)
		if err != nil {
			return nil, err
		}
		items = append(items, value)
	}
	if node.Tag != "!reference" {
		return items, nil
	}
	var path reference
	for _, item := range items {
		part, ok := item.(scalar)
		if !ok {
			return nil, fmt.Errorf("line %d: !reference takes a list of names", node.Line)
		}
		path = append(path, part.text)
	}
	if len(path) == 0 {
		return nil, fmt.Errorf("line %d: !reference names nothing", node.Line)
	}
	return path, nil
}

func (r *treeReader) mapping(node *yaml.Node, depth int) (any, error) {
	out, inherited := newMapping(), newMapping()
	for i := 0; i+1 < len(node.Content); i += 2 {
		key := node.Content[i]
		for key.Kind == yaml.AliasNode {
			key = key.Alias
		}
		if key.Kind != yaml.ScalarNode {
			return nil, fmt.Errorf("line %d: a key has to be a text", key.Line)
		}
		value, err := r.value(node.Content[i+1], depth+1)
		if err != nil {
			return nil, err
		}
		if key.ShortTag() == "!!merge" {
			if err := inherit(inherited, value); err != nil {
				return nil, fmt.Errorf("line %d: %w", key.Line, err)
			}
			continue
		}
		if out.has(key.Value) {
			return nil, fmt.Errorf("line %d: the key %q is there twice", key.Line, key.Value)
		}
		out.set(key.Value, value)
	}
	// Explicit keys win over those of <<, whatever their order.
	for _, key := range inherited.keys {
		if !out.has(key) {
			out.set(key, inherited.values[key])
		}
	}
	return out, nil
}

// inherit adds what << names; the first of several wins.
func inherit(into *mapping, value any) error {
	switch v := value.(type) {
	case *mapping:
		for _, key := range v.keys {
			if !into.has(key) {
				into.set(key, v.values[key])
			}
		}
		return nil
	case list:
		for _, item := range v {
			if err := inherit(into, item); err != nil {
				return err
			}
		}
		return nil
	default:
		return errors.New("<< takes a mapping, or a list of them")
	}
}

// describe names the kind of a value for people.
func describe(value any) string {
	switch v := value.(type) {
	case nil:
		return "nothing"
	case list:
		return "a list"
	case *mapping:
		return "a mapping"
	case reference:
		return "a !reference"
	case scalar:
		return strconv.Quote(v.text)
	default:
		return "something else"
	}
}

func text(value any) (string, error) {
	if s, ok := value.(scalar); ok {
		return s.text, nil
	}
	return "", fmt.Errorf("has to be a text, is %s", describe(value))
}

func boolean(value any) (bool, error) {
	if s, ok := value.(scalar); ok && s.kind == kindBool {
		return strings.EqualFold(s.text, "true"), nil
	}
	return false, fmt.Errorf("has to be true or false, is %s", describe(value))
}

func integer(value any) (int, error) {
	if s, ok := value.(scalar); ok && s.kind == kindNumber {
		if number, err := strconv.Atoi(s.text); err == nil {
			return number, nil
		}
	}
	return 0, fmt.Errorf("has to be a whole number, is %s", describe(value))
}

// texts reads a text or a list of texts; lists in lists are taken apart.
func texts(value any) ([]string, error) {
	switch v := value.(type) {
	case nil:
		return nil, nil
	case list:
		var out []string
		for _, item := range v {
			more, err := texts(item)
			if err != nil {
				return nil, err
			}
			out = append(out, more...)
		}
		return out, nil
	default:
		s, err := text(v)
		if err != nil {
			return nil, errors.New("has to be a text or a list of texts, has " + describe(value))
		}
		return []string{s}, nil
	}
}

func integers(value any) ([]int, error) {
	items, ok := value.(list)
	if !ok {
		items = list{value}
	}
	var out []int
	for _, item := range items {
		number, err := integer(item)
		if err != nil {
			return nil, err
		}
		out = append(out, number)
	}
	return out, nil
}

// items is a list, or the one thing in its place.
func items(value any) list {
	switch v := value.(type) {
	case nil:
		return nil
	case list:
		return v
	default:
		return list{v}
	}
}
