package meter_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/commonwatt/commonwatt/meter"
)

var update = flag.Bool("update", false, "rewrite the files in testdata")

// goldenKey is a key for test vectors: its seed is SHA-256 of a text that anyone can hash.
func goldenKey() ed25519.PrivateKey {
	seed := sha256.Sum256([]byte("commonwatt test meter"))
	return ed25519.NewKeyFromSeed(seed[:])
}

// goldenReadings are a chain of three: an ordinary one, one of a meter that has no export counter, and one in a new
// epoch with a quality.
func goldenReadings(t *testing.T) []meter.Reading {
	t.Helper()
	chain, err := meter.NewChain(goldenKey(), meter.ChainState{})
	if err != nil {
		t.Fatal(err)
	}
	at := time.Date(2026, 6, 21, 11, 45, 0, 123_000_000, time.UTC)
	samples := []meter.Sample{
		{At: at, ImportWh: new(uint64(12302420)), ExportWh: new(uint64(4728460)), PowerW: new(int64(-1832)), Source: "eastron-sdm630@1"},
		{At: at.Add(15 * time.Minute), ImportWh: new(uint64(12302421))},
		{At: at.Add(time.Hour), ImportWh: new(uint64(0)), ExportWh: new(uint64(1) << 40), Quality: meter.ClockUnsure},
	}
	var readings []meter.Reading
	for i, s := range samples {
		if i == 2 {
			chain.BeginEpoch(chain.State().Epoch + 1)
		}
		r, err := chain.Append(s)
		if err != nil {
			t.Fatal(err)
		}
		readings = append(readings, r)
	}
	return readings
}

// TestReadingGolden holds the signed bytes to the file that other implementations, the ledger first, can check
// themselves against.
func TestReadingGolden(t *testing.T) {
	var out strings.Builder
	key := goldenKey().Public().(ed25519.PublicKey)
	fmt.Fprintf(&out, "public-key %x\n", key)
	for _, r := range goldenReadings(t) {
		message, err := meter.EncodeSigned(r, key)
		if err != nil {
			t.Fatal(err)
		}
		hash := r.Hash()
		fmt.Fprintf(&out, "\nseq %d\nsigned-bytes %x\nsignature %x\nhash %x\nmessage %s\n", r.Seq, r.SignedBytes(), r.Signature, hash, message)
	}
	golden(t, "reading.golden", out.String())
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v (go test -update writes it)", err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", path, diff)
	}
}

// TestSignedBytes takes the first reading apart by hand, byte by byte.
func TestSignedBytes(t *testing.T) {
	r := goldenReadings(t)[0]
	var want []byte
	want = append(want, "commonwatt/reading/1"...)
	want = append(want, 0x88, 0x50) // array of 8; 16 bytes
	want = append(want, r.Meter[:]...)
	want = append(want, 0x01, 0x00, 0x1b) // seq 1; epoch 0; 8-byte integer
	want = append(want, hexBytes(t, fmt.Sprintf("%016x", r.At.UnixMilli()))...)
	want = append(want, 0x1a, 0x00, 0xbb, 0xb8, 0x54) // 12302420
	want = append(want, 0x1a, 0x00, 0x48, 0x26, 0x8c) // 4728460
	want = append(want, 0x00, 0x58, 0x20)             // quality good; 32 bytes
	want = append(want, make([]byte, 32)...)
	if got := r.SignedBytes(); !bytes.Equal(got, want) {
		t.Errorf("signed bytes\n got %x\nwant %x", got, want)
	}
}

