package cli_test

import (
	"errors"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/commonwatt/commonwatt/agent/cli"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"commonwatt": func() { os.Exit(cli.Main("test", os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) },
	})
}

// TestScript runs testdata/*.txt: what a person types, and what the agent answers.
// Beside testscript's own commands there are
//
//	exits CODE PROGRAM ARGS...   runs it; the exit code must be CODE
//	eventually [grepped RE] PROGRAM ARGS...   runs it until it succeeds and its stdout matches, for a minute
//	occupy VAR                   takes a free TCP port and puts its number into $VAR
//	join FILE ARGS...            commonwatt join with the invitation in FILE
//	request VAR HOME             puts the id of the one that asks HOME's community into $VAR
//	words HOME FILE              writes HOME's recovery words into FILE
//	rehearse PROGRAM ARGS...     runs it, and gives back the words that it shows
//	notify                       opens a service manager's socket, $NOTIFY_SOCKET
//	notified WORD...             waits until it has heard these words in this order
//	registers VAR FILE           serves the registers in FILE by Modbus TCP on the port $VAR
//	card..., see cards
func TestScript(t *testing.T) {
	example, err := filepath.Abs("../../configs/worked-example.json")
	if err != nil {
		t.Fatal(err)
	}
	proofs, err := filepath.Abs("../bill/testdata")
	if err != nil {
		t.Fatal(err)
	}
	trust, err := os.ReadFile(filepath.Join(proofs, "march.trust"))
	if err != nil {
		t.Fatal(err)
	}
	heard := new(manager)
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true,
		Setup: func(e *testscript.Env) error {
			e.Setenv("EXAMPLE", example)
			e.Setenv("CONFIGS", filepath.Dir(example))
			e.Setenv("PROOF", filepath.Join(proofs, "march.proof.json"))
			e.Setenv("TRUST", strings.TrimSpace(string(trust)))
			return nil
		},
		Cmds: allCommands(map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"exits":      exits,
			"eventually": eventually,
			"occupy":     occupy,
			"registers":  registers,
			"join":       joinCommand,
			"request":    request,
			"words":      words,
			"rehearse":   rehearse,
			"notify":     heard.notify,
			"notified":   heard.notified,
		}),
	})
}

func allCommands(more map[string]func(ts *testscript.TestScript, neg bool, args []string)) map[string]func(ts *testscript.TestScript, neg bool, args []string) {
	all := cards()
	maps.Copy(all, more)
	return all
}

func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE PROGRAM ARGS...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	got := 0
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		got = exit.ExitCode()
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

func eventually(ts *testscript.TestScript, neg bool, args []string) {
	match := regexp.MustCompile("")
	if len(args) > 2 && args[0] == "grepped" {
		match, args = regexp.MustCompile(args[1]), args[2:]
	}
	if neg || len(args) < 1 {
		ts.Fatalf("usage: eventually [grepped RE] PROGRAM ARGS...")
	}
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(time.Minute); ; <-tick.C {
		err := ts.Exec(args[0], args[1:]...)
		if err == nil && match.MatchString(ts.ReadFile("stdout")) {
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("never: %v", err)
		}
	}
}

func occupy(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: occupy VAR")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	ts.Defer(func() { _ = l.Close() })
	_, port, err := net.SplitHostPort(l.Addr().String())
	ts.Check(err)
	ts.Setenv(args[0], port)
}
