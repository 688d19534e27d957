package def

import (
	"bytes"
	"encoding/json"
	"reflect"
)

// onceEach decodes JSON that is known to be right. Where an object has one key with two values nobody knows which is
// meant, and readers differ: such a value is no number, and nothing is looked for within it.
func onceEach(payload []byte) any {
	dec := json.NewDecoder(bytes.NewReader(payload))
	dec.UseNumber()
	return nextValue(dec)
}

func nextValue(dec *json.Decoder) any {
	t, err := dec.Token()
	if err != nil {
		return nil // it is right, and so this never is
	}
	switch t {
	case json.Delim('{'):
		object := map[string]any{}
		for dec.More() {
			key, _ := dec.Token()
			name, _ := key.(string)
			value := nextValue(dec)
			if before, twice := object[name]; twice && !reflect.DeepEqual(before, value) {
				value = noNumber("got two values for one key, expected one")
			}
			object[name] = value
		}
		_, _ = dec.Token() // }
		return object
	case json.Delim('['):
		list := []any{}
		for dec.More() {
			list = append(list, nextValue(dec))
		}
		_, _ = dec.Token() // ]
		return list
	}
	return t
}
