package def

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"
)

// misfits walks the file beside the type that it is to become, and collects unknown keys and numbers and truth values
// that are none: the decoder would make a whole number of 1.5 and of "1".
func misfits(node ast.Node, kind reflect.Type, path string, found []Problem) []Problem {
	for kind.Kind() == reflect.Pointer {
		if node.Type() == ast.NullType {
			return found
		}
		kind = kind.Elem()
	}
	want := func(ok bool) {
		if !ok && len(found) < maxProblems {
			t := first(node)
			found = append(found, Problem{Line: t.Position.Line, Column: t.Position.Column, Key: path, Reason: fmt.Sprintf("got %.40s, expected %s", got(node), kindName(kind))})
		}
	}
	switch kind.Kind() { //nolint:exhaustive // all others have no keys
	case reflect.Slice:
		if list, ok := node.(*ast.SequenceNode); ok {
			for i, item := range list.Values {
				found = misfits(item, kind.Elem(), fmt.Sprintf("%s[%d]", path, i), found)
			}
		}
	case reflect.Map:
		for key, value := range entries(node) {
			found = misfits(value, kind.Elem(), join(path, keyName(key)), found)
		}
	case reflect.Struct:
		fields := fieldsOf(kind)
		for key, value := range entries(node) {
			name := keyName(key)
			if field, ok := fields[name]; ok {
				found = misfits(value, field, join(path, name), found)
			} else if len(found) < maxProblems {
				pos := key.GetToken().Position
				found = append(found, Problem{Line: pos.Line, Column: pos.Column, Key: join(path, fmt.Sprintf("%.60s", name)), Reason: "unknown key, " + nearest(name, fields)})
			}
		}
	case reflect.Bool:
		want(node.Type() == ast.BoolType)
	case reflect.Int, reflect.Int64, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		want(node.Type() == ast.IntegerType)
	default:
	}
	return found
}

// got is a value as it is written; one in quotes keeps them, so that one sees why it is no number.
func got(node ast.Node) string {
	switch node.Type() { //nolint:exhaustive // all others are written as they are
	case ast.StringType, ast.LiteralType:
		return fmt.Sprintf("%q", first(node).Value)
	case ast.MappingType, ast.MappingValueType, ast.SequenceType, ast.NullType:
		return nodeName(node.Type())
	default:
		return node.String()
	}
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

// entries are the keys and values of a mapping, whichever way it is written.
func entries(node ast.Node) func(yield func(ast.MapKeyNode, ast.Node) bool) {
	return func(yield func(ast.MapKeyNode, ast.Node) bool) {
		switch m := node.(type) {
		case *ast.MappingNode:
			for _, v := range m.Values {
				if !yield(v.Key, v.Value) {
					return
				}
			}
		case *ast.MappingValueNode:
			yield(m.Key, m.Value)
		}
	}
}

// keyName is a key without its quotes.
func keyName(k ast.MapKeyNode) string {
	if text, ok := k.(*ast.StringNode); ok {
		return text.Value
	}
	return k.String()
}

func fieldsOf(kind reflect.Type) map[string]reflect.Type {
	fields := map[string]reflect.Type{}
	for f := range kind.Fields() {
		if name, _, _ := strings.Cut(f.Tag.Get("yaml"), ","); name != "" && name != "-" {
			fields[name] = f.Type
		}
	}
	return fields
}

// nearest names the keys that may have been meant: the most alike, or all if none is.
func nearest(got string, fields map[string]reflect.Type) string {
	var all, like []string
	for name := range fields {
		all = append(all, name)
		if len(got) <= 60 && Distance(got, name) <= 1+len(name)/3 {
			like = append(like, name)
		}
	}
	slices.SortFunc(like, func(a, b string) int {
		if d := Distance(got, a) - Distance(got, b); d != 0 {
			return d
		}
		return strings.Compare(a, b)
	})
	slices.Sort(all)
	if len(like) > 0 {
		return "expected " + strings.Join(like[:min(3, len(like))], " or ")
	}
	return "expected one of " + strings.Join(all, ", ")
}

// Distance is how many letters have to change to make one word of the other.
func Distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		before := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := before
			if a[i] != b[j] {
				cost++
			}
			before = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

// child is a value by key, nil if there is none.
func child(node ast.Node, key string) ast.Node {
	for k, v := range entries(node) {
		if keyName(k) == key {
			return v
		}
	}
	return nil
}

// place is where the value of a path is, or what of the path there is.
func place(root ast.Node, path string) (line, column int) {
	line, column = 1, 1
	node := root
	at := func(t *token.Token) {
		if t != nil && t.Position != nil {
			line, column = t.Position.Line, t.Position.Column
		}
	}
	for step := range strings.SplitSeq(path, ".") {
		name, rest, _ := strings.Cut(step, "[")
		var next ast.Node
		for k, v := range entries(node) {
			if keyName(k) == name {
				at(k.GetToken())
				next = v
			}
		}
		index, err := strconv.Atoi(strings.TrimSuffix(rest, "]"))
		if list, ok := next.(*ast.SequenceNode); ok && err == nil && index < len(list.Values) {
			next = list.Values[index]
			at(first(next))
		}
		if next == nil {
			return line, column
		}
		node = next
	}
	if _, isMap := node.(*ast.MappingNode); !isMap {
		if _, isList := node.(*ast.SequenceNode); !isList {
			at(first(node))
		}
	}
	return line, column
}

// first is the token that a node begins with.
func first(node ast.Node) *token.Token {
	for k := range entries(node) {
		return k.GetToken()
	}
	return node.GetToken()
}

// pathAt is the way to the value that begins at a place; empty if there is none.
func pathAt(node ast.Node, path string, line, column int) string {
	here := func(n ast.Node) bool {
		t := first(n)
		return t != nil && t.Position != nil && t.Position.Line == line && t.Position.Column == column
	}
	for key, value := range entries(node) {
		way := join(path, keyName(key))
		if found := pathAt(value, way, line, column); found != "" {
			return found
		}
		if here(value) || here(key) {
			return way
		}
	}
	if list, ok := node.(*ast.SequenceNode); ok {
		for i, item := range list.Values {
			way := fmt.Sprintf("%s[%d]", path, i)
			if found := pathAt(item, way, line, column); found != "" {
				return found
			}
			if here(item) {
				return way
			}
		}
	}
	return ""
}
