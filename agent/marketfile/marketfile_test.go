package marketfile

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/commonwatt/commonwatt/market"
)

// A marketJSON is a market file as encoding/json reads it.
type marketJSON struct {
	Rule *string `json:"rule"`
	Grid *struct {
		ImportPrice *market.Price `json:"import_price"`
		ExportPrice *market.Price `json:"export_price"`
	} `json:"grid"`
	Seed    *string `json:"seed"`
	Sharing struct {
		Price *market.Price `json:"price"`
		Keys  int64         `json:"keys"`
	} `json:"sharing"`
	Nodes []struct {
		ID          string            `json:"id"`
		Parent      *string           `json:"parent"`
		ImportLimit *market.WattHours `json:"import_limit_wh"`
		ExportLimit *market.WattHours `json:"export_limit_wh"`
		ImportFee   market.Price      `json:"import_fee"`
		ExportFee   market.Price      `json:"export_fee"`
	} `json:"nodes"`
	Orders []struct {
		ID    string      `json:"id"`
		Node  string      `json:"node"`
		Side  market.Side `json:"side"`
		Key   int64       `json:"key"`
		Steps []struct {
			Price market.Price     `json:"price"`
			Wh    market.WattHours `json:"wh"`
		} `json:"steps"`
	} `json:"orders"`
}

// market is the same as the package has it.
func (f *marketJSON) market() (*market.Market, error) {
	m := &market.Market{Rule: *f.Rule, Sharing: market.Sharing{Price: f.Sharing.Price, Keys: f.Sharing.Keys}}
	if f.Grid != nil {
		m.Tariff = &market.Tariff{ImportPrice: *f.Grid.ImportPrice, ExportPrice: *f.Grid.ExportPrice}
	}
	if f.Seed != nil {
		seed, err := hex.DecodeString(*f.Seed)
		if err != nil {
			return nil, err
		}
		m.Seed = seed
	}
	for _, n := range f.Nodes {
		node := market.Node{
			ID: n.ID, ImportLimit: n.ImportLimit, ExportLimit: n.ExportLimit, ImportFee: n.ImportFee, ExportFee: n.ExportFee,
		}
		if n.Parent != nil {
			node.Parent = *n.Parent
		}
		m.Network.Nodes = append(m.Network.Nodes, node)
	}
	for _, o := range f.Orders {
		order := market.Order{ID: o.ID, Node: o.Node, Side: o.Side, Key: o.Key, Steps: []market.Step{}}
		for _, s := range o.Steps {
			order.Steps = append(order.Steps, market.Step{Price: s.Price, WattHours: s.Wh})
		}
		m.Orders = append(m.Orders, order)
	}
	return m, nil
}

