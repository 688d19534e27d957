package demo_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/commonwatt/commonwatt/agent/altered"
	"github.com/commonwatt/commonwatt/agent/api"
)

// lieEnv tells the lying validator which file says what to lie about.
const lieEnv = "COMMONWATT_LIE"

// buildLiar builds the program that lies beside the others; a test that runs in namespaces of
// its own finds it there. Its answers are those of a validator that lies, and when it joins
// its clock is three hours behind.
func buildLiar(t *testing.T) string {
	t.Helper()
	program := filepath.Join(filepath.Dir(commonwatt(t)), "liar")
	if _, err := os.Stat(program); err == nil {
		return program
	}
	replace, err := altered.Replacements(t.Context(), "liar")
	if err != nil {
		t.Fatal(err)
	}
	const join, right, wrong = "agent/cli/join.go", "{now: time.Now}", "{now: func() time.Time { return time.Now().Add(-3 * time.Hour) }}"
	root, err := altered.Root(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(filepath.Join(root, join))
	if err != nil {
		t.Fatal(err)
	}
	if strings.Count(string(raw), right) != 1 {
		t.Fatalf("%s: %q is not there once", join, right)
	}
	replace[join] = filepath.Join(t.TempDir(), "join.go")
	if err := os.WriteFile(replace[join], []byte(strings.Replace(string(raw), right, wrong, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := altered.Build(t.Context(), program, replace); err != nil {
		t.Fatal(err)
	}
	return program
}

// meets has somebody in house a join with the words of an invitation alone: the home that
// gave it is in the same house and found there. Whose clock is wrong is told so.
func (h *houses) meets(late string) {
	h.t.Helper()
	const beside = first + 1 // a home of the same house
	var words []string
	for line := range strings.SplitSeq(h.types(first, "community", "invite", "--home", h.home(first)), "\n") {
		if numbered.MatchString(line) {
			words = append(words, line)
		}
	}
	join := []string{"join", strings.Join(words, "\n"), "--home", filepath.Join(h.dir, "newcomer"), "--words-later", "--no-wait"}
	cmd := h.bed.Command(h.t.Context(), h.lives[beside-1].place, append([]string{late}, join...)...)
	out, err := cmd.CombinedOutput()
	if said := string(out); err == nil || !strings.Contains(said, "error: clocks differ: this machine's says ") ||
		!strings.Contains(said, "hint: set this machine's clock: ") {
		h.t.Errorf("joining with a clock that is late: %v\n%s", err, said)
	}
	if said := h.types(beside, join...); !strings.Contains(said, " asks for admission") {
		h.t.Errorf("joining with words: %s", said)
	}
}

var numbered = regexp.MustCompile(`^ *[0-9]+\. +[a-z]+`)

// lies has the founder, whom the light home asks first, run a program that lies. Each time
// the light home finds it out, names it with what it lied about, follows the ledger by those
// who do not lie, and proves its bill.
func (h *houses) lies(liar string) {
	h.t.Helper()
	lie := h.write("lie", "")
	h.agent[founder]()
	h.runAgent(founder, "env", lieEnv+"="+lie, liar)
	for _, l := range []struct{ about, why string }{
		{"balance", " gave a household "},
		{"settlement", " withholds settlements of "},
		{"header", " forged the header of block "},
	} {
		h.agent[light]()
		h.write("lie", l.about)
		h.runAgent(light, commonwatt(h.t))
		var said string
		h.until("the lie about a "+l.about+" is found", func() bool {
			said = h.accused(light, founder)
			return said != ""
		})
		if !strings.Contains(said, l.why) || !strings.Contains(said, "corner") {
			h.t.Errorf("the lie about a %s: %q; want corner in it and %q", l.about, said, l.why)
		}
		begin := h.newestOf(light)
		h.until("the light home goes on", func() bool { return h.newestOf(light) > begin })
		if out := h.types(light, "status", "--home", h.home(light)); !strings.Contains(out, said) {
			h.t.Errorf("the status does not say %q:\n%s", said, out)
		}
		if said := h.accused(light, first, first+1, far); said != "" {
			h.t.Errorf("an honest home is named: %s", said)
		}
		h.proves(light)
	}
	h.write("lie", "")
}

// accused is what home n shows about lies of one of these.
func (h *houses) accused(n int, liars ...int) string {
	var s api.Status
	if !h.get(n, "/api/status", &s) {
		return ""
	}
	for _, p := range s.Problems {
		for _, liar := range liars {
			if p.Code == "provider-lied" && strings.Contains(p.Text, h.ids[liar-1]) {
				return p.Text
			}
		}
	}
	return ""
}
