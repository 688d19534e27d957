package market_test

import (
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/commonwatt/commonwatt/market"
)

var update = flag.Bool("update", false, "rewrite the answers in testdata, to be read before they are committed")

// A golden is a file in testdata/clear: a market, and perhaps what the meters
// then counted, above a line of four dashes, and below it the answer. Its words:
//
//	grid import=PRICE export=PRICE | grid none
//	seed HEX
//	rule NAME
//	sharing [price=PRICE] [keys=NUMBER]
//	node ID [parent=ID] [import_limit=WH] [export_limit=WH] [import_fee=PRICE] [export_fee=PRICE]
//	order ID NODE bid|offer [key=NUMBER] WH@PRICE...
//	meter ORDER import=WH export=WH
type golden struct {
	market market.Market
	meters map[string][2]market.WattHours // by order: import, export
}

const goldenRule = "----\n"

func TestR3R4Golden(t *testing.T) {
	files, err := filepath.Glob("testdata/clear/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("got %d files, %v, want some", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			question, want, found := strings.Cut(string(text), goldenRule)
			if !found {
				t.Fatalf("got no line of dashes, want one between question and answer")
			}
			g, err := parseGolden(question)
			if err != nil {
				t.Fatal(err)
			}
			got, err := g.answer(t)
			if err != nil {
				t.Fatal(err)
			}
			if *update {
				if err := os.WriteFile(file, []byte(question+goldenRule+got), 0o600); err != nil {
					t.Fatal(err)
				}
				return
			}
			if got != want {
				t.Errorf("got:\n%s\nwant:\n%s\n(go test ./market -update rewrites the answers)", got, want)
			}
		})
	}
}

func parseGolden(text string) (*golden, error) {
	g := &golden{meters: make(map[string][2]market.WattHours)}
	for n, row := range strings.Split(text, "\n") {
		words := strings.Fields(row)
		if len(words) == 0 || strings.HasPrefix(row, "#") {
			continue
		}
		if err := g.add(words); err != nil {
			return nil, fmt.Errorf("line %d: %q: %w", n+1, row, err)
		}
	}
	return g, nil
}

func (g *golden) add(words []string) (err error) {
	m := &g.market
	line := strings.Join(words, " ")
	switch words[0] {
	case "grid":
		if len(words) == 2 && words[1] == "none" {
			return nil
		}
		m.Tariff = new(market.Tariff)
		_, err = fmt.Sscanf(line, "grid import=%d export=%d", &m.Tariff.ImportPrice, &m.Tariff.ExportPrice)
	case "seed":
		m.Seed, err = hex.DecodeString(words[1])
	case "rule":
		m.Rule = words[1]
	case "sharing":
		for _, word := range words[1:] {
			field, text, _ := strings.Cut(word, "=")
			number, err := strconv.ParseInt(text, 10, 64)
			if err != nil {
				return err
			}
			if field == "keys" {
				m.Sharing.Keys = number
			} else {
				m.Sharing.Price = new(market.Price(number))
			}
		}
	case "node":
		n := market.Node{ID: words[1]}
		for _, word := range words[2:] {
			if err := setGolden(&n, word); err != nil {
				return err
			}
		}
		m.Network.Nodes = append(m.Network.Nodes, n)
	case "order":
		o := market.Order{ID: words[1], Household: market.HouseholdID{byte(len(m.Orders) + 1)}, Node: words[2]}
		err = o.Side.UnmarshalText([]byte(words[3]))
		for _, word := range words[4:] {
			if _, err := fmt.Sscanf(word, "key=%d", &o.Key); err == nil {
				continue
			}
			var s market.Step
			if _, err := fmt.Sscanf(word, "%d@%d", &s.WattHours, &s.Price); err != nil {
				return err
			}
			o.Steps = append(o.Steps, s)
		}
		m.Orders = append(m.Orders, o)
	case "meter":
		var counted [2]market.WattHours
		_, err = fmt.Sscanf(line, "meter "+words[1]+" import=%d export=%d", &counted[0], &counted[1])
		g.meters[words[1]] = counted
	default:
		err = fmt.Errorf("got %q, want a word of the format", words[0])
	}
	return err
}

// setGolden sets a field of a node.
func setGolden(n *market.Node, word string) error {
	field, text, _ := strings.Cut(word, "=")
	if field == "parent" {
		n.Parent = text
		return nil
	}
	number, err := strconv.ParseInt(text, 10, 64)
	switch field {
	case "import_limit":
		n.ImportLimit = new(market.WattHours(number))
	case "export_limit":
		n.ExportLimit = new(market.WattHours(number))
	case "import_fee":
		n.ImportFee = market.Price(number)
	case "export_fee":
		n.ExportFee = market.Price(number)
	default:
		err = fmt.Errorf("got %q, want a field of a node", field)
	}
	return err
}

func (g *golden) answer(t *testing.T) (string, error) {
	c, err := market.Clear(g.market)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	for _, p := range c.Prices {
		fmt.Fprintf(&b, "price %s %d\n", p.Node, p.Price)
	}
	for _, a := range c.Allocations {
		fmt.Fprintf(&b, "allocation %s %d", g.market.Orders[a.Order].ID, a.WattHours)
		if g.market.Rule != "" {
			fmt.Fprintf(&b, " price=%d amount=%d", a.Price, a.Amount)
		}
		b.WriteByte('\n')
	}
	for _, f := range c.Flows {
		fmt.Fprintf(&b, "flow %s %d", f.Node, f.WattHours)
		if f.Fee != 0 || f.Rent != 0 {
			fmt.Fprintf(&b, " fee=%d rent=%d", f.Fee, f.Rent)
		}
		b.WriteByte('\n')
	}
	fmt.Fprintf(&b, "grid import=%d export=%d\nwelfare %d\n", c.GridImport, c.GridExport, c.Welfare)
	if c.Surplus != 0 {
		fmt.Fprintf(&b, "surplus %d\n", c.Surplus)
	}
	if len(g.meters) > 0 {
		g.settle(t, &b, c)
	}
	return b.String(), nil
}

// settle writes the transfers, and what they come to.
func (g *golden) settle(t *testing.T, b *strings.Builder, c market.Clearing) {
	names := []string{} // pairs, for the replacer
	var positions []market.Position
	var terms []market.Terms
	for i, o := range g.market.Orders {
		p := market.Position{Household: o.Household}
		add(&p, o.Side, c.Allocations[i])
		counted := g.meters[o.ID]
		p.MeteredImport, p.MeteredExport = counted[0], counted[1]
		positions = append(positions, p)
		terms = append(terms, termsAt(t, g.market, c, o.Node))
		names = append(names, string(market.HouseholdAccount(o.Household)), o.ID)
	}
	transfers := settle(t, positions, terms, totalsOf(g.market, c))
	short := strings.NewReplacer(names...)
	for _, t := range transfers {
		fmt.Fprintf(b, "transfer %s %s -> %s %d\n", t.Kind, short.Replace(string(t.Debit)), short.Replace(string(t.Credit)), t.Amount)
	}
	var rows []string
	for account, balance := range balancesOf(t, transfers) {
		rows = append(rows, "balance "+short.Replace(string(account))+" "+strconv.FormatInt(int64(balance), 10)+"\n")
	}
	slices.Sort(rows)
	b.WriteString(strings.Join(rows, ""))
}
