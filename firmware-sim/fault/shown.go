package fault

import (
	"context"
	"time"

	"github.com/commonwatt/commonwatt/firmware-sim/device"
	"github.com/commonwatt/commonwatt/firmware-sim/home"
)

// view is what a value fault looks at and changes: a reading at an instant.
type view struct {
	reading device.Reading
	// active: the fault strikes at this instant. A lasting fault is asked for every
	// instant after its beginning too.
	active bool
	// wrap is where the device's own counters begin anew.
	wrap home.MilliWattHours
	// begin is the reading at the beginning of the fault, as far as the faults before
	// this one in the table changed it.
	begin func(context.Context) (device.Reading, error)
	// end is the same at the end of a lasting fault, or at this instant if that is
	// still to come.
	end func(context.Context) (device.Reading, error)
}

// each applies a change to the counters that are meant.
func (c counters) each(r *device.Reading, change func(home.MilliWattHours) home.MilliWattHours) {
	if c.imported {
		r.Import = max(0, change(r.Import))
	}
	if c.exported {
		r.Export = max(0, change(r.Export))
	}
}

const hundredPercent = 100_000_000 // in millionths of a percent

type tamper struct {
	counters
	percent int64 // in millionths
}

func (f tamper) show(ctx context.Context, v *view) error {
	begin, err := v.begin(ctx)
	if err != nil {
		return err
	}
	end, err := v.end(ctx)
	if err != nil {
		return err
	}
	// A share of a fall is none: the counter was a tampered one before.
	kept := func(from, to home.MilliWattHours) home.MilliWattHours {
		d := max(0, int64(to-from))
		whole, rest := d/hundredPercent, d%hundredPercent
		return home.MilliWattHours(whole*f.percent + rest*f.percent/hundredPercent)
	}
	if f.imported {
		v.reading.Import -= kept(begin.Import, end.Import)
		if v.active && v.reading.Power > 0 {
			v.reading.Power -= home.MilliWatts(int64(v.reading.Power) * f.percent / hundredPercent)
		}
	}
	if f.exported {
		v.reading.Export -= kept(begin.Export, end.Export)
		if v.active && v.reading.Power < 0 {
			v.reading.Power -= home.MilliWatts(int64(v.reading.Power) * f.percent / hundredPercent)
		}
	}
	return nil
}

type reset struct {
	counters
	to home.MilliWattHours
}

func (f reset) show(ctx context.Context, v *view) error {
	begin, err := v.begin(ctx)
	if err != nil {
		return err
	}
	if f.imported {
		v.reading.Import = max(0, v.reading.Import-begin.Import+f.to)
	}
	if f.exported {
		v.reading.Export = max(0, v.reading.Export-begin.Export+f.to)
	}
	return nil
}

type wrap struct {
	counters
	modulus, margin home.MilliWattHours
}

func (f wrap) show(ctx context.Context, v *view) error {
	begin, err := v.begin(ctx)
	if err != nil {
		return err
	}
	modulus := f.modulus
	if modulus == 0 {
		modulus = v.wrap
	}
	count := func(now, then home.MilliWattHours) home.MilliWattHours {
		at := (modulus - f.margin%modulus + now - then) % modulus
		return (at + modulus) % modulus
	}
	if f.imported {
		v.reading.Import = count(v.reading.Import, begin.Import)
	}
	if f.exported {
		v.reading.Export = count(v.reading.Export, begin.Export)
	}
	return nil
}

type jump struct {
	counters
	by home.MilliWattHours
}

func (f jump) show(_ context.Context, v *view) error {
	f.each(&v.reading, func(e home.MilliWattHours) home.MilliWattHours { return e + f.by })
	return nil
}

type frozen struct{}

func (frozen) show(ctx context.Context, v *view) error {
	begin, err := v.begin(ctx)
	if err != nil {
		return err
	}
	v.reading.Import, v.reading.Export, v.reading.Power = begin.Import, begin.Export, begin.Power
	v.reading.OnePhase, v.reading.Frozen = begin.OnePhase, begin.Index
	return nil
}

type zeroBounce struct{ counters }

func (f zeroBounce) show(_ context.Context, v *view) error {
	f.each(&v.reading, func(home.MilliWattHours) home.MilliWattHours { return 0 })
	return nil
}

type unknown struct{ of string }

func (f unknown) show(_ context.Context, v *view) error {
	v.reading.NoCounters = v.reading.NoCounters || f.of != "power"
	v.reading.NoPower = v.reading.NoPower || f.of != "counters"
	return nil
}

type scaleChange struct{ exponent int }

func (f scaleChange) show(_ context.Context, v *view) error {
	v.reading.Exponent = f.exponent
	return nil
}

type swapped struct{ serial int }

func (f swapped) show(_ context.Context, v *view) error {
	v.reading.Identity = f.serial
	return nil
}

type clockSkew struct{ by time.Duration }

func (f clockSkew) show(_ context.Context, v *view) error {
	v.reading.At = v.reading.At.Add(f.by)
	return nil
}

type dstJump struct{ hours int }

func (f dstJump) show(_ context.Context, v *view) error {
	v.reading.At = v.reading.At.Add(time.Duration(f.hours) * time.Hour)
	return nil
}
