package market_test

import (
	"crypto/ed25519"
	"encoding"
	"errors"
	"strings"
	"testing"

	"github.com/commonwatt/commonwatt/market"
)

var (
	_ encoding.TextMarshaler   = market.HouseholdID{}
	_ encoding.TextUnmarshaler = (*market.HouseholdID)(nil)
	_ encoding.TextMarshaler   = market.Bid
	_ encoding.TextUnmarshaler = (*market.Side)(nil)
	_ encoding.TextMarshaler   = market.KindBuy
	_ encoding.TextUnmarshaler = (*market.TransferKind)(nil)
)

func TestHouseholdIDOf(t *testing.T) {
	// SHA-256 of 32 zero bytes begins so.
	const want = "66687aadf862bd776c8fc18b8e9f8e20"
	id := market.HouseholdIDOf(make(ed25519.PublicKey, ed25519.PublicKeySize))
	if id.String() != want {
		t.Errorf("got %v, want %v", id, want)
	}
	back, err := market.ParseHouseholdID(want)
	if err != nil || back != id {
		t.Errorf("parsed: got %v, %v, want %v", back, err, id)
	}
	text, err := id.MarshalText()
	if err != nil || string(text) != want {
		t.Errorf("marshalled: got %q, %v, want %q", text, err, want)
	}
}

func TestParseHouseholdIDRefuses(t *testing.T) {
	for _, text := range []string{
		"", "66687aad", strings.Repeat("0", 31), strings.Repeat("0", 33), strings.Repeat("g", 32),
		strings.Repeat("A", 32), strings.Repeat(" ", 32), "0x" + strings.Repeat("0", 30),
	} {
		id := market.HouseholdID{1}
		if err := id.UnmarshalText([]byte(text)); !errors.Is(err, market.ErrBadID) {
			t.Errorf("%q: got %v, want %v", text, err, market.ErrBadID)
		}
		if id != (market.HouseholdID{1}) {
			t.Errorf("%q: changed the id to %v in spite of the error", text, id)
		}
	}
}

func TestHouseholdAccount(t *testing.T) {
	id := market.HouseholdID{0xab, 15: 0xcd}
	a := market.HouseholdAccount(id)
	if want := market.Account("household/ab0000000000000000000000000000cd"); a != want {
		t.Errorf("got %q, want %q", a, want)
	}
	if back, ok := a.Household(); !ok || back != id {
		t.Errorf("back: got %v, %v, want %v", back, ok, id)
	}
	for _, other := range []market.Account{market.AccountMarket, market.AccountSupplier, "household/", "household/xyz", ""} {
		if id, ok := other.Household(); ok {
			t.Errorf("%q: got household %v, want none", other, id)
		}
	}
}
