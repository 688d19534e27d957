package meter

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/commonwatt/commonwatt/meter/def"
	"github.com/commonwatt/commonwatt/meter/modbus"
)

var (
	// ErrNotObeyed says that the device, read back, does not hold what was written.
	ErrNotObeyed = errors.New("the device does not hold what was written")
	// ErrOtherDevice says that another device answers than the one that was led. Nothing is written to it until a person
	// approves.
	ErrOtherDevice = errors.New("another device answers")
)

// SetPoint is what a device is to do for a while. It is a lease: unless it is applied again, the device is on its own when
// Lease is over.
type SetPoint struct {
	Mode string // one of package def, but own: that is Release
	// PowerW of charge, discharge and limit, at least 0. What is more than the device can is cut down to that.
	PowerW int64
	Lease  time.Duration
}

// ControlState is what a device that can be led said when it was last asked.
type ControlState struct {
	def.ControlState
	At       time.Time
	Identity Identity
	// Led: the device holds our set point, and our lease is not over.
	Led bool
	// Left is how long the device goes on without a new set point: by its own timer if it tells, else by ours. Nil: it is
	// on its own, has no timer, or is led by somebody else.
	Left *time.Duration
}

// Actuator leads one device on Modbus. It starts nothing and belongs to one goroutine, except for Close. Its invariants:
//
//	L1  Nothing is written to a device whose identity was not read over the same connection, or contradicts the known one.
//	L2  What State says is what was read back.
//	L3  After an error nothing is written before the device was read again.
//	L4  A set point is renewed when half of its lease is over, not before, and never beyond what the device says it can.
//	L5  Release writes nothing to a device that reverts by itself.
type Actuator struct {
	def     Definition
	bus     *modbus.Bus
	release func() error
	unit    uint8
	now     func() time.Time

	known      Identity // the device that a person approved, or the first one
	other      *Identity
	layout     *def.ControlLayout
	identity   Identity
	generation uint64 // of the connection that layout is from; 0: none
	seen       uint64 // of the last answer
	mixed      bool   // answers since the survey began came by more than one connection

	told   *def.Telling // what Read found, for the Apply or Release that follows
	writes int64

	held  *lease // what we renew
	after *lease // what we renew no more, and has not lapsed yet
	state ControlState
}

// lease is a set point that the device took.
type lease struct {
	set     SetPoint
	written time.Time // when writing it began
	until   time.Time
}

// OpenActuator opens a device to be led; known is who it was before, or nobody. It does not wait for the device. A mistake
// in the Config is a *ConfigError. Now is the clock that the device's timer runs by.
func OpenActuator(ctx context.Context, c Config, known Identity) (*Actuator, error) {
	d, err := FindDefinition(c.DefinitionsDir, c.Definition)
	if err != nil {
		return nil, err
	}
	if d.Control == nil {
		return nil, &ConfigError{Field: "definition", Got: c.Definition, Want: "a definition with a part control"}
	}
	source, err := Open(ctx, c)
	if err != nil {
		return nil, err
	}
	m, ok := source.(*modbusSource)
	if !ok {
		return nil, errors.Join(&ConfigError{Field: "address", Got: withoutUser(c.Address), Want: "an address of Modbus"}, source.Close())
	}
	return &Actuator{def: d, bus: m.bus, release: m.release, unit: m.unit, now: m.now, known: known}, nil
}

// Definition is what the device is led by.
func (a *Actuator) Definition() Definition { return a.def }

// Reverts reports whether the device goes back to its own mode by itself.
func (a *Actuator) Reverts() bool { return a.def.Control.Lease != nil }

// State is what the device last said.
func (a *Actuator) State() ControlState { return a.state }

// Writes is how often a set point was written.
func (a *Actuator) Writes() int64 { return a.writes }

// Known is the device that is led.
func (a *Actuator) Known() Identity { return a.known }

// Other is the device that answers in the place of the known one; nil: none does.
func (a *Actuator) Other() *Identity { return a.other }

// Approve makes the device that answers now the one that is led.
func (a *Actuator) Approve() {
	if a.other != nil {
		a.known, a.other = *a.other, nil
		a.forget()
	}
}

// Close gives the bus back. It writes nothing.
func (a *Actuator) Close() error { return a.release() }

func (a *Actuator) forget() { a.layout, a.generation = nil, 0 }

