package bill_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/commonwatt/commonwatt/agent/bill"
	"github.com/commonwatt/commonwatt/market"
	"github.com/commonwatt/commonwatt/market/ledger"
	"github.com/commonwatt/commonwatt/market/ledger/ledgertest"
)

// A proof proves the Statement that the ledger's own history gives.
func TestProof(t *testing.T) {
	s := overMonths(t)
	for _, h := range s.homes {
		for m := march; m <= march+1; m++ {
			done := 0
			verdict, err := bill.Verify(s.proof(h.ID, m), s.trust(), func(n, of int) {
				if done++; n != done || of < n {
					t.Errorf("progress %d of %d after %d", n, of, done)
				}
			})
			if err != nil {
				t.Fatalf("%s: %v", m, err)
			}
			st := s.statement(h.ID, m)
			for i := range st.Days {
				for j := range st.Days[i].Lines {
					st.Days[i].Lines[j].Block = 0 // in which block something was settled, no header says
				}
			}
			got, want := toJSON(t, verdict.Statement), toJSON(t, st)
			if got != want {
				t.Errorf("%s: proven statement differs:\n%.3000s\n%.3000s", m, got, want)
			}
			if done != st.Totals.Lines || verdict.Votes != 3 || verdict.Of != 4 || verdict.Height != s.height+1 || verdict.Decisions != 0 {
				t.Errorf("%s: %d lines, verdict %+v", m, done, verdict)
			}
		}
	}
	if _, err := s.store.Prune(march); err != nil {
		t.Fatal(err)
	}
	raw := s.proof(s.homes[0].ID, march)
	verdict, err := bill.Verify(raw, s.trust(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if st := verdict.Statement; !st.Pruned || st.Totals.Net == 0 || st.Totals.Closing != st.Totals.Net {
		t.Errorf("pruned: %+v", verdict.Statement.Totals)
	}
}

func toJSON(t *testing.T, v any) string {
	t.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// section is where in the file a text line is.
type section struct {
	key  string // of the file itself
	line int    // of the statement, from 1 on
}

var topKey = regexp.MustCompile(`^ "([a-z_]+)":`)

// sections says of each byte in which section it is.
func sections(raw []byte) []section {
	var out []section
	var at section
	for _, text := range bytes.SplitAfter(raw, []byte("\n")) {
		if m := topKey.FindSubmatch(text); m != nil {
			at = section{key: string(m[1])}
		}
		if at.key == "lines" && bytes.HasPrefix(text, []byte("  {")) {
			at.line++
		}
		for range text {
			out = append(out, at)
		}
	}
	return out
}

// places are the words that must be in the message when something of a section has been
// changed.
func (s section) places() []string {
	switch s.key {
	case "lines":
		if s.line > 0 {
			return []string{fmt.Sprintf("line %d (", s.line), fmt.Sprintf("line %d:", s.line)}
		}
	case "signed":
		return []string{"header", "signatures", "commit", "changes"}
	case "record":
		return []string{"record", "household"}
	case "totals":
		return []string{"totals", "month"}
	}
	return []string{s.key}
}

// B6: whatever character of a proof is changed, it does not verify, and what is said
// about it names the place.
func TestProofEachCharacter(t *testing.T) {
	t.Run("open", func(t *testing.T) {
		s := newStreet(t, nil)
		s.live(4)
		s.changeValidators(append(s.validators[:3:3], ledgertest.Key("validator/4"))...)
		s.live(1)
		// The characters of headers and changes are tried one by one where they are checked.
		changeEach(t, s.proof(s.homes[0].ID, march), s.trust(), []string{"signed"})
	})
	t.Run("closed", func(t *testing.T) {
		s := newStreetAt(t, time.Date(2026, time.March, 31, 21, 0, 0, 0, time.UTC), nil)
		s.live(36)
		raw := s.proof(s.homes[0].ID, march)
		if !bytes.Contains(raw, []byte(`"before"`)) {
			t.Fatal("the month is not closed")
		}
		changeEach(t, raw, s.trust(), []string{"lines", "signed", "clock"}) // as in the other
	})
}

// stride is 1 but under the race detector.
var stride = 1

// changeEach changes every character, of some sections each seventh. All bytes of the genesis
// document are one hash.
func changeEach(t *testing.T, raw []byte, trust [32]byte, some []string) {
	t.Helper()
	where := sections(raw)
	tried, named := 0, 0
	for i, c := range raw {
		if where[i].key == "genesis" && i%13 != 0 || slices.Contains(some, where[i].key) && i%7 != 0 || i%stride != 0 {
			continue
		}
		var others string
		switch {
		case c >= '0' && c <= '9':
			others = string('0' + (c-'0'+1)%10)
		case c >= 'a' && c <= 'z':
			others = string('a' + (c-'a'+1)%26)
		case c == ' ' || c == '\n':
			continue
		default:
			others = "7"
		}
		for _, other := range []byte(others) {
			bad := bytes.Clone(raw)
			bad[i] = other
			tried++
			_, err := bill.Verify(bad, trust, nil)
			around := bad[max(0, i-40):min(len(bad), i+20)]
			var mismatch *bill.Mismatch
			switch {
			case err == nil:
				t.Fatalf("byte %d changed from %q to %q, and it verifies: %s", i, c, other, around)
			case errors.Is(err, bill.ErrNotProof):
			case !errors.As(err, &mismatch):
				t.Fatalf("byte %d: %v is neither", i, err)
			default:
				named++
				found := false
				for _, p := range where[i].places() {
					found = found || strings.Contains(err.Error(), p)
				}
				if !found {
					t.Errorf("byte %d changed from %q to %q in %+v: says %v: %s", i, c, other, where[i], err, around)
				}
			}
		}
	}
	t.Logf("%d bytes, %d changes, %d of them named by place", len(raw), tried, named)
	if tried < 2000/stride || named < tried/2 {
		t.Errorf("%d changes, %d named", tried, named)
	}
}

// edit is a proof as loose JSON, for changes of more than a character.
type edit = map[string]any

func number(v any) json.Number { return json.Number(fmt.Sprint(v)) }

// What somebody would do who wants another bill, step by step as far as one can get
// without the validators' keys; each is named.
func TestProofForged(t *testing.T) {
	s := newStreet(t, nil)
	s.live(20)
	own, other := s.proof(s.homes[0].ID, march), s.proof(s.homes[1].ID, march)
	load := func(raw []byte) edit {
		var e edit
		dec := json.NewDecoder(bytes.NewReader(raw))
		dec.UseNumber()
		if err := dec.Decode(&e); err != nil {
			t.Fatal(err)
		}
		return e
	}
	lines := func(e edit) []any { return e["lines"].([]any) }
	line := func(e edit, i int) edit { return lines(e)[i].(edit) }
	sub := func(e edit, key string) edit { return e[key].(edit) }
	for name, c := range map[string]struct {
		change func(e edit)
		says   string
	}{
		"nothing":        {func(edit) {}, ""},
		"swapped name":   {func(e edit) { e["household"] = s.homes[1].ID.String() }, "household: got"},
		"swapped record": {func(e edit) { e["record"], e["household"] = load(other)["record"], s.homes[1].ID.String() }, "line 1"},
		"swapped lines":  {func(e edit) { e["lines"] = load(other)["lines"] }, "line 1"},
		"swapped totals": {func(e edit) { e["totals"] = load(other)["totals"] }, "totals"},
		"all but the path": {func(e edit) {
			p := sub(e, "record")["proof"]
			o := load(other)
			sub(o, "record")["proof"] = p
			for k := range e {
				e[k] = o[k]
			}
		}, "record"},
		"truncated":             {func(e edit) { e["lines"] = lines(e)[:9] }, "totals: lines"},
		"truncated and counted": {func(e edit) { e["lines"] = lines(e)[:9]; sub(e, "totals")["lines"] = number(9) }, "totals: sold_wh"},
		"first missing":         {func(e edit) { e["lines"] = lines(e)[1:]; sub(e, "totals")["lines"] = number(len(lines(e))) }, "line 1"},
		"reordered":             {func(e edit) { l := lines(e); l[3], l[4] = l[4], l[3] }, "line 4"},
		"duplicated": {func(e edit) {
			l := lines(e)
			e["lines"] = append(l[:5:5], l[4:]...)
			sub(e, "totals")["lines"] = number(len(l) + 1)
		}, "line 6"},
		"duplicated and renumbered": {func(e edit) { l := lines(e); l[5] = cloned(t, l[4]); line(e, 5)["number"] = number(6) }, "line 6"},
		"another month":             {func(e edit) { e["month"] = "2026-04"; sub(e, "totals")["month"] = "2026-04" }, "line 1"},
		"cheaper":                   {func(e edit) { m := line(e, 0)["moves"].([]any)[0].(edit); m["amount"] = number(1) }, "line 1 (2026-03-28T23:15:00+01:00): moves[0]: got"},
		"other way round":           {func(e edit) { m := line(e, 0)["moves"].([]any)[0].(edit); m["from"], m["to"] = m["to"], m["from"] }, "line 1"},
		"to nobody":                 {func(e edit) { line(e, 0)["moves"].([]any)[0].(edit)["to"] = "me" }, "there is no account"},
		"move left out":             {func(e edit) { m := line(e, 0)["moves"].([]any); line(e, 0)["moves"] = m[1:] }, "line 1"},
		"better price":              {func(e edit) { line(e, 2)["feed_in"] = number(90_000) }, "feed_in: got 90000"},
		"less energy":               {func(e edit) { line(e, 2)["import_wh"] = number(1) }, "alone"},
		"other rule":                {func(e edit) { line(e, 2)["rule"] = "mcafee" }, "rule: got mcafee, the community's is uniform"},
		"unknown rule":              {func(e edit) { line(e, 2)["rule"] = "mine" }, "rule: got"},
		"other order":               {func(e edit) { line(e, 2)["offer"] = number(7) }, "line 3"},
		"other quality":             {func(e edit) { line(e, 2)["quality"] = "estimated" }, "line 3"},
		"unknown quality":           {func(e edit) { line(e, 2)["quality"] = "best" }, "quality"},
		"richer":                    {func(e edit) { sub(e, "record")["balance"] = number(1_000_000) }, "record: its fields hash to"},
		"declared pruned":           {func(e edit) { e["pruned"] = true }, "pruned"},
		"pruned":                    {func(e edit) { e["pruned"], e["lines"] = true, []any{} }, "pruned"},
		"rules changed":             {func(e edit) { sub(e, "clock")["decisions"] = number(1) }, "clock"},
		"no header":                 {func(e edit) { e["signed"] = nil }, "signed: there is no header"},
		"older header":              {func(e edit) { sub(sub(e, "signed"), "header")["app_hash"] = strings.Repeat("0", 64) }, "the validators signed"},
		"no path":                   {func(e edit) { sub(sub(e, "record"), "proof")["path"] = []any{} }, "record: proof: the path leads to"},
		"two hashes": {func(e edit) {
			p := sub(sub(e, "record"), "proof")["path"].([]any)[0].(edit)
			p["left"], p["right"] = strings.Repeat("0", 64), strings.Repeat("0", 64)
		}, "path[0]"},
		"forged signature": {func(e edit) {
			v := sub(sub(e, "signed"), "commit")["votes"].([]any)
			v[0].(edit)["signature"] = v[1].(edit)["signature"]
		}, "commit.votes[0]"},
		"validator gone":   {func(e edit) { c := sub(sub(e, "signed"), "commit"); v := c["votes"].([]any); c["votes"] = v[:3] }, "commit.votes"},
		"own community":    {func(e edit) { sub(e, "genesis")["chain_id"] = "sim-mine" }, "genesis: the document hashes to"},
		"community's name": {func(e edit) { e["community"] = "sim-mine" }, "community"},
		"other currency":   {func(e edit) { e["currency"] = "USD" }, "currency"},
		"a null list":      {func(e edit) { e["lines"] = nil }, ""},
	} {
		e := load(own)
		c.change(e)
		_, err := bill.Verify(inOrder(t, e, own), s.trust(), nil)
		switch {
		case name == "nothing":
			if err != nil {
				t.Fatalf("unchanged: %v", err)
			}
		case err == nil || !strings.Contains(err.Error(), c.says):
			t.Errorf("%s: got %v, want an error that says %q", name, err, c.says)
		}
	}
}

func cloned(t *testing.T, v any) any {
	t.Helper()
	var out any
	dec := json.NewDecoder(strings.NewReader(toJSON(t, v)))
	dec.UseNumber()
	if err := dec.Decode(&out); err != nil {
		t.Fatal(err)
	}
	return out
}

// inOrder writes loose JSON as a proof file, in the order of keys that it has to have, if
// it can be read as one at all.
func inOrder(t *testing.T, e edit, own []byte) []byte {
	t.Helper()
	genesis := e["genesis"]
	delete(e, "genesis")
	var p bill.Proof
	if err := json.Unmarshal([]byte(toJSON(t, e)), &p); err != nil {
		t.Fatal(err)
	}
	var good bill.Proof
	if err := json.Unmarshal(own, &good); err != nil {
		t.Fatal(err)
	}
	p.Genesis = good.Genesis
	if g := genesis.(edit); g["chain_id"] != "sim-street" {
		p.Genesis = bytes.Replace(p.Genesis, []byte("sim-street"), []byte("sim-mine"), 1)
	}
	raw, err := p.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// A proof file of this version stays one: it is what the command's own test verifies, too.
func TestProofFile(t *testing.T) {
	s := newStreet(t, nil)
	s.live(6)
	golden(t, "march.proof.json", string(s.proof(s.homes[1].ID, march)))
	golden(t, "march.trust", fmt.Sprintf("%x\n", s.trust()))
}

func TestNotProof(t *testing.T) {
	s := newStreet(t, nil)
	s.live(4)
	raw := s.proof(s.homes[0].ID, march)
	for name, bad := range map[string][]byte{
		"nothing":      nil,
		"text":         []byte("Dear member"),
		"an array":     []byte("[]"),
		"null":         []byte("null"),
		"empty":        []byte("{}"),
		"half":         raw[:len(raw)/2],
		"more":         append(bytes.Clone(raw), '{'),
		"other":        bytes.Replace(raw, []byte(bill.ProofFormat), []byte("commonwatt-proof/3"), 1),
		"unknown key":  bytes.Replace(raw, []byte(`"community"`), []byte(`"comunity": 1, "community"`), 1),
		"key twice":    bytes.Replace(raw, []byte(` "pruned"`), []byte(` "currency": "EUR", "pruned"`), 1),
		"capital key":  bytes.Replace(raw, []byte(`"pruned"`), []byte(`"Pruned"`), 1),
		"escaped":      bytes.Replace(raw, []byte(`"EUR"`), []byte(`"EU\u0052"`), 1),
		"fraction":     bytes.Replace(raw, []byte(`"number": 1,`), []byte(`"number": 1.0,`), 1),
		"too large":    bytes.Repeat([]byte(" "), bill.MaxProofBytes+1),
		"capital hash": bytes.ToUpper(raw),
	} {
		if _, err := bill.Verify(bad, s.trust(), nil); !errors.Is(err, bill.ErrNotProof) {
			t.Errorf("%s: got %v, want ErrNotProof", name, err)
		}
	}
	if _, err := bill.Verify(raw, [32]byte{1}, nil); err == nil || !strings.Contains(err.Error(), "genesis: the document hashes to") {
		t.Errorf("another community trusted: %v", err)
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, raw); err != nil {
		t.Fatal(err)
	}
	if _, err := bill.Verify(compact.Bytes(), s.trust(), nil); err != nil {
		t.Errorf("without white space: %v", err)
	}
}

// Islanded, with a community fee of nothing, and a rule that does not pay the node's price.
func TestProofOfOtherRules(t *testing.T) {
	changes := map[string]func(*ledger.Rules){
		"islanded": func(r *ledger.Rules) { r.Tariff = nil },
		"island tariff": func(r *ledger.Rules) {
			r.Tariff, r.IslandTariff = nil, &ledger.Tariff{ImportPrice: 400_000, ExportPrice: 50_000}
		},
		"metered": func(r *ledger.Rules) { r.Clearing = ledger.ClearingMetered },
	}
	for _, rule := range market.Rules() {
		r := ledger.DefaultRules()
		if r.Rule = rule; r.Validate() != nil {
			continue // no ledger can have it
		}
		changes[rule] = func(r *ledger.Rules) { r.Rule = rule }
	}
	for name, change := range changes {
		t.Run(name, func(t *testing.T) {
			s := newStreet(t, change)
			s.live(30)
			for _, h := range s.homes {
				raw := s.proof(h.ID, march)
				if _, err := bill.Verify(raw, s.trust(), nil); err != nil {
					t.Error(err)
				}
			}
			checkJournals(t, name, s.statement(s.homes[0].ID, march))
		})
	}
}

func FuzzVerify(f *testing.F) {
	s := newStreet(f, nil)
	s.live(5)
	raw, trust := s.proof(s.homes[0].ID, march), s.trust()
	f.Add(raw)
	f.Add([]byte(`{"format": "commonwatt-proof/2"}`))
	var good bytes.Buffer
	if err := json.Compact(&good, raw); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		_, err := bill.Verify(b, trust, nil)
		if err != nil {
			return
		}
		var same bytes.Buffer
		if err := json.Compact(&same, b); err != nil || !bytes.Equal(same.Bytes(), good.Bytes()) {
			t.Errorf("another file verifies: %.3000s", b)
		}
	})
}
