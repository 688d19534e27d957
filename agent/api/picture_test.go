package api

import (
	"encoding/xml"
	"errors"
	"html/template"
	"io"
	"math"
	"strconv"
	"strings"
	"testing"
	"time"
)

// wellFormed fails unless a picture is XML with a title and a description, every
// id in it is unique, and nothing is drawn outside its width.
func wellFormed(t *testing.T, picture template.HTML) {
	t.Helper()
	if picture == "" {
		return
	}
	ids := make(map[string]bool)
	elements := make(map[string]int)
	d := xml.NewDecoder(strings.NewReader(string(picture)))
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("%v in %s", err, picture)
		}
		start, ok := token.(xml.StartElement)
		if !ok {
			continue
		}
		elements[start.Name.Local]++
		for _, a := range start.Attr {
			if a.Name.Local == "id" {
				if ids[a.Value] {
					t.Fatalf("id %s twice in %s", a.Value, picture)
				}
				ids[a.Value] = true
			}
			if a.Name.Local == "style" {
				t.Fatalf("a style attribute, which the page's policy forbids, in %s", picture)
			}
			share, isShare := strings.CutSuffix(a.Value, "%")
			if value, err := strconv.ParseFloat(share, 64); isShare && err == nil && (value < 0 || value > 100) {
				t.Fatalf("%s=%q is outside the picture %s", a.Name.Local, a.Value, picture)
			}
			if a.Name.Local == "height" || a.Name.Local == "y" {
				if value, err := strconv.ParseInt(a.Value, 10, 64); err != nil || value < 0 || value > 400 {
					t.Fatalf("%s=%q is outside the picture %s", a.Name.Local, a.Value, picture)
				}
			}
		}
	}
	if elements["title"] != 1 || elements["desc"] != 1 {
		t.Fatalf("got %d titles and %d descriptions, expected one of each in %s", elements["title"], elements["desc"], picture)
	}
}

// optional makes a value unknown if the bit is set.
func optional(n int64, mask uint16, bit int) *int64 {
	if mask&(1<<bit) != 0 {
		return nil
	}
	return &n
}

// anyGrid is a tree, or what pretends to be one.
func anyGrid(p Power, prices Price, count int64) *Grid {
	g := &Grid{}
	for n := range count {
		node := GridNode{
			ID: strconv.FormatInt(n, 10), Price: prices.Price, ImportWh: p.SolarW, ExportWh: p.GridW, ImportW: p.HouseW, ExportW: p.BatteryW,
			ImportLimitW: p.NeighboursW, ExportLimitW: p.SolarW, LoadingBp: p.ConnectionW, Home: n%5 == 3,
		}
		if n > 0 {
			node.Parent = strconv.FormatInt(n*7%(n+1+count%3), 10) // a child's, its own or nobody's at times
		}
		g.Nodes = append(g.Nodes, node)
	}
	return g
}

// FuzzPictures: whatever numbers come in, the pictures are pictures.
func FuzzPictures(f *testing.F) {
	f.Add(int64(4310), int64(1900), int64(-1220), int64(-400), int64(790), int64(143_000), uint16(0), uint8(96))
	f.Add(int64(math.MaxInt64), int64(math.MinInt64), int64(math.MinInt64), int64(math.MaxInt64), int64(math.MinInt64), int64(math.MinInt64), uint16(0), uint8(3))
	f.Add(int64(0), int64(0), int64(0), int64(0), int64(0), int64(0), uint16(0), uint8(1))
	f.Add(int64(1), int64(-1), int64(1), int64(-1), int64(1), int64(1), uint16(0xffff), uint8(0))
	f.Add(int64(1), int64(99), int64(-3), int64(0), int64(10_000), int64(80_000), uint16(0x28), uint8(255))
	f.Fuzz(func(t *testing.T, solar, battery, neighbours, grid, house, price int64, mask uint16, count uint8) {
		p := Power{
			SolarW: optional(solar, mask, 0), BatteryW: optional(battery, mask, 1), NeighboursW: optional(neighbours, mask, 2),
			GridW: optional(grid, mask, 3), HouseW: optional(house, mask, 4), ConnectionW: optional(neighbours, mask, 5),
			HasSolar: mask&0x100 == 0, HasBattery: mask&0x200 == 0,
		}
		prices := Price{Price: optional(price, mask, 6), ImportPrice: optional(house, mask, 7), ExportPrice: optional(grid, mask, 8)}
		start := time.Unix(house%(1<<33), 0)
		var intervals []Interval
		for n := range int64(count) {
			intervals = append(intervals, Interval{
				Start: start, State: StateMissing, Price: optional(price+n, mask, 9),
				ImportWh: optional(solar*n, mask, 10), ExportWh: optional(battery^n, mask, 11),
				BoughtWh: optional(grid-n, mask, 12), SoldWh: optional(house*n, mask, 13), Net: optional(price*n, mask, 14),
			})
		}
		s := Snapshot{
			At: start, WallAt: start, Power: p, PriceNow: prices, PriceNext: prices, Intervals: intervals,
			Home: Home{IntervalS: solar, Rate: battery}, Account: Account{Currency: "EUR", Saved: p.SolarW},
			Grid: anyGrid(p, prices, int64(count)),
		}
		view := newView(s, "test", time.UTC)
		wellFormed(t, view.Flow)
		wellFormed(t, view.Strip)
		wellFormed(t, view.Gauge)
		wellFormed(t, view.Network)
		if !strings.HasSuffix(view.Sentence, ".") {
			t.Errorf("%q is no sentence", view.Sentence)
		}
	})
}

