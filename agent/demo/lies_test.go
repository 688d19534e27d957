package demo_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/commonwatt/commonwatt/agent/altered"
	"github.com/commonwatt/commonwatt/agent/api"
)

// lieEnv tells the lying validator which file says what to lie about.
const lieEnv = "COMMONWATT_LIE"

// buildLiar builds the validator whose answers lie beside the other programs; a test that
// runs in namespaces of its own finds it there.
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
	if err := altered.Build(t.Context(), program, replace); err != nil {
		t.Fatal(err)
	}
	return program
}

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
