package def

import (
	"io/fs"
	"slices"
	"strings"
)

// BuiltIn are the ids of the built-in definitions, sorted. Nothing is parsed for that: a built-in file is named by its
// id.
func BuiltIn() []string {
	entries, _ := fs.ReadDir(builtin, "data") // it is in the program
	ids := make([]string, len(entries))
	for i, e := range entries {
		ids[i] = strings.TrimSuffix(e.Name(), ".yaml")
	}
	return ids
}

// Protocols are the protocol of the definition, and those by which the same device may be read besides.
func (d *Definition) Protocols() []string {
	names := []string{d.Protocol}
	for _, part := range []struct {
		name  string
		given bool
	}{{ProtocolMQTT, d.MQTT != nil}, {ProtocolHTTP, d.HTTP != nil}} {
		if part.given && part.name != d.Protocol {
			names = append(names, part.name)
		}
	}
	return names
}

// Measures are the points that the definition knows; a signed reading has them all.
func (d *Definition) Measures() []string {
	if d.MQTT != nil && d.MQTT.Format == FormatSigned {
		return []string{PointImport, PointExport, PointPower}
	}
	names := []string{}
	for _, name := range pointNames {
		if _, ok := d.Points[name]; ok {
			names = append(names, name)
		}
	}
	return names
}

// ModeNames are the modes in which the device can be led; none if it cannot.
func (d *Definition) ModeNames() []string {
	return slices.DeleteFunc(slices.Clone(ModesInOrder), func(mode string) bool { return !d.CanLead(mode) })
}

// TopicFilters are the topics of all devices of the kind, with wildcards: the name of a device may have one or two
// levels.
func (d *Definition) TopicFilters() []string {
	var filters []string
	if d.MQTT == nil {
		return nil
	}
	for _, m := range d.MQTT.Messages {
		for _, t := range m.Topics {
			for _, levels := range []string{"+", "+/+"} {
				filters = append(filters, strings.Replace(t, deviceMark, levels, 1))
			}
		}
	}
	return filters
}

// Models are the SunSpec models of the device, in the order of its chain; none if it has no chain.
func (s Survey) Models() []uint16 {
	var ids []uint16
	for _, b := range s.blocks {
		ids = append(ids, b.Model)
	}
	return ids
}
