package api

import "html/template"

const gaugeHeight = 46

// drawGauge places the price between the supplier's two prices, where both
// sides of a trade gain. It is empty if one of the three is unknown.
func drawGauge(p Price, currency string) template.HTML {
	if p.Price == nil || p.ImportPrice == nil || p.ExportPrice == nil {
		return ""
	}
	limit := func(v int64) int64 { return min(max(v, -priceLimit), priceLimit) }
	low, high, at := limit(*p.ExportPrice), limit(*p.ImportPrice), limit(*p.Price)
	if low >= high {
		return ""
	}
	x := int64(ratio(uint64(min(max(at, low), high)-low), uint64(high-low), fullWidth))
	// Half the marker's width stays inside at both ends.
	const inset = 200
	mark := inset + x*(fullWidth-2*inset)/fullWidth

	var c canvas
	c.picture("gauge", gaugeHeight, "Price between feed-in and grid", "Feed-in pays "+formatPrice(p.ExportPrice, currency)+
		", the price is "+formatPrice(p.Price, currency)+", the grid takes "+formatPrice(p.ImportPrice, currency))
	c.leaf("rect", "class", "track", "x", "0", "y", "8", "width", "100%", "height", "10", "rx", "5", "fill", "#dfe4ea")
	c.leaf("rect", "class", "gain", "x", "0", "y", "8", "width", percent(mark), "height", "10", "rx", "5", "fill", placeFill[placeNeighbours])
	c.leaf("circle", "class", "mark", "cx", percent(mark), "cy", "13", "r", "9", "fill", "#ffffff", "stroke", placeFill[placeNeighbours], "stroke-width", "4")
	c.text("text", "feed-in "+formatPrice(p.ExportPrice, currency), "class", "caption", "x", "0", "y", "40", "fill", "#59636f", "font-size", "12")
	c.text("text", "grid "+formatPrice(p.ImportPrice, currency), "class", "caption", "x", "100%", "y", "40", "text-anchor", "end", "fill", "#59636f", "font-size", "12")
	return c.done()
}
