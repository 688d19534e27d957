package meter_test

import (
	"context"
	"crypto/ed25519"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/commonwatt/commonwatt/meter"
	"github.com/commonwatt/commonwatt/meter/def"
)

func openMQTT(t *testing.T, b *broker, definition, topic string, change func(*meter.Config)) meter.Source {
	t.Helper()
	c := meter.Config{Definition: definition, Address: "mqtt://127.0.0.1:" + b.port + "/" + topic}
	if change != nil {
		change(&c)
	}
	source, err := meter.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = source.Close() })
	return source
}

const plug = `{"Time":"2026-06-21T12:00:00","ENERGY":{"Total":12.345,"Power":100}}`

// TestMosquittoRestart: a retained message is marked, a fresh one is not, and after the broker was killed and started
// again the source hears the device as before.
func TestMosquittoRestart(t *testing.T) {
	b := newBroker(t, "allow_anonymous true\n")
	b.publish("tele/kitchen/SENSOR", plug, "-r")
	source := openMQTT(t, b, "tasmota", "kitchen", nil)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	s, err := source.Read(ctx)
	if err != nil || s.Quality != meter.Retained || s.ImportWh == nil || *s.ImportWh != 12345 || s.PowerW != nil {
		t.Fatalf("retained message: got %s, %v", sampleText(t, s), err)
	}
	s = b.readWhile(source, "tele/kitchen/SENSOR", strings.Replace(plug, "12.345", "12.400", 1))
	if s.Quality != meter.Good || *s.ImportWh != 12400 || *s.PowerW != 100 || s.At.IsZero() {
		t.Fatalf("fresh message: got %s", sampleText(t, s))
	}
	b.kill()
	drain(t, source)
	short, stop := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer stop()
	if _, err := source.Read(short); !errors.Is(err, meter.ErrNoMessage) || !strings.Contains(err.Error(), "cannot be reached") {
		t.Errorf("without a broker: got %v", err)
	}
	b.start()
	s = b.readWhile(source, "tele/kitchen/SENSOR", strings.Replace(plug, "12.345", "12.500", 1))
	if s.Quality != meter.Good || *s.ImportWh != 12500 {
		t.Errorf("after the restart: got %s", sampleText(t, s))
	}
}

// TestMosquittoTooLarge: a message above the bound is not read, and the person who waits for it is told.
func TestMosquittoTooLarge(t *testing.T) {
	b := newBroker(t, "allow_anonymous true\n")
	b.publish("tele/kitchen/SENSOR", plug+strings.Repeat(" ", def.MaxPayload), "-r")
	source := openMQTT(t, b, "tasmota", "kitchen", nil)
	readUntil(t, source, "1 messages were thrown away, those above 16384 bytes are too large")
}

// drain reads what was published before, until nothing comes and the broker is known to be gone.
func drain(t *testing.T, source meter.Source) {
	t.Helper()
	deadline, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for deadline.Err() == nil {
		ctx, stop := context.WithTimeout(deadline, 50*time.Millisecond)
		_, err := source.Read(ctx)
		stop()
		if err != nil && strings.Contains(err.Error(), "cannot be reached") {
			return
		}
	}
	t.Fatal("the broker was killed, but is not missed")
}

// TestMosquittoHostile: what is too large is thrown away, what is no JSON is an error, and the next good message counts.
func TestMosquittoHostile(t *testing.T) {
	b := newBroker(t, "allow_anonymous true\n")
	source := openMQTT(t, b, "tasmota", "tele/kitchen/SENSOR", nil)
	b.readWhile(source, "tele/kitchen/SENSOR", plug)
	drainQueue(t, source)
	b.publish("tele/kitchen/SENSOR", `{"ENERGY":{"Total":99.999,"x":"`+strings.Repeat("x", 4<<20)+`"}}`)
	b.publish("tele/kitchen/SENSOR", `{"ENERGY":{"Total":99.999,"x":"`+strings.Repeat("x", 16<<10)+`"}}`)
	b.publish("tele/other/SENSOR", `{"ENERGY":{"Total":77}}`)
	b.publish("tele/kitchen/SENSOR", `{"ENERGY":`)
	b.publish("tele/kitchen/SENSOR", strings.Replace(plug, "12.345", "12.346", 1))
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if _, err := source.Read(ctx); !errors.Is(err, meter.ErrPayload) {
		t.Errorf("half a message: got %v, expected %v", err, meter.ErrPayload)
	}
	if s, err := source.Read(ctx); err != nil || *s.ImportWh != 12346 {
		t.Errorf("after the bad ones: got %s, %v", sampleText(t, s), err)
	}
}

