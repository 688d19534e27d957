package ledger

import (
	"crypto/ed25519"
	"crypto/sha256"
	"time"

	"github.com/commonwatt/commonwatt/market"
)

// maxReportSpan bounds the Intervals of one report: a month of quarter hours.
const maxReportSpan = 31 * 96

// Reading is a meter's signed counter reading as a report quotes it. Its signed
// bytes are those of the meter room: changing them here breaks every signature.
type Reading struct {
	_         struct{} `cbor:",toarray"`
	Meter     MeterID
	Seq       uint64
	Epoch     uint32
	AtMs      int64 // Unix milliseconds, community time
	ImportWh  *uint64
	ExportWh  *uint64
	Quality   uint64 // the meter room's bits; 0 is good, with any other the report is doubtful
	Prev      [32]byte
	Signature []byte
}

// readingContent is a Reading without its signature.
type readingContent struct {
	_        struct{} `cbor:",toarray"`
	Meter    MeterID
	Seq      uint64
	Epoch    uint32
	AtMs     int64
	ImportWh *uint64
	ExportWh *uint64
	Quality  uint64
	Prev     [32]byte
}

// SignedBytes is what the meter's key signed.
func (r *Reading) SignedBytes() []byte {
	return append([]byte("commonwatt/reading/1"), encode(readingContent{
		Meter: r.Meter, Seq: r.Seq, Epoch: r.Epoch, AtMs: r.AtMs,
		ImportWh: r.ImportWh, ExportWh: r.ExportWh, Quality: r.Quality, Prev: r.Prev,
	})...)
}

// Hash names the reading: SHA-256 of the signed bytes and the signature.
func (r *Reading) Hash() [32]byte {
	return sha256.Sum256(append(r.SignedBytes(), r.Signature...))
}

// ReportMeter reports what a household's meter counted in Count Intervals from From
// on, by the two readings that prove it: Start at the beginning of the first,
// End at the end of the last. With Count 1 the energy is their difference. A
// longer span is a gap in the readings: its energy is shared out evenly, so that
// the sum stays exact, and marked estimated.
type ReportMeter struct {
	_     struct{} `cbor:",toarray"`
	From  market.Interval
	Count uint32
	Start Reading
	End   Reading
}

// Sign makes the transaction, with the household's device key.
func (r *ReportMeter) Sign(chainID string, h market.HouseholdID, device ed25519.PrivateKey) []byte {
	return sign(KindReport, chainID, h, r, device)
}

func (r *ReportMeter) last() market.Interval { return r.From + market.Interval(r.Count) - 1 }

func (r *ReportMeter) quality() Quality {
	switch {
	case r.Start.Quality != 0 || r.End.Quality != 0:
		return QualityDoubtful
	case r.Count == 1:
		return QualityGood
	default:
		return QualityEstimated
	}
}

// Share is the energy of Interval i of n (from 0) when delta Wh are shared evenly:
// floors of the running sum, so that the shares add up to delta exactly.
func Share(delta market.WattHours, i, n int64) market.WattHours {
	// delta < 2^63 and n < 2^12, so quotient and rest apart do not overflow.
	upTo := func(j int64) int64 {
		d := int64(delta)
		return d/n*j + d%n*j/n
	}
	return market.WattHours(upTo(i+1) - upTo(i))
}

func (r *ReportMeter) shape() *Refusal {
	if r.Count < 1 || r.Count > maxReportSpan {
		return refuse(CodeMalformed, "count", "got %d, want 1 to %d", r.Count, maxReportSpan)
	}
	if r.From < 0 || r.From > market.MaxInterval {
		return refuse(CodeMalformed, "from", "got %d", r.From)
	}
	for _, x := range []struct {
		name    string
		reading *Reading
	}{{"start", &r.Start}, {"end", &r.End}} {
		switch {
		case x.reading.ImportWh == nil || x.reading.ExportWh == nil:
			return refuse(CodeBadReading, x.name, "a settlement meter must know both its import and its export counter")
		case len(x.reading.Signature) != ed25519.SignatureSize:
			return refuse(CodeBadReading, x.name, "signature has %d bytes, want %d", len(x.reading.Signature), ed25519.SignatureSize)
		}
	}
	return r.shapePair()
}

