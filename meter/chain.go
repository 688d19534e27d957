package meter

import (
	"crypto/ed25519"
	"fmt"
	"time"
)

// ChainState is where a meter's chain of readings stands. The caller keeps it on disk and must have written it before
// a reading leaves the house: a sequence number is never used twice.
type ChainState struct {
	Seq   uint64    `json:"seq" cbor:"1,keyasint"`
	Epoch uint32    `json:"epoch" cbor:"2,keyasint"`
	Prev  [32]byte  `json:"prev" cbor:"3,keyasint"`
	At    time.Time `json:"at" cbor:"4,keyasint"`
}

// Chain signs the accepted samples of one meter, one after the other. It is for one goroutine.
type Chain struct {
	meter [16]byte
	key   ed25519.PrivateKey
	state ChainState
}

// NewChain continues a chain at the given state; the zero state begins one.
func NewChain(key ed25519.PrivateKey, state ChainState) (*Chain, error) {
	if len(key) != ed25519.PrivateKeySize {
		return nil, fmt.Errorf("beginning a chain of readings: got a key of %d bytes, expected %d", len(key), ed25519.PrivateKeySize)
	}
	return &Chain{meter: MeterID(key.Public().(ed25519.PublicKey)), key: key, state: state}, nil
}

// State returns the state after the last reading.
func (c *Chain) State() ChainState { return c.state }

// BeginEpoch begins an epoch with the next reading: somebody approved that the counter was replaced or reset. An epoch
// that is not above the present one changes nothing.
func (c *Chain) BeginEpoch(epoch uint32) { c.state.Epoch = max(c.state.Epoch, epoch) }

// Append makes the next reading of an accepted sample. It refuses a sample that knows no counter and one that is
// older than the reading before.
func (c *Chain) Append(s Sample) (Reading, error) {
	if s.ImportWh == nil && s.ExportWh == nil {
		return Reading{}, fmt.Errorf("appending reading %d: %w", c.state.Seq+1, ErrUnknown)
	}
	at := time.UnixMilli(s.At.UnixMilli()).UTC()
	if at.Before(c.state.At) {
		return Reading{}, fmt.Errorf("appending reading %d: got time %v, expected %v or later", c.state.Seq+1, at, c.state.At)
	}
	r := Reading{
		Meter: c.meter, Seq: c.state.Seq + 1, Epoch: c.state.Epoch, At: at,
		ImportWh: clone(s.ImportWh), ExportWh: clone(s.ExportWh), PowerW: clone(s.PowerW),
		Quality: s.Quality, Source: s.Source, Prev: c.state.Prev, SignedBy: SignedByAgent,
		DeviceAt: clone(s.DeviceAt), Clock: s.Clock,
	}
	if err := r.Sign(c.key); err != nil {
		return Reading{}, err
	}
	c.state.Seq, c.state.Prev, c.state.At = r.Seq, r.Hash(), at
	return r, nil
}

func clone[T any](v *T) *T {
	if v == nil {
		return nil
	}
	w := *v
	return &w
}
