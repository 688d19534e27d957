package device

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/commonwatt/commonwatt/firmware-sim/home"
)

// tasmota is an infrared reading head with the Tasmota firmware on a
// household's electronic meter. Facts from Tasmota's documentation (MQTT, Smart
// Meter Interface): tele/TOPIC/SENSOR with kWh to four decimals and W, a time
// without a zone, tele/TOPIC/LWT retained.
type tasmota struct{ spec Spec }

func (tasmota) Shown(wh uint64) uint64 { return wh }

func (d tasmota) Birth() Message {
	return Message{Topic: "tele/" + d.spec.Topic + "/LWT", Payload: []byte("Online"), Retain: true, QoS: 1}
}

func (d tasmota) Will() Message {
	return Message{Topic: "tele/" + d.spec.Topic + "/LWT", Payload: []byte("Offline"), Retain: true, QoS: 1}
}

// sml is what the reading head understands of the meter.
type sml struct {
	In    *json.Number `json:"Total_in"`
	Out   *json.Number `json:"Total_out"`
	Power *int64       `json:"Power_curr"`
	Meter string       `json:"Meter_Id"`
}

// sensor is the payload of SENSOR, and the part of that name in Status 8.
type sensor struct {
	Time string `json:"Time"`
	SML  sml
}

func (d tasmota) sensor(r Reading) sensor {
	s := sensor{Time: r.At.UTC().Format("2006-01-02T15:04:05"), SML: sml{Meter: fmt.Sprintf("0a01454d48%010x", d.spec.Serial)}}
	if !r.NoCounters {
		in, out := decimal(r.Import, 6, 4), decimal(r.Export, 6, 4)
		s.SML.In, s.SML.Out = &in, &out
	}
	if !r.NoPower {
		watts := r.Power.Watts()
		s.SML.Power = &watts
	}
	return s
}

func (d tasmota) Messages(_ context.Context, r Reading) ([]Message, error) {
	m, err := message("tele/"+d.spec.Topic+"/SENSOR", d.sensor(r))
	if err != nil {
		return nil, err
	}
	return []Message{m}, nil
}

// Page answers the command Status 8 (also as Status 10, its older number).
func (d tasmota) Page(r Reading, path, query string) ([]byte, error) {
	if path != "/cm" || query != "cmnd=Status%208" && query != "cmnd=Status+8" && query != "cmnd=Status%2010" && query != "cmnd=Status+10" {
		return nil, nil
	}
	return json.Marshal(struct {
		StatusSNS sensor
	}{d.sensor(r)})
}

func message(topic string, payload any) (Message, error) {
	data, err := json.Marshal(payload)
	if err != nil {
		return Message{}, fmt.Errorf("encoding a message for %s: %w", topic, err)
	}
	return Message{Topic: topic, Payload: data}, nil
}

// decimal writes a counter in a unit of 10^exponent mWh with a number of
// decimals, cutting off what the device would not show yet. No float is
// involved.
func decimal(e home.MilliWattHours, exponent, decimals int) json.Number {
	for range exponent - decimals {
		e /= 10
	}
	text := strconv.FormatInt(int64(e), 10)
	for len(text) <= decimals {
		text = "0" + text
	}
	return json.Number(text[:len(text)-decimals] + "." + text[len(text)-decimals:])
}