func hexBytes(t *testing.T, text string) []byte {
	t.Helper()
	b, err := hex.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestReadingVerify(t *testing.T) {
	key := goldenKey().Public().(ed25519.PublicKey)
	other := ed25519.NewKeyFromSeed(make([]byte, 32))
	for name, c := range map[string]struct {
		change func(*meter.Reading)
		key    ed25519.PublicKey
		want   error
	}{
		"untouched":       {func(*meter.Reading) {}, key, nil},
		"another seq":     {func(r *meter.Reading) { r.Seq++ }, key, meter.ErrBadSignature},
		"another epoch":   {func(r *meter.Reading) { r.Epoch++ }, key, meter.ErrBadSignature},
		"another time":    {func(r *meter.Reading) { r.At = r.At.Add(time.Millisecond) }, key, meter.ErrBadSignature},
		"more import":     {func(r *meter.Reading) { *r.ImportWh++ }, key, meter.ErrBadSignature},
		"export forgot":   {func(r *meter.Reading) { r.ExportWh = nil }, key, meter.ErrBadSignature},
		"better quality":  {func(r *meter.Reading) { r.Quality ^= meter.Suspect }, key, meter.ErrBadSignature},
		"another prev":    {func(r *meter.Reading) { r.Prev[31] ^= 1 }, key, meter.ErrBadSignature},
		"short signature": {func(r *meter.Reading) { r.Signature = r.Signature[:63] }, key, meter.ErrBadSignature},
		"no signature":    {func(r *meter.Reading) { r.Signature = nil }, key, meter.ErrBadSignature},
		"another meter":   {func(r *meter.Reading) { r.Meter[0] ^= 1 }, key, meter.ErrWrongKey},
		"another key":     {func(*meter.Reading) {}, other.Public().(ed25519.PublicKey), meter.ErrWrongKey},
		"no key":          {func(*meter.Reading) {}, nil, meter.ErrWrongKey},
	} {
		t.Run(name, func(t *testing.T) {
			r := goldenReadings(t)[0]
			c.change(&r)
			if err := r.Verify(c.key); !errors.Is(err, c.want) {
				t.Errorf("got %v, expected %v", err, c.want)
			}
		})
	}
	r := goldenReadings(t)[0]
	if err := r.Sign(other); !errors.Is(err, meter.ErrWrongKey) {
		t.Errorf("signing with another meter's key: got %v, expected %v", err, meter.ErrWrongKey)
	}
}

func TestChain(t *testing.T) {
	readings := goldenReadings(t)
	key := goldenKey().Public().(ed25519.PublicKey)
	prev := [32]byte{}
	for i, r := range readings {
		if err := r.Verify(key); err != nil {
			t.Error(err)
		}
		if r.Seq != uint64(i+1) || r.Prev != prev || r.SignedBy != meter.SignedByAgent {
			t.Errorf("reading %d: got seq %d, prev %x, signed by %s", i, r.Seq, r.Prev, r.SignedBy)
		}
		prev = r.Hash()
	}
	if readings[2].Epoch != readings[1].Epoch+1 {
		t.Errorf("epoch: got %d, expected %d", readings[2].Epoch, readings[1].Epoch+1)
	}
	state := meter.ChainState{Seq: 7, Prev: prev, At: readings[2].At}
	chain, err := meter.NewChain(goldenKey(), state)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := chain.Append(meter.Sample{At: state.At}); !errors.Is(err, meter.ErrUnknown) {
		t.Errorf("sample without counters: got %v, expected %v", err, meter.ErrUnknown)
	}
	if _, err := chain.Append(meter.Sample{At: state.At.Add(-time.Second), ImportWh: new(uint64(1))}); err == nil {
		t.Error("sample before the last reading was appended")
	}
	if diff := cmp.Diff(state, chain.State()); diff != "" {
		t.Errorf("a refused sample changed the chain: %s", diff)
	}
	r, err := chain.Append(meter.Sample{At: state.At, ImportWh: new(uint64(1))})
	if err != nil || r.Seq != 8 || r.Prev != prev {
		t.Errorf("after a restart: got seq %d, prev %x, %v", r.Seq, r.Prev, err)
	}
	if _, err := meter.NewChain(nil, meter.ChainState{}); err == nil {
		t.Error("a chain without a key was begun")
	}
}
