package device

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"strings"

	"github.com/commonwatt/commonwatt/firmware-sim/home"
)

// shelly is a Shelly Pro 3EM (second generation) on MQTT. Facts from Shelly's
// API documentation (components EM, EMData and MQTT): TOPIC/status/em:0 with
// powers, TOPIC/status/emdata:0 with energies in Wh, TOPIC/online retained.
type shelly struct{ spec Spec }

func (shelly) Shown(wh uint64) uint64 { return wh }

func (d shelly) Birth() Message {
	return Message{Topic: d.spec.Topic + "/online", Payload: []byte("true"), Retain: true, QoS: 1}
}

func (d shelly) Will() Message {
	return Message{Topic: d.spec.Topic + "/online", Payload: []byte("false"), Retain: true, QoS: 1}
}

// status gives what the components EM and EMData say.
func (d shelly) status(r Reading) (em, data map[string]any) {
	e := newElectrics(r, d.spec.Serial)
	em = map[string]any{
		"id": 0, "n_current": nil, "user_calibrated_phase": []string{},
		"total_act_power": round(e.totalW, 3), "total_aprt_power": round(e.totalVA, 3),
		"total_current": round(e.amps[0]+e.amps[1]+e.amps[2], 3),
	}
	data = map[string]any{
		"id": 0, "total_act": decimal(r.Import, 3, 2), "total_act_ret": decimal(r.Export, 3, 2),
	}
	tenths := [3]home.MilliWattHours{5, 3, 2}
	for p, name := range [3]string{"a", "b", "c"} {
		em[name+"_current"] = round(e.amps[p], 3)
		em[name+"_voltage"] = round(e.volts[p], 1)
		em[name+"_act_power"] = round(e.watts[p], 1)
		em[name+"_aprt_power"] = round(e.voltAmps[p], 1)
		em[name+"_pf"] = powerFactor
		em[name+"_freq"] = round(e.hertz, 1)
		// The device counts each phase; here its counters share the total.
		data[name+"_total_act_energy"] = decimal(r.Import/10*tenths[p], 3, 2)
		data[name+"_total_act_ret_energy"] = decimal(r.Export/10*tenths[p], 3, 2)
	}
	if r.NoPower {
		em["total_act_power"] = nil
	}
	if r.NoCounters {
		data["total_act"], data["total_act_ret"] = nil, nil
	}
	return em, data
}

// Page answers the methods of RPC over HTTP.
func (d shelly) Page(r Reading, path, query string) ([]byte, error) {
	em, data := d.status(r)
	switch {
	case path == "/rpc/EM.GetStatus" && query == "id=0":
		return json.Marshal(em)
	case path == "/rpc/EMData.GetStatus" && query == "id=0":
		return json.Marshal(data)
	case path == "/rpc/Shelly.GetStatus" && query == "":
		return json.Marshal(map[string]any{
			"em:0": em, "emdata:0": data, "sys": map[string]any{"mac": d.mac(), "unixtime": r.At.Unix()},
		})
	case path == "/rpc/Shelly.GetDeviceInfo" && query == "" || path == "/shelly" && query == "":
		return json.Marshal(map[string]any{
			"id": "shellypro3em-" + strings.ToLower(d.mac()), "mac": d.mac(), "model": "SPEM-003CEBEU", "gen": 2,
			"app": "Pro3EM", "ver": "1.4.4", "profile": "triphase", "auth_en": false,
		})
	default:
		return nil, nil
	}
}

// mac is the device's serial number as its makers give it.
func (d shelly) mac() string { return fmt.Sprintf("A8032A%06X", d.spec.Serial&0xFFFFFF) }

// Messages gives the powers first: a reader takes the counters' message as the
// end of a reading.
func (d shelly) Messages(_ context.Context, r Reading) ([]Message, error) {
	em, data := d.status(r)
	power, err := message(d.spec.Topic+"/status/em:0", em)
	if err != nil {
		return nil, err
	}
	energy, err := message(d.spec.Topic+"/status/emdata:0", data)
	if err != nil {
		return nil, err
	}
	return []Message{power, energy}, nil
}

// round writes a number with so many decimals at most.
func round(v float64, decimals int) json.Number {
	scale := math.Pow10(decimals)
	return json.Number(fmt.Sprint(math.Round(v*scale) / scale))
}
