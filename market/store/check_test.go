package store_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/commonwatt/commonwatt/market"
	"github.com/commonwatt/commonwatt/market/ledger"
	"github.com/commonwatt/commonwatt/market/ledger/ledgertest"
	"github.com/commonwatt/commonwatt/market/store"
)

func entries(t *testing.T, path string) []store.Entry {
	t.Helper()
	all, err := store.Entries(path)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// TestCheckNamesRecord flips one bit in the stored bytes of records of every sort:
// Check names that very record.
func TestCheckNamesRecord(t *testing.T) {
	s := newStreet(t, 40)
	s.grow(t, 60)
	s.close(t)
	original := readFile(t, s.path)
	all := entries(t, s.path)
	rng := rand.New(rand.NewPCG(41, 0))
	rng.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	tried := map[string]int{}
	path := filepath.Join(t.TempDir(), "flipped.db")
	for _, e := range all {
		sort := e.Bucket + "/" + strings.Fields(e.Record)[0]
		if tried[sort]++; tried[sort] > 4 {
			continue
		}
		b := bytes.Clone(original)
		at := len(e.Key) + rng.IntN(4+len(e.Value)) // its checksum or its value
		for i := 0; ; {                             // free pages may hold the same bytes
			j := bytes.Index(b[i:], e.Stored)
			if j < 0 {
				break
			}
			b[i+j+at] ^= 1 << rng.IntN(8)
			i += j + 1
		}
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		r := s.check(t, path)
		if !slices.ContainsFunc(r.Differences, func(d store.Difference) bool { return d.Record == e.Record && strings.Contains(d.Text, "checksum") }) {
			t.Errorf("%s damaged, Check says:\n%s", e.Record, texts(r))
		}
	}
	if len(tried) < 9 {
		t.Errorf("only these sorts: %v", tried)
	}
}

// TestCheckFindsForgery changes what checksums cannot protect, since whoever writes the
// file can write them too.
func TestCheckFindsForgery(t *testing.T) {
	s := newStreet(t, 42)
	s.grow(t, 80)
	s.close(t)
	all := entries(t, s.path)
	find := func(bucket, record string) store.Entry {
		for _, e := range slices.Backward(all) {
			if e.Bucket == bucket && strings.HasPrefix(e.Record, record) {
				return e
			}
		}
		t.Fatalf("no %s %s", bucket, record)
		return store.Entry{}
	}
	flipped := func(e store.Entry) []byte {
		v := bytes.Clone(e.Value)
		v[len(v)-1] ^= 1
		return v
	}
	settlement, result := find("history", "history of household"), find("history", "history of market")
	stranger := bytes.Clone(settlement.Key)
	stranger[10] ^= 1
	household := market.HouseholdID(settlement.Key[8:24])
	bill, err := ledger.DecodeSettlement(household, settlement.Value[1:]) // behind the height
	if err != nil {
		t.Fatal(err)
	}
	bill.Bought++
	_, _, forged := store.EncodeEvent(ledger.Event{Settlement: bill}, int64(settlement.Value[0]))
	home, hash, money := find("state", "household"), find("blocks", "block 5"), find("state", "account supplier")
	for name, test := range map[string]struct {
		bucket     string
		key, value []byte
		want       []string // records
	}{
		"a balance":            {"state", home.Key, flipped(home), []string{"block 80", home.Record}},
		"an account":           {"state", money.Key, []byte{0}, []string{"state", "block 80", "account supplier"}},
		"a record removed":     {"state", money.Key, nil, []string{"state", "block 80", "account supplier"}},
		"a record added":       {"state", []byte("aisland"), []byte{0}, []string{"block 80", "account island"}},
		"an unknown record":    {"state", []byte("zz"), []byte{0}, []string{"state"}},
		"a bill":               {"history", settlement.Key, forged, []string{settlement.Record, "history of household " + bill.Household.String() + ", month 2026-06"}},
		"a bill removed":       {"history", settlement.Key, nil, []string{settlement.Record, "history of household " + bill.Household.String() + ", month 2026-06"}},
		"a bill moved":         {"history", stranger, settlement.Value, []string{}},
		"garbage for a bill":   {"history", settlement.Key, []byte("x"), []string{settlement.Record}},
		"a result removed":     {"history", result.Key, nil, []string{result.Record, "history of market"}},
		"a short history key":  {"history", []byte{0, 1}, []byte{0}, []string{"history record 0001"}},
		"an old AppHash":       {"blocks", hash.Key, flipped(hash), []string{hash.Record}},
		"a block removed":      {"blocks", hash.Key, nil, []string{hash.Record}},
		"the last removed":     {"blocks", binary.BigEndian.AppendUint64(nil, 80), nil, []string{"block 80"}},
		"a block added":        {"blocks", binary.BigEndian.AppendUint64(nil, 81), hash.Value, []string{"meta height"}},
		"a block far away":     {"blocks", []byte{0xff, 0, 0, 0, 0, 0, 0, 0}, hash.Value, []string{"block 18374686479671623680"}},
		"a short AppHash":      {"blocks", hash.Key, []byte{1}, []string{hash.Record}},
		"a lower height":       {"meta", []byte("height"), binary.BigEndian.AppendUint64(nil, 79), []string{"meta height"}},
		"a height of 2 bytes":  {"meta", []byte("height"), []byte{0, 79}, []string{"meta height"}},
		"no height":            {"meta", []byte("height"), nil, []string{"meta height"}},
		"another transaction":  {"meta", []byte("transaction"), make([]byte, 8), []string{"meta transaction"}},
		"another format":       {"meta", []byte("format"), []byte("x"), []string{"meta format"}},
		"a meta without sense": {"meta", []byte("x"), []byte("x"), []string{"meta x"}},
		"another chain":        {"meta", []byte("chain"), []byte("x"), []string{"meta chain"}},
		"another genesis":      {"state", []byte("g"), []byte("x"), []string{"state"}},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "forged.db")
			copyFile(t, path, s.path)
			if err := store.Tamper(path, test.bucket, test.key, test.value); err != nil {
				t.Fatal(err)
			}
			r := s.check(t, path)
			for _, want := range test.want {
				if !slices.ContainsFunc(r.Differences, func(d store.Difference) bool { return d.Record == want }) {
					t.Errorf("nothing about %q:\n%s", want, texts(r))
				}
			}
			if r.OK() {
				t.Error("nothing found")
			}
			if len(r.Differences) > 30 {
				t.Errorf("%d differences from one change", len(r.Differences))
			}
		})
	}
}

