package meter_test

import (
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/commonwatt/commonwatt/meter"
)

func TestQuality(t *testing.T) {
	for text, q := range map[string]meter.Quality{
		"good": meter.Good, "stale": 1, "retained": 2, "substitute": 4, "out-of-range": 8, "device-error": 16, "clock-unsure": 32,
		"identity-changed": 64, "suspect": 128, "stale,suspect": 129,
	} {
		if got := q.String(); got != text {
			t.Errorf("%d: got %q, expected %q", q, got, text)
		}
		var back meter.Quality
		if err := back.UnmarshalText([]byte(text)); err != nil || back != q {
			t.Errorf("%q: got %d, %v, expected %d", text, back, err, q)
		}
	}
	if got := (meter.Quality(1<<15) | meter.Stale).String(); got != "stale,bit-15" {
		t.Errorf("unknown bit: got %q", got)
	}
	for _, bad := range []string{"", "Good", "good,stale", "stale,", "bit-15"} {
		var q meter.Quality
		if err := q.UnmarshalText([]byte(bad)); err == nil {
			t.Errorf("%q was taken for %v", bad, q)
		}
	}
}

// TestSampleJSON: what the command line prints; unknown is null.
func TestSampleJSON(t *testing.T) {
	for _, c := range []struct {
		s    meter.Sample
		want string
	}{
		{
			meter.Sample{At: noon, Source: "tasmota@1"},
			`{"source":"tasmota@1","at":"2026-06-21T12:00:00Z","device_at":null,"import_wh":null,"export_wh":null,"power_w":null,"quality":"good",` +
				`"identity":{"maker":null,"model":null,"serial":null,"firmware":null},"signed_by":"agent"}`,
		},
		{
			meter.Sample{
				At: noon, Source: "x@2", DeviceAt: &noon, ImportWh: new(uint64(0)), ExportWh: new(uint64(18446744073709551615)), PowerW: new(int64(-5)),
				Quality: meter.Retained | meter.Suspect, Identity: meter.Identity{Maker: "M", Model: "N", Serial: "1", Firmware: "2"}, Signed: &meter.SignedProof{},
			},
			`{"source":"x@2","at":"2026-06-21T12:00:00Z","device_at":"2026-06-21T12:00:00Z","import_wh":0,"export_wh":18446744073709551615,"power_w":-5,"quality":"retained,suspect",` +
				`"identity":{"maker":"M","model":"N","serial":"1","firmware":"2"},"signed_by":"device"}`,
		},
	} {
		got, err := json.Marshal(c.s)
		if diff := cmp.Diff(c.want, string(got)); err != nil || diff != "" {
			t.Errorf("%v (-want +got):\n%s", err, diff)
		}
	}
}

// TestOpenRefuses: a typo is answered with the field and what is allowed.
func TestOpenRefuses(t *testing.T) {
	const modbus, mqtt = "eastron-sdm630", "tasmota"
	for _, c := range []struct {
		config      meter.Config
		field, want string
	}{
		{meter.Config{Definition: "sdm630", Address: "tcp://h:502"}, "definition", "shows, such as eastron-sdm630"},
		{meter.Config{Definition: modbus}, "address", "tcp://192.168.1.20:502 (eastron-sdm630)"},
		{meter.Config{Definition: modbus, Address: "192.168.1.20:502"}, "address", "beginning with tcp://"},
		{meter.Config{Definition: modbus, Address: "mqtt://h:1883/kitchen"}, "address", "beginning with tcp://"},
		{meter.Config{Definition: mqtt, Address: "tcp://h:1883"}, "address", "beginning with mqtt://"},
		{meter.Config{Definition: modbus, Address: "tcp://h"}, "address", "a host and a port from 1 to 65535"},
		{meter.Config{Definition: modbus, Address: "tcp://:502"}, "address", "a host and a port"},
		{meter.Config{Definition: modbus, Address: "tcp://h:0"}, "address", "a host and a port"},
		{meter.Config{Definition: modbus, Address: "tcp://h:65536"}, "address", "a host and a port"},
		{meter.Config{Definition: modbus, Address: "tcp://h:502/1"}, "address", "no path"},
		{meter.Config{Definition: modbus, Address: "tcp://h:502?unit=1"}, "address", "nothing after ? or #"},
		{meter.Config{Definition: mqtt, Address: "mqtt://user:secret@h:1883/kitchen"}, "address", "without a name or password"},
		{meter.Config{Definition: mqtt, Address: "mqtt://h:1883"}, "address", "the name of the device or its full topic"},
		{meter.Config{Definition: mqtt, Address: "mqtt://h:1883/tele/+/SENSOR"}, "address", "without + and #"},
		{meter.Config{Definition: modbus, Address: "tcp://h:502", Unit: 248}, "unit", "1 to 247"},
		{meter.Config{Definition: modbus, Address: "tcp://h:502", Timeout: -1}, "timeout", "0 or more"},
	} {
		source, err := meter.Open(t.Context(), c.config)
		var mistake *meter.ConfigError
		if !errors.As(err, &mistake) || mistake.Field != c.field || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: got %v, %v, expected %s … %q", c.config, source, err, c.field, c.want)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("the error tells a password: %v", err)
		}
	}
	if _, err := meter.Open(t.Context(), meter.Config{Definition: mqtt, DefinitionsDir: "testdata/nowhere"}); err == nil {
		t.Error("a directory that is not there was taken")
	}
}

