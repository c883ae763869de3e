package pipeline

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// operand is the value of a part of an expression.
type operand struct {
	text    string
	defined bool
	pattern *regexp.Regexp
}

func (o operand) truth() bool { return o.defined && o.text != "" || o.pattern != nil }

func truth(b bool) operand {
	if b {
		return operand{text: "true", defined: true}
	}
	return operand{}
}

// evaluate says whether a condition of rules holds. lookup returns the value of a variable and whether
// there is one.
func evaluate(condition string, lookup func(string) (string, bool)) (bool, error) {
	tokens, err := tokenize(condition)
	if err != nil {
		return false, fmt.Errorf("%q: %w", condition, err)
	}
	p := &expression{tokens: tokens, lookup: lookup}
	value, err := p.or(0)
	if err == nil && p.at < len(p.tokens) {
		err = fmt.Errorf("%q is not expected", p.tokens[p.at].text)
	}
	if err != nil {
		return false, fmt.Errorf("%q: %w", condition, err)
	}
	return value.truth(), nil
}

type tokenKind int

const (
	tokenOperator tokenKind = iota
	tokenVariable
	tokenText
	tokenPattern
	tokenNull
)

type token struct {
	kind tokenKind
	text string
}

var tokenForms = []struct {
	kind tokenKind
	form *regexp.Regexp
}{
	{tokenOperator, regexp.MustCompile(`^(==|!=|=~|!~|&&|\|\||\(|\))`)},
	{tokenVariable, regexp.MustCompile(`^\$\{?([A-Za-z_][A-Za-z0-9_]*)\}?`)},
	{tokenText, regexp.MustCompile(`^(?:"([^"]*)"|'([^']*)')`)},
	{tokenPattern, regexp.MustCompile(`^(/(?:[^/\\]|\\.)+/[ismU]*)`)},
	{tokenNull, regexp.MustCompile(`^(null)\b`)},
}

const maxCondition = 64 << 10

func tokenize(text string) ([]token, error) {
	if len(text) > maxCondition {
		return nil, errors.New("the condition is too long")
	}
	var out []token
next:
	for {
		text = strings.TrimLeft(text, " \t\r\n")
		if text == "" {
			return out, nil
		}
		for _, f := range tokenForms {
			if match := f.form.FindStringSubmatch(text); match != nil {
				out = append(out, token{kind: f.kind, text: strings.Join(match[1:], "")})
				text = text[len(match[0]):]
				continue next
			}
		}
		return nil, fmt.Errorf("not understood from %q on", text)
	}
}

type expression struct {
	tokens []token
	at     int
	lookup func(string) (string, bool)
}

func (p *expression) take(operator string) bool {
	if p.at < len(p.tokens) && p.tokens[p.at] == (token{tokenOperator, operator}) {
		p.at++
		return true
	}
	return false
}

const maxParentheses = 100

func (p *expression) or(depth int) (operand, error) {
	left, err := p.and(depth)
	for err == nil && p.take("||") {
		var right operand
		right, err = p.and(depth)
		left = truth(left.truth() || right.truth())
	}
	return left, err
}

func (p *expression) and(depth int) (operand, error) {
	left, err := p.comparison(depth)
	for err == nil && p.take("&&") {
		var right operand
		right, err = p.comparison(depth)
		left = truth(left.truth() && right.truth())
	}
	return left, err
}

func (p *expression) comparison(depth int) (operand, error) {
	left, err := p.value(depth)
	if err != nil {
		return operand{}, err
	}
	for _, operator := range []string{"==", "!=", "=~", "!~"} {
		if !p.take(operator) {
			continue
		}
		right, err := p.value(depth)
		if err != nil {
			return operand{}, err
		}
		switch operator {
		case "==":
			return truth(left.defined == right.defined && left.text == right.text), nil
		case "!=":
			return truth(left.defined != right.defined || left.text != right.text), nil
		default:
			matches, err := match(left, right)
			return truth(matches == (operator == "=~")), err
		}
	}
	return left, nil
}

func (p *expression) value(depth int) (operand, error) {
	if p.take("(") {
		if depth >= maxParentheses {
			return operand{}, errors.New("there are too many parentheses")
		}
		inner, err := p.or(depth + 1)
		if err == nil && !p.take(")") {
			err = errors.New(`a ")" is missing`)
		}
		return inner, err
	}
	if p.at >= len(p.tokens) {
		return operand{}, errors.New("something is missing at the end")
	}
	t := p.tokens[p.at]
	p.at++
	switch t.kind {
	case tokenVariable:
		value, defined := p.lookup(t.text)
		return operand{text: value, defined: defined}, nil
	case tokenText:
		return operand{text: t.text, defined: true}, nil
	case tokenPattern:
		pattern, err := compilePattern(t.text)
		return operand{pattern: pattern}, err
	case tokenNull:
		return operand{}, nil
	default:
		return operand{}, fmt.Errorf("%q is not expected", t.text)
	}
}

// match says whether left matches right, which is a pattern or the text of one.
func match(left, right operand) (bool, error) {
	pattern := right.pattern
	if pattern == nil {
		var err error
		if pattern, err = compilePattern(right.text); err != nil {
			return false, err
		}
	}
	return left.defined && pattern.MatchString(left.text), nil
}

// compilePattern reads /pattern/flags.
func compilePattern(text string) (*regexp.Regexp, error) {
	end := strings.LastIndex(text, "/")
	if !strings.HasPrefix(text, "/") || end <= 0 {
		return nil, fmt.Errorf("%q is not a pattern of the form /.../", text)
	}
	source := strings.ReplaceAll(text[1:end], `\/`, "/")
	flags := text[end+1:]
	if flags != "" {
		source = "(?" + flags + ")" + source
	}
	compiled, err := regexp.Compile(source)
	if err != nil {
		return nil, fmt.Errorf("pattern %s: %w", text, err)
	}
	return compiled, nil
}
