package ledger

import (
	"bytes"
	"crypto/ed25519"
	"encoding/hex"
	"fmt"
	"testing"

	"pgregory.net/rapid"
)

// smallOrder are the encodings of all points of small order, canonical and not, as ZIP 215 lists them.
var smallOrder = []string{
	"0100000000000000000000000000000000000000000000000000000000000000",
	"c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
	"0000000000000000000000000000000000000000000000000000000000000080",
	"26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
	"ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
	"26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
	"0000000000000000000000000000000000000000000000000000000000000000",
	"c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
	"0100000000000000000000000000000000000000000000000000000000000080",
	"ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
	"edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
	"edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
	"eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
	"eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
}

// edgeCases are the twelve of "Taming the many EdDSAs" (Chalkias, Garillot, Nikolaenko; 2020),
// with what ZIP 215 says of them.
var edgeCases = []struct {
	message, key, signature string
	right                   bool
}{
	{
		"8c93255d71dcab10e8f379c26200f3c7bd5f09d9bc3068d3ef4edeb4853022b6",
		"c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
		"c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a0000000000000000000000000000000000000000000000000000000000000000", true,
	},
	{
		"9bd9f44f4dcc75bd531b56b2cd280b0bb38fc1cd6d1230e14861d861de092e79",
		"c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
		"f7badec5b8abeaf699583992219b7b223f1df3fbbea919844e3f7c554a43dd43a5bb704786be79fc476f91d3f3f89b03984d8068dcf1bb7dfc6637b45450ac04", true,
	},
	{
		"aebf3f2601a0c8c5d39cc7d8911642f740b78168218da8471772b35f9d35b9ab",
		"f7badec5b8abeaf699583992219b7b223f1df3fbbea919844e3f7c554a43dd43",
		"c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa8c4bd45aecaca5b24fb97bc10ac27ac8751a7dfe1baff8b953ec9f5833ca260e", true,
	},
	{
		"9bd9f44f4dcc75bd531b56b2cd280b0bb38fc1cd6d1230e14861d861de092e79",
		"cdb267ce40c5cd45306fa5d2f29731459387dbf9eb933b7bd5aed9a765b88d4d",
		"9046a64750444938de19f227bb80485e92b83fdb4b6506c160484c016cc1852f87909e14428a7a1d62e9f22f3d3ad7802db02eb2e688b6c52fcd6648a98bd009", true,
	},
	{
		"e47d62c63f830dc7a6851a0b1f33ae4bb2f507fb6cffec4011eaccd55b53f56c",
		"cdb267ce40c5cd45306fa5d2f29731459387dbf9eb933b7bd5aed9a765b88d4d",
		"160a1cb0dc9c0258cd0a7d23e94d8fa878bcb1925f2c64246b2dee1796bed5125ec6bc982a269b723e0668e540911a9a6a58921d6925e434ab10aa7940551a09", true,
	},
	{
		"e47d62c63f830dc7a6851a0b1f33ae4bb2f507fb6cffec4011eaccd55b53f56c",
		"cdb267ce40c5cd45306fa5d2f29731459387dbf9eb933b7bd5aed9a765b88d4d",
		"21122a84e0b5fca4052f5b1235c80a537878b38f3142356b2c2384ebad4668b7e40bc836dac0f71076f9abe3a53f9c03c1ceeeddb658d0030494ace586687405", true,
	},
	{
		"85e241a07d148b41e47d62c63f830dc7a6851a0b1f33ae4bb2f507fb6cffec40",
		"442aad9f089ad9e14647b1ef9099a1ff4798d78589e66f28eca69c11f582a623",
		"e96f66be976d82e60150baecff9906684aebb1ef181f67a7189ac78ea23b6c0e547f7690a0e2ddcd04d87dbc3490dc19b3b3052f7ff0538cb68afb369ba3a514", false,
	},
	{
		"85e241a07d148b41e47d62c63f830dc7a6851a0b1f33ae4bb2f507fb6cffec40",
		"442aad9f089ad9e14647b1ef9099a1ff4798d78589e66f28eca69c11f582a623",
		"8ce5b96c8f26d0ab6c47958c9e68b937104cd36e13c33566acd2fe8d38aa19427e71f98a473474f2f13f06f97c20d58cc3f54b8bd0d272f42b695dd7e89a8c22", false,
	},
	{
		"9bedc267423725d473888631ebf45988bad3db83851ee85c85e241a07d148b41",
		"f7badec5b8abeaf699583992219b7b223f1df3fbbea919844e3f7c554a43dd43",
		"ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff03be9678ac102edcd92b0210bb34d7428d12ffc5df5f37e359941266a4e35f0f", false,
	},
	{
		"9bedc267423725d473888631ebf45988bad3db83851ee85c85e241a07d148b41",
		"f7badec5b8abeaf699583992219b7b223f1df3fbbea919844e3f7c554a43dd43",
		"ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffca8c5b64cd208982aa38d4936621a4775aa233aa0505711d8fdcfdaa943d4908", true,
	},
	{
		"e96b7021eb39c1a163b6da4e3093dcd3f21387da4cc4572be588fafae23c155b",
		"ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
		"a9d55260f765261eb9b84e106f665e00b867287a761990d7135963ee0a7d59dca5bb704786be79fc476f91d3f3f89b03984d8068dcf1bb7dfc6637b45450ac04", true,
	},
	{
		"39a591f5321bbe07fd5a23dc2f39d025d74526615746727ceefd6e82ae65c06f",
		"ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
		"a9d55260f765261eb9b84e106f665e00b867287a761990d7135963ee0a7d59dca5bb704786be79fc476f91d3f3f89b03984d8068dcf1bb7dfc6637b45450ac04", true,
	},
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

type edge struct {
	claim
	name  string
	right bool
}

func edges(t testing.TB) (all []edge) {
	t.Helper()
	for _, a := range smallOrder {
		for _, r := range smallOrder {
			sig := append(unhex(t, r), make([]byte, 32)...) // S is 0
			all = append(all, edge{claim{Key(unhex(t, a)), []byte("Zcash"), sig}, "A " + a + " R " + r, true})
		}
	}
	for i, c := range edgeCases {
		all = append(all, edge{claim{Key(unhex(t, c.key)), unhex(t, c.message), unhex(t, c.signature)}, fmt.Sprint("case ", i), c.right})
	}
	return all
}

// TestOneRule: what a signature is worth is the same alone and in a batch, also where
// implementations are known to differ; and what crypto/ed25519 takes is always right here.
func TestOneRule(t *testing.T) {
	s := newSignatures()
	key := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{1}, 32))
	honest := func(i int) claim {
		msg := fmt.Appendf(nil, "honest %d", i)
		return claim{KeyOf(key.Public().(ed25519.PublicKey)), msg, ed25519.Sign(key, msg)}
	}
	differ := 0
	for _, e := range edges(t) {
		if got := s.right(e.key, e.msg, e.sig); got != e.right {
			t.Errorf("%s: alone %v, want %v", e.name, got, e.right)
		}
		b := batch{claims: []claim{honest(0), honest(1), e.claim, honest(2), honest(3)}}
		for range 3 { // the batch's coefficients are random
			if got := b.right(s); got != e.right {
				t.Errorf("%s: in a batch %v, want %v", e.name, got, e.right)
			}
		}
		if std := ed25519.Verify(e.key.Public(), e.msg, e.sig); std && !e.right {
			t.Errorf("%s: crypto/ed25519 takes it, we do not", e.name)
		} else if std != e.right {
			differ++
		}
	}
	if differ == 0 {
		t.Error("crypto/ed25519 differs nowhere: these are not the edge cases")
	}
	all := batch{}
	for _, e := range edges(t) {
		if e.right {
			all.claims = append(all.claims, e.claim)
		}
	}
	if !all.right(s) {
		t.Errorf("a batch of all %d right ones is wrong", len(all.claims))
	}
}

