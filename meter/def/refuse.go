package def

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/goccy/go-yaml/token"
)

// refuseText finds what is no text, such as a file in UTF-16 or with a letter in Latin-1: it would be shown as something
// else, and a control character could change what a terminal shows.
func refuseText(text string) *Problem {
	line, start := 1, 0
	for i, r := range text {
		switch {
		case r == '\n':
			line, start = line+1, i+1
		case r == utf8.RuneError && !strings.HasPrefix(text[i:], string(utf8.RuneError)):
			return &Problem{Line: line, Column: i - start + 1, Reason: fmt.Sprintf("got byte 0x%02x, expected UTF-8", text[i])}
		case isControl(r):
			return &Problem{Line: line, Column: i - start + 1, Reason: fmt.Sprintf("got the control character %U, expected text", r)}
		}
	}
	return nil
}

func isControl(r rune) bool { return unicode.IsControl(r) && r != '\n' && r != '\r' && r != '\t' }

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
		case token.TagType:
			why = fmt.Sprintf("got %.40q, expected no tags", t.Value)
		case token.DoubleQuoteType:
			if i := strings.IndexFunc(t.Value, isControl); i >= 0 {
				why = fmt.Sprintf("got the control character %U, expected text", []rune(t.Value[i:])[0])
			}
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
