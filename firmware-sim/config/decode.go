package config

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// Problem is one thing that is wrong in a file.
type Problem struct {
	File    string
	Line    int    // 0: the file as a whole
	Key     string // "" : the file as a whole
	Message string
}

// String is one line for people and for editors that jump to file:line.
func (p Problem) String() string {
	text := p.File
	if p.Line > 0 {
		text += ":" + strconv.Itoa(p.Line)
	}
	if p.Key != "" {
		text += ": " + p.Key
	}
	return text + ": " + p.Message
}

// Problems are all that is wrong in a file.
type Problems []Problem

// Error has a line for each problem.
func (p Problems) Error() string {
	lines := make([]string, len(p))
	for i, problem := range p {
		lines[i] = problem.String()
	}
	return strings.Join(lines, "\n")
}

const (
	maxProblems = 20
	// maxNesting is far more than the format has; the parser recurses.
	maxNesting = 64
)

// decoder fills structs from YAML nodes and remembers on which line each key
// stood, so that checks of meaning can point there too.
type decoder struct {
	file     string
	prefix   string // of paths that are reported
	lines    map[string]int
	problems Problems
}

// report adds a problem at a path; a path that is not in the file is shown at
// the line of what surrounds it.
func (d *decoder) report(path, format string, args ...any) {
	if len(d.problems) >= maxProblems {
		return
	}
	path = d.prefix + path
	at := path
	for at != "" && d.lines[at] == 0 {
		at = at[:max(0, strings.LastIndexAny(at, ".["))]
	}
	d.problems = append(d.problems, Problem{File: d.file, Line: d.lines[at], Key: path, Message: fmt.Sprintf(format, args...)})
}

// document decodes a whole file into a struct.
func (d *decoder) document(data []byte, into any) {
	if tooDeep(data) {
		d.report("", "nested more than %d deep", maxNesting)
		return
	}
	file, err := parser.ParseBytes(data, 0)
	if err != nil {
		problem := Problem{File: d.file, Message: "not YAML: " + err.Error()}
		if syntax, ok := errors.AsType[*yaml.SyntaxError](err); ok {
			problem.Message = "not YAML: " + syntax.Message
			if syntax.Token != nil && syntax.Token.Position != nil {
				problem.Line = syntax.Token.Position.Line
			}
		}
		d.problems = append(d.problems, problem)
		return
	}
	if len(file.Docs) > 1 {
		d.report("", "got %d YAML documents, want one", len(file.Docs))
		return
	}
	if len(file.Docs) == 0 || file.Docs[0].Body == nil {
		d.report("", "is empty, want keys: %s", strings.Join(keys(reflect.TypeOf(into).Elem()), ", "))
		return
	}
	d.value("", file.Docs[0].Body, reflect.ValueOf(into).Elem())
}

// tooDeep counts brackets and indentation without parsing: a bound that a
// recursive parser can live with.
func tooDeep(data []byte) bool {
	open := 0
	for line := range strings.Lines(string(data)) {
		if len(line)-len(strings.TrimLeft(line, " -?:")) > 4*maxNesting {
			return true
		}
		open += strings.Count(line, "[") + strings.Count(line, "{")
		open -= strings.Count(line, "]") + strings.Count(line, "}")
		if open > maxNesting || strings.Count(line, "[")+strings.Count(line, "{") > 4*maxNesting {
			return true
		}
	}
	return false
}

// value decodes a node into a value of the kinds that Config has.
func (d *decoder) value(path string, node ast.Node, v reflect.Value) {
	switch node.(type) {
	case *ast.AnchorNode, *ast.AliasNode, *ast.TagNode, *ast.DirectiveNode:
		d.report(path, "anchors, aliases and tags are not allowed here")
		return
	case *ast.NullNode:
		d.report(path, "has no value")
		return
	}
	switch {
	case v.Kind() == reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		d.value(path, node, v.Elem())
	case v.Type() == reflect.TypeFor[time.Time]():
		d.time(path, node, v)
	case v.Kind() == reflect.Struct:
		d.mapping(path, node, v)
	case v.Kind() == reflect.Map:
		d.texts(path, node, v)
	case v.Kind() == reflect.Slice:
		d.sequence(path, node, v)
	default:
		d.scalar(path, node, v)
	}
}

