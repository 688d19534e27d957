package ledger

import (
	"github.com/oasisprotocol/curve25519-voi/primitives/ed25519"
	"github.com/oasisprotocol/curve25519-voi/primitives/ed25519/extra/cache"
)

// zip215 is the one rule by which this package says whether a signature is right: ZIP 215,
// as the engine has it for votes. It is the only known rule under which a batch and a
// single verification never differ, whatever the signer does: crypto/ed25519 refuses
// signatures with a part of small order that a batch lets pass, so that with it two homes could
// judge one transaction differently. What crypto/ed25519 and every honest signer signs is right
// under both.
var zip215 = &ed25519.Options{Verify: ed25519.VerifyOptionsZIP_215}

const (
	// cachedKeys bounds the public keys that are kept in expanded form, about 2.5 kB each;
	// the least recently used go first. It is more than a community has gateways.
	cachedKeys = 1024
	// smallBatch is up to how many signatures are cheaper one by one.
	smallBatch = 3
)

// signatures verifies, and remembers the keys it has met in a form that is faster the next
// time. It is safe for concurrent use, and its answers do not depend on what it remembers.
type signatures struct{ keys *cache.Verifier }

func newSignatures() signatures {
	return signatures{keys: cache.NewVerifier(cache.NewLRUCache(cachedKeys))}
}

func (s signatures) right(key Key, msg, sig []byte) bool {
	return s.keys.VerifyWithOptions(key[:], msg, sig, zip215)
}

// batch collects signatures that are verified together.
type batch struct {
	claims []claim
	txs    []signedTx // all of whose signatures are among the claims
}

// claim is that a key has signed a message.
type claim struct {
	key      Key
	msg, sig []byte
}

type signedTx struct {
	at  int // which of those to be checked
	tx  *Tx
	key Key
}

// right says whether all claims are; if not it does not know which.
func (b *batch) right(s signatures) bool {
	if len(b.claims) <= smallBatch {
		for _, c := range b.claims {
			if !s.right(c.key, c.msg, c.sig) {
				return false
			}
		}
		return true
	}
	v := ed25519.NewBatchVerifierWithCapacity(len(b.claims))
	for _, c := range b.claims {
		s.keys.AddWithOptions(v, c.key[:], c.msg, c.sig, zip215)
	}
	return v.VerifyBatchOnly(nil)
}

// signed says whether a key has signed a message. While signatures are collected it says yes,
// and the batch will tell.
func (d *draft) signed(key Key, msg, sig []byte) bool {
	if d.batch == nil {
		return d.base.signatures.right(key, msg, sig)
	}
	d.batch.claims = append(d.batch.claims, claim{key, msg, sig})
	return true
}

// CheckTxs is CheckTx for several transactions, each in this state by itself, with their
// signatures verified as one batch. The answers are the same; where they are all yes, they cost
// a third. Errors are *Refusals, nil for what would be accepted.
func (s *State) CheckTxs(txs []*Tx) []error {
	errs := make([]error, len(txs))
	b := &batch{}
	d := newDraft(s) // judging changes nothing in it
	d.batch = b
	for i, tx := range txs {
		if kinds[tx.Kind()].from != fromHousehold {
			// An office's signatures come before the rest is looked at, see judge.
			errs[i] = s.CheckTx(tx)
			continue
		}
		claims, pending := len(b.claims), len(b.txs)
		if refusal := d.judge(tx, nil); refusal != nil {
			errs[i] = refusal
			b.claims, b.txs = b.claims[:claims], b.txs[:pending]
		}
		for j := pending; j < len(b.txs); j++ {
			b.txs[j].at = i
		}
	}
	if b.right(s.signatures) {
		for _, t := range b.txs {
			t.tx.verifiedBy, t.tx.verified = t.key, true
		}
		return errs
	}
	for _, t := range b.txs {
		errs[t.at] = s.CheckTx(t.tx)
	}
	return errs
}

// SignedBy says whether a transaction's own signature is of that key, whoever's it is in the
// state.
func (s *State) SignedBy(tx *Tx, key Key) bool {
	return s.signatures.right(key, signedBytes(tx.env.Kind, s.chainID, tx.env.Household, tx.env.Body), tx.env.Signature)
}
