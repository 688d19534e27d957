package ledger_test

import (
	"crypto/ed25519"
	"math"
	"math/big"
	"strings"
	"testing"

	"github.com/fxamacker/cbor/v2"

	"github.com/commonwatt/commonwatt/market"
	"github.com/commonwatt/commonwatt/market/ledger"
	"github.com/commonwatt/commonwatt/market/ledger/ledgertest"
)

// TestOddOrders: an order is whole numbers, and nothing that another program may take for one. All of these are signed as
// they should be; each is refused by its code, with the field, what was got and what would be right.
func TestOddOrders(t *testing.T) {
	c := ledgertest.New(ledger.DefaultRules())
	a := ledgertest.NewHome("A")
	r := newReplica(t, c.Genesis)
	r.must(t, ledger.Block{Txs: [][]byte{c.Join(a, 2), c.Install(a, 2)}})
	marshal := func(v any) []byte {
		raw, err := cbor.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	order := func(side, price, wh any) []byte {
		body := marshal([]any{c.First, uint64(1), side, []any{[]any{price, wh}}})
		signed := append([]byte("commonwatt/order/1\x00"+ledgertest.ChainID+"\x00"), a.ID[:]...)
		return marshal([]any{ledger.KindOrder, a.ID[:], cbor.RawMessage(body), ed25519.Sign(a.Device, append(signed, body...))})
	}
	huge := new(big.Int).Exp(big.NewInt(10), big.NewInt(30), nil)
	for name, test := range map[string]struct {
		raw  []byte
		want string
	}{
		"right":                      {order(market.Bid, 250_000, 600), "order: ok"},
		"negative energy":            {order(market.Bid, 250_000, -5), "bad-quantity: steps[0].wh: got -5 after 0, want at least 1 and at most 20000 in all"},
		"no energy":                  {order(market.Bid, 250_000, 0), "bad-quantity: steps[0].wh: got 0 after 0, want at least 1 and at most 20000 in all"},
		"more than a connection has": {order(market.Bid, 250_000, 20_001), "bad-quantity: steps[0].wh: got 20001 after 0, want at least 1 and at most 20000 in all"},
		"a price above the cap":      {order(market.Bid, 4_000_001, 600), "price-out-of-bounds: steps[0].price: got 4000001, want -1000000 to 4000000"},
		"a price below the floor":    {order(market.Offer, -1_000_001, 600), "price-out-of-bounds: steps[0].price: got -1000001, want -1000000 to 4000000"},
		"10^30 Wh":                   {order(market.Bid, 250_000, huge), "malformed: cbor: "},
		"10^30 a kWh":                {order(market.Bid, huge, 600), "malformed: cbor: "},
		"2^63":                       {order(market.Bid, 250_000, uint64(1)<<63), "malformed: order: "},
		"not a number":               {order(market.Bid, math.NaN(), 600), "malformed: order: "},
		"infinitely much":            {order(market.Bid, 250_000, math.Inf(1)), "malformed: order: "},
		"minus zero":                 {order(market.Bid, math.Copysign(0, -1), 600), "malformed: order: "},
		"a whole number as a float":  {order(market.Bid, 250_000.0, 600), "malformed: order: "},
		"a price with its currency":  {order(market.Bid, "0.25 EUR", 600), "malformed: order: "},
		"a price of another one":     {order(market.Bid, []any{250_000, "USD"}, 600), "malformed: order: "},
		"no price":                   {order(market.Bid, nil, 600), "malformed: order: "},
		"a side that there is not":   {order(3, 250_000, 600), "malformed: side: got 3, want 1 (bid) or 2 (offer)"},
	} {
		if got := verdict(r.state, test.raw); got != test.want && (test.want == "order: ok" || !strings.HasPrefix(got, test.want)) {
			t.Errorf("%s:\n got %s\nwant %s", name, got, test.want)
		}
	}
}
