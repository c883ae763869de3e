package config

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"
)

// checkSchema compares a file with the types of this package: keys that nothing knows, and values of the
// wrong type.
func checkSchema(root *node) []Finding {
	s := &schema{}
	s.table(root, reflect.TypeFor[Config](), "")
	return s.findings
}

type schema struct{ findings []Finding }

func (s *schema) report(n *node, path, format string, args ...any) {
	s.findings = append(s.findings, Finding{
		Level: LevelError, Line: n.line, Column: n.column, Key: path, Message: fmt.Sprintf(format, args...),
	})
}

// removed are keys that did something once, by the table they stand in, with what to write instead.
var removed = map[string]map[string]string{
	"runners": {
		"pre_clone_script":  "use pre_get_sources_script",
		"post_clone_script": "use post_get_sources_script",
		"clone_script":      "use pre_get_sources_script and post_get_sources_script",
	},
	"cache": {
		"ServerAddress":  "write it in [runners.cache.s3]",
		"AccessKey":      "write it in [runners.cache.s3]",
		"SecretKey":      "write it in [runners.cache.s3]",
		"BucketName":     "write it in [runners.cache.s3]",
		"BucketLocation": "write it in [runners.cache.s3]",
		"Insecure":       "write it in [runners.cache.s3]",
	},
}

// table checks the keys of a table whose type is a struct.
func (s *schema) table(n *node, t reflect.Type, path string) {
	for _, e := range n.keys {
		at := join(path, e.name)
		field, known := fieldOf(t, e.name)
		switch {
		case known:
			s.value(e.value, field.Type, at)
		case t == reflect.TypeFor[Runner]() && foreignTables[e.name]:
		default:
			s.unknown(&node{line: e.line, column: e.column}, t, at, e.name)
		}
	}
}

func (s *schema) unknown(n *node, t reflect.Type, path, name string) {
	table := path[:max(len(path)-len(name)-1, 0)]
	table = table[strings.LastIndex(table, ".")+1:]
	table, _, _ = strings.Cut(table, "[")
	for old, instead := range removed[table] {
		if strings.EqualFold(old, name) {
			s.report(n, path, "this key was removed and has no effect: %s", instead)
			return
		}
	}
	if near := nearest(name, namesOf(t)); near != "" {
		s.report(n, path, "unknown key: did you mean %s?", near)
		return
	}
	if places := placesOf(name); len(places) > 0 {
		s.report(n, path, "unknown key here: it belongs in %s", strings.Join(places, " or "))
		return
	}
	s.report(n, path, "unknown key: it has no effect")
}

// value checks a value of a known key.
func (s *schema) value(n *node, t reflect.Type, path string) {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch {
	case t == reflect.TypeFor[time.Duration]():
		s.duration(n, path)
	case t == reflect.TypeFor[time.Time]():
		s.want(n, path, kindTime)
	case t == reflect.TypeFor[StringOrArray]():
		if n.kind == kindArray {
			s.elements(n, reflect.TypeFor[string](), path)
			return
		}
		if n.kind != kindString {
			s.report(n, path, "this is %s, wanted is a string or a list of strings", n.kind)
		}
	case t.Kind() == reflect.Struct:
		if s.want(n, path, kindTable) {
			s.table(n, t, path)
		}
	case t.Kind() == reflect.Map:
		if s.want(n, path, kindTable) && t.Elem().Kind() != reflect.Interface {
			for _, e := range n.keys {
				s.value(e.value, t.Elem(), join(path, e.name))
			}
		}
	case t.Kind() == reflect.Slice:
		if s.want(n, path, kindArray) {
			s.elements(n, t.Elem(), path)
		}
	case t.Kind() == reflect.Float64:
		if n.kind != kindInteger {
			s.want(n, path, kindFloat)
		}
	case t.Kind() == reflect.Bool:
		s.want(n, path, kindBool)
	case t.Kind() == reflect.String:
		s.want(n, path, kindString)
	case t.Kind() == reflect.Int || t.Kind() == reflect.Int64:
		s.want(n, path, kindInteger)
	}
}

func (s *schema) elements(n *node, t reflect.Type, path string) {
	for i, element := range n.elements {
		if element.line == 0 {
			element.line, element.column = n.line, n.column
		}
		s.value(element, t, path+"["+strconv.Itoa(i)+"]")
	}
}

