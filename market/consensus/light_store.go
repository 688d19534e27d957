package consensus

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	dbm "github.com/cometbft/cometbft-db"
	"github.com/cometbft/cometbft/light/store"
	"github.com/cometbft/cometbft/light/store/db"
	"github.com/cometbft/cometbft/types"
)

const (
	// keptHeaders is how many verified headers are kept.
	keptHeaders = 3
	// writeEvery spares the flash: a header that was lost is verified again, from an older one
	// that is as good.
	writeEvery = time.Hour
	// maxHeaderFile bounds the file.
	maxHeaderFile = (keptHeaders + 1) * maxLightBlock
)

// headerStore keeps the newest verified headers: in memory while the home runs, and in one
// small file across restarts. A file that is damaged is as good as none: the genesis document
// is where trust begins, the file only saves the way from there.
type headerStore struct {
	store.Store
	file    string
	chainID string
	written time.Time
}

// headerFile is the content: headers as the engine encodes them, oldest first.
type headerFile struct {
	_      struct{} `cbor:",toarray"`
	Blocks [][]byte
}

func openHeaderStore(file, chainID string) (*headerStore, error) {
	s := &headerStore{Store: db.New(dbm.NewMemDB(), ""), file: file, chainID: chainID}
	raw, err := os.ReadFile(filepath.Clean(file))
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading headers: %w", err)
	}
	for _, b := range decodeHeaderFile(chainID, raw) {
		if err := s.SaveLightBlock(b); err != nil {
			return nil, fmt.Errorf("reading headers: %w", err)
		}
	}
	return s, nil
}

// decodeHeaderFile returns what the file has, nothing if anything is wrong with it.
func decodeHeaderFile(chainID string, raw []byte) []*types.LightBlock {
	if len(raw) < sha256.Size || len(raw) > maxHeaderFile {
		return nil
	}
	body, sum := raw[:len(raw)-sha256.Size], raw[len(raw)-sha256.Size:]
	var f headerFile
	if want := sha256.Sum256(body); !bytes.Equal(want[:], sum) || decodeAnswer(body, &f) != nil {
		return nil
	}
	var blocks []*types.LightBlock
	for _, encoded := range f.Blocks {
		b, err := decodeLightBlock(chainID, encoded)
		if err != nil {
			return nil
		}
		blocks = append(blocks, b)
	}
	return blocks
}

// newest returns the newest verified header, nil if there is none.
func (s *headerStore) newest() (*types.LightBlock, error) {
	height, err := s.LastLightBlockHeight()
	if err != nil || height <= 0 {
		return nil, err
	}
	return s.LightBlock(height)
}

func (s *headerStore) clear() error { return s.Prune(0) }

// saved writes the file, if that has not been done just now.
func (s *headerStore) saved(now time.Time) error {
	if since := now.Sub(s.written); 0 <= since && since < writeEvery {
		return nil
	}
	s.written = now
	return s.flush()
}

func (s *headerStore) flush() error {
	var f headerFile
	b, err := s.newest()
	for ; err == nil && b != nil && len(f.Blocks) < keptHeaders; b, err = s.LightBlockBefore(b.Height) {
		encoded, err := encodeLightBlock(b)
		if err != nil {
			return fmt.Errorf("writing headers: %w", err)
		}
		f.Blocks = append(f.Blocks, encoded)
	}
	if err != nil && !errors.Is(err, store.ErrLightBlockNotFound) {
		return fmt.Errorf("writing headers: %w", err)
	}
	slices.Reverse(f.Blocks)
	if len(f.Blocks) == 0 {
		return nil
	}
	body, err := bundleEnc.Marshal(f)
	if err != nil {
		return fmt.Errorf("writing headers: %w", err)
	}
	sum := sha256.Sum256(body)
	return writeSynced(s.file, append(body, sum[:]...), 0o600)
}
