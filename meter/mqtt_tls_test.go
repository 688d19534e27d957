package meter_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/commonwatt/commonwatt/meter"
)

// readUntil reads until an error says what is expected: the first attempts may end before the broker has answered.
func readUntil(t *testing.T, source meter.Source, want string) {
	t.Helper()
	deadline, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	var err error
	for deadline.Err() == nil {
		ctx, stop := context.WithTimeout(deadline, 100*time.Millisecond)
		_, err = source.Read(ctx)
		stop()
		if err != nil && strings.Contains(err.Error(), want) {
			return
		}
	}
	t.Errorf("got %v, expected %q", err, want)
}

// TestMosquittoTLS: a broker that is known by its authority, wants a certificate of ours, and a password. Each thing that
// is wrong is one clear error, and no error tells a password.
func TestMosquittoTLS(t *testing.T) {
	dir := t.TempDir()
	ca, stranger := newAuthority(t, dir, "ca"), newAuthority(t, dir, "stranger")
	serverCert, serverKey := ca.issue(t, dir, "server", certificateFor{name: "broker", server: true})
	cert, key := ca.issue(t, dir, "client", certificateFor{name: "gateway"})
	foreignCert, foreignKey := stranger.issue(t, dir, "foreign", certificateFor{name: "gateway"})
	passwords := dir + "/passwords"
	need(t, "mosquitto_passwd", "mosquitto")
	run(t, "mosquitto_passwd", "-c", "-b", passwords, "meter", "watt")
	const demands = "allow_anonymous false\nrequire_certificate true\npassword_file "
	b := newBroker(t, demands+passwords+"\ncafile "+ca.file+"\ncertfile "+serverCert+"\nkeyfile "+serverKey+"\n")
	expiredCert, expiredKey := ca.issue(t, dir, "expired", certificateFor{name: "broker", server: true, expired: true})
	old := newBroker(t, demands+passwords+"\ncafile "+ca.file+"\ncertfile "+expiredCert+"\nkeyfile "+expiredKey+"\n")

	open := func(b *broker, change func(*meter.Config)) meter.Source {
		t.Helper()
		c := meter.Config{
			Definition: "tasmota", Address: "mqtts://127.0.0.1:" + b.port + "/kitchen", Username: "meter", Password: "watt",
			TLS: meter.TLS{CAFile: ca.file, CertFile: cert, KeyFile: key},
		}
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
	login := []string{"--cafile", ca.file, "--cert", cert, "--key", key, "-u", "meter", "-P", "watt"}
	if s := b.readWhile(open(b, nil), "tele/kitchen/SENSOR", plug, login...); s.Quality != meter.Good || *s.ImportWh != 12345 {
		t.Errorf("got %s", sampleText(t, s))
	}
	for name, c := range map[string]struct {
		broker *broker
		want   string
		change func(*meter.Config)
	}{
		"an authority that is not the broker's": {b, "certificate signed by unknown authority", func(c *meter.Config) { c.TLS.CAFile = stranger.file }},
		"the authorities of the system":         {b, "certificate signed by unknown authority", func(c *meter.Config) { c.TLS.CAFile = "" }},
		"a broker whose certificate is too old": {old, "certificate has expired", nil},
		"a broker of another name":              {b, "wanted to match broker.example", func(c *meter.Config) { c.TLS.ServerName = "broker.example" }},
		"no certificate of ours":                {b, "certificate", func(c *meter.Config) { c.TLS.CertFile, c.TLS.KeyFile = "", "" }},
		"a certificate of somebody else":        {b, "certificate", func(c *meter.Config) { c.TLS.CertFile, c.TLS.KeyFile = foreignCert, foreignKey }},
		"a wrong password":                      {b, "not Authorized", func(c *meter.Config) { c.Password = "volt-secret" }},
		"no password":                           {b, "not Authorized", func(c *meter.Config) { c.Username, c.Password = "", "" }},
		"no TLS":                                {b, "cannot be reached (connecting", func(c *meter.Config) { c.Address = strings.Replace(c.Address, "mqtts", "mqtt", 1) }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			source := open(c.broker, c.change)
			readUntil(t, source, c.want)
			ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
			defer cancel()
			if _, err := source.Read(ctx); err == nil || strings.Contains(err.Error(), "volt-secret") || strings.Contains(err.Error(), "\n") {
				t.Errorf("got %v", err)
			}
		})
	}
}

// TestMosquittoSplit: counters on four topics, the broker restarted in between, one message delivered twice, and the last
// values kept by the broker.
func TestMosquittoSplit(t *testing.T) {
	t.Parallel()
	b := newBroker(t, "allow_anonymous true\n")
	publish := func(more ...string) {
		for topic, payload := range map[string]string{
			"electricity_delivered_1": "1577.123", "electricity_returned_1": "10.001", "electricity_delivered_2": "1492.045", "electricity_returned_2": "0.999",
		} {
			b.publish("dsmr/reading/"+topic, payload, more...)
		}
	}
	publish("-r")
	source := openMQTT(t, b, "dsmr-reader", "dsmr", func(c *meter.Config) { c.Timeout = time.Second })
	for heard := 0; heard < 2; { // the second Read finds what the first did: it is all there is
		s, err := source.Read(t.Context())
		if err != nil {
			if t.Context().Err() != nil {
				t.Fatal(err)
			}
			continue // the broker has not answered yet
		}
		heard++
		if s.Quality != meter.Retained || s.ImportWh == nil || *s.ImportWh != 3069168 || *s.ExportWh != 11000 {
			t.Fatalf("kept by the broker: got %s", sampleText(t, s))
		}
	}
	for _, again := range []bool{false, true} {
		if again {
			b.kill()
			readUntil(t, source, "cannot be reached")
			b.start()
		}
		for found := false; !found; {
			publish()
			b.publish("dsmr/reading/electricity_returned_1", "10.001")
			s, err := source.Read(t.Context())
			found = err == nil && s.Quality == meter.Good
			if found && (*s.ImportWh != 3069168 || *s.ExportWh != 11000 || s.AskedAt.IsZero() || !s.AskedAt.Before(s.At)) {
				t.Errorf("got %s, first message at %v", sampleText(t, s), s.AskedAt)
			}
			if t.Context().Err() != nil {
				t.Fatal("no fresh sample")
			}
		}
	}
}

// TestTwoClients (two with one id throw each other off): the error says so, and two that chose no id do not meet.
func TestTwoClients(t *testing.T) {
	t.Parallel()
	b := newBroker(t, "allow_anonymous true\n")
	one := openMQTT(t, b, "tasmota", "kitchen", func(c *meter.Config) { c.ClientID = "commonwatt-same" })
	openMQTT(t, b, "tasmota", "kitchen", func(c *meter.Config) { c.ClientID = "commonwatt-same" })
	readUntil(t, one, "another client may have the id commonwatt-same")
	a, c := openMQTT(t, b, "tasmota", "hall", nil), openMQTT(t, b, "tasmota", "hall", nil)
	b.readWhile(a, "tele/hall/SENSOR", plug)
	b.readWhile(c, "tele/hall/SENSOR", plug)
}