// FuzzSignedReading: what is decoded verifies, and encodes to something that decodes to the same; nothing else is decoded.
func FuzzSignedReading(f *testing.F) {
	key := goldenKey()
	chain, err := meter.NewChain(key, meter.ChainState{Seq: 41})
	if err != nil {
		f.Fatal(err)
	}
	for range 2 {
		r, err := chain.Append(meter.Sample{At: noon, ImportWh: new(uint64(5)), PowerW: new(int64(-3))})
		if err != nil {
			f.Fatal(err)
		}
		message, err := meter.EncodeSigned(r, key.Public().(ed25519.PublicKey))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(message)
	}
	f.Add([]byte(`{}`))
	f.Add([]byte(`{"meter":"","seq":18446744073709551616}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		proof, err := meter.DecodeSigned(data)
		if err != nil {
			if !errors.Is(err, meter.ErrPayload) {
				t.Fatalf("error of no kind: %v", err)
			}
			return
		}
		if err := proof.Reading.Verify(proof.Key); err != nil {
			t.Fatalf("decoded, but %v", err)
		}
		again, err := meter.EncodeSigned(proof.Reading, proof.Key)
		if err != nil {
			t.Fatal(err)
		}
		back, err := meter.DecodeSigned(again)
		if diff := cmp.Diff(proof, back); err != nil || diff != "" {
			t.Fatalf("%v: %s", err, diff)
		}
	})
}

func TestDecodeSignedRefuses(t *testing.T) {
	key := goldenKey().Public().(ed25519.PublicKey)
	good, err := meter.EncodeSigned(goldenReadings(t)[0], key)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ old, new, want string }{
		{`"seq":1`, `"seq":1,"extra":1`, "extra"},
		{`"seq":1`, `"seq":-1`, "seq"},
		{`"seq":1`, `"seq":1.5`, "seq"},
		{`"seq":1,`, ``, "expected seq, epoch, at_ms and quality"},
		{`"at_ms":1782042300123`, `"at_ms":1e300`, "at_ms"},
		{`"at_ms":1782042300123`, `"at_ms":-1`, "at_ms: got -1"},
		{`"at_ms":1782042300123`, `"at_ms":9223372036854775807`, "at_ms: got"},
		{`"meter":"d2`, `"meter":"d`, "meter: got 31 characters, expected 16 encoded bytes"},
		{`"meter":"d2`, `"meter":"d3`, "key is not the meter's"},
		{`"key":"`, `"key":"A`, "key: got 45 characters"},
		{`"sig":"7`, `"sig":"6`, "bad signature"},
		{`"quality":0`, `"quality":128`, "bad signature"},
		{`"quality":0`, `"quality":65536`, "quality"},
		{`"export_wh":4728460`, `"export_wh":null`, "bad signature"},
		{`{"meter"`, `{} {"meter"`, "got more after the object"},
		{`"prev":"00`, `"prev":"`, "prev: got 62 characters"},
	} {
		changed := strings.Replace(string(good), c.old, c.new, 1)
		if changed == string(good) {
			t.Fatalf("%q is not in %s", c.old, good)
		}
		if _, err := meter.DecodeSigned([]byte(changed)); !errors.Is(err, meter.ErrPayload) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s instead of %s: got %v, expected %q", c.new, c.old, err, c.want)
		}
	}
	if _, err := meter.DecodeSigned(append(good, `{}`...)); !errors.Is(err, meter.ErrPayload) {
		t.Errorf("two objects: got %v", err)
	}
	if _, err := meter.DecodeSigned(append(good, make([]byte, 5000)...)); !errors.Is(err, meter.ErrPayload) {
		t.Errorf("a long message: got %v", err)
	}
	forged := goldenReadings(t)[0]
	forged.Seq++
	if _, err := meter.EncodeSigned(forged, key); !errors.Is(err, meter.ErrBadSignature) {
		t.Errorf("encoding a forged reading: got %v", err)
	}
}
