package marketfile

import (
	"encoding/json"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/commonwatt/commonwatt/market"
)

// answerBuffer is how much of an answer is written at once.
const answerBuffer = 1 << 16

// An answerWriter writes JSON piece by piece, and remembers the first error.
type answerWriter struct {
	out io.Writer
	buf []byte
	err error
}

// WriteAnswer writes what a market cleared to, as market-rules.md has it: prices in the
// order of the nodes' names, all else as in the file. An order's amount is written
// where it does not follow from the price.
func WriteAnswer(out io.Writer, m *market.Market, r *market.Clearing) error {
	w := &answerWriter{out: out, buf: make([]byte, 0, answerBuffer)}
	prices := slices.Clone(r.Prices)
	slices.SortFunc(prices, func(a, b market.NodePrice) int { return strings.Compare(a.Node, b.Node) })
	w.raw(`{"prices":{`)
	for i, p := range prices {
		w.comma(i)
		w.text(p.Node)
		w.number(`:`, int64(p.Price))
	}
	w.raw(`},"allocations":[`)
	amounts := m.Rule != "" && m.Rule != market.RuleUniform
	for i := range r.Allocations {
		a := &r.Allocations[i]
		w.comma(i)
		w.raw(`{"order":`)
		w.text(m.Orders[a.Order].ID)
		w.number(`,"wh":`, int64(a.WattHours))
		w.number(`,"price":`, int64(a.Price))
		if amounts {
			w.number(`,"amount":`, int64(a.Amount))
		}
		w.raw(`}`)
	}
	w.raw(`],"flows":[`)
	for i, f := range r.Flows {
		w.comma(i)
		w.raw(`{"node":`)
		w.text(f.Node)
		w.number(`,"wh":`, int64(f.WattHours))
		w.raw(`}`)
	}
	w.number(`],"grid":{"import_wh":`, int64(r.GridImport))
	w.number(`,"export_wh":`, int64(r.GridExport))
	w.number(`},"welfare":`, int64(r.Welfare))
	if m.Rule == market.RuleMcAfee {
		w.number(`,"surplus":`, int64(r.Surplus))
	}
	w.raw("}\n")
	w.flush()
	return w.err
}

func (w *answerWriter) flush() {
	if w.err == nil {
		_, w.err = w.out.Write(w.buf)
	}
	w.buf = w.buf[:0]
}

func (w *answerWriter) raw(s string) { w.buf = append(w.buf, s...) }

func (w *answerWriter) number(before string, n int64) {
	w.buf = strconv.AppendInt(append(w.buf, before...), n, 10)
}

// comma begins an element of a list.
func (w *answerWriter) comma(i int) {
	if i > 0 {
		w.buf = append(w.buf, ',')
	}
	if len(w.buf) > answerBuffer-1<<10 {
		w.flush()
	}
}

// text writes a string as encoding/json does.
func (w *answerWriter) text(s string) {
	for _, c := range []byte(s) {
		if c < ' ' || c > '~' || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' {
			quoted, _ := json.Marshal(s) // a string always can be
			w.buf = append(w.buf, quoted...)
			return
		}
	}
	w.buf = append(append(append(w.buf, '"'), s...), '"')
}
