package household

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/commonwatt/commonwatt/agent/api"
	"github.com/commonwatt/commonwatt/agent/trader"
	"github.com/commonwatt/commonwatt/market"
	"github.com/commonwatt/commonwatt/meter"
)

// controlsFile names the devices that are led, so that another one in their place is seen after a restart too.
const controlsFile = "controls.json"

// controlKey is where a device is led.
func (c ControlConfig) key() string {
	return fmt.Sprintf("%s unit %d %s", c.Address, c.Unit, c.Definition)
}

// openLeaders opens all devices that are led.
func (h *Home) openLeaders() error {
	known := map[string]meter.Identity{}
	raw, err := os.ReadFile(filepath.Join(h.opt.Dir, controlsFile))
	if err == nil {
		err = json.Unmarshal(raw, &known)
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("reading %s: %w", controlsFile, err)
	}
	for i, c := range h.opt.Config.Controls {
		l, err := h.openLeader(i, known[c.key()])
		if err != nil {
			return err
		}
		l.view.known = known[c.key()]
		h.leaders = append(h.leaders, l)
	}
	return nil
}

// keepIdentities writes down who is led. The caller holds no lock.
func (h *Home) keepIdentities() error {
	known := map[string]meter.Identity{}
	h.mu.Lock()
	for _, l := range h.leaders {
		if l.view.known != (meter.Identity{}) {
			known[l.cfg.key()] = l.view.known
		}
	}
	h.mu.Unlock()
	raw, err := json.MarshalIndent(known, "", "  ")
	if err != nil {
		return err
	}
	return ReplaceFile(filepath.Join(h.opt.Dir, controlsFile), append(raw, '\n'))
}

// show makes the view what the device said, and what became of the beat.
func (l *leader) show(s meter.ControlState, why string, err error) {
	h := l.home
	h.mu.Lock()
	v := &l.view
	was, led := v.note, v.state.Led
	wasKnown := v.known
	v.state, v.why, v.paused, v.known, v.other = s, why, l.paused.Load(), l.actuator.Known(), l.actuator.Other() != nil
	v.writes = l.actuator.Writes()
	v.note = ""
	if err != nil {
		v.note = clip(err.Error())
		v.failures++
		v.state.Led = false
	}
	note, now, known := v.note, v.state.Led, v.known
	h.mu.Unlock()
	if known != wasKnown {
		if err := h.keepIdentities(); err != nil {
			l.log.Error("who is led is not written down", "err", err)
		}
	}
	switch {
	case note != "" && note != was:
		l.log.Warn("device is not led", "address", l.cfg.Address, "err", err)
	case now && !led:
		l.log.Info("device is led", "address", l.cfg.Address, "mode", s.Mode)
	}
}

// Control implements api.Controls.
func (h *Home) Control(index int, action string) error {
	if index < 0 || index >= len(h.leaders) {
		return &api.Refused{Code: "no-such-control", Detail: fmt.Sprintf("got control %d, this home has %d", index, len(h.leaders))}
	}
	l := h.leaders[index]
	switch action {
	case "release":
		l.paused.Store(true)
	case "resume":
		l.paused.Store(false)
	case "approve":
		h.mu.Lock()
		other := l.view.other
		h.mu.Unlock()
		if !other {
			return &api.Refused{Code: "nothing-to-approve", Detail: "the device that answers is the one that is led"}
		}
		l.approve.Store(true)
	default:
		return &api.Refused{Code: "no-such-action", Detail: fmt.Sprintf("got %q, want release, resume or approve", action)}
	}
	return nil
}

// showControls is what the page says of them. The caller holds mu.
func (h *Home) showControls() []api.Control {
	list := make([]api.Control, len(h.leaders))
	for i, l := range h.leaders {
		v, s := l.view, l.view.state
		c := api.Control{
			Definition: l.cfg.Definition, Address: l.cfg.Address, Identity: identityText(s.Identity), Leads: l.cfg.Mode,
			Mode: s.Mode, SetW: s.SetW, BatteryW: s.BatteryW, SOCBp: s.SoCBp, Led: s.Led, Reverts: l.actuator.Reverts(),
			Paused: v.paused, OtherHand: v.other, Why: v.why, Note: v.note, Writes: v.writes, Failures: v.failures,
		}
		if l.cfg.Unit > 0 {
			c.Address = fmt.Sprintf("%s unit %d", l.cfg.Address, l.cfg.Unit)
		}
		if s.Left != nil {
			c.LeftS = number(int64(*s.Left / time.Second))
		}
		if !s.At.IsZero() {
			at := s.At
			c.ReadAt = &at
		}
		list[i] = c
	}
	return list
}

// planned is a forecast with the battery that follows in it: of what the connection came to, the battery's part is taken
// out, and the part that it is going to have is put in. Without a battery that is known well enough it is as it was.
func (h *Home) planned(f trader.Forecast) trader.Forecast {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, l := range h.leaders {
		took, ok := l.view.battery[f.From]
		_, before := l.view.battery[f.From-1] // else it was led for a part of the interval only
		if l.cfg.Mode != LeadFollow || !ok || !before || l.view.paused {
			continue
		}
		s := trader.Store{Band: l.band(l.view.state), CapacityWh: l.cfg.CapacityWh}
		if c := l.view.state.CapacityWh; c != nil && s.CapacityWh == 0 {
			s.CapacityWh = *c
		}
		if s.CapacityWh == 0 || s.SoCBp == nil {
			continue
		}
		house := int64(f.Import) - int64(f.Export) - took/int64(time.Hour/time.Millisecond)
		net := market.WattHours(trader.Plan(house, s, h.calendar.Length.Milliseconds()))
		if net >= -leastTarget && net <= leastTarget {
			net = 0 // not worth an order
		}
		return trader.Forecast{Import: max(0, net), Export: max(0, -net), From: f.From}
	}
	return f
}

// controlProblems says what a person should know of a device that is led.
func controlProblems(add func(code, text, hint string), controls []api.Control) {
	for i, c := range controls {
		switch {
		case c.OtherHand:
			add("control-other-device", fmt.Sprintf("Another device answers at %s than the one that was led: %s.", c.Address, c.Note),
				fmt.Sprintf("Nothing is written to it. If it is the right one, approve it: POST /api/controls/%d with {\"action\":\"approve\"}.", i))
		case c.Note != "":
			add("control-not-led", fmt.Sprintf("The device at %s is not led: %s.", c.Address, c.Note),
				"It works on its own, or will as soon as its timer has run out. It is tried again.")
		}
	}
}