// FuzzMarketFile: whatever the decoder accepts, encoding/json reads strictly and
// alike, in one piece or byte by byte; and its clearing is written as valid JSON.
func FuzzMarketFile(f *testing.F) {
	f.Add([]byte(`{"rule": "uniform", "grid": null, "seed": "00ff", "nodes": [{"id": "r", "parent": null}],
		"orders": [{"id": "b", "node": "r", "side": "bid", "steps": [{"price": 300, "wh": 5}, {"price": -0, "wh": 5}]}]}`))
	f.Add([]byte(`{"rule":"uniform","grid":{"export_price":-9223372036854775808,"import_price":9223372036854775807},
		"nodes":[{"id":"\u00e4\ud83d\ude00\n","parent":"ü","import_limit_wh":null,"export_limit_wh":7,"import_fee":1,"export_fee":0}],"orders":[]}`))
	f.Add([]byte(`{"orders":[{"key":4,"steps":[],"side":"offer","node":"","id":"<&>"}],"nodes":[],"grid":null,"rule":"sharing","seed":null,"sharing":{"price":7,"keys":9}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := Decode(bytes.NewReader(data))
		slow, slowErr := Decode(iotest.OneByteReader(bytes.NewReader(data)))
		if fmt.Sprint(err) != fmt.Sprint(slowErr) {
			t.Fatalf("at once %v, byte by byte %v", err, slowErr)
		}
		if err != nil {
			return
		}
		dec := json.NewDecoder(bytes.NewReader(data))
		dec.DisallowUnknownFields()
		var file marketJSON
		if err := dec.Decode(&file); err != nil {
			t.Fatalf("encoding/json: %v", err)
		}
		want, err := file.market()
		if err != nil {
			t.Fatal(err)
		}
		for _, got := range []*market.Market{got, slow} {
			if d := cmp.Diff(want, got); d != "" {
				t.Fatal(d)
			}
		}
		if c, err := market.Clear(*got); err == nil {
			var out bytes.Buffer
			if err := WriteAnswer(&out, got, &c); err != nil || !json.Valid(out.Bytes()) {
				t.Fatalf("%v: %s", err, out.Bytes())
			}
		}
	})
}

// TestMarketFileNamesTheFault: the order and the field, in the file's own words.
func TestMarketFileNamesTheFault(t *testing.T) {
	const head, node = `{"rule": "uniform", "grid": null, `, `"nodes": [{"id": "r", "parent": null}], `
	order := func(o string) string { return head + node + `"orders": [` + o + `]}` }
	step := func(s string) string { return order(`{"id": "o1", "node": "r", "side": "bid", "steps": [` + s + `]}`) }
	for _, c := range []struct{ file, want string }{
		{``, `the file ends too early`},
		{`[]`, `got array, want an object`},
		{`nul`, `not JSON at byte 1: got "n", want an object`},
		{head, `the file ends too early`},
		{head + `}`, `not JSON at byte 35: got "}", want a key`},
		{head + node + `"orders": []`, `orders: the file ends too early`},
		{head + node + `"orders": [],}`, `not JSON at byte`},
		{head + node + `"orders": [{}]}`, `orders[0].id: is missing`},
		{head + node + `"orders": null}`, `orders: got null, want a list`},
		{head + node + `"orders": {}}`, `orders: got object, want a list`},
		{head + node + `"orders": [] "seed": ""}`, `orders: not JSON at byte 88: got "\"", want ',' or '}'`},
		{head + node + `"orders": [], "orders": []}`, `orders: is there twice`},
		{head + node + `"orders": [], "Orders": []}`, `unknown field "Orders", want rule, grid, `},
		{head + node + `"orders": []} x`, `there is more after the closing brace`},
		{head + node + `"orders": [], "seed": "0"}`, `seed: encoding/hex: odd length hex string`},
		{head + node + `"orders": [], "seed": 5}`, `seed: got number 5, want a string`},
		{`{"rule": "uniform", "grid": {"import_price": 5}, ` + node + `"orders": []}`, `grid.export_price: is missing`},
		{`{"rule": "uniform", "grid": 5, ` + node + `"orders": []}`, `grid: got number 5, want an object`},
		{`{"rule": null, "grid": null, ` + node + `"orders": []}`, `rule: got null, want a string`},
		{head + `"nodes": [{"id": "r", "parent": ""}], "orders": []}`, `nodes[0] "r": parent: is empty, want a node's id, or null for the root`},
		{head + `"nodes": [{"id": "r", "parent": null, "import_limit_wh": true}], "orders": []}`, `nodes[0] "r": import_limit_wh: got bool, want a whole number`},
		{order(`5`), `orders[0]: got number 5, want an object`},
		{order(`{"id": "", "node": "r"}`), `orders[0].id: is empty, want a name`},
		{order(`{"id": "o1", "id": "o1"}`), `orders[0] "o1": id: is there twice`},
		{order(`{"id": "o1", "node": "r", "side": "BID", "steps": []}`), `orders[0] "o1": side: got "BID", want bid or offer`},
		{order(`{"id": "o1", "node": "r", "side": "bid"}`), `orders[0] "o1": steps: is missing`},
		{order(`{"id": "o1", "node": null, "side": "bid", "steps": []}`), `orders[0] "o1": node: got null, want a string`},
		{order(`{"id": "o` + "\xff" + `"}`), `orders[0].id: got text that is not UTF-8`},
		{order(`{"id": "o\ud800"}`), `orders[0].id: not JSON at byte`},
		{order(`{"id": "o` + "\n" + `"}`), `orders[0].id: not JSON at byte`},
		{order(`{"id": "` + strings.Repeat("o", maxText) + `"}`), `orders[0].id: got text of more than 65536 bytes`},
		{step(`{"price": 1.5, "wh": 1}`), `orders[0] "o1": steps[0].price: got number 1.5, want a whole number of 64 bits`},
		{step(`{"price": 1e3, "wh": 1}`), `orders[0] "o1": steps[0].price: got number 1e3, want a whole number`},
		{step(`{"price": 007, "wh": 1}`), `orders[0] "o1": steps[0].price: got number 007, want a whole number`},
		{step(`{"price": 9223372036854775808, "wh": 1}`), `orders[0] "o1": steps[0].price: got number 9223372036854775808, want a whole number`},
		{step(`{"price": 1` + strings.Repeat("0", 30) + `, "wh": 1}`), `orders[0] "o1": steps[0].price: got number 1000000000000000000000000000000, want a whole number of 64 bits`},
		{step(`{"price": 1, "wh": NaN}`), `orders[0] "o1": steps[0].wh: not JSON at byte`},
		{step(`{"price": -0.0, "wh": 1}`), `orders[0] "o1": steps[0].price: got number -0.0, want a whole number`},
		{step(`{"price": "0.30 EUR", "wh": 1}`), `orders[0] "o1": steps[0].price: got string, want a whole number`},
		{step(`{"price": 1, "wh": 1, "currency": "USD"}`), `orders[0] "o1": steps[0]: unknown field "currency", want price, wh`},
		{step(`{"price": "1", "wh": 1}`), `orders[0] "o1": steps[0].price: got string, want a whole number`},
		{step(`{"price": 1, "wh": 1}, {"price": 1}`), `orders[0] "o1": steps[1].wh: is missing`},
		{step(`{"price": 1, "wh": 1, "amount": 1}`), `orders[0] "o1": steps[0]: unknown field "amount", want price, wh`},
		{step(strings.Repeat(`{"price": 1, "wh": 1},`, 16) + `{"price": 1, "wh": 1}`), `orders[0] "o1": steps[16]: got one more, want 1 to 16 steps`},
	} {
		if _, err := Decode(strings.NewReader(c.file)); err == nil || !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%.200s\n got %v\nwant %s", c.file, err, c.want)
		}
	}
}

