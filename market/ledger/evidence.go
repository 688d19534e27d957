package ledger

// ClockKey is the key of the ledger's own place in time, for State.Prove.
const ClockKey = string(rune(prefixClock))

// ClockRecord is the ledger's own place in time: how far it is, and how many decisions
// the cooperative has made.
type ClockRecord = clockRecord

// ClockRecord returns the record under ClockKey.
func (s *State) ClockRecord() ClockRecord { return s.clock }

// Encode gives the bytes under ClockKey.
func (c *clockRecord) Encode() []byte { return encode(c) }

// Encode gives the bytes under the household's key.
func (h *Household) Encode() []byte { return encode(h) }

// MeterKey is the key of a meter's record, for State.Prove.
func MeterKey(m MeterID) string { return meterKey(m) }
