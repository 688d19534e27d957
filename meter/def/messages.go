package def

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
)

const (
	// MaxPayload bounds a message that is published, before it is parsed. The longest known have under 4 kB.
	MaxPayload = 16 << 10
	// MaxAnswer bounds the answer to a request. The longest known, the full status of a Shelly with scripts, has under
	// 30 kB.
	MaxAnswer = 64 << 10
)

// Topics is what to subscribe to for one device, and how to tell its messages apart.
type Topics struct {
	// Device is what stands for {device}.
	Device string
	// ByTopic is the name of the message by full topic.
	ByTopic map[string]string
}

// ErrBadTopic is wrapped where a topic cannot be subscribed to.
var ErrBadTopic = errors.New("not a topic")

// ResolveTopic takes what an address names: the device ("kitchen") or one of its topics in full ("tele/kitchen/SENSOR").
func (d *Definition) ResolveTopic(topic string) (Topics, error) {
	if topic == "" || len(topic) > 256 || strings.ContainsAny(topic, "+#\x00") || strings.HasPrefix(topic, "/") || strings.HasSuffix(topic, "/") {
		return Topics{}, fmt.Errorf("got %q, expected a device's name or a full topic without + and #, such as %s: %w",
			topic, strings.ReplaceAll(d.MQTT.Messages[0].Topics[0], deviceMark, "kitchen"), ErrBadTopic)
	}
	device, variant := topic, 0
	for _, m := range d.MQTT.Messages {
		for i, pattern := range m.Topics {
			before, after, _ := strings.Cut(pattern, deviceMark)
			if len(topic) > len(before)+len(after) && strings.HasPrefix(topic, before) && strings.HasSuffix(topic, after) {
				device, variant = topic[len(before):len(topic)-len(after)], i
			}
		}
	}
	t := Topics{Device: device, ByTopic: map[string]string{}}
	for _, m := range d.MQTT.Messages {
		t.ByTopic[strings.Replace(m.Topics[min(variant, len(m.Topics)-1)], deviceMark, device, 1)] = m.Name
	}
	return t, nil
}

// Decoder makes values of the messages of one device. It remembers what the last messages said and which of several
// places holds each point. It is for one goroutine.
type Decoder struct {
	def      *Definition
	topics   Topics
	scalar   map[string]bool // by name of the message
	faults   []Fault
	faulty   map[int]bool // by index of faults: what the last message of that kind said
	identity Identity
	fresh    look
	kept     look // of what a broker had kept: it is never mixed with what is fresh
}

// NewDecoder makes a decoder for the messages that one device publishes.
func (d *Definition) NewDecoder(t Topics) *Decoder {
	names := make([]string, 0, len(d.MQTT.Messages))
	scalar := map[string]bool{}
	for _, m := range d.MQTT.Messages {
		names = append(names, m.Name)
		scalar[m.Name] = m.Scalar
	}
	dec := d.newDecoder(names, d.MQTT.together())
	dec.topics, dec.scalar, dec.faults = t, scalar, d.MQTT.Faults
	for topic, name := range t.ByTopic {
		dec.fresh.where[name], dec.kept.where[name] = topic, topic
	}
	for name, p := range d.Identify.all() {
		if p != nil && p.Device {
			dec.identity.set(name, t.Device)
		}
	}
	return dec
}

// NewAnswerDecoder makes a decoder for what one device answers to requests.
func (d *Definition) NewAnswerDecoder() *Decoder {
	names := make([]string, 0, len(d.HTTP.Messages))
	for _, m := range d.HTTP.Messages {
		names = append(names, m.Name)
	}
	dec := d.newDecoder(names, 0)
	dec.faults = d.HTTP.Faults
	for _, m := range d.HTTP.Messages {
		dec.fresh.where[m.Name] = m.Path
	}
	return dec
}

func (d *Definition) newDecoder(names []string, together time.Duration) *Decoder {
	dec := &Decoder{def: d, faulty: map[int]bool{}, fresh: newLook(d, names, together), kept: newLook(d, names, together)}
	for name, p := range d.Identify.all() {
		if p != nil && p.Text != "" {
			dec.identity.set(name, p.Text)
		}
	}
	return dec
}

// together is how far apart the messages of one sample may be.
func (m *MQTT) together() time.Duration {
	const usual = 10 * time.Second
	if m.TogetherS == 0 {
		return usual
	}
	return time.Duration(m.TogetherS) * time.Second
}

