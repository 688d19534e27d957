package bill

import (
	"strconv"

	"github.com/commonwatt/commonwatt/market"
)

// Exact writes money with all its six decimals: "-1.234567" (B2).
func Exact(m market.Money) string { return decimal(int64(m), 6) }

// KWh writes energy in kWh with three decimals.
func KWh(w market.WattHours) string { return decimal(int64(w), 3) }

// perKWh writes a price with all its six decimals.
func perKWh(p market.Price) string { return decimal(int64(p), 6) }

// decimal writes v / 10^places.
func decimal(v int64, places int) string {
	digits := strconv.FormatInt(v, 10)
	sign := ""
	if digits[0] == '-' {
		sign, digits = "-", digits[1:]
	}
	for len(digits) <= places {
		digits = "0" + digits
	}
	at := len(digits) - places
	return sign + digits[:at] + "." + digits[at:]
}

// signed is Exact with a sign for what is received, too.
func signed(m market.Money) string {
	if m > 0 {
		return "+" + Exact(m)
	}
	return Exact(m)
}