func (d *decoder) mapping(path string, node ast.Node, v reflect.Value) {
	var entries []*ast.MappingValueNode
	switch node := node.(type) {
	case *ast.MappingNode:
		entries = node.Values
	case *ast.MappingValueNode:
		entries = []*ast.MappingValueNode{node}
	default:
		d.report(path, "got %s, want keys: %s", describe(node), strings.Join(keys(v.Type()), ", "))
		return
	}
	for _, entry := range entries {
		name := entry.Key.GetToken().Value
		child := name
		if path != "" {
			child = path + "." + name
		}
		if d.lines[child] != 0 {
			d.report(child, "is here a second time")
			continue
		}
		d.lines[child] = entry.Key.GetToken().Position.Line
		field, ok := fieldOf(v, name)
		if !ok {
			d.report(child, "unknown key, allowed here: %s", strings.Join(keys(v.Type()), ", "))
			continue
		}
		d.value(child, entry.Value, field)
	}
}

// texts decodes keys that are free, with values that are kept as they stand.
func (d *decoder) texts(path string, node ast.Node, v reflect.Value) {
	var entries []*ast.MappingValueNode
	switch node := node.(type) {
	case *ast.MappingNode:
		entries = node.Values
	case *ast.MappingValueNode:
		entries = []*ast.MappingValueNode{node}
	default:
		d.report(path, "got %s, want keys with values", describe(node))
		return
	}
	m := map[string]string{}
	for _, entry := range entries {
		child := path + "." + entry.Key.GetToken().Value
		d.lines[child] = entry.Key.GetToken().Position.Line
		t, ok := text(entry.Value)
		if !ok {
			d.report(child, "got %s, want a number or a word", describe(entry.Value))
			continue
		}
		m[entry.Key.GetToken().Value] = t
	}
	v.Set(reflect.ValueOf(m))
}

func keys(t reflect.Type) []string {
	var names []string
	for field := range t.Fields() {
		names = append(names, field.Tag.Get("yaml"))
	}
	slices.Sort(names)
	return names
}

func fieldOf(v reflect.Value, name string) (reflect.Value, bool) {
	for i := range v.NumField() {
		if v.Type().Field(i).Tag.Get("yaml") == name {
			return v.Field(i), true
		}
	}
	return reflect.Value{}, false
}

func (d *decoder) sequence(path string, node ast.Node, v reflect.Value) {
	list, ok := node.(*ast.SequenceNode)
	if !ok {
		d.report(path, "got %s, want a list", describe(node))
		return
	}
	v.Set(reflect.MakeSlice(v.Type(), len(list.Values), len(list.Values)))
	for i, item := range list.Values {
		child := fmt.Sprintf("%s[%d]", path, i)
		if item == nil || item.GetToken() == nil {
			d.report(child, "has no value")
			continue
		}
		d.lines[child] = item.GetToken().Position.Line
		d.value(child, item, v.Index(i))
	}
}

// text is a scalar's text as it stands in the file.
func text(node ast.Node) (string, bool) {
	switch node := node.(type) {
	case *ast.StringNode:
		return node.Value, true
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode:
		return node.GetToken().Value, true
	default:
		return "", false
	}
}

func describe(node ast.Node) string {
	if t, ok := text(node); ok {
		return fmt.Sprintf("%.60q", t)
	}
	switch node.(type) {
	case *ast.MappingNode, *ast.MappingValueNode:
		return "keys"
	case *ast.SequenceNode:
		return "a list"
	default:
		return "something else"
	}
}

func (d *decoder) time(path string, node ast.Node, v reflect.Value) {
	t, _ := text(node)
	at, err := time.Parse(time.RFC3339Nano, t)
	if err != nil {
		d.report(path, "got %s, want a time like 2026-06-21T08:00:00Z", describe(node))
		return
	}
	v.Set(reflect.ValueOf(at.UTC()))
}

func (d *decoder) scalar(path string, node ast.Node, v reflect.Value) {
	t, ok := text(node)
	var err error
	want := ""
	switch {
	case v.Type() == reflect.TypeFor[time.Duration]():
		var duration time.Duration
		duration, err = time.ParseDuration(t)
		v.SetInt(int64(duration))
		want = "a duration like 15m or 180s"
	case v.Kind() == reflect.String:
		v.SetString(t)
		want = "text"
	case v.Kind() == reflect.Bool:
		if t != "true" && t != "false" {
			ok = false
		}
		v.SetBool(t == "true")
		want = "true or false"
	case v.Kind() == reflect.Float64:
		var number float64
		number, err = strconv.ParseFloat(t, 64)
		v.SetFloat(number)
		want = "a number"
	case v.Kind() == reflect.Int64:
		var number int64
		number, err = strconv.ParseInt(t, 10, 64)
		v.SetInt(number)
		want = "a whole number"
	default: // uint64, uint8
		var number uint64
		number, err = strconv.ParseUint(t, 10, v.Type().Bits())
		v.SetUint(number)
		want = fmt.Sprintf("a whole number from 0 to %d", uint64(1)<<(v.Type().Bits()-1)*2-1)
	}
	if !ok || err != nil {
		d.report(path, "got %s, want %s", describe(node), want)
	}
}