// TestCheckChain compares a good file with chains that it does not come from.
func TestCheckChain(t *testing.T) {
	s := newStreet(t, 43)
	s.grow(t, 30)
	height := s.store.Height()
	ahead, _ := s.next(t)
	s.close(t)
	bent := slices.Clone(s.chain)
	bent[11].AppHash = make([]byte, 32)
	swapped := slices.Clone(s.chain)
	swapped[20].Block.Txs = append(slices.Clone(swapped[20].Block.Txs), ledger.NewTick(ledgertest.New(rules()).First, ledgertest.New(rules()).First, ledgertest.New(rules()).First))
	ticked := slices.Clone(s.chain)
	for i := range ticked {
		if n := len(ticked[i].Block.Txs); i > 15 && n > 0 {
			if tx, err := ledger.DecodeTx(ticked[i].Block.Txs[n-1]); err == nil && tx.Kind() == ledger.KindTick {
				ticked[i].Block.Txs = ticked[i].Block.Txs[:n-1]
				break
			}
		}
	}
	for name, test := range map[string]struct {
		chain []store.Committed
		fail  error
		want  string
	}{
		"the right one":            {s.chain, nil, ""},
		"one block ahead":          {append(slices.Clone(s.chain), ahead), nil, ""},
		"two blocks ahead":         {append(slices.Clone(s.chain), ahead, ahead), nil, "the ledger is at height 30, the chain at 31 or more"},
		"one short":                {s.chain[:29], nil, "chain at height 30: is missing"},
		"none":                     {nil, nil, "chain at height 1: is missing"},
		"from the second on":       {s.chain[1:], nil, ""}, // the first has been pruned
		"another header, pruned":   {bent[5:], nil, "block 11: is "},
		"a gap":                    {slices.Concat(s.chain[:9], s.chain[10:]), nil, "chain at height 10: its next block is 11"},
		"another header":           {bent, nil, "chain at height 12: the header says AppHash 000000"},
		"a block without its tick": {ticked, nil, "replaying gives"},
		"unreadable":               {s.chain[:10], errors.New("the block store is damaged"), "chain at height 11: the block store is damaged"},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := store.Check(s.path, ledgertest.ChainID, s.Genesis, func(yield func(store.Committed, error) bool) {
				for _, b := range test.chain {
					if !yield(b, nil) {
						return
					}
				}
				if test.fail != nil {
					yield(store.Committed{}, test.fail)
				}
			})
			if err != nil {
				t.Fatal(err)
			}
			if r.OK() != (test.want == "") || !strings.Contains(texts(r), test.want) {
				t.Errorf("got\n%s\nwant %q", texts(r), test.want)
			}
			first := int64(1)
			if len(test.chain) > 0 {
				first = test.chain[0].Height
			}
			looked := r.Replayed
			if first > 1 {
				looked += r.Followed + first - 1
			}
			if test.want == "" && (looked < height || r.Height != height || r.Records == 0 || r.History == 0 || r.Households == 0) {
				t.Errorf("got %+v", r)
			}
		})
	}
}