func (r *ReportMeter) shapePair() *Refusal {
	switch {
	case r.Start.Meter != r.End.Meter:
		return refuse(CodeBadReading, "end", "is of meter %s, the start of %s", r.End.Meter, r.Start.Meter)
	case r.Start.Epoch != r.End.Epoch:
		return refuse(CodeBadReading, "end", "epoch %d, the start has %d: no energy across a replaced counter", r.End.Epoch, r.Start.Epoch)
	case r.End.Seq <= r.Start.Seq:
		return refuse(CodeBadReading, "end", "sequence %d is not after %d", r.End.Seq, r.Start.Seq)
	case *r.End.ImportWh < *r.Start.ImportWh:
		return refuse(CodeBadReading, "end", "the import counter falls from %d to %d", *r.Start.ImportWh, *r.End.ImportWh)
	case *r.End.ExportWh < *r.Start.ExportWh:
		return refuse(CodeBadReading, "end", "the export counter falls from %d to %d", *r.Start.ExportWh, *r.End.ExportWh)
	}
	return nil
}

// energy returns what the counters counted; check has bounded it.
func (r *ReportMeter) energy() (imported, exported market.WattHours) {
	return market.WattHours(*r.End.ImportWh - *r.Start.ImportWh), market.WattHours(*r.End.ExportWh - *r.Start.ExportWh) //nolint:gosec // bounded by check
}

func (r *ReportMeter) check(d *draft, tx *Tx) *Refusal {
	h, refusal := d.member(tx)
	if refusal != nil {
		return refusal
	}
	m, ok := d.meter(r.Start.Meter)
	if !h.HasMeter || !ok || m.Household != tx.env.Household {
		return refuse(CodeUnknownMeter, "meter", "%s is not the meter of household %s", r.Start.Meter, tx.env.Household)
	}
	if refusal := d.staying(tx, h, r.last()); refusal != nil {
		return refusal
	}
	if r.From < m.From {
		return refuse(CodeBadReading, "from", "got %d, the meter reports from %d on", r.From, m.From)
	}
	if refusal := r.checkEpoch(m); refusal != nil {
		return refusal
	}
	if r.last() >= d.next() {
		return refuse(CodeNotCleared, "from", "interval %d is not cleared yet, the next gate is that of %d", r.last(), d.next())
	}
	if refusal := r.checkReadings(d); refusal != nil {
		return refusal
	}
	for k := r.From; k <= r.last(); k++ {
		if refusal := d.reportable(k, tx.env.Household); refusal != nil {
			return refusal
		}
	}
	_, refusal = r.joins(d, m)
	return refusal
}

// checkEpoch wants readings of the counter that the ledger knows for the Intervals: another
// one counts only after a replacement that was approved.
func (r *ReportMeter) checkEpoch(m *Meter) *Refusal {
	switch {
	case m.Until > 0 && r.last() >= m.Until:
		return refuse(CodeUnknownMeter, "meter", "%s was replaced, it reports up to interval %d", r.Start.Meter, m.Until-1)
	case !m.EpochKnown:
		return nil
	case r.From >= m.EpochFrom && r.Start.Epoch != m.Epoch:
		return refuse(CodeBadReading, "start", "epoch %d, want %d: another counter needs a replacement that officers approve", r.Start.Epoch, m.Epoch)
	case r.From < m.EpochFrom && (r.last() >= m.EpochFrom || r.Start.Epoch >= m.Epoch):
		return refuse(CodeBadReading, "start", "epoch %d from interval %d to %d: epoch %d begins with %d", r.Start.Epoch, r.From, r.last(), m.Epoch, m.EpochFrom)
	}
	return nil
}

