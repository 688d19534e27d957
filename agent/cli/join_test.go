package cli_test

import (
	"bufio"
	"encoding/json"
	"os"
	"os/exec"
	"regexp"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/commonwatt/commonwatt/agent/household"
	"github.com/commonwatt/commonwatt/agent/paper"
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

// words writes the recovery words of a home into a file, as if from its paper.
func words(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: words HOME FILE")
	}
	keys, err := household.LoadKeys(ts.MkAbs(args[0]))
	ts.Check(err)
	text := strings.Join(paper.RecoveryWords([32]byte(keys.Household.Seed())), " ") + "\n"
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), []byte(text), 0o600))
}

// rehearse runs a command that shows the recovery words, and gives back those that it asks for.
func rehearse(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: rehearse PROGRAM ARGS...")
	}
	program, err := exec.LookPath(args[0])
	ts.Check(err)
	c := exec.Command(program, args[1:]...) // it ends with its input
	c.Dir = ts.MkAbs(".")
	in, err := c.StdinPipe()
	ts.Check(err)
	out, err := c.StdoutPipe()
	ts.Check(err)
	c.Stderr = c.Stdout
	ts.Check(c.Start())
	shown, mistaken := map[string]string{}, false
	numbered := regexp.MustCompile(`(\d+)\. ([a-z]+)`)
	text := bufio.NewReader(out)
	var line strings.Builder
	for {
		b, err := text.ReadByte()
		if err != nil {
			break
		}
		line.WriteByte(b)
		if at, ok := strings.CutPrefix(strings.TrimSuffix(line.String(), ": "), "word "); ok && strings.HasSuffix(line.String(), ": ") {
			answer := shown[at]
			if !mistaken { // the first answer is a mistake, of which it is told
				answer, mistaken = "zebra-crossing", true
			}
			_, err := in.Write([]byte(answer + "\n"))
			ts.Check(err)
			line.Reset()
		}
		if b == '\n' {
			for _, m := range numbered.FindAllStringSubmatch(line.String(), -1) {
				shown[m[1]] = m[2]
			}
			line.Reset()
		}
	}
	ts.Check(c.Wait())
	if len(shown) != paper.RecoveryCount {
		ts.Fatalf("%d words were shown", len(shown))
	}
}
