package ledger_test

import (
	"crypto/ed25519"

	"github.com/commonwatt/commonwatt/market/ledger"
	"github.com/commonwatt/commonwatt/market/ledger/ledgertest"
)

// sign signs a reading anew after a change.
func sign(h *ledgertest.Home, r *ledger.Reading) {
	r.Signature = ed25519.Sign(h.Meter, r.SignedBytes())
}

// ledgertestSign signs with the home's validator key.
func ledgertestSign(h *ledgertest.Home, msg []byte) []byte { return ed25519.Sign(h.Validator, msg) }
