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

func (d tasmota) Messages(_ context.Context, r Reading) ([]Message, error) {
	type sml struct {
		In    json.Number `json:"Total_in"`
		Out   json.Number `json:"Total_out"`
		Power int64       `json:"Power_curr"`
		Meter string      `json:"Meter_Id"`
	}
	m, err := message("tele/"+d.spec.Topic+"/SENSOR", struct {
		Time string `json:"Time"`
		SML  sml
	}{
		r.At.UTC().Format("2006-01-02T15:04:05"),
		sml{decimal(r.Import, 6, 4), decimal(r.Export, 6, 4), r.Power.Watts(), fmt.Sprintf("0a01454d48%010x", d.spec.Serial)},
	})
	if err != nil {
		return nil, err
	}
	return []Message{m}, nil
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
