package bill

import (
	"encoding/csv"
	"fmt"
	"io"
	"strconv"
	"time"
)

// WriteCSV writes one row for each line of the Statement. Energy is Wh, prices and
// money have six decimals.
func (s *Statement) WriteCSV(out io.Writer) error {
	w := csv.NewWriter(out)
	header := []string{"date", "start", "interval", "number", "version", "quality", "rule", "metered", "bought_wh", "sold_wh", "price", "import_wh", "export_wh", "retail", "feed_in", "fee"}
	for _, a := range (&Amounts{}).each() {
		header = append(header, "amount_"+a.kind.String())
	}
	header = append(header, "net", "alone", "saved", "currency", "bid", "offer", "reading_start", "reading_end", "block")
	if err := w.Write(header); err != nil {
		return err
	}
	for i := range s.Days {
		for j := range s.Days[i].Lines {
			if err := w.Write(s.Days[i].Lines[j].row(s.Days[i].Date, s.Currency)); err != nil {
				return err
			}
		}
	}
	w.Flush()
	return w.Error()
}

func (l *Line) row(date, currency string) []string {
	row := []string{
		date, l.Start.Format(time.RFC3339), fmt.Sprint(int64(l.Interval)), strconv.FormatUint(l.Number, 10), fmt.Sprint(l.Version),
		l.Quality, l.Rule, strconv.FormatBool(l.Metered), fmt.Sprint(int64(l.Bought)), fmt.Sprint(int64(l.Sold)), perKWh(l.Price),
		fmt.Sprint(int64(l.Import)), fmt.Sprint(int64(l.Export)), perKWh(l.Retail), perKWh(l.FeedIn), perKWh(l.Fee),
	}
	for _, a := range l.Amounts.each() {
		row = append(row, Exact(*a.amount))
	}
	return append(row, Exact(l.Net), Exact(l.Alone), Exact(l.Saved), currency, strconv.FormatUint(l.Bid, 10), strconv.FormatUint(l.Offer, 10),
		strconv.FormatUint(l.ReadingStart, 10), strconv.FormatUint(l.ReadingEnd, 10), strconv.FormatInt(l.Block, 10))
}
