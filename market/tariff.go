package market

import "fmt"

// A Tariff is what the outside grid charges and pays, without limit of
// quantity. Where a *Tariff is nil, the community is islanded.
type Tariff struct {
	ImportPrice Price // the grid sells at this
	ExportPrice Price // the grid buys at this, at most ImportPrice
}

// Validate returns an error that wraps ErrBadTariff or ErrPriceOutOfBounds
// unless both prices are within MaxPrice and the export price is not above the
// import price.
func (t Tariff) Validate() error {
	for _, f := range []struct {
		name  string
		price Price
	}{{"import_price", t.ImportPrice}, {"export_price", t.ExportPrice}} {
		if f.price < -MaxPrice || f.price > MaxPrice {
			return fmt.Errorf("grid: %s: got %d, want %d to %d: %w", f.name, f.price, -MaxPrice, MaxPrice, ErrPriceOutOfBounds)
		}
	}
	if t.ExportPrice > t.ImportPrice {
		return fmt.Errorf("grid: export_price: got %d, want at most the import_price %d: %w", t.ExportPrice, t.ImportPrice, ErrBadTariff)
	}
	return nil
}

// Retail returns what a household without neighbours pays.
func (t Tariff) Retail() Price { return t.ImportPrice }

// FeedIn returns what a household without neighbours is paid.
func (t Tariff) FeedIn() Price { return t.ExportPrice }

// A Preference is a household's standing limit: it sells at MinSell or more and
// buys at MaxBuy or less.
type Preference struct {
	MinSell Price
	MaxBuy  Price
}

// NoRegret returns the preference with which nobody can lose by taking part
// (R9), given the tariff at the household's node.
func NoRegret(t Tariff) Preference {
	return Preference{MinSell: t.FeedIn(), MaxBuy: t.Retail()}
}