func (s *schema) want(n *node, path string, k kind) bool {
	if n.kind == k {
		return true
	}
	hint := ""
	if n.kind == kindString && (k == kindInteger || k == kindBool || k == kindFloat) {
		hint = ": write it without quotes"
	}
	if k == kindTable && n.kind == kindArray {
		hint = ": write [" + bare(path) + "] with one pair of brackets"
	}
	if k == kindArray && n.kind == kindTable {
		hint = ": write [[" + bare(path) + "]] with two pairs of brackets"
	}
	s.report(n, path, "this is %s, wanted is %s%s", n.kind, k, hint)
	return false
}

func (s *schema) duration(n *node, path string) {
	switch n.kind {
	case kindString:
		if _, err := time.ParseDuration(n.text); err != nil {
			s.report(n, path, "%q is no duration: write numbers with units and no spaces, such as \"1h30m\" or \"20m0s\"", n.text)
		}
	case kindInteger:
		if number, err := strconv.ParseInt(n.text, 0, 64); err == nil && number > 0 && number < int64(time.Millisecond) {
			s.findings = append(s.findings, Finding{
				Level: LevelWarning, Line: n.line, Column: n.column, Key: path,
				Message: fmt.Sprintf("%d means nanoseconds here: if seconds are meant, write \"%ds\"", number, number),
			})
		}
	default:
		s.report(n, path, "this is %s, wanted is a duration, such as \"20m0s\"", n.kind)
	}
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

// bare is a path as it stands in a header.
func bare(path string) string {
	var out strings.Builder
	for rest := path; rest != ""; {
		before, after, found := strings.Cut(rest, "[")
		out.WriteString(before)
		if !found {
			break
		}
		_, rest, _ = strings.Cut(after, "]")
	}
	return out.String()
}

// fieldOf finds the field of a key: the exact one, or else one in other letters.
func fieldOf(t reflect.Type, name string) (reflect.StructField, bool) {
	var folded reflect.StructField
	found := false
	for i := range t.NumField() {
		key := keyOf(t.Field(i))
		if key == name {
			return t.Field(i), true
		}
		if key != "" && strings.EqualFold(key, name) && !found {
			folded, found = t.Field(i), true
		}
	}
	return folded, found
}

// keyOf is the key of a field, empty if it is not one of the file.
func keyOf(field reflect.StructField) string {
	key, _, _ := strings.Cut(field.Tag.Get("toml"), ",")
	if key == "-" {
		return ""
	}
	return key
}

func namesOf(t reflect.Type) []string {
	var names []string
	for i := range t.NumField() {
		if key := keyOf(t.Field(i)); key != "" {
			names = append(names, key)
		}
	}
	return names
}

// placesOf are the tables that have a key of this name.
func placesOf(name string) []string {
	var places []string
	var visit func(t reflect.Type, path string)
	visit = func(t reflect.Type, path string) {
		list := false
		for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
			list = list || t.Kind() == reflect.Slice
			t = t.Elem()
		}
		if t.Kind() != reflect.Struct || t == reflect.TypeFor[time.Time]() {
			return
		}
		for i := range t.NumField() {
			key := keyOf(t.Field(i))
			if key == "" {
				continue
			}
			if key == name {
				places = append(places, header(path, list))
			}
			visit(t.Field(i).Type, join(path, key))
		}
	}
	visit(reflect.TypeFor[Config](), "")
	if len(places) > 3 {
		return nil // it could be anything
	}
	return places
}

func header(path string, list bool) string {
	switch {
	case path == "":
		return "the global section, above all tables"
	case list:
		return "[[" + path + "]]"
	default:
		return "[" + path + "]"
	}
}

// nearest is the name that is most like the one given, empty if none is much like it.
func nearest(name string, names []string) string {
	const longest = 100
	if len(name) > longest {
		return ""
	}
	best, distance := "", min(4, (len(name)+2)/3)+1
	for _, candidate := range names {
		if d := edits(strings.ToLower(name), strings.ToLower(candidate)); d < distance {
			best, distance = candidate, d
		}
	}
	return best
}

// edits is how many letters have to be changed, added, taken out or swapped with the next one.
func edits(a, b string) int {
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			rows[i][j] = min(rows[i-1][j]+1, rows[i][j-1]+1, rows[i-1][j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				rows[i][j] = min(rows[i][j], rows[i-2][j-2]+1)
			}
		}
	}
	return rows[len(a)][len(b)]
}
