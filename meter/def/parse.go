package def

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// SchemaVersion is the form of definition files that this program reads. It rises when an older program would
// misunderstand a newer file.
const SchemaVersion = 1

// maxDepth bounds how deeply a file nests; a definition needs 8.
const maxDepth = 32

// Parse decodes and checks one definition. What is wrong with it is a [Problems].
func Parse(data []byte) (Definition, error) { return ParseFile("", data) }

// ParseFile is Parse for a file with a name, which the problems then have.
func ParseFile(name string, data []byte) (Definition, error) {
	d, problems := parse(data)
	if len(problems) == 0 {
		d.File = name
		return d, nil
	}
	for i := range problems {
		problems[i].File = name
		problems[i].Line, problems[i].Column = max(1, problems[i].Line), max(1, problems[i].Column)
	}
	return Definition{}, Problems(problems)
}

func parse(data []byte) (Definition, []Problem) {
	if len(data) > maxFile {
		return Definition{}, []Problem{{Reason: fmt.Sprintf("got more than %d bytes", maxFile)}}
	}
	tokens := lexer.Tokenize(string(data))
	if p := refuseTokens(tokens); p != nil {
		return Definition{}, []Problem{*p}
	}
	file, err := parser.Parse(tokens, 0)
	if err != nil {
		return Definition{}, []Problem{explain(err)}
	}
	if len(file.Docs) != 1 || file.Docs[0].Body == nil {
		got := "nothing"
		if len(file.Docs) > 1 {
			got = fmt.Sprintf("%d documents", len(file.Docs))
		}
		return Definition{}, []Problem{{Reason: "got " + got + ", expected one definition"}}
	}
	root := file.Docs[0].Body
	if problems := schemaProblems(root); problems != nil {
		return Definition{}, problems
	}
	if problems := unknownKeys(root, reflect.TypeFor[Definition](), "", nil); len(problems) > 0 {
		return Definition{}, problems
	}
	var d Definition
	if err := yaml.NodeToValue(root, &d, yaml.Strict()); err != nil {
		p := explain(err)
		p.Key = pathAt(root, "", p.Line, p.Column)
		return Definition{}, []Problem{p}
	}
	if d.SignedBy == "" {
		d.SignedBy = SignedByAgent
	}
	problems := d.validate()
	for i, p := range problems {
		problems[i].Line, problems[i].Column = place(root, p.Key)
	}
	d.Line, _ = place(root, "id")
	for i := range d.Tests {
		d.Tests[i].Line, _ = place(root, fmt.Sprintf("tests[%d]", i))
	}
	if d.Control != nil {
		for i := range d.Control.Tests {
			d.Control.Tests[i].Line, _ = place(root, fmt.Sprintf("control.tests[%d]", i))
		}
	}
	return d, problems
}

// schemaProblems looks at the version of the form before anything else: all the rest depends on it.
func schemaProblems(root ast.Node) []Problem {
	key := "schema"
	line, column := place(root, key)
	switch node := child(root, key).(type) {
	case nil:
		return []Problem{{Line: 1, Column: 1, Key: key, Reason: fmt.Sprintf("missing, expected schema: %d, the form that this program reads", SchemaVersion)}}
	default:
		if node.String() == strconv.Itoa(SchemaVersion) {
			return nil
		}
		return []Problem{{Line: line, Column: column, Key: key, Reason: fmt.Sprintf("got %.40s, expected %d: this program knows no other form", node.String(), SchemaVersion)}}
	}
}

// explain shows a YAML error, within bounds: the library quotes lines of any length.
func explain(err error) Problem {
	p := Problem{Reason: err.Error()}
	if e := yaml.Error(nil); errors.As(err, &e) {
		p.Reason = e.GetMessage()
		if mismatch, ok := errors.AsType[*yaml.TypeError](err); ok {
			p.Reason = fmt.Sprintf("got %.40q, expected %s", mismatch.Token.Value, kindName(mismatch.DstType))
		}
		if over, ok := errors.AsType[*yaml.OverflowError](err); ok {
			p.Reason = fmt.Sprintf("got %.40s, expected %s", over.SrcNum, kindName(over.DstType))
		}
		if t := e.GetToken(); t != nil && t.Position != nil {
			p.Line, p.Column = t.Position.Line, t.Position.Column
		}
	}
	const most = 300
	p.Reason = strings.Join(strings.Fields(p.Reason), " ")
	if len(p.Reason) > most {
		p.Reason = strings.ToValidUTF8(p.Reason[:most], "") + "…"
	}
	return p
}

