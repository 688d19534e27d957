package meter

import (
	"context"
	"crypto/tls"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/commonwatt/commonwatt/meter/def"
	"github.com/commonwatt/commonwatt/meter/mqtt"
)

// openMQTT opens mqtt:// and mqtts://.
func openMQTT(c Config, d Definition, a address) (Source, error) {
	var secure *tls.Config
	if a.scheme == "mqtts" {
		var err error
		if secure, err = c.TLS.clientConfig(); err != nil {
			return nil, err
		}
	}
	topics := slices.Sorted(maps.Keys(a.topics.ByTopic))
	sub := mqtt.Open(mqtt.Config{
		Address: a.host, Topics: topics, ClientID: c.ClientID, Username: c.Username, Password: c.Password, TLS: secure,
		MaxPayload: def.MaxPayload, Now: c.Now, Log: c.Log,
	})
	return &mqttSource{def: d, sub: sub, listener: newListener(d, a.topics), topics: topics, address: a.host, timeout: c.Timeout}, nil
}

// mqttSource waits for what one device publishes.
type mqttSource struct {
	def      Definition
	sub      *mqtt.Subscriber
	listener *listener
	topics   []string
	address  string
	timeout  time.Duration
	retained *Sample // the last one that a broker had kept
}

func (s *mqttSource) Push() bool             { return true }
func (s *mqttSource) Definition() Definition { return s.def }
func (s *mqttSource) Close() error           { return s.sub.Close() }

func (s *mqttSource) Identity(context.Context) (Identity, error) { return s.listener.identity(), nil }

func (s *mqttSource) Read(ctx context.Context) (Sample, error) {
	if s.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, s.timeout)
		defer cancel()
	}
	for {
		select {
		case m := <-s.sub.Messages():
			sample, ok, err := s.listener.hear(m)
			switch {
			case m.Retained && err != nil:
				continue // it is of unknown age anyway, and would be there again after each reconnect
			case err != nil:
				return Sample{}, fmt.Errorf("meter %s: %w", s.def.ID, err)
			case ok && m.Retained:
				s.retained = &sample
			case ok:
				s.retained = nil
				return sample, nil
			}
		case <-s.sub.Done():
			return Sample{}, fmt.Errorf("meter %s: %w", s.def.ID, ErrClosed)
		case <-ctx.Done():
			if s.retained != nil {
				return *s.retained, nil
			}
			return Sample{}, s.nothing(ctx.Err())
		}
	}
}

func (s *mqttSource) nothing(reason error) error {
	broker := "broker " + s.address + " is connected"
	if !s.sub.Connected() {
		broker = "broker " + s.address + " cannot be reached"
		if err := s.sub.Err(); err != nil {
			broker += " (" + err.Error() + ")"
		}
	} else if n := s.sub.Dropped(); n > 0 {
		broker += fmt.Sprintf(" but %d messages were thrown away, those above %d bytes are too large", n, def.MaxPayload)
	}
	return fmt.Errorf("meter %s: %w on %s, %s: %w", s.def.ID, ErrNoMessage, strings.Join(s.topics, ", "), broker, reason)
}

// listener makes samples of messages; it is the part of the source that needs no network.
type listener struct {
	def     Definition
	decoder *def.Decoder
	signed  bool
	last    *Reading // the last one that the device signed
}

func newListener(d Definition, t def.Topics) *listener {
	return &listener{def: d, decoder: d.NewDecoder(t), signed: d.MQTT.Format == def.FormatSigned}
}

func (l *listener) identity() Identity { return l.decoder.Identity() }

func (l *listener) hear(m mqtt.Message) (sample Sample, ok bool, err error) {
	defer func() { sample.Raw = bounded(m.Payload) }()
	if l.signed {
		return l.hearSigned(m)
	}
	v, ok, err := l.decoder.Decode(m.Topic, m.Payload, m.Retained, m.At)
	if err != nil {
		return Sample{}, false, fmt.Errorf("%w: %w", ErrPayload, err)
	}
	sample = sampleOf(v, m.At, l.def)
	sample.Identity = l.identity()
	return sample, ok, nil
}

// hearSigned takes a reading that the device signed. A number that was there before is stale, and one that follows
// must name the one before.
func (l *listener) hearSigned(m mqtt.Message) (Sample, bool, error) {
	proof, err := DecodeSigned(m.Payload)
	if err != nil {
		return Sample{}, false, err
	}
	r := &proof.Reading
	r.Source = l.def.Source()
	sample := Sample{
		At: m.At, DeviceAt: &r.At, ImportWh: clone(r.ImportWh), ExportWh: clone(r.ExportWh), PowerW: clone(r.PowerW),
		Quality: r.Quality, Identity: l.identity(), Signed: &proof, Source: r.Source,
		ImportTraits: def.Traits{ResolutionWh: 1}, ExportTraits: def.Traits{ResolutionWh: 1},
	}
	sample.Identity.Serial = fmt.Sprintf("%x", r.Meter)
	if m.Retained {
		sample.Quality |= Retained
		sample.PowerW = nil // of no known time
		return sample, true, nil
	}
	switch last := l.last; {
	case last == nil || last.Meter != r.Meter:
	case r.Seq <= last.Seq:
		sample.Quality |= Stale
		return sample, true, nil
	case r.Seq == last.Seq+1 && r.Prev != last.Hash():
		return Sample{}, false, fmt.Errorf("signed reading %d does not name the one before: %w", r.Seq, ErrPayload)
	}
	l.last = r
	return sample, true, nil
}
