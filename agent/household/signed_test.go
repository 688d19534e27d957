package household

import (
	"crypto/ed25519"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/commonwatt/commonwatt/agent/api"
	"github.com/commonwatt/commonwatt/market/ledger"
	"github.com/commonwatt/commonwatt/meter"
	"github.com/commonwatt/commonwatt/meter/def"
)

func seed(b byte) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed([]byte(strings.Repeat(string(rune('a'+b)), ed25519.SeedSize)))
}

// signer is a meter with a key inside.
type signer struct {
	t     *testing.T
	key   ed25519.PrivateKey
	chain *meter.Chain
}

func newSigner(t *testing.T, key ed25519.PrivateKey) *signer {
	t.Helper()
	c, err := meter.NewChain(key, meter.ChainState{})
	if err != nil {
		t.Fatal(err)
	}
	return &signer{t: t, key: key, chain: c}
}

// sign makes the sample one that this meter signed at a time of its own, as the source
// of package meter would.
func (s *signer) sign(sample *meter.Sample, at time.Time) {
	s.t.Helper()
	own := *sample
	own.At = at
	r, err := s.chain.Append(own)
	if err != nil {
		s.t.Fatal(err)
	}
	r.SignedBy = meter.SignedByDevice
	pub := s.key.Public().(ed25519.PublicKey)
	if err := r.Verify(pub); err != nil {
		s.t.Fatal(err)
	}
	sample.Signed = &meter.SignedProof{Reading: r, Key: pub}
	sample.Identity = meter.Identity{Maker: "Commonwatt", Serial: fmt.Sprintf("%x", r.Meter)}
	sample.ImportTraits, sample.ExportTraits = def.Traits{ResolutionWh: 1}, def.Traits{ResolutionWh: 1}
}

// newSignedRig is a home whose registered meter has the key right.
func newSignedRig(t *testing.T, right ed25519.PrivateKey) *rig {
	t.Helper()
	return newRig(t, func(o *townOptions) {
		o.meterOf = func(Founder) (ed25519.PublicKey, error) { return right.Public().(ed25519.PublicKey), nil }
	})
}

// What a device signed is reported as it is, and settled to the Wh.
func TestSignedMeter(t *testing.T) {
	t.Parallel()
	r := newSignedRig(t, seed(1))
	device := newSigner(t, seed(1))
	r.mend = func(now time.Time, s *meter.Sample) { device.sign(s, now) }
	r.register()
	r.until(on(6, 15))
	first, before := r.at(6, 15), r.counter
	r.until(on(8, 7))
	r.restart()
	r.until(on(10, 0))
	exact(t, r, first, r.at(9, 45), before)
	if p := r.draw().Problems; len(p) != 0 {
		t.Errorf("problems: %+v", p)
	}
}

// H3: a reading of another key than the registered one is set aside, with a problem on the
// page; the right one counts at once when it comes back, also if the wrong one was there
// first, and no interval is settled on what the wrong one says.
func TestSignedByAnother(t *testing.T) {
	t.Parallel()
	r := newSignedRig(t, seed(1))
	right, wrong := newSigner(t, seed(1)), newSigner(t, seed(2))
	// Before the home is registered nobody can tell them apart.
	foreign := func(now time.Time) bool {
		return now.Before(on(6, 20)) || now.After(on(7, 20)) && now.Before(on(7, 50))
	}
	r.mend = func(now time.Time, s *meter.Sample) {
		if !foreign(now) {
			right.sign(s, now)
			return
		}
		*s.ImportWh += 777
		wrong.sign(s, now)
	}
	r.catching = true
	r.until(on(6, 16))
	r.catching = false
	r.register()
	r.after = func(now time.Time, s api.Snapshot) error {
		p, shown := problem(s, "meter-suspect")
		if shown != foreign(now) {
			return fmt.Errorf("shown is %v, want %v: %+v", shown, foreign(now), s.Meters)
		}
		if shown && !strings.Contains(p.Text, "the ledger knows "+ledger.MeterIDOf(Public(seed(1))).String()) {
			return fmt.Errorf("problem: %+v", p)
		}
		return nil
	}
	r.until(on(6, 30))
	before := r.counter
	r.until(on(9, 0))
	exact(t, r, r.at(6, 30), r.at(8, 45), before)
	estimated := ledger.QualityEstimated
	if diff := cmp.Diff([]ledger.Quality{1, estimated, estimated, estimated, 1}, r.qualities(r.at(7, 0), r.at(8, 0))); diff != "" {
		t.Error(diff)
	}
}

