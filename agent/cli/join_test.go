package cli_test

import (
	"encoding/json"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"
)

func joinCommand(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 1 {
		ts.Fatalf("usage: join FILE ARGS...")
	}
	err := ts.Exec("commonwatt", append([]string{"join", strings.TrimSpace(ts.ReadFile(args[0]))}, args[1:]...)...)
	if neg != (err != nil) {
		ts.Fatalf("commonwatt join: %v", err)
	}
}

func request(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: request VAR HOME")
	}
	ts.Check(ts.Exec("commonwatt", "community", "requests", "--home", args[1], "--output", "json"))
	var rows []struct{ ID string }
	ts.Check(json.Unmarshal([]byte(ts.ReadFile("stdout")), &rows))
	if len(rows) != 1 {
		ts.Fatalf("%d requests, want 1", len(rows))
	}
	ts.Setenv(args[0], rows[0].ID)
}
