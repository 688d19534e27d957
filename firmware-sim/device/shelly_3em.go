package device

import (
	"encoding/json"
	"fmt"

	"github.com/commonwatt/commonwatt/firmware-sim/home"
)

// shelly3EM is a Shelly 3EM of the first generation on HTTP. Facts from Shelly's
// API documentation of that generation (/shelly, /status, /emeter/0): three
// emeters with total and total_returned in Wh to one decimal, and no sum of the
// counters.
type shelly3EM struct{ spec Spec }

func (shelly3EM) Shown(wh uint64) uint64 { return wh }

// Page answers /status, /shelly and /emeter/0 to 2.
func (d shelly3EM) Page(r Reading, path, query string) ([]byte, error) {
	if query != "" {
		return nil, nil
	}
	meters := d.emeters(r)
	mac := fmt.Sprintf("34945470%04X", d.spec.Serial&0xFFFF)
	switch path {
	case "/status":
		var watts any
		if !r.NoPower {
			watts = round(float64(r.Power)/1000, 2)
		}
		return json.Marshal(map[string]any{
			"wifi_sta": map[string]any{"connected": true, "rssi": -61}, "time": r.At.UTC().Format("15:04"), "unixtime": r.At.Unix(),
			"serial": r.Index & 0xFFFF, "has_update": false, "mac": mac, "relays": []map[string]any{{"ison": false, "is_valid": true}},
			"emeters": meters, "total_power": watts, "fs_mounted": true, "uptime": 86400,
		})
	case "/shelly":
		return json.Marshal(map[string]any{"type": "SHEM-3", "mac": mac, "auth": false, "fw": "20230913-114244/v1.14.0", "num_emeters": 3})
	case "/emeter/0", "/emeter/1", "/emeter/2":
		return json.Marshal(meters[path[len(path)-1]-'0'])
	default:
		return nil, nil
	}
}

// emeters divides the counters so that the tenths of the phases add up to those of
// the whole.
func (d shelly3EM) emeters(r Reading) []map[string]any {
	e := newElectrics(r, d.spec.Serial)
	in, out := phases(r.Import), phases(r.Export)
	list := make([]map[string]any, 3)
	for p := range 3 {
		list[p] = map[string]any{
			"power": round(e.watts[p], 2), "pf": powerFactor, "current": round(e.amps[p], 2), "voltage": round(e.volts[p], 2),
			"is_valid": true, "total": number(decimal(in[p], 3, 1)), "total_returned": number(decimal(out[p], 3, 1)),
		}
		if r.NoPower {
			list[p]["power"] = nil
		}
		if r.NoCounters {
			list[p]["total"], list[p]["total_returned"], list[p]["is_valid"] = nil, nil, false
		}
	}
	return list
}

// phases divides a counter into three, in whole tenths of a Wh.
func phases(e home.MilliWattHours) [3]home.MilliWattHours {
	tenths := e / 100
	a, b := tenths/2, tenths/10*3
	return [3]home.MilliWattHours{a * 100, b * 100, (tenths - a - b) * 100}
}