// TestCheckGone: what cannot be looked at is an error, not a difference.
func TestCheckGone(t *testing.T) {
	c := ledgertest.New(rules())
	path := filepath.Join(t.TempDir(), "none.db")
	if _, err := store.Check(path, ledgertest.ChainID, c.Genesis, nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Error("Check has made a file")
	}
}

// FuzzCheck puts any bytes at any places of a ledger: no panic, and what Open takes
// and Check finds no fault with has the content that it had.
func FuzzCheck(f *testing.F) {
	s := newStreet(f, 44)
	s.grow(f, 25)
	want := mustRead(f, s.store)
	s.close(f)
	original, err := os.ReadFile(s.path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte{0, 0, 4, 1})
	f.Add(bytes.Repeat([]byte{1, 2, 3, 4}, 50))
	f.Fuzz(func(t *testing.T, changes []byte) {
		b := bytes.Clone(original)
		for ; len(changes) >= 4; changes = changes[4:] { // 3 bytes of place, 1 to put there
			at := int(changes[0])<<16 | int(changes[1])<<8 | int(changes[2])
			b[at%len(b)] = changes[3]
		}
		path := filepath.Join(t.TempDir(), "changed.db")
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		r := s.check(t, path)
		got, err := openAndRead(path, s.Community)
		if r.OK() && (err != nil || !sameContent(got, want)) {
			t.Errorf("Check finds nothing, but: %v, same content: %v", err, sameContent(got, want))
		}
	})
}

func sameContent(a, b content) bool {
	return a.Height == b.Height && bytes.Equal(a.AppHash, b.AppHash) && slices.Equal(a.History, b.History) &&
		slices.EqualFunc(a.Hashes, b.Hashes, bytes.Equal)
}

// TestHistoryOrder: settlements come oldest Interval first, and corrections after what
// they correct, also for a home that reports late.
func TestHistoryOrder(t *testing.T) {
	s := newStreet(t, 45)
	s.grow(t, 100)
	corrections := 0
	for _, h := range s.store.State().Households() {
		last, version := market.Interval(-1), uint32(0)
		err := s.store.Settlements(h, 0, func(e *ledger.Settlement) bool {
			if e.Interval < last || e.Interval == last && e.Version != version+1 || e.Interval > last && e.Version != 1 || e.Household != h {
				t.Errorf("%s: interval %d version %d after %d version %d", e.Household, e.Interval, e.Version, last, version)
			}
			if e.Version > 1 {
				corrections++
			}
			last, version = e.Interval, e.Version
			return true
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if corrections == 0 {
		t.Error("no corrections")
	}
}
