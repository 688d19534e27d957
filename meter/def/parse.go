package def

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
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
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf")) // some editors put a byte order mark before a file
	if p := refuseText(string(data)); p != nil {
		return Definition{}, []Problem{*p}
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
	if problems := misfits(root, reflect.TypeFor[Definition](), "", nil); len(problems) > 0 {
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
		if odd, ok := errors.AsType[*yaml.UnexpectedNodeTypeError](err); ok {
			p.Reason = fmt.Sprintf("got %s, expected %s", nodeName(odd.Actual), nodeName(odd.Expected))
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

// nodeName says what a kind of node is, for people.
func nodeName(kind ast.NodeType) string {
	switch kind { //nolint:exhaustive // all others are single values
	case ast.MappingType, ast.MappingValueType:
		return "keys with values"
	case ast.SequenceType:
		return "a list"
	case ast.NullType:
		return "nothing"
	default:
		return "a single value"
	}
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
