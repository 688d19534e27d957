package cli

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/commonwatt/commonwatt/market"
)

// decodeMarket reads a market file strictly and order by order, so that a large book
// is never in memory twice. Errors name the order and the field.
func decodeMarket(in io.Reader) (*market.Market, error) {
	dec := json.NewDecoder(in)
	dec.DisallowUnknownFields()
	if err := expect(dec, json.Delim('{')); err != nil {
		return nil, err
	}
	m := &market.Market{}
	seen := map[string]bool{}
	for dec.More() {
		token, err := dec.Token()
		if err != nil {
			return nil, plain(err)
		}
		key, _ := token.(string)
		if seen[key] {
			return nil, fmt.Errorf("%s: is there twice", key)
		}
		seen[key] = true
		if err := decodeKey(dec, key, m); err != nil {
			return nil, err
		}
	}
	if err := expect(dec, json.Delim('}')); err != nil {
		return nil, err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("there is more after the closing brace")
	}
	for _, key := range []string{"rule", "grid", "nodes", "orders"} {
		if !seen[key] {
			return nil, fmt.Errorf("%s: is missing", key)
		}
	}
	return m, nil
}

func decodeKey(dec *json.Decoder, key string, m *market.Market) error {
	switch key {
	case "rule":
		return named(key, dec.Decode(&m.Rule))
	case "grid":
		var g *struct {
			ImportPrice *market.Price `json:"import_price"`
			ExportPrice *market.Price `json:"export_price"`
		}
		if err := dec.Decode(&g); err != nil {
			return named(key, err)
		}
		if g == nil {
			return nil
		}
		if g.ImportPrice == nil || g.ExportPrice == nil {
			return errors.New("grid: import_price and export_price are needed, or null for islanded")
		}
		m.Tariff = &market.Tariff{ImportPrice: *g.ImportPrice, ExportPrice: *g.ExportPrice}
		return nil
	case "seed":
		var text string
		if err := dec.Decode(&text); err != nil {
			return named(key, err)
		}
		seed, err := hex.DecodeString(text)
		m.Seed = seed
		return named(key, err)
	case "nodes":
		return decodeEach(dec, key, func() (string, error) { return decodeNode(dec, m) })
	case "orders":
		return decodeEach(dec, key, func() (string, error) { return decodeOrder(dec, m) })
	default:
		return fmt.Errorf("%s: unknown key, want rule, grid, seed, nodes or orders", key)
	}
}

// decodeEach reads an array; one is called for each element and returns its id.
func decodeEach(dec *json.Decoder, key string, one func() (string, error)) error {
	if err := expect(dec, json.Delim('[')); err != nil {
		return named(key, err)
	}
	for i := 0; dec.More(); i++ {
		if id, err := one(); err != nil {
			if id != "" {
				return fmt.Errorf("%s[%d] %q: %w", key, i, id, plain(err))
			}
			return fmt.Errorf("%s[%d]: %w", key, i, plain(err))
		}
	}
	return named(key, expect(dec, json.Delim(']')))
}

func decodeNode(dec *json.Decoder, m *market.Market) (string, error) {
	var n struct {
		ID          string            `json:"id"`
		Parent      *string           `json:"parent"`
		ImportLimit *market.WattHours `json:"import_limit_wh"`
		ExportLimit *market.WattHours `json:"export_limit_wh"`
		ImportFee   market.Price      `json:"import_fee"`
		ExportFee   market.Price      `json:"export_fee"`
	}
	if err := dec.Decode(&n); err != nil {
		return n.ID, err
	}
	if n.ID == "" {
		return "", errors.New("id: is missing")
	}
	node := market.Node{
		ID: n.ID, ImportLimit: n.ImportLimit, ExportLimit: n.ExportLimit, ImportFee: n.ImportFee, ExportFee: n.ExportFee,
	}
	if n.Parent != nil {
		if *n.Parent == "" {
			return n.ID, errors.New("parent: is empty, want a node's id, or null for the root")
		}
		node.Parent = *n.Parent
	}
	m.Network.Nodes = append(m.Network.Nodes, node)
	return n.ID, nil
}

func decodeOrder(dec *json.Decoder, m *market.Market) (string, error) {
	var o struct {
		ID    string `json:"id"`
		Node  string `json:"node"`
		Side  string `json:"side"`
		Steps []struct {
			Price *market.Price     `json:"price"`
			Wh    *market.WattHours `json:"wh"`
		} `json:"steps"`
	}
	if err := dec.Decode(&o); err != nil {
		return o.ID, err
	}
	if o.ID == "" {
		return "", errors.New("id: is missing")
	}
	order := market.Order{ID: o.ID, Node: o.Node, Steps: make([]market.Step, len(o.Steps))}
	if err := order.Side.UnmarshalText([]byte(o.Side)); err != nil {
		return o.ID, fmt.Errorf("side: got %q, want bid or offer", o.Side)
	}
	for i, s := range o.Steps {
		if s.Price == nil || s.Wh == nil {
			return o.ID, fmt.Errorf("steps[%d]: price and wh are needed", i)
		}
		order.Steps[i] = market.Step{Price: *s.Price, WattHours: *s.Wh}
	}
	m.Orders = append(m.Orders, order)
	return o.ID, nil
}

func expect(dec *json.Decoder, want json.Delim) error {
	token, err := dec.Token()
	if err != nil {
		return plain(err)
	}
	if token != want {
		return fmt.Errorf("byte %d: got %v, want %v", dec.InputOffset(), token, want)
	}
	return nil
}

func named(key string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", key, plain(err))
}

// plain says what encoding/json means in the file's own words.
func plain(err error) error {
	var t *json.UnmarshalTypeError
	var syntax *json.SyntaxError
	switch {
	case errors.As(err, &t):
		field := t.Field
		if field == "" {
			field = "value"
		}
		return fmt.Errorf("%s: got %s, want %s", field, t.Value, goType(t.Type.Kind().String()))
	case errors.As(err, &syntax):
		return fmt.Errorf("not JSON at byte %d: %w", syntax.Offset, err)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return errors.New("the file ends too early")
	case err != nil && strings.HasPrefix(err.Error(), "json: "):
		return errors.New(strings.TrimPrefix(err.Error(), "json: "))
	default:
		return err
	}
}

func goType(kind string) string {
	switch kind {
	case "int64":
		return "a whole number of 64 bits"
	case "string":
		return "text"
	case "slice":
		return "a list"
	default:
		return "an object"
	}
}
