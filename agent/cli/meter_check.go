package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/commonwatt/commonwatt/meter"
	"github.com/commonwatt/commonwatt/meter/def"
)

func newMeterCheck(s streams) *cobra.Command {
	var output string
	c := &cobra.Command{
		Use:   "check FILE...",
		Short: "Check device definitions of your own and run their test vectors",
		Long: `Checks definition files: their form, and that each test vector in them gives what it
expects, by the code that reads real devices. A folder stands for all its *.yaml. See
docs/meters.md for how to write one.

Every mistake is a line FILE:LINE:COLUMN: KEY: REASON on stdout. Exit code 0 if all is
right, 2 if not.`,
		Example: `  commonwatt meter check my-meter.yaml
  commonwatt meter check ./my-devices --output json`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error { return checkDefinitions(s.out, output, args) },
	}
	addOutput(c, &output, "table", "json")
	return c
}

// checkedFile is what came of one file.
type checkedFile struct {
	File     string        `json:"file"`
	ID       string        `json:"id,omitempty"`
	Version  int           `json:"version,omitempty"`
	Vectors  int           `json:"vectors"`
	Problems []def.Problem `json:"problems"`
}

func checkDefinitions(out io.Writer, output string, args []string) error {
	files, err := definitionFiles(args)
	if err != nil {
		return err
	}
	results := make([]checkedFile, 0, len(files))
	first := map[string]string{} // id → file
	problems, bad := 0, 0
	for _, name := range files {
		r, err := checkDefinition(name)
		if err != nil {
			return err
		}
		if other, twice := first[r.ID]; twice && r.ID != "" {
			r.Problems = append(r.Problems, def.Problem{File: name, Line: 1, Column: 1, Key: "id", Reason: fmt.Sprintf("%q is also the id of %s", r.ID, other)})
		}
		first[r.ID] = name
		problems += len(r.Problems)
		if len(r.Problems) > 0 {
			bad++
		}
		results = append(results, r)
	}
	if err := printFiles(out, output, results); err != nil {
		return err
	}
	if bad > 0 {
		return usagef("%s in %d of %s", count(problems, "mistake"), bad, count(len(files), "definition"))
	}
	return nil
}

func passed(vectors int) string {
	if vectors == 1 {
		return "its test vector passes"
	}
	return fmt.Sprintf("its %d test vectors pass", vectors)
}

// count is "1 mistake", "2 mistakes".
func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// definitionFiles replaces folders by the definitions in them.
func definitionFiles(args []string) ([]string, error) {
	var files []string
	for _, name := range args {
		info, err := os.Stat(name)
		if err != nil {
			return nil, &problem{exitUsage, err, "expected definition files, or a folder of them"}
		}
		if !info.IsDir() {
			files = append(files, name)
			continue
		}
		inside, err := filepath.Glob(filepath.Join(name, "*.yaml"))
		if err != nil || len(inside) == 0 {
			return nil, usagef("%s: got a folder without *.yaml, want definitions", name)
		}
		files = append(files, inside...)
	}
	return files, nil
}

func checkDefinition(name string) (checkedFile, error) {
	r := checkedFile{File: name, Problems: []def.Problem{}}
	d, err := meter.CheckFile(name)
	if problems, ok := errors.AsType[def.Problems](err); ok {
		r.Problems = problems
	} else if err != nil {
		return r, &problem{exitUsage, err, ""}
	}
	r.ID, r.Version, r.Vectors = d.ID, d.Version, len(d.Tests)
	if d.Control != nil {
		r.Vectors += len(d.Control.Tests)
	}
	return r, nil
}

func printFiles(out io.Writer, output string, results []checkedFile) error {
	if output == "json" {
		enc := json.NewEncoder(out)
		enc.SetIndent("", "  ")
		return enc.Encode(results)
	}
	for _, r := range results {
		if len(r.Problems) == 0 {
			if _, err := fmt.Fprintf(out, "%s: %s@%d is right, %s\n", r.File, r.ID, r.Version, passed(r.Vectors)); err != nil {
				return err
			}
		}
		for _, p := range r.Problems {
			if _, err := fmt.Fprintln(out, p); err != nil {
				return err
			}
		}
	}
	return nil
}

// badDefinition is the error of a folder with a definition that is not right.
func badDefinition(err error) error {
	if errors.Is(err, def.ErrInvalid) {
		return &problem{exitUsage, err, "`commonwatt meter check FILE` shows all that is wrong with a definition"}
	}
	return err
}
