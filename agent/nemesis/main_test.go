package main

import (
	"bytes"
	"encoding/json"
	"os"
	"testing"
)

// TestMain is the command itself where it was started again in namespaces of its own.
func TestMain(m *testing.M) {
	if os.Getenv(insideEnv) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// TestNemesis is the short form: one of each cheap fault, and a street that keeps its promises.
func TestNemesis(t *testing.T) {
	var out, errs bytes.Buffer
	code := command(t.Context(), []string{"-seed", "7"}, &out, &errs)
	t.Logf("%s", errs.String())
	var s summary
	if err := json.Unmarshal(out.Bytes(), &s); err != nil {
		t.Fatalf("the last line: %v\n%s", err, out.String())
	}
	if code != 0 || !s.good() || s.Seed != 7 {
		t.Errorf("exit code %d: %s", code, out.String())
	}
	if s.Acknowledged < 20 || s.OpsByKind[opReport] < 20 || s.OpsByKind[opOrder] < 5 {
		t.Errorf("too little was tried: %s", out.String())
	}
}