// kindName says what a value of a type looks like in a file.
func kindName(kind reflect.Type) string {
	switch kind.Kind() { //nolint:exhaustive // there are no others in a definition
	case reflect.Pointer:
		return kindName(kind.Elem())
	case reflect.Bool:
		return "true or false"
	case reflect.String:
		return "text"
	case reflect.Slice:
		return "a list"
	case reflect.Map, reflect.Struct:
		return "keys with values"
	case reflect.Uint8, reflect.Uint16:
		return fmt.Sprintf("a whole number from 0 to %d", uint32(1)<<kind.Bits()-1)
	case reflect.Uint, reflect.Uint32, reflect.Uint64:
		return "a whole number from 0"
	default:
		return "a whole number"
	}
}

// pathAt is the way to the value that begins at a place; empty if there is none.
func pathAt(node ast.Node, path string, line, column int) string {
	here := func(n ast.Node) bool {
		t := first(n)
		return t != nil && t.Position != nil && t.Position.Line == line && t.Position.Column == column
	}
	for key, value := range entries(node) {
		way := join(path, key.String())
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

// refuseTokens keeps a small file small: with aliases of aliases a few lines could stand for gigabytes, and a line of
// brackets could nest deeper than a stack.
func refuseTokens(tokens token.Tokens) *Problem {
	depth, entries, line := 0, 0, 0
	for _, t := range tokens {
		if t.Position.Line != line {
			line, entries = t.Position.Line, 0
		}
		var why string
		switch t.Type { //nolint:exhaustive // all others nest nothing
		case token.AnchorType, token.AliasType, token.MergeKeyType:
			why = fmt.Sprintf("got %.40q, expected no anchors and aliases", t.Value)
		case token.SequenceStartType, token.MappingStartType:
			depth++
		case token.SequenceEndType, token.MappingEndType:
			depth--
		case token.SequenceEntryType, token.MappingKeyType:
			entries++
		default:
		}
		if depth > maxDepth || entries > maxDepth || t.Position.Column > 1000*maxDepth && t.Type == token.MappingValueType {
			why = fmt.Sprintf("nests deeper than %d", maxDepth)
		}
		if why != "" {
			return &Problem{Line: t.Position.Line, Column: t.Position.Column, Reason: why}
		}
	}
	return nil
}

// unknownKeys walks the file beside the type that it is to become.
func unknownKeys(node ast.Node, kind reflect.Type, path string, found []Problem) []Problem {
	for kind.Kind() == reflect.Pointer {
		kind = kind.Elem()
	}
	switch kind.Kind() { //nolint:exhaustive // all others have no keys
	case reflect.Slice:
		if list, ok := node.(*ast.SequenceNode); ok {
			for i, item := range list.Values {
				found = unknownKeys(item, kind.Elem(), fmt.Sprintf("%s[%d]", path, i), found)
			}
		}
	case reflect.Map:
		for key, value := range entries(node) {
			found = unknownKeys(value, kind.Elem(), join(path, key.String()), found)
		}
	case reflect.Struct:
		fields := fieldsOf(kind)
		for key, value := range entries(node) {
			name := key.String()
			if field, ok := fields[name]; ok {
				found = unknownKeys(value, field, join(path, name), found)
			} else if len(found) < maxProblems {
				pos := key.GetToken().Position
				found = append(found, Problem{Line: pos.Line, Column: pos.Column, Key: join(path, fmt.Sprintf("%.60s", name)), Reason: "unknown key, " + nearest(name, fields)})
			}
		}
	default:
	}
	return found
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
		if len(got) <= 60 && distance(got, name) <= 1+len(name)/3 {
			like = append(like, name)
		}
	}
	slices.SortFunc(like, func(a, b string) int {
		if d := distance(got, a) - distance(got, b); d != 0 {
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

// distance is how many letters have to change to make one word of the other.
func distance(a, b string) int {
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
		if k.String() == key {
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
			if k.String() == name {
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
