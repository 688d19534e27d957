package def

import (
	"fmt"
	"strings"
)

// Problem is a mistake in a definition file.
type Problem struct {
	// File is as it was given; empty where there is none. Line and Column count from 1.
	File   string `json:"file"`
	Line   int    `json:"line"`
	Column int    `json:"column"`
	// Key is the way to the value, such as points.import.address.
	Key string `json:"key"`
	// Reason says what was got and what would be right.
	Reason string `json:"reason"`
}

func (p Problem) String() string {
	var b strings.Builder
	switch {
	case p.File != "":
		fmt.Fprintf(&b, "%s:%d:%d: ", p.File, p.Line, p.Column)
	case p.Line > 0:
		fmt.Fprintf(&b, "line %d: ", p.Line)
	}
	if p.Key != "" {
		b.WriteString(p.Key + ": ")
	}
	b.WriteString(p.Reason)
	return b.String()
}

// Problems are the mistakes in one file, one a line. It is an ErrInvalid.
type Problems []Problem

func (p Problems) Error() string {
	lines := make([]string, len(p))
	for i := range p {
		lines[i] = p[i].String()
	}
	return strings.Join(lines, "\n")
}

// Is makes every Problems an ErrInvalid.
func (p Problems) Is(target error) bool { return target == ErrInvalid }