func drainQueue(t *testing.T, source meter.Source) {
	t.Helper()
	for {
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		_, err := source.Read(ctx)
		cancel()
		if err != nil {
			return
		}
	}
}

// TestMosquittoPassword: a broker that wants a password gets it.
func TestMosquittoPassword(t *testing.T) {
	// Written by "mosquitto_passwd -c -b": user meter, password watt.
	passwords := t.TempDir() + "/passwords"
	need(t, "mosquitto_passwd", "mosquitto")
	run(t, "mosquitto_passwd", "-c", "-b", passwords, "meter", "watt")
	b := newBroker(t, "allow_anonymous false\npassword_file "+passwords+"\n")
	wrong := openMQTT(t, b, "tasmota", "kitchen", func(c *meter.Config) { c.Username, c.Password, c.Timeout = "meter", "volt", 500*time.Millisecond })
	if _, err := wrong.Read(t.Context()); !errors.Is(err, meter.ErrNoMessage) {
		t.Errorf("wrong password: got %v, expected %v", err, meter.ErrNoMessage)
	}
	right := openMQTT(t, b, "tasmota", "kitchen", func(c *meter.Config) { c.Username, c.Password, c.ClientID = "meter", "watt", "commonwatt-test" })
	got := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		_, err := right.Read(ctx)
		got <- err
	}()
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for {
		b.publish("tele/kitchen/SENSOR", plug, "-u", "meter", "-P", "watt")
		select {
		case err := <-got:
			if err != nil {
				t.Error(err)
			}
			return
		case <-ticker.C:
		}
	}
}

// TestMosquittoShelly: two messages, one sample.
func TestMosquittoShelly(t *testing.T) {
	b := newBroker(t, "allow_anonymous true\n")
	source := openMQTT(t, b, "shelly-gen2", "attic/status/em:0", nil)
	b.publish("attic/status/em:0", `{"id":0,"total_act_power":-640.25}`)
	b.readWhile(source, "attic/status/emdata:0", `{"id":0,"total_act":345075.99,"total_act_ret":147371.42}`)
	b.publish("attic/status/em:0", `{"id":0,"total_act_power":-640.25}`)
	s := b.readWhile(source, "attic/status/emdata:0", `{"id":0,"total_act":345076.99,"total_act_ret":147371.42}`)
	if *s.ExportWh != 147371 || s.Quality != meter.Good || !source.Push() {
		t.Errorf("got %s", sampleText(t, s))
	}
}

// TestMosquittoSigned: a signed reading comes through as it was signed; a forged one is an error.
func TestMosquittoSigned(t *testing.T) {
	b := newBroker(t, "allow_anonymous true\n")
	source := openMQTT(t, b, "commonwatt-signed", "kitchen", nil)
	key := goldenKey().Public().(ed25519.PublicKey)
	r := goldenReadings(t)[0]
	message, err := meter.EncodeSigned(r, key)
	if err != nil {
		t.Fatal(err)
	}
	s := b.readWhile(source, "commonwatt/kitchen/reading", string(message))
	if s.Signed == nil || s.Signed.Reading.Hash() != r.Hash() || s.Signed.Reading.SignedBy != meter.SignedByDevice || s.Signed.Reading.Source != "commonwatt-signed@1" {
		t.Errorf("got %+v", s.Signed)
	}
	if err := s.Signed.Reading.Verify(key); err != nil {
		t.Error(err)
	}
	drainQueue(t, source)
	b.publish("commonwatt/kitchen/reading", strings.Replace(string(message), "12302420", "12302421", 1))
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if _, err := source.Read(ctx); !errors.Is(err, meter.ErrBadSignature) {
		t.Errorf("forged reading: got %v, expected %v", err, meter.ErrBadSignature)
	}
}

// TestCloseEndsRead: Close by another goroutine ends a Read that waits.
func TestCloseEndsRead(t *testing.T) {
	source, err := meter.Open(t.Context(), meter.Config{Definition: "tasmota", Address: "mqtt://127.0.0.1:1/kitchen"})
	if err != nil {
		t.Fatal(err)
	}
	got := make(chan error)
	go func() {
		_, err := source.Read(t.Context())
		got <- err
	}()
	if err := source.Close(); err != nil {
		t.Error(err)
	}
	if err := <-got; !errors.Is(err, meter.ErrClosed) {
		t.Errorf("got %v, expected %v", err, meter.ErrClosed)
	}
}
