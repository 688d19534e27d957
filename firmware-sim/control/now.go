package control

import (
	"math"
	"net/http"
	"time"

	"github.com/commonwatt/commonwatt/firmware-sim/home"
	"github.com/commonwatt/commonwatt/firmware-sim/street"
)

// Powers is the answer to /homes/{id}/now. Grid is positive when the house
// imports, battery when it charges.
type Powers struct {
	ID            string    `json:"id"`
	CommunityTime time.Time `json:"community_time"`
	RefreshedAt   time.Time `json:"refreshed_at"`
	LoadW         int64     `json:"load_w"`
	SolarW        *int64    `json:"solar_w"`
	BatteryW      *int64    `json:"battery_w"`
	GridW         int64     `json:"grid_w"`
	StoredWh      *int64    `json:"stored_wh"`
	HeatPumpW     *int64    `json:"heat_pump_w"` // part of the load, as the car
	CarW          *int64    `json:"car_w"`
	OutsideC      float64   `json:"outside_celsius"`
	Inverter      *Inverter `json:"inverter"` // what obeys in this home; null: nothing
}

func (a *API) powers(w http.ResponseWriter, r *http.Request) {
	house, ok := a.house(w, r)
	if !ok {
		return
	}
	if _, ok := a.query(w, r); !ok {
		return
	}
	index := a.Street.Latest()
	flows, err := house.Flows(r.Context(), index)
	if err != nil {
		a.fail(w, r, err)
		return
	}
	p := Powers{
		ID: house.ID, CommunityTime: a.Street.Now(), RefreshedAt: a.Street.At(index),
		LoadW: flows.Load.Watts(), GridW: flows.Grid.Watts(),
		SolarW: optionalWatts(flows.Solar), BatteryW: optionalWatts(flows.Battery),
		HeatPumpW: optionalWatts(flows.HeatPump), CarW: optionalWatts(flows.Car),
		OutsideC: math.Round(house.Celsius(index)*10) / 10,
	}
	if flows.Stored != nil {
		wh := int64(*flows.Stored / home.MilliWattHoursPerWattHour)
		p.StoredWh = &wh
	}
	orders, err := a.Street.Orders(r.Context(), house)
	if err != nil {
		a.fail(w, r, err)
		return
	}
	p.Inverter = newInverter(orders)
	a.answer(w, r, http.StatusOK, p)
}

func optionalWatts(p *home.MilliWatts) *int64 {
	if p == nil {
		return nil
	}
	w := p.Watts()
	return &w
}

// Inverter is the truth about a battery's inverter at this very moment; the
// powers around it are means. Powers are W: battery_w is positive when it
// charges, output_w when the inverter gives, set_point_w and the limits are what
// it was told. SecondsLeft are of community time, and null if nothing changes by
// itself.
type Inverter struct {
	Role        string  `json:"role"`
	Definition  string  `json:"definition"`
	Mode        string  `json:"mode"`
	SetPointW   *int64  `json:"set_point_w"`  // of the battery, charging positive
	OutputSetW  *int64  `json:"output_set_w"` // of the inverter's terminals, giving positive
	OutputMaxW  *int64  `json:"output_max_w"` // limit there
	ExportMaxW  *int64  `json:"export_max_w"` // limit of the house
	SecondsLeft *int64  `json:"seconds_left"` // until the mode changes by itself
	BatteryW    int64   `json:"battery_w"`    // what it really does
	OutputW     int64   `json:"output_w"`     //
	CurtailedW  int64   `json:"curtailed_w"`  // what the sun could give besides
	SoCPercent  float64 `json:"soc_percent"`  // of the capacity
	StoredWh    int64   `json:"stored_wh"`    //
}

func newInverter(o *street.Orders) *Inverter {
	if o == nil {
		return nil
	}
	at := o.Now
	i := &Inverter{
		Role: o.Role, Definition: o.Definition, Mode: o.Control.Mode(at),
		BatteryW: o.Battery.Watts(), OutputW: o.Output.Watts(), CurtailedW: o.Curtailed.Watts(),
		SoCPercent: float64(o.Stored*10000/o.Rating.Capacity) / 100,
		StoredWh:   int64(o.Stored / home.MilliWattHoursPerWattHour),
	}
	watts := func(p home.MilliWatts) *int64 { w := p.Watts(); return &w }
	if p, fixed := o.Control.Battery.Fixed(at); fixed {
		i.SetPointW = watts(p)
	}
	if p, fixed := o.Control.Output.Fixed(at); fixed {
		i.OutputSetW = watts(p)
	} else if o.Control.Output.On {
		i.OutputMaxW = watts(o.Control.Output.Max.At(at))
	}
	if o.Control.Export.On {
		i.ExportMaxW = watts(o.Control.Export.Max.At(at))
	}
	if o.Until != math.MaxInt64 {
		left := (o.Until - at + 999) / 1000
		i.SecondsLeft = &left
	}
	return i
}