// Read looks at the device.
func (a *Actuator) Read(ctx context.Context) (ControlState, error) {
	t, err := a.look(ctx)
	if err == nil {
		a.told = &t
	}
	return a.state, err
}

// fresh is what Read found just before, or else a look.
func (a *Actuator) fresh(ctx context.Context) (def.Telling, error) {
	if t := a.told; t != nil {
		a.told = nil
		return *t, nil
	}
	return a.look(ctx)
}

// maxLooks bounds how often a device is surveyed within one look.
const maxLooks = 3

// look reads the device's state, over a connection over which it said who it is.
func (a *Actuator) look(ctx context.Context) (def.Telling, error) {
	a.told = nil
	for range maxLooks {
		if a.layout == nil || a.seen != a.generation {
			if err := a.survey(ctx); err != nil {
				a.forget()
				return def.Telling{}, fmt.Errorf("leading %s: %w", a.def.ID, err)
			}
		}
		t, err := a.layout.Read(ctx, a.read)
		if err != nil {
			if !errors.Is(err, modbus.ErrBackoff) {
				a.forget()
			}
			return def.Telling{}, fmt.Errorf("leading %s: %w", a.def.ID, err)
		}
		if a.seen != a.generation {
			continue // the values may be another device's
		}
		a.tell(t)
		return t, nil
	}
	return def.Telling{}, fmt.Errorf("leading %s: its connection does not last: %w", a.def.ID, modbus.ErrReopened)
}

func (a *Actuator) survey(ctx context.Context) error {
	a.seen, a.mixed = 0, false
	s, err := a.def.Survey(ctx, a.read)
	if err != nil {
		return err
	}
	if a.known.Contradicts(s.Identity) {
		a.other, a.held, a.after = &s.Identity, nil, nil
		return fmt.Errorf("got %s, expected %s: %w", named(s.Identity), named(a.known), ErrOtherDevice)
	}
	layout, err := a.def.LayOutControl(ctx, a.read, s)
	if err != nil {
		return err
	}
	if a.mixed {
		return fmt.Errorf("its connection does not last: %w", modbus.ErrReopened)
	}
	if a.known == (Identity{}) {
		a.known = s.Identity
	}
	a.other, a.identity, a.layout, a.generation = nil, s.Identity, layout, a.seen
	return nil
}

func named(i Identity) string { return fmt.Sprintf("%s %s %s", i.Maker, i.Model, i.Serial) }

func (a *Actuator) read(ctx context.Context, function uint8, address, count uint16) ([]uint16, error) {
	words, generation, err := a.bus.Read(ctx, a.unit, function, address, count)
	if err != nil {
		var refused *modbus.Exception
		if errors.As(err, &refused) && !refused.FromGateway() {
			return nil, fmt.Errorf("%w: %w", def.ErrRefused, err)
		}
		return nil, err
	}
	a.mixed = a.mixed || a.seen != 0 && a.seen != generation
	a.seen = generation
	return words, nil
}

// tell makes the state of what was read.
func (a *Actuator) tell(t def.Telling) {
	now := a.now()
	s := ControlState{ControlState: t.ControlState, At: now, Identity: a.identity}
	obeys := func(l *lease) bool { return l != nil && now.Before(l.until) && a.layout.Obeys(t, a.point(l.set)) }
	ours, last := obeys(a.held), a.held
	if !ours {
		last = a.after
	}
	if !obeys(last) && a.Reverts() && a.def.Control.Lease.Silent && t.Mode != def.ModeOwn {
		s.Mode, s.SetW = "", nil // it tells the last command, not whether that still holds
	}
	switch {
	case s.Mode == def.ModeOwn || s.Mode == "" || !a.Reverts():
	case t.LeftS != nil && *t.LeftS > 0:
		s.Left = new(time.Duration(*t.LeftS) * time.Second)
	case obeys(last):
		s.Left = new(last.until.Sub(now))
	}
	s.Led = ours
	a.state = s
}

// point is a set point as the registers take it.
func (a *Actuator) point(s SetPoint) def.SetPoint {
	const beats = 60_000 // another number each second, and none that means "not implemented"
	return def.SetPoint{
		Mode: s.Mode, PowerW: s.PowerW, LeaseS: int64((s.Lease + time.Second - 1) / time.Second),
		Heartbeat: uint16(a.now().Unix() % beats), //nolint:gosec // below 65536
	}
}

