package device

import (
	"context"
	"encoding/json"
)

// zigbee is a Zigbee meter for the rail behind Zigbee2MQTT. Facts from that
// project's documentation (MQTT topics, availability, "energy" and
// "produced_energy" of its meters): everything in one flat object, kWh to two
// decimals, retained only if somebody wants it so.
type zigbee struct{ spec Spec }

// Shown: a hundredth of a kWh is the least that it tells.
func (zigbee) Shown(wh uint64) uint64 { return wh / 10 * 10 }

func (d zigbee) availability(state string) Message {
	return Message{Topic: "zigbee2mqtt/" + d.spec.Topic + "/availability", Payload: []byte(`{"state":"` + state + `"}`), Retain: true, QoS: 1}
}

func (d zigbee) Birth() Message { return d.availability("online") }

func (d zigbee) Will() Message { return d.availability("offline") }

func (d zigbee) Messages(_ context.Context, r Reading) ([]Message, error) {
	e := newElectrics(r, d.spec.Serial)
	state := map[string]any{
		"voltage": round(e.volts[0], 1), "current": round(e.amps[0], 2), "ac_frequency": round(e.hertz, 2), "linkquality": 120,
		"power": nil, "energy": nil, "produced_energy": nil,
	}
	if !r.NoPower {
		state["power"] = r.Power.Watts()
	}
	if !r.NoCounters {
		state["energy"], state["produced_energy"] = number(decimal(r.Import, 6, 2)), number(decimal(r.Export, 6, 2))
	}
	m, err := message("zigbee2mqtt/"+d.spec.Topic, state)
	if err != nil {
		return nil, err
	}
	return []Message{m}, nil
}

// number writes a decimal as JavaScript does: without zeros at its end.
func number(n json.Number) json.Number {
	text := string(n)
	for text[len(text)-1] == '0' {
		text = text[:len(text)-1]
	}
	if text[len(text)-1] == '.' {
		text = text[:len(text)-1]
	}
	return json.Number(text)
}
