package inputs

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// maxDepth bounds how deep expressions are nested.
const maxDepth = 32

// scope is a name on the way to the inputs: "job", then "job.inputs".
type scope string

const (
	scopeJob    scope = "job"
	scopeInputs scope = "job.inputs"
)

// parser reads one expression and evaluates it meanwhile:
//
//	expression = primary { "." name | "[" expression "]" }
//	primary    = name | name "(" expression ")" | string | number | "(" expression ")"
//
// Strings have the form of JSON, or single quotes around them in which a backslash guards the next
// character.
type parser struct {
	text  string
	at    int
	depth int
	set   *Set
}

// template reads an expression and the end of the template.
func (p *parser) template() (any, error) {
	value, err := p.expression()
	if err != nil {
		return nil, err
	}
	p.space()
	if !strings.HasPrefix(p.text[p.at:], closing) {
		return nil, p.unexpected(closing)
	}
	p.at += len(closing)
	return value, nil
}

func (p *parser) expression() (any, error) {
	if p.depth++; p.depth > maxDepth {
		return nil, fmt.Errorf("expressions are nested more than %d deep", maxDepth)
	}
	defer func() { p.depth-- }()
	value, err := p.primary()
	for err == nil {
		p.space()
		switch {
		case p.take('.'):
			p.space()
			var name string
			if name, err = p.name(); err == nil {
				value, err = p.member(value, name)
			}
		case p.take('['):
			value, err = p.index(value)
		default:
			return value, nil
		}
	}
	return nil, err
}

func (p *parser) primary() (any, error) {
	p.space()
	switch c := p.peek(); {
	case p.take('('):
		return p.closed(')')
	case c == '"' || c == '\'':
		return p.quoted(c)
	case c == '-' || c >= '0' && c <= '9':
		return p.number()
	}
	name, err := p.name()
	if err != nil {
		return nil, err
	}
	p.space()
	if p.take('(') {
		return p.call(name)
	}
	switch name {
	case "true", "false":
		return name == "true", nil
	case "null":
		return nil, nil
	case string(scopeJob):
		return scopeJob, nil
	default:
		return nil, fmt.Errorf("%q is not known here: only job.inputs is", name)
	}
}

func (p *parser) call(name string) (any, error) {
	argument, err := p.closed(')')
	if err != nil {
		return nil, err
	}
	if name != "str" {
		return nil, fmt.Errorf("there is no function %s(); there is str()", name)
	}
	return text(argument)
}

// closed reads an expression and the character that ends it.
func (p *parser) closed(end byte) (any, error) {
	value, err := p.expression()
	if err != nil {
		return nil, err
	}
	p.space()
	if !p.take(end) {
		return nil, p.unexpected(string(end))
	}
	return value, nil
}

func (p *parser) index(of any) (any, error) {
	index, err := p.closed(']')
	if err != nil {
		return nil, err
	}
	if name, ok := index.(string); ok {
		return p.member(of, name)
	}
	list, ok := of.([]any)
	if !ok {
		return nil, fmt.Errorf("%s has no elements by number", kindOf(of))
	}
	number, ok := index.(json.Number)
	if !ok {
		return nil, fmt.Errorf("%s cannot be an index", kindOf(index))
	}
	position, err := strconv.Atoi(number.String())
	if err != nil || position < 0 || position >= len(list) {
		return nil, fmt.Errorf("the index %s is out of range: the array has %d elements", number, len(list))
	}
	return list[position], nil
}

func (p *parser) member(of any, name string) (any, error) {
	switch v := of.(type) {
	case scope:
		if v == scopeInputs {
			return p.set.input(name)
		}
		if name != "inputs" {
			return nil, fmt.Errorf("job.%s is not known here: only job.inputs is", name)
		}
		return scopeInputs, nil
	case map[string]any:
		value, ok := v[name]
		if !ok {
			return nil, fmt.Errorf("the struct has no member %q", name)
		}
		return value, nil
	default:
		return nil, fmt.Errorf("%s has no member %q", kindOf(of), name)
	}
}

func (p *parser) name() (string, error) {
	start := p.at
	for p.at < len(p.text) {
		c := p.text[p.at]
		letter := c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		if !letter && (p.at == start || c < '0' || c > '9') {
			break
		}
		p.at++
	}
	if p.at == start {
		return "", p.unexpected("a name")
	}
	return p.text[start:p.at], p.bounded()
}

func (p *parser) number() (any, error) {
	start := p.at
	for p.at < len(p.text) && strings.IndexByte("+-.0123456789eE", p.text[p.at]) >= 0 {
		p.at++
	}
	if err := p.bounded(); err != nil {
		return nil, err
	}
	literal := p.text[start:p.at]
	var number json.Number
	if err := json.Unmarshal([]byte(literal), &number); err != nil {
		return nil, fmt.Errorf("%q is not a number", literal)
	}
	return number, nil
}

// quoted reads a string and its quotes.
func (p *parser) quoted(quote byte) (any, error) {
	start := p.at
	p.at++
	var plain strings.Builder
	for p.at < len(p.text) {
		switch c := p.text[p.at]; {
		case c == quote:
			p.at++
			if quote == '\'' {
				return plain.String(), p.bounded()
			}
			var value string
			if err := json.Unmarshal([]byte(p.text[start:p.at]), &value); err != nil {
				return nil, errors.New("a string in double quotes does not have the form of a JSON string")
			}
			return value, p.bounded()
		case c == '\\' && p.at+1 < len(p.text):
			p.at++
		}
		plain.WriteByte(p.text[p.at])
		p.at++
	}
	return nil, errors.New("a string has no end")
}

func (p *parser) space() {
	for p.at < len(p.text) && strings.IndexByte(" \t\r\n", p.text[p.at]) >= 0 {
		p.at++
	}
}

func (p *parser) peek() byte {
	if p.at < len(p.text) {
		return p.text[p.at]
	}
	return 0
}

func (p *parser) take(c byte) bool {
	if p.peek() != c || c == 0 {
		return false
	}
	p.at++
	return true
}

func (p *parser) bounded() error {
	if p.at > maxExpression {
		return fmt.Errorf("the expression is longer than %d bytes", maxExpression)
	}
	return nil
}

func (p *parser) unexpected(want string) error {
	if p.at >= len(p.text) {
		return fmt.Errorf("the template ends where %s is expected", want)
	}
	r, _ := utf8.DecodeRuneInString(p.text[p.at:])
	if strings.ContainsRune("+-*/%<>=!&|?", r) {
		return fmt.Errorf("unexpected %q: there are no operators here; an input whose name is not a word is job.inputs[\"its-name\"]", r)
	}
	return fmt.Errorf("unexpected %q where %s is expected", r, want)
}
