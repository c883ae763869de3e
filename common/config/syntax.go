package config

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2/unstable"
)

// kind is a type of TOML's.
type kind string

const (
	kindTable   kind = "a table"
	kindArray   kind = "a list"
	kindString  kind = "a string"
	kindInteger kind = "an integer"
	kindFloat   kind = "a number with a fraction"
	kindBool    kind = "true or false"
	kindTime    kind = "a date or a time"
)

// node is a value in a file, with where it stands. The decoder of the file itself tells of no place but
// that of its first complaint.
type node struct {
	line, column int
	kind         kind
	// text is a scalar as it is written, without quotes.
	text string
	// keys are those of a table, in the order of the file.
	keys []entry
	// elements are those of a list.
	elements []*node
}

type entry struct {
	name string
	// line and column are those of the key, which may stand before its value.
	line, column int
	value        *node
}

// parseSyntax reads a file that the decoder reads without complaint.
func parseSyntax(text string) (root *node, err error) {
	// The parser is one whose library makes no promises about it. It must not be the reason why a file
	// cannot be used.
	defer func() {
		if fault := recover(); fault != nil {
			root, err = nil, fmt.Errorf("finding the lines of keys: %v", fault)
		}
	}()
	root = &node{line: 1, column: 1, kind: kindTable}
	s := syntax{}
	s.parser.Reset([]byte(text))
	at := root
	for s.parser.NextExpression() {
		switch e := s.parser.Expression(); e.Kind {
		case unstable.Table:
			at = s.header(root, e, false)
		case unstable.ArrayTable:
			at = s.header(root, e, true)
		case unstable.KeyValue:
			s.keyValue(at, e)
		}
	}
	return root, s.parser.Error()
}

type syntax struct{ parser unstable.Parser }

func (s *syntax) place(n *unstable.Node) (line, column int) {
	start := s.parser.Shape(n.Raw).Start
	return start.Line, start.Column
}

// header enters the table that a header names.
func (s *syntax) header(root *node, e *unstable.Node, list bool) *node {
	at := root
	keys := e.Key()
	for keys.Next() {
		at = s.enter(at, keys.Node(), list && keys.IsLast())
	}
	return at
}

// enter returns the table below a key, made if there is none. In a list of tables it is the last one, or
// another one is added.
func (s *syntax) enter(at *node, key *unstable.Node, add bool) *node {
	line, column := s.place(key)
	value := at.exact(string(key.Data))
	if value == nil {
		value = &node{line: line, column: column, kind: kindTable}
		if add {
			value.kind = kindArray
		}
		at.keys = append(at.keys, entry{string(key.Data), line, column, value})
	}
	if value.kind != kindArray {
		return value
	}
	if add || len(value.elements) == 0 {
		value.elements = append(value.elements, &node{line: line, column: column, kind: kindTable})
	}
	return value.elements[len(value.elements)-1]
}

func (s *syntax) keyValue(at *node, e *unstable.Node) {
	keys := e.Key()
	for keys.Next() {
		key := keys.Node()
		if !keys.IsLast() {
			at = s.enter(at, key, false)
			continue
		}
		line, column := s.place(key)
		value := s.value(e.Value())
		value.line, value.column = line, column
		at.keys = append(at.keys, entry{string(key.Data), line, column, value})
	}
}

func (s *syntax) value(e *unstable.Node) *node {
	n := &node{text: string(e.Data)}
	switch e.Kind {
	case unstable.InlineTable:
		n.kind = kindTable
		for members := e.Children(); members.Next(); {
			s.keyValue(n, members.Node())
		}
	case unstable.Array:
		n.kind = kindArray
		for members := e.Children(); members.Next(); {
			n.elements = append(n.elements, s.value(members.Node()))
		}
	case unstable.String:
		n.kind = kindString
	case unstable.Integer:
		n.kind = kindInteger
	case unstable.Float:
		n.kind = kindFloat
	case unstable.Bool:
		n.kind = kindBool
	default:
		n.kind = kindTime
	}
	return n
}

func (n *node) exact(name string) *node {
	for _, e := range n.keys {
		if e.name == name {
			return e.value
		}
	}
	return nil
}

// get is the value of a key, nil if there is none. A key in other letters counts where none is exact.
func (n *node) get(name string) *node {
	if value := n.exact(name); value != nil {
		return value
	}
	for _, e := range n.keys {
		if strings.EqualFold(e.name, name) {
			return e.value
		}
	}
	return nil
}

// find follows a path such as runners[0].docker.image as far as it goes.
func (n *node) find(path string) *node {
	at := n
	for part := range strings.SplitSeq(path, ".") {
		name, rest, indexed := strings.Cut(part, "[")
		next := at.get(name)
		if next == nil {
			return at
		}
		at = next
		if !indexed {
			continue
		}
		i, err := strconv.Atoi(strings.TrimSuffix(rest, "]"))
		if err != nil || i < 0 || i >= len(at.elements) {
			return at
		}
		at = at.elements[i]
	}
	return at
}