// Identity is what the messages have said so far.
func (dec *Decoder) Identity() Identity { return dec.identity }

// Decode takes one message that was published and came at a time. ok says that with it the counters are complete, and so
// make a sample; what other messages say is remembered. A power that a broker retained is not used: it is of no known
// time.
func (dec *Decoder) Decode(topic string, payload []byte, retained bool, at time.Time) (v Values, ok bool, err error) {
	kind, known := dec.topics.ByTopic[topic]
	if !known {
		return Values{}, false, nil
	}
	root, err := dec.root(kind, payload, MaxPayload)
	if err != nil {
		return Values{}, false, fmt.Errorf("message on %s: %w", topic, err)
	}
	l := &dec.fresh
	if retained { // what was kept may be of an older set-up: it does not decide where a point is
		l = &dec.kept
		l.follow(&dec.fresh)
	}
	dec.take(l, kind, root, at)
	if v, ok = l.sample(at); !ok {
		return Values{}, false, nil
	}
	v.DeviceError = v.DeviceError || dec.ill()
	if retained {
		v.Retained, v.PowerW = true, nil
	}
	return v, true, nil
}

// Answers takes the answers to all requests of the definition, by name of the message, and makes a sample of them. What
// they do not say is unknown.
func (dec *Decoder) Answers(answers map[string][]byte, at time.Time) (Values, error) {
	for _, m := range dec.def.HTTP.Messages {
		root, err := dec.root(m.Name, answers[m.Name], MaxAnswer)
		if err != nil {
			return Values{}, fmt.Errorf("answer to %s: %w", m.Path, err)
		}
		dec.take(&dec.fresh, m.Name, root, at)
	}
	v := dec.fresh.finish(at)
	v.DeviceError = v.DeviceError || dec.ill()
	return v, nil
}

func (dec *Decoder) take(l *look, kind string, root any, at time.Time) {
	find := func(p Place) (any, bool) { return lookup(root, p) }
	dec.identify(kind, find)
	for i, f := range dec.faults {
		if f.Message == kind {
			dec.faulty[i] = hasFault(root, f)
		}
	}
	l.hear(kind, find, at)
}

// ill reports whether a message said so last.
func (dec *Decoder) ill() bool {
	for _, faulty := range dec.faulty {
		if faulty {
			return true
		}
	}
	return false
}

func (dec *Decoder) root(kind string, payload []byte, most int) (any, error) {
	if len(payload) > most {
		return nil, fmt.Errorf("got %d bytes, expected at most %d", len(payload), most)
	}
	if dec.scalar[kind] {
		return scalarText(bytes.TrimSpace(payload)), nil
	}
	return decodeJSON(payload)
}

func (dec *Decoder) identify(kind string, find func(Place) (any, bool)) {
	for name, p := range dec.def.Identify.all() {
		if p == nil {
			continue
		}
		for _, from := range p.From {
			if from.Message != kind {
				continue
			}
			value, ok := find(from)
			if !ok {
				continue
			}
			var s string
			switch value := value.(type) {
			case string:
				s = value
			case scalarText:
				s = string(value)
			case json.Number:
				s = value.String()
			}
			if s = text(wordsOfText(s)); s != "" && len(s) <= maxIdentity {
				dec.identity.set(name, s)
				break
			}
		}
	}
}

// maxIdentity bounds a part of an identity.
const maxIdentity = 64

// maxLevels bounds how deep JSON may be nested.
const maxLevels = 64

func decodeJSON(payload []byte) (any, error) {
	depth := 0
	for _, b := range payload { // brackets within texts count too, which does no harm
		switch b {
		case '{', '[':
			depth++
		case '}', ']':
			depth--
		}
		if depth > maxLevels {
			return nil, fmt.Errorf("decoding JSON: expected at most %d levels", maxLevels)
		}
	}
	dec := json.NewDecoder(bytes.NewReader(payload))
	dec.UseNumber()
	var root any
	if err := dec.Decode(&root); err != nil {
		return nil, fmt.Errorf("decoding JSON: %w", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("decoding JSON: got more after the value, expected one value")
	}
	switch root.(type) {
	case map[string]any, []any:
		return onceEach(payload), nil
	}
	return nil, errors.New("decoding JSON: expected an object")
}