// The same for a home whose gateway signs with a key that is not the registered one.
func TestGatewayWithAnotherKey(t *testing.T) {
	t.Parallel()
	r := newSignedRig(t, seed(1))
	r.register()
	r.until(on(7, 0))
	if p, ok := problem(r.draw(), "meter-suspect"); !ok || !strings.Contains(p.Text, "the reading is of meter "+r.home.prover.own.String()) {
		t.Errorf("problems: %+v", r.home.Snapshot().Problems)
	}
	if len(r.home.reports) != 0 || len(r.settlements(r.home.id)) != 0 {
		t.Errorf("%d reports, settlements %v", len(r.home.reports), r.settlements(r.home.id))
	}
}

// A device whose clock is ahead proves nothing, one that begins its numbers again neither;
// the page says so, and it ends when the device is well again.
func TestSignedClockAndNumbers(t *testing.T) {
	t.Parallel()
	r := newSignedRig(t, seed(1))
	device := newSigner(t, seed(1))
	ahead := func(now time.Time) bool { return now.After(on(7, 0)) && now.Before(on(7, 20)) }
	r.mend = func(now time.Time, s *meter.Sample) {
		switch {
		case ahead(now):
			state := device.chain.State()
			device.sign(s, now.Add(3*time.Hour))
			*device = *newSigner(t, device.key)
			device.chain, _ = meter.NewChain(device.key, state)
		case now.Equal(on(8, 0)):
			late := newSigner(t, device.key) // from number 1 again
			late.sign(s, now)
		default:
			device.sign(s, now)
		}
	}
	r.register()
	r.until(on(6, 15))
	first, before := r.at(6, 15), r.counter
	r.after = func(now time.Time, s api.Snapshot) error {
		p, shown := problem(s, "meter-unproven")
		again := !now.Before(on(8, 0)) && now.Before(on(8, 1))
		late := !ahead(now) && now.After(on(7, 0)) && now.Before(on(7, 30)) // the next proof
		switch {
		case shown != (ahead(now) || late || again):
			return fmt.Errorf("shown is %v: %+v", shown, s.Problems)
		case late && !strings.Contains(p.Text, "no reading came within 1m30s after 2026-06-21 07:15:00"),
			ahead(now) && !strings.Contains(p.Text, "its clock says 2026-06-21 10:"), again && !strings.Contains(p.Text, "its reading 1 does not follow reading"):
			return fmt.Errorf("problem: %+v", p)
		}
		return nil
	}
	r.until(on(9, 0))
	exact(t, r, first, r.at(8, 45), before)
}

// A meter that does not tell its export cannot be settled on, and the page says why.
func TestNoExportCounter(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	r.mend = func(_ time.Time, s *meter.Sample) { s.ExportWh = nil }
	r.register()
	r.until(on(7, 0))
	if p, ok := problem(r.draw(), "meter-unproven"); !ok || !strings.Contains(p.Text, "both its import and its export") {
		t.Errorf("problems: %+v", r.home.Snapshot().Problems)
	}
	if m := r.home.Snapshot().Meters[0]; m.ExportWh != nil || m.ImportWh == nil {
		t.Errorf("meter %+v, want export unknown", m)
	}
}

// What package meter signs is what the ledger verifies, byte for byte.
func TestReadingsAgree(t *testing.T) {
	t.Parallel()
	counter := rapid.Ptr(rapid.Uint64(), true)
	rapid.Check(t, func(t *rapid.T) {
		key := ed25519.NewKeyFromSeed(rapid.SliceOfN(rapid.Byte(), ed25519.SeedSize, ed25519.SeedSize).Draw(t, "seed"))
		pub := key.Public().(ed25519.PublicKey)
		r := meter.Reading{
			Meter: meter.MeterID(pub), Seq: rapid.Uint64().Draw(t, "seq"), Epoch: rapid.Uint32().Draw(t, "epoch"),
			At:       time.UnixMilli(rapid.Int64Range(-1<<45, 1<<45).Draw(t, "at")).UTC(),
			ImportWh: counter.Draw(t, "import"), ExportWh: counter.Draw(t, "export"),
			Quality: meter.Quality(rapid.Uint16().Draw(t, "quality")),
			Prev:    [32]byte(rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "prev")),
		}
		if err := r.Sign(key); err != nil {
			t.Fatal(err)
		}
		q := quoted(r)
		if diff := cmp.Diff(r.SignedBytes(), q.SignedBytes()); diff != "" {
			t.Fatal(diff)
		}
		if r.Hash() != q.Hash() {
			t.Fatal("the hashes differ")
		}
		if ledger.MeterIDOf(ledger.KeyOf(pub)) != q.Meter {
			t.Fatal("the meters differ")
		}
		if !ed25519.Verify(pub, q.SignedBytes(), q.Signature) {
			t.Fatal("the signature does not fit")
		}
	})
}
