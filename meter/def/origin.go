package def

import (
	"encoding/json"
	"fmt"
)

// Origin says where a point's value is from and how the device wrote it: what a person compares with a data sheet.
// Which fields are filled depends on the protocol.
type Origin struct {
	// Point is import, export, power or soc.
	Point string `json:"point"`

	// Modbus and SunSpec: the registers.
	Block    string  `json:"block,omitempty"`
	Function uint8   `json:"function,omitempty"`
	Address  *uint16 `json:"address,omitempty"`
	Words    Words   `json:"words,omitempty"`
	Type     string  `json:"type,omitempty"`
	// Scale is the power of ten that the device gave for the value; nil if it gave none.
	Scale *int `json:"scale,omitempty"`

	// SunSpec: the model, the name of the point in it, and its distance from the model id.
	Model  uint16 `json:"model,omitempty"`
	Name   string `json:"name,omitempty"`
	Offset uint16 `json:"offset,omitempty"`

	// Messages: topic or path of the request, the keys in it or the line of a telegram, and the text of the value.
	Topic string   `json:"topic,omitempty"`
	Path  []string `json:"path,omitempty"`
	Text  string   `json:"text,omitempty"`

	// Value is the number in Unit, exactly; empty if it is unknown, and then Unknown says why.
	Value   string `json:"value,omitempty"`
	Unit    string `json:"unit"`
	Unknown string `json:"unknown,omitempty"`
}

// Words are registers; in JSON they are hexadecimal, as data sheets and test vectors have them.
type Words []uint16

// MarshalJSON implements json.Marshaler.
func (w Words) MarshalJSON() ([]byte, error) { return json.Marshal(w.Hex()) }

// Hex is the words in hexadecimal, four digits each.
func (w Words) Hex() []string {
	hex := make([]string, len(w))
	for i, word := range w {
		hex[i] = fmt.Sprintf("%04x", word)
	}
	return hex
}

// FromRegisters reports whether the value is from registers, so that Function and Address mean something.
func (o Origin) FromRegisters() bool { return o.Function != 0 }

// origin says where a part of a point is from.
func (q part) origin(name string, p Point, where string) Origin {
	o := Origin{Point: name, Topic: where, Path: q.place.Path, Text: q.text, Unit: p.Unit}
	if q.place.OBIS != "" {
		o.Path = []string{q.place.OBIS}
	}
	switch {
	case q.bad != nil:
		o.Unknown = q.bad.Error()
	case !q.known:
		o.Unknown = "not given"
	default:
		n := q.value
		n.exp += p.Exponent
		o.Value = n.String()
	}
	return o
}

// written is a value as the device wrote it, within bounds.
func written(value any) string {
	const most = 80
	var s string
	switch value := value.(type) {
	case scalarText:
		s = string(value)
	case quantity:
		s = string(value)
	case noNumber:
		s = ""
	default:
		data, _ := json.Marshal(value) // it was JSON
		s = string(data)
	}
	if len(s) > most {
		s = s[:most] + "…"
	}
	return s
}