// TestBatchIsEach: a batch is right if and only if each of it is, by crypto/ed25519.
func TestBatchIsEach(t *testing.T) {
	s := newSignatures()
	rapid.Check(t, func(t *rapid.T) {
		b, right := batch{}, true
		for i := range rapid.IntRange(0, 12).Draw(t, "signatures") {
			seed := bytes.Repeat([]byte{byte(rapid.IntRange(0, 5).Draw(t, "key"))}, 32)
			key := ed25519.NewKeyFromSeed(seed)
			msg := fmt.Appendf(nil, "message %d", i)
			sig := ed25519.Sign(key, msg)
			if rapid.IntRange(0, 15).Draw(t, "forged") == 0 {
				sig[rapid.IntRange(0, 63).Draw(t, "at")] ^= byte(rapid.IntRange(1, 255).Draw(t, "bits"))
			}
			b.claims = append(b.claims, claim{KeyOf(key.Public().(ed25519.PublicKey)), msg, sig})
			right = right && ed25519.Verify(key.Public().(ed25519.PublicKey), msg, sig)
		}
		if got := b.right(s); got != right {
			t.Fatalf("batch %v, each %v", got, right)
		}
	})
}

// FuzzOneRule: alone and in a batch are one, and crypto/ed25519 takes no more.
func FuzzOneRule(f *testing.F) {
	for _, e := range edges(f) {
		f.Add(e.key[:], e.msg, e.sig)
	}
	s := newSignatures()
	good := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{2}, 32))
	filler := claim{KeyOf(good.Public().(ed25519.PublicKey)), []byte("x"), ed25519.Sign(good, []byte("x"))}
	f.Fuzz(func(t *testing.T, key, msg, sig []byte) {
		if len(key) != ed25519.PublicKeySize || len(sig) != ed25519.SignatureSize {
			return // shape has refused it
		}
		c := claim{Key(key), msg, sig}
		alone := s.right(c.key, msg, sig)
		b := batch{claims: []claim{filler, c, filler, filler}}
		if together := b.right(s); together != alone {
			t.Errorf("alone %v, in a batch %v", alone, together)
		}
		if ed25519.Verify(c.key.Public(), msg, sig) && !alone {
			t.Error("crypto/ed25519 takes it, we do not")
		}
	})
}
