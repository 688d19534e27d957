package consensus

import (
	"bytes"
	"context"
	"errors"
)

// wayTo returns the changes from the genesis document's validators to those of a header,
// which is what a proof of it needs. It asks only if the set is another than it was.
func (l *Light) wayTo(ctx context.Context, p Provider, was known, s *SignedHeader) ([]Change, error) {
	way := was.way
	for _, ask := range []bool{false, true} {
		if ask {
			var err error
			way, err = l.anchor.moreChanges(ctx, l.cfg.Ask, p.ID, way)
			switch {
			case errors.Is(err, ErrAnswer), errors.Is(err, ErrHeader), errors.Is(err, ErrSignature):
				return nil, l.accuse(p, "its changes of the validators do not follow from the genesis document: %v", err)
			case err != nil:
				return nil, err
			}
		}
		set := l.anchor.set
		if known := upTo(way, s.Header.Height); len(known) > 0 {
			set = engineSet(known[len(known)-1].Next)
		}
		if bytes.Equal(set.Hash(), s.Header.ValidatorsHash) {
			return way, nil
		}
	}
	return nil, l.accuse(p, "its header of block %d does not follow from the genesis document: nothing leads to its validators", s.Header.Height)
}