func TestMarketFileReadError(t *testing.T) {
	broken := errors.New("disk on fire")
	in := io.MultiReader(strings.NewReader(`{"rule": "uniform", `), iotest.ErrReader(broken))
	if _, err := Decode(in); !errors.Is(err, broken) {
		t.Errorf("got %v, want %v", err, broken)
	}
}

// aFile returns a market file of orders at one of nodes.
func aFile(nodes, orders int) []byte {
	random := rand.New(rand.NewPCG(2026, 0))
	var b bytes.Buffer
	b.WriteString(`{"rule": "uniform", "grid": {"import_price": 300000, "export_price": 80000}, "nodes": [{"id": "n0", "parent": null}`)
	for i := 1; i < nodes; i++ {
		fmt.Fprintf(&b, `, {"id": "n%d", "parent": "n%d", "import_fee": 12000, "export_limit_wh": %d}`, i, (i-1)/10, 1000*random.IntN(1000))
	}
	b.WriteString(`], "orders": [`)
	for i := range orders {
		if i > 0 {
			b.WriteString(",\n ")
		}
		side := []string{"bid", "offer"}[random.IntN(2)]
		fmt.Fprintf(&b, `{"id": "household-%06d", "node": "n%d", "side": %q, "steps": [{"price": %d, "wh": %d}]}`,
			i, random.IntN(nodes), side, 50_000+random.IntN(310_000), 1+random.IntN(3000))
	}
	b.WriteString("]}\n")
	return b.Bytes()
}

// BenchmarkClearFile reports, besides the time of the whole command but for the
// process's start, x-json: that over the time in which encoding/json alone decodes
// the file. Both are the fastest of runs that take turns.
func BenchmarkClearFile(b *testing.B) {
	for _, nodes := range []int{1, 1000} {
		b.Run(fmt.Sprintf("nodes=%d/orders=100000", nodes), func(b *testing.B) {
			file := aFile(nodes, 100_000)
			clearIt := func() {
				m, err := Decode(bytes.NewReader(file))
				if err != nil {
					b.Fatal(err)
				}
				c, err := market.Clear(*m)
				if err != nil {
					b.Fatal(err)
				}
				if err := WriteAnswer(io.Discard, m, &c); err != nil {
					b.Fatal(err)
				}
			}
			fastest, fastestJSON := time.Hour, time.Hour
			for range 10 {
				start := time.Now()
				clearIt()
				fastest = min(fastest, time.Since(start))
				start = time.Now()
				var m marketJSON
				if err := json.Unmarshal(file, &m); err != nil {
					b.Fatal(err)
				}
				fastestJSON = min(fastestJSON, time.Since(start))
			}
			b.SetBytes(int64(len(file)))
			b.ReportAllocs()
			for b.Loop() {
				clearIt()
			}
			b.ReportMetric(float64(fastest)/float64(fastestJSON), "x-json")
		})
	}
}