// Apply sees to it that the device does what the set point says, and returns what the device says to that. If it does
// already, and less than half of its lease is over, nothing is written. An error says that the device was not reached, or
// does not obey; the next Apply reads before it writes.
func (a *Actuator) Apply(ctx context.Context, s SetPoint) (ControlState, error) {
	before, err := a.fresh(ctx)
	if err != nil {
		return a.state, err
	}
	s = within(before, s)
	if a.state.Led && same(a.held.set, s) && !a.due() {
		return a.state, nil
	}
	began := a.now()
	writes, err := a.layout.Writes(before, a.point(s))
	if err != nil {
		return a.state, fmt.Errorf("leading %s: %w", a.def.ID, err)
	}
	a.writes++
	failed := a.write(ctx, writes)
	after, err := a.look(ctx)
	if err != nil {
		return a.state, errors.Join(failed, err)
	}
	if !a.layout.Obeys(after, a.point(s)) {
		a.held = nil
		a.tell(after)
		return a.state, errors.Join(failed, fmt.Errorf("leading %s: got %s, expected %s: %w", a.def.ID, a.state.says(), a.point(s), ErrNotObeyed))
	}
	if failed != nil {
		// It holds the values, but whether its timer began anew only a device that tells it knows.
		if left := after.LeftS; left != nil && *left > 0 {
			a.held = &lease{set: s, written: began, until: a.now().Add(time.Duration(*left) * time.Second)}
		}
		a.tell(after)
		return a.state, failed
	}
	a.after = nil
	a.held = &lease{set: s, written: began, until: began.Add(a.leased(s.Lease))}
	a.tell(after)
	return a.state, nil
}

func (s ControlState) says() string {
	mode := s.Mode
	if mode == "" {
		mode = "an unknown mode"
	}
	if s.SetW == nil {
		return mode
	}
	return fmt.Sprintf("%s %d W", mode, *s.SetW)
}

// within keeps a set point within what the device can.
func within(t def.Telling, s SetPoint) SetPoint {
	most := map[string]*int64{def.ModeCharge: t.MaxChargeW, def.ModeDischarge: t.MaxDischargeW, def.ModeLimit: t.MaxLimitW}[s.Mode]
	s.PowerW = max(0, s.PowerW)
	if most != nil {
		s.PowerW = min(s.PowerW, *most)
	}
	return s
}

// same: no power is the same in both directions.
func same(a, b SetPoint) bool { return a.Mode == b.Mode && a.PowerW == b.PowerW && a.Lease == b.Lease }

// leased is for how long the device really takes a lease.
func (a *Actuator) leased(d time.Duration) time.Duration {
	l := a.def.Control.Lease
	if l == nil {
		return d
	}
	return min(max(d, time.Duration(l.MinS)*time.Second), time.Duration(l.MaxS)*time.Second)
}

// due reports whether the set point, or the heartbeat, is to be written again.
func (a *Actuator) due() bool {
	age := a.now().Sub(a.held.written)
	half := a.leased(a.held.set.Lease) / 2
	if a.layout.HasHeartbeat() {
		half = min(half, time.Duration(a.def.Control.Heartbeat.WithinS)*time.Second/2)
	}
	return age < 0 || age >= half
}

// write writes all or stops at the first error.
func (a *Actuator) write(ctx context.Context, writes []def.Write) error {
	for _, w := range writes {
		if err := a.bus.WriteOn(ctx, a.generation, a.unit, w.Address, w.Words); err != nil {
			return fmt.Errorf("leading %s: %w", a.def.ID, err)
		}
	}
	return nil
}

// Release leaves the device to itself: one that reverts by itself is just not written to any more, and Left says for how
// long it goes on; another is brought back to its own mode.
func (a *Actuator) Release(ctx context.Context) (ControlState, error) {
	if a.held != nil {
		a.held, a.after = nil, a.held
	}
	before, err := a.fresh(ctx)
	if err != nil || a.Reverts() || before.Mode == def.ModeOwn {
		return a.state, err
	}
	writes, err := a.layout.Writes(before, a.point(SetPoint{Mode: def.ModeOwn}))
	if err != nil {
		return a.state, fmt.Errorf("leading %s: %w", a.def.ID, err)
	}
	failed := a.write(ctx, writes)
	after, err := a.look(ctx)
	if err == nil && after.Mode != def.ModeOwn {
		err = fmt.Errorf("leading %s: got %s, expected own: %w", a.def.ID, a.state.says(), ErrNotObeyed)
	}
	return a.state, errors.Join(failed, err)
}