func (r *ReportMeter) checkReadings(d *draft) *Refusal {
	most := uint64(d.rulesAt(r.last()).MaxWattHours) * uint64(r.Count) //nolint:gosec // rules are positive, below 2^52 together
	if got := *r.End.ImportWh - *r.Start.ImportWh; got > most {
		return refuse(CodeBadQuantity, "import", "got %d Wh in %d intervals, want at most %d", got, r.Count, most)
	}
	if got := *r.End.ExportWh - *r.Start.ExportWh; got > most {
		return refuse(CodeBadQuantity, "export", "got %d Wh in %d intervals, want at most %d", got, r.Count, most)
	}
	if refusal := d.atBoundary("start", r.Start.AtMs, r.From); refusal != nil {
		return refusal
	}
	if refusal := d.atBoundary("end", r.End.AtMs, r.last()+1); refusal != nil {
		return refusal
	}
	return nil
}

// atBoundary wants a reading at the start of k or at most the tolerance after it.
func (d *draft) atBoundary(field string, atMs int64, k market.Interval) *Refusal {
	boundary := d.calendar().Start(k)
	late := atMs - boundary.UnixMilli()
	if tolerance := d.rulesAt(k).ReadingToleranceS * 1000; late < 0 || late > tolerance {
		return refuse(CodeBadReading, field, "%d ms after the boundary %s, want 0 to %d", late, boundary.UTC().Format(time.RFC3339), tolerance)
	}
	return nil
}

// reportable says whether a report for the Interval is still wanted.
func (d *draft) reportable(k market.Interval, id market.HouseholdID) *Refusal {
	if _, ok := d.interval(k); ok {
		// A settled record keeps only what can still be corrected.
		if e, found := d.entry(k, id); found && (e.Quality == QualityMissing || e.Quality == QualitySubstitute) {
			return nil
		}
		return refuse(CodeAlreadyReported, "interval", "%d", k)
	}
	return d.final(k)
}

// final says why an Interval without a record takes nothing more.
func (d *draft) final(k market.Interval) *Refusal {
	if window := d.rulesAt(k).CorrectionWindowS; d.ended(k, window) {
		return refuse(CodeWindowClosed, "interval", "%d: corrections were possible for %d s after its end", k, window)
	}
	return refuse(CodeAlreadyReported, "interval", "%d is settled", k)
}

func (r *ReportMeter) signer(d *draft, tx *Tx) (Key, *Refusal) {
	if _, ok := d.meter(r.Start.Meter); !ok {
		return Key{}, refuse(CodeUnknownMeter, "meter", "%s is not registered", r.Start.Meter)
	}
	return d.deviceOf(tx)
}

func (r *ReportMeter) verify(d *draft, _ *Tx) *Refusal {
	m, ok := d.meter(r.Start.Meter)
	if !ok {
		return refuse(CodeUnknownMeter, "meter", "%s is not registered", r.Start.Meter)
	}
	for _, x := range []struct {
		name    string
		reading *Reading
	}{{"start", &r.Start}, {"end", &r.End}} {
		if x.reading.Hash() == m.LastEnd {
			continue // its signature, which the hash covers, was found right when it ended an Interval
		}
		if !d.signed(m.Key, x.reading.SignedBytes(), x.reading.Signature) {
			return refuse(CodeBadSignature, x.name, "the reading is not signed by meter %s", r.Start.Meter)
		}
	}
	return nil
}

func (r *ReportMeter) apply(d *draft, tx *Tx) error {
	imported, exported := r.energy()
	for i := range int64(r.Count) {
		k := r.From + market.Interval(i)
		err := d.report(k, tx.env.Household, metered{
			imported: Share(imported, i, int64(r.Count)), exported: Share(exported, i, int64(r.Count)),
			quality: r.quality(), start: r.Start.Seq, end: r.End.Seq,
		})
		if err != nil {
			return err
		}
	}
	m, err := d.editMeter(r.Start.Meter)
	if err != nil {
		return err
	}
	gaps, refusal := r.joins(d, m)
	if refusal != nil {
		return refusal // check has asked before
	}
	m.Gaps = gaps
	if !m.EpochKnown {
		m.EpochKnown, m.Epoch = true, r.Start.Epoch
	}
	if r.last() > m.Last {
		m.Last, m.LastEnd = r.last(), r.End.Hash()
	}
	return nil
}
