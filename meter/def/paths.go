package def

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// every stands for all elements of a list in a path.
const every = "*"

// scalarText is the payload of a message that is one number as text.
type scalarText string

// several are the values of all elements of a list.
type several []any

// noNumber is what stands where a value should be and cannot be used; its text says why.
type noNumber string

// lookup finds a place in a message.
func lookup(root any, p Place) (any, bool) {
	if t, ok := root.(scalarText); ok {
		return t, len(p.Path) == 0
	}
	return follow(root, p.Path, p.Count)
}

func follow(root any, path []string, count int) (any, bool) {
	for i, key := range path {
		switch node := root.(type) {
		case map[string]any:
			child, ok := node[key]
			if !ok {
				return nil, false
			}
			root = child
		case []any:
			if key == every {
				return followAll(node, path[i+1:], count)
			}
			n, err := strconv.ParseUint(key, 10, 16)
			if err != nil || n >= uint64(len(node)) {
				return nil, false
			}
			root = node[n]
		case noNumber:
			return node, true
		default:
			return nil, false
		}
	}
	return root, true
}

// followAll collects a value of every element. A list of another length, or an element without the value, is no sum.
func followAll(list []any, path []string, count int) (any, bool) {
	if len(list) != count {
		return noNumber(fmt.Sprintf("got a list of %d, expected %d", len(list), count)), true
	}
	all := make(several, 0, len(list))
	for _, element := range list {
		value, ok := follow(element, path, count)
		if !ok {
			return noNumber(fmt.Sprintf("got an element without %s", strings.Join(path, "."))), true
		}
		all = append(all, value)
	}
	return all, true
}

// hasFault looks for a fault at a path, where "*" is any element of a list.
func hasFault(root any, f Fault) bool { return faultAt(root, f.Path, f.Values) }

func faultAt(node any, path, values []string) bool {
	if len(path) == 0 {
		if list, ok := node.([]any); ok {
			return slices.ContainsFunc(list, func(item any) bool { return isFault(item, values) })
		}
		return isFault(node, values)
	}
	if list, ok := node.([]any); ok && path[0] == every {
		return slices.ContainsFunc(list, func(item any) bool { return faultAt(item, path[1:], values) })
	}
	child, ok := follow(node, path[:1], 0)
	return ok && faultAt(child, path[1:], values)
}

func isFault(value any, faults []string) bool {
	switch value := value.(type) {
	case string:
		return slices.Contains(faults, value)
	case scalarText:
		return slices.Contains(faults, string(value))
	case noNumber:
		return true // one of its values may be a fault
	case bool:
		return slices.Contains(faults, strconv.FormatBool(value))
	case json.Number:
		return slices.Contains(faults, value.String())
	}
	return false
}

// wordsOfText packs a string as registers do, so that one function cleans both.
func wordsOfText(s string) []uint16 {
	words := make([]uint16, (len(s)+1)/2)
	for i := range len(s) {
		words[i/2] |= uint16(s[i]) << (8 * (1 - i%2))
	}
	return words
}

// unknownTexts are what programs write as text for a value that they do not have.
var unknownTexts = []string{"null", "none", "nan", "unknown", "unavailable"}

// number reads a value of a message; null is unknown, anything but a number is the device's error.
func (p Point) number(value any) (n decimal, ok bool, err error) {
	switch value := value.(type) {
	case nil:
		return decimal{}, false, nil
	case json.Number:
		n, err = parseDecimal(value.String())
		return n, err == nil, err
	case scalarText:
		if slices.Contains(unknownTexts, strings.ToLower(string(value))) {
			return decimal{}, false, nil
		}
		n, err = parseDecimal(string(value))
		return n, err == nil, err
	case quantity:
		return p.quantity(value)
	case several:
		return p.sum(value)
	case []any:
		if !p.Sum || len(value) == 0 || len(value) > maxList {
			return decimal{}, false, fmt.Errorf("got a list of %d: %w", len(value), errNotNumber)
		}
		return p.sum(value)
	}
	return decimal{}, false, fmt.Errorf("got %T: %w", value, errNotNumber)
}

// sum adds up numbers, all of them or none.
func (p Point) sum(values []any) (total decimal, ok bool, err error) {
	ok = true
	for i, value := range values {
		if _, list := value.([]any); list {
			return decimal{}, false, fmt.Errorf("got a list in a list: %w", errNotNumber)
		}
		n, known, err := p.number(value)
		if err != nil {
			return decimal{}, false, err
		}
		ok = ok && known
		switch {
		case !known:
		case i == 0:
			total = n
		case ok:
			total = total.plus(n)
		}
	}
	return total, ok, nil
}