// What goes into the picture comes out of it: the ribbons carry all of the
// smaller side, and no more than their ends have.
func TestFlowsBalance(t *testing.T) {
	f := newFlows(Power{
		SolarW: v(3000), BatteryW: v(-500), NeighboursW: v(-1200), GridW: v(-800), ConnectionW: v(-2000), HouseW: v(1500),
		HasSolar: true, HasBattery: true,
	})
	if !f.complete || total(f.sources) != 3500 || total(f.sinks) != 3500 {
		t.Fatalf("got %+v, expected a complete balance of 3500 W on both sides", f)
	}
	var carried int64
	for _, r := range f.ribbons {
		carried += r.w
	}
	if carried != 3500 {
		t.Errorf("the ribbons carry %d W, expected 3500", carried)
	}
	if got := f.ribbonTo(placeHouse, placeRoof); got != 1500 {
		t.Errorf("the roof gives the house %d W, expected all of 1500", got)
	}
	if got := f.ribbonTo(placeGrid, placeBattery); got != 500 {
		t.Errorf("the battery gives the grid %d W, expected the last 500", got)
	}
}

func TestFlowHidesWhatIsBelowTwoPerCent(t *testing.T) {
	p := Power{SolarW: v(10_000), HouseW: v(9_801), ConnectionW: v(-199), NeighboursW: v(-199), GridW: v(0), HasSolar: true}
	if picture := string(drawFlow(p)); strings.Contains(picture, "at-neighbours") {
		t.Error("199 W of 10 kW are drawn, expected them to be left out")
	} else if !strings.Contains(picture, "199"+nbsp+"W from Roof to Neighbours") {
		t.Error("the description leaves out 199 W, expected all of the balance in words")
	}
	p.HouseW, p.ConnectionW, p.NeighboursW = v(9_800), v(-200), v(-200)
	if !strings.Contains(string(drawFlow(p)), "at-neighbours") {
		t.Error("200 W of 10 kW are not drawn, expected them to be")
	}
}

func TestStripDrawsNoUnknownPrice(t *testing.T) {
	intervals := make([]Interval, 5)
	for n := range intervals {
		intervals[n] = Interval{Start: time.Unix(int64(n)*900, 0), State: StateSettled, Price: v(100_000)}
	}
	intervals[2].Price = nil
	picture := string(drawStrip(intervals, Price{}, "EUR", time.UTC))
	_, line, _ := strings.Cut(picture, `class="price" d="`)
	line, _, _ = strings.Cut(line, `"`)
	if got := strings.Count(line, "M"); got != 2 {
		t.Errorf("the price line %q has %d pieces, expected 2: it must break where there is no price", line, got)
	}
	if strings.Contains(picture, "fill-grid") || strings.Contains(picture, "longest bar") {
		t.Error("energy is drawn that nobody knows")
	}
}

// BenchmarkFragments is what one change costs while a page is open.
func BenchmarkFragments(b *testing.B) {
	pages, err := newPages(Config{Version: "test", Location: time.UTC})
	if err != nil {
		b.Fatal(err)
	}
	s := Snapshot{
		Power:    Power{SolarW: v(4310), BatteryW: v(1900), NeighboursW: v(-1220), GridW: v(-400), ConnectionW: v(-1620), HouseW: v(790), HasSolar: true, HasBattery: true},
		PriceNow: Price{Price: v(143_000), ImportPrice: v(300_000), ExportPrice: v(80_000)},
		Account:  Account{Currency: euro},
	}
	for n := range int64(96) {
		s.Intervals = append(s.Intervals, Interval{
			Start: time.Unix(n*900, 0), State: StateSettled, Price: v(80_000 + n*2000), ImportWh: v(n), ExportWh: v(n * 7),
			BoughtWh: v(n / 2), SoldWh: v(n * 3), Net: v(n * 1000), Saved: v(n * 100), LocalShareBp: v(n * 100),
		})
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := pages.fragments(s); err != nil {
			b.Fatal(err)
		}
	}
}
