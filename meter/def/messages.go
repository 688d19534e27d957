package def

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// MaxPayload bounds a message before it is parsed. The longest known, a Shelly's full status, is under 4 kB.
const MaxPayload = 16 << 10

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
	chosen   map[string]Place // point → where it was first found
	power    *int64           // from a message that carried no counter
	faulty   map[int]bool     // by index of Faults: what the last message of that kind said
	identity Identity
}

// NewDecoder makes a decoder for the messages of one device.
func (d *Definition) NewDecoder(t Topics) *Decoder {
	dec := &Decoder{def: d, topics: t, chosen: map[string]Place{}, faulty: map[int]bool{}}
	for name, p := range d.Identify.all() {
		if p != nil && p.Text != "" {
			dec.identity.set(name, p.Text)
		}
		if p != nil && p.Device {
			dec.identity.set(name, t.Device)
		}
	}
	return dec
}

// Identity is what the messages have said so far.
func (dec *Decoder) Identity() Identity { return dec.identity }

// Decode takes one message. ok says that it carried a counter and so makes a sample; other messages are remembered for
// what they say of power and faults. A power that a broker retained is not used: it is of no known time.
func (dec *Decoder) Decode(topic string, payload []byte, retained bool) (v Values, ok bool, err error) {
	kind, known := dec.topics.ByTopic[topic]
	if !known {
		return Values{}, false, nil
	}
	if len(payload) > MaxPayload {
		return Values{}, false, fmt.Errorf("message on %s: got %d bytes, expected at most %d", topic, len(payload), MaxPayload)
	}
	root, err := decodeJSON(payload)
	if err != nil {
		return Values{}, false, fmt.Errorf("message on %s: %w", topic, err)
	}
	dec.identify(kind, root)
	for i, f := range dec.def.MQTT.Faults {
		if f.Message == kind {
			dec.faulty[i] = hasFault(root, f)
		}
	}
	v.Retained = retained
	if retained { // what was kept may be of an older set-up: it does not decide where a point is
		chosen := maps.Clone(dec.chosen)
		defer func() { dec.chosen = chosen }()
	}
	counters := dec.point(&v, PointImport, kind, root)
	counters = dec.point(&v, PointExport, kind, root) || counters
	if powered := dec.point(&v, PointPower, kind, root); powered {
		if retained {
			v.PowerW = nil
		}
		dec.power = v.PowerW
	} else {
		v.PowerW = clone(dec.power)
	}
	for _, faulty := range dec.faulty {
		v.DeviceError = v.DeviceError || faulty
	}
	return v, counters, nil
}

func clone[T any](v *T) *T {
	if v == nil {
		return nil
	}
	w := *v
	return &w
}

func decodeJSON(payload []byte) (any, error) {
	dec := json.NewDecoder(bytes.NewReader(payload))
	dec.UseNumber()
	var root any
	if err := dec.Decode(&root); err != nil {
		return nil, fmt.Errorf("decoding JSON: %w", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("decoding JSON: got more after the value, expected one value")
	}
	if _, ok := root.(map[string]any); !ok {
		return nil, errors.New("decoding JSON: expected an object")
	}
	return root, nil
}

func lookup(root any, path []string) (any, bool) {
	for _, key := range path {
		object, ok := root.(map[string]any)
		if !ok {
			return nil, false
		}
		if root, ok = object[key]; !ok {
			return nil, false
		}
	}
	return root, true
}

func hasFault(root any, f Fault) bool {
	value, _ := lookup(root, f.Path)
	list, _ := value.([]any)
	for _, item := range list {
		if s, ok := item.(string); ok && slices.Contains(f.Values, s) {
			return true
		}
	}
	return false
}

func (dec *Decoder) identify(kind string, root any) {
	for name, p := range dec.def.Identify.all() {
		if p == nil {
			continue
		}
		for _, from := range p.From {
			if from.Message != kind {
				continue
			}
			if value, ok := lookup(root, from.Path); ok {
				if s, ok := value.(string); ok && len(s) <= 64 {
					dec.identity.set(name, text(wordsOfText(s)))
					break
				}
			}
		}
	}
}

// wordsOfText packs a string as registers do, so that one function cleans both.
func wordsOfText(s string) []uint16 {
	words := make([]uint16, (len(s)+1)/2)
	for i := range len(s) {
		words[i/2] |= uint16(s[i]) << (8 * (1 - i%2))
	}
	return words
}

// point looks for a point in a message and reports whether the message is where the point belongs.
func (dec *Decoder) point(v *Values, name, kind string, root any) bool {
	p, ok := dec.def.Points[name]
	if !ok {
		return false
	}
	value, found := any(nil), false
	if place, chosen := dec.chosen[name]; chosen {
		if place.Message != kind {
			return false
		}
		value, found = lookup(root, place.Path)
	} else {
		for _, place := range p.From {
			if place.Message != kind {
				continue
			}
			if value, found = lookup(root, place.Path); found {
				dec.chosen[name] = place
				break
			}
		}
	}
	if !found {
		return false
	}
	n, ok, err := p.number(value)
	if err != nil {
		v.DeviceError = true
		return true
	}
	if ok {
		v.set(name, p, n, Traits{ResolutionWh: max(1, p.ResolutionWh)}, false)
	}
	return true
}

// number reads a JSON value; null is unknown, anything but a number is the device's error.
func (p Point) number(value any) (n decimal, ok bool, err error) {
	switch value := value.(type) {
	case nil:
		return decimal{}, false, nil
	case json.Number:
		n, err = parseDecimal(value.String())
		return n, err == nil, err
	case []any:
		if !p.Sum || len(value) == 0 || len(value) > maxList {
			return decimal{}, false, fmt.Errorf("got a list of %d: %w", len(value), errNotNumber)
		}
		return sum(value)
	}
	return decimal{}, false, fmt.Errorf("got %T: %w", value, errNotNumber)
}

func sum(values []any) (decimal, bool, error) {
	var total decimal
	for i, value := range values {
		number, ok := value.(json.Number)
		if !ok {
			return decimal{}, false, fmt.Errorf("got %T in a list: %w", value, errNotNumber)
		}
		n, err := parseDecimal(number.String())
		if err != nil {
			return decimal{}, false, err
		}
		if i == 0 {
			total = n
			continue
		}
		total = total.plus(n)
	}
	return total, true, nil
}
