package meter

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/commonwatt/commonwatt/meter/def"
)

// checkControl runs a test vector of a definition's control part.
func checkControl(d Definition, v def.ControlVector) error {
	err := runControl(d, v)
	switch {
	case v.Error == "":
		return err
	case err == nil:
		return fmt.Errorf("error: got none, expected %q", v.Error)
	case !strings.Contains(err.Error(), v.Error):
		return fmt.Errorf("error: got %w, expected %q", err, v.Error)
	}
	return nil
}

func runControl(d Definition, v def.ControlVector) error {
	ctx := context.Background()
	read, err := registerMap(v.Registers)
	if err != nil {
		return err
	}
	survey, err := d.Survey(ctx, read)
	if err != nil {
		return err
	}
	layout, err := d.LayOutControl(ctx, read, survey)
	if err != nil {
		return err
	}
	t, err := layout.Read(ctx, read)
	if err != nil {
		return err
	}
	errs := []error{compareState(t.ControlState, v.State)}
	for _, s := range v.Sets {
		writes, err := layout.Writes(t, def.SetPoint{Mode: s.Mode, PowerW: s.PowerW, LeaseS: s.LeaseS})
		if err == nil {
			err = compareWrites(writes, s.Writes)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s %d: %w", s.Mode, s.PowerW, err))
		}
	}
	return errors.Join(errs...)
}

func compareState(got def.ControlState, want def.ControlExpectation) error {
	var errs []error
	differ := func(field string, got, want *int64) {
		if show(got) != show(want) {
			errs = append(errs, fmt.Errorf("%s: got %s, expected %s", field, show(got), show(want)))
		}
	}
	if got.Mode != want.Mode {
		errs = append(errs, fmt.Errorf("mode: got %q, expected %q", got.Mode, want.Mode))
	}
	differ("set_w", got.SetW, want.SetW)
	differ("battery_w", got.BatteryW, want.BatteryW)
	differ("soc_bp", got.SoCBp, want.SoCBp)
	differ("capacity_wh", got.CapacityWh, want.CapacityWh)
	differ("left_s", got.LeftS, want.LeftS)
	differ("max_charge_w", got.MaxChargeW, want.MaxChargeW)
	differ("max_discharge_w", got.MaxDischargeW, want.MaxDischarge)
	differ("max_production_w", got.MaxLimitW, want.MaxProduceW)
	return errors.Join(errs...)
}

func compareWrites(got []def.Write, want []def.VectorWrite) error {
	text := func(w def.Write) string {
		words := make([]string, len(w.Words))
		for i, v := range w.Words {
			words[i] = fmt.Sprintf("%04x", v)
		}
		return strconv.Itoa(int(w.Address)) + ": " + strings.Join(words, " ")
	}
	var have, expected []string
	for _, w := range got {
		have = append(have, text(w))
	}
	for _, w := range want {
		expected = append(expected, strconv.Itoa(int(w.Address))+": "+strings.Join(strings.Fields(w.Words), " "))
	}
	if g, w := strings.Join(have, ", "), strings.Join(expected, ", "); g != w {
		return fmt.Errorf("writes: got %s; expected %s", g, w)
	}
	return nil
}
