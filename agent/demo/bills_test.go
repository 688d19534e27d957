package demo_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/commonwatt/commonwatt/agent/bill"
	"github.com/commonwatt/commonwatt/agent/demo"
)

// output runs the command and returns what it writes to stdout.
func output(t *testing.T, args ...string) []byte {
	t.Helper()
	var errs bytes.Buffer
	cmd := exec.Command(commonwatt(t), args...)
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("commonwatt %s: %v\n%s", strings.Join(args, " "), err, errs.String())
	}
	return out
}

// judge has hledger or bean-check judge a journal.
func judge(t *testing.T, format, file string) {
	t.Helper()
	program, packet, args := "hledger", "hledger", []string{"-f", file, "check", "--strict", "ordereddates", "uniqueleafnames", "payees"}
	if format == "beancount" {
		program, packet, args = "bean-check", "beancount", []string{file}
	}
	if _, err := exec.LookPath(program); err != nil {
		t.Fatalf("%s is not installed: apt-get install %s", program, packet)
	}
	cmd := exec.Command(program, args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%s on %s: %v\n%.2000s", program, filepath.Base(file), err, out)
	}
}

// checkBooks holds the bills of a street that has ended against its report, and has the
// programs that people keep books with check them, and all of the ledger.
func checkBooks(t *testing.T, dir string, r *demo.Report) {
	t.Helper()
	for i, h := range r.Households[:len(r.Nodes)] { // a light home's bill needs its agent, see checkProofs
		home := filepath.Join(dir, "homes", fmt.Sprint("home-", i+1))
		var st bill.Statement
		if err := json.Unmarshal(output(t, "bill", "--home", home, "--output", "json"), &st); err != nil {
			t.Fatal(err)
		}
		if st.Totals.Closing != h.Balance || st.Totals.Import != h.ImportWh || st.Totals.Export != h.ExportWh {
			t.Errorf("%s: the bill has balance %d, import %d, export %d; the report %d, %d, %d",
				h.Name, st.Totals.Closing, st.Totals.Import, st.Totals.Export, h.Balance, h.ImportWh, h.ExportWh)
		}
		for _, format := range []string{"hledger", "beancount"} {
			file := filepath.Join(t.TempDir(), h.Name+"."+format)
			if err := os.WriteFile(file, output(t, "bill", "--home", home, "--output", format), 0o600); err != nil {
				t.Fatal(err)
			}
			judge(t, format, file)
		}
	}
	for _, format := range []string{"hledger", "beancount"} {
		file := filepath.Join(t.TempDir(), "all."+format)
		output(t, "ledger", "export", filepath.Join(dir, "homes", "home-1"), "--format", format, "--out", file)
		judge(t, format, file)
	}
}

// checkProofs asks running agents for their bills with proofs, verifies them, and flips a
// digit of one.
func checkProofs(t *testing.T, dir string, homes int) {
	t.Helper()
	trust := strings.TrimSpace(string(output(t, "ledger", "genesis-hash", filepath.Join(dir, "homes", "home-1"))))
	file := filepath.Join(t.TempDir(), "proof.json")
	for i := range homes {
		output(t, "bill", "--home", filepath.Join(dir, "homes", fmt.Sprint("home-", i+1)), "--proof", file)
		if out := output(t, "verify", file, "--trust", trust); !bytes.Contains(out, []byte(": verified: ")) {
			t.Errorf("home-%d: %s", i+1, out)
		}
	}
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	const key = `"import_wh": ` // first in the totals
	at := bytes.Index(raw, []byte(key)) + len(key)
	raw[at] = '1' + (raw[at]-'0')%9
	if err := os.WriteFile(file, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(commonwatt(t), "verify", file, "--trust", trust)
	out, err := cmd.CombinedOutput()
	if err == nil || cmd.ProcessState.ExitCode() != 4 || !strings.Contains(string(out), "error: totals: import_wh: got ") {
		t.Errorf("a flipped digit: %v\n%s", err, out)
	}
}
