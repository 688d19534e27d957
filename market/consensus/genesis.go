package consensus

import (
	"bytes"
	"crypto/ed25519"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"time"

	cmted25519 "github.com/cometbft/cometbft/crypto/ed25519"
	cmtjson "github.com/cometbft/cometbft/libs/json"
	"github.com/cometbft/cometbft/privval"
	"github.com/cometbft/cometbft/types"

	"github.com/commonwatt/commonwatt/market/ledger"
)

// maxGenesisBytes bounds a genesis document: a thousand founders have about 100 kB.
const maxGenesisBytes = 4 << 20

// A Validator is one of those who commit blocks from the beginning.
type Validator struct {
	Name   string            // for people
	PubKey ed25519.PublicKey // of its validator key, see NewValidatorKey
	Power  int64             // its weight: 1, all are equal
	// Network is the network key of its home, a founder's, so that the household is known
	// once it is registered. Nil: it is not said whose it is.
	Network ed25519.PublicKey
}

// GenesisDoc writes the genesis document of a new chain. What the ledger starts from names
// the same validators; if g names none, they are taken over.
func GenesisDoc(chainID string, g ledger.Genesis, validators []Validator, now time.Time) ([]byte, error) {
	if len(g.Validators) == 0 {
		var err error
		if g.Validators, err = genesisValidators(validators); err != nil {
			return nil, err
		}
	}
	state, err := json.Marshal(g)
	if err != nil {
		return nil, fmt.Errorf("%w: app_state: %w", ErrGenesis, err)
	}
	params := types.DefaultConsensusParams()
	params.Block.MaxBytes = maxBlockBytes
	params.Evidence.MaxBytes = maxBlockBytes / 8
	doc := types.GenesisDoc{
		GenesisTime:     now.UTC().Round(0),
		ChainID:         chainID,
		InitialHeight:   1,
		ConsensusParams: params,
		AppState:        state,
	}
	for i, v := range validators {
		if len(v.PubKey) != ed25519.PublicKeySize {
			return nil, fmt.Errorf("%w: validators[%d]: public key has %d bytes, want %d", ErrGenesis, i, len(v.PubKey), ed25519.PublicKeySize)
		}
		key := cmted25519.PubKey(v.PubKey)
		doc.Validators = append(doc.Validators, types.GenesisValidator{
			Address: key.Address(), PubKey: key, Power: v.Power, Name: v.Name,
		})
	}
	raw, err := cmtjson.MarshalIndent(doc, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrGenesis, err)
	}
	if _, _, err := parseGenesis(raw); err != nil {
		return nil, err
	}
	return append(raw, '\n'), nil
}

// ParseGenesis reads a genesis document strictly: the chain's id, and what the ledger
// starts from. The error names the first key that is unknown or wrong.
func ParseGenesis(raw []byte) (chainID string, g ledger.Genesis, err error) {
	doc, g, err := parseGenesis(raw)
	if err != nil {
		return "", ledger.Genesis{}, err
	}
	return doc.ChainID, g, nil
}

func parseGenesis(raw []byte) (*types.GenesisDoc, ledger.Genesis, error) {
	var g ledger.Genesis
	if len(raw) > maxGenesisBytes {
		return nil, g, fmt.Errorf("%w: %d bytes, want at most %d", ErrGenesis, len(raw), maxGenesisBytes)
	}
	// The engine's own reading ignores keys that it does not know, so a typing error would
	// silently mean a default.
	var keys struct {
		GenesisTime     json.RawMessage `json:"genesis_time"`
		ChainID         json.RawMessage `json:"chain_id"`
		InitialHeight   json.RawMessage `json:"initial_height"`
		ConsensusParams json.RawMessage `json:"consensus_params"`
		Validators      json.RawMessage `json:"validators"`
		AppHash         json.RawMessage `json:"app_hash"`
		AppState        json.RawMessage `json:"app_state"`
	}
	if err := strictJSON(raw, &keys); err != nil {
		return nil, g, fmt.Errorf("%w: %w", ErrGenesis, err)
	}
	if len(keys.AppState) == 0 || len(keys.GenesisTime) == 0 {
		return nil, g, fmt.Errorf("%w: app_state and genesis_time are needed", ErrGenesis)
	}
	if err := strictJSON(keys.AppState, &g); err != nil {
		return nil, g, fmt.Errorf("%w: app_state: %w", ErrGenesis, err)
	}
	if err := g.Validate(); err != nil {
		return nil, g, fmt.Errorf("%w: app_state: %w", ErrGenesis, err)
	}
	doc, err := types.GenesisDocFromJSON(raw)
	if err != nil {
		return nil, g, fmt.Errorf("%w: %w", ErrGenesis, err)
	}
	if err := validateDoc(doc); err != nil {
		return nil, g, err
	}
	return doc, g, sameValidators(doc, g)
}

// genesisValidators are the engine's validators as the ledger names them.
func genesisValidators(validators []Validator) ([]ledger.GenesisValidator, error) {
	out := make([]ledger.GenesisValidator, len(validators))
	for i, v := range validators {
		if len(v.PubKey) != ed25519.PublicKeySize || v.Network != nil && len(v.Network) != ed25519.PublicKeySize {
			return nil, fmt.Errorf("%w: validators[%d]: keys have %d and %d bytes, want %d", ErrGenesis, i, len(v.PubKey), len(v.Network), ed25519.PublicKeySize)
		}
		out[i].Key = ledger.KeyOf(v.PubKey)
		copy(out[i].Network[:], v.Network)
	}
	return out, nil
}

// sameValidators wants one list of validators, for the engine and for the ledger.
func sameValidators(doc *types.GenesisDoc, g ledger.Genesis) error {
	if len(doc.Validators) != len(g.Validators) {
		return fmt.Errorf("%w: app_state.validators: there are %d, the engine has %d", ErrGenesis, len(g.Validators), len(doc.Validators))
	}
	for i, v := range doc.Validators {
		if !bytes.Equal(v.PubKey.Bytes(), g.Validators[i].Key[:]) {
			return fmt.Errorf("%w: app_state.validators[%d].key: got %s, the engine's is %X", ErrGenesis, i, g.Validators[i].Key, v.PubKey.Bytes())
		}
	}
	return nil
}

func validateDoc(doc *types.GenesisDoc) error {
	switch {
	case len(doc.Validators) == 0:
		return fmt.Errorf("%w: validators: there is none, want 1 or more", ErrGenesis)
	case doc.InitialHeight != 1:
		return fmt.Errorf("%w: initial_height: got %d, want 1", ErrGenesis, doc.InitialHeight)
	case len(doc.AppHash) != 0:
		return fmt.Errorf("%w: app_hash: want it empty, it follows from app_state", ErrGenesis)
	case doc.ConsensusParams.Block.MaxBytes != maxBlockBytes:
		return fmt.Errorf("%w: consensus_params.block.max_bytes: got %d, want %d", ErrGenesis, doc.ConsensusParams.Block.MaxBytes, maxBlockBytes)
	case doc.ConsensusParams.ABCI.VoteExtensionsEnableHeight != 0:
		return fmt.Errorf("%w: consensus_params.abci.vote_extensions_enable_height: got %d, want 0", ErrGenesis, doc.ConsensusParams.ABCI.VoteExtensionsEnableHeight)
	}
	seen := map[string]bool{}
	for i, v := range doc.Validators {
		if _, ok := v.PubKey.(cmted25519.PubKey); !ok {
			return fmt.Errorf("%w: validators[%d]: key is %T, want Ed25519", ErrGenesis, i, v.PubKey)
		}
		if v.Power != ledger.ValidatorPower {
			return fmt.Errorf("%w: validators[%d]: power is %d, want %d: all are equal", ErrGenesis, i, v.Power, ledger.ValidatorPower)
		}
		if a := v.Address.String(); seen[a] {
			return fmt.Errorf("%w: validators[%d]: the key is there twice", ErrGenesis, i)
		} else {
			seen[a] = true
		}
	}
	return nil
}

// strictJSON reads one value and refuses unknown keys and anything behind it.
func strictJSON(raw []byte, v any) error {
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		return err
	}
	if dec.More() {
		return fmt.Errorf("something follows the document at byte %d", dec.InputOffset())
	}
	return nil
}

func genesisFile(home string) string { return filepath.Join(home, "config", "genesis.json") }

// LoadGenesis reads the genesis document that a node keeps in its folder.
func LoadGenesis(home string) ([]byte, error) {
	raw, err := os.ReadFile(genesisFile(home))
	if err != nil {
		return nil, fmt.Errorf("reading genesis document: %w", err)
	}
	return raw, nil
}

// keepGenesis writes the genesis document into a new folder; in an old one it must be the
// same, byte for byte but for white space.
func keepGenesis(home string, raw []byte) error {
	old, err := LoadGenesis(home)
	if errors.Is(err, fs.ErrNotExist) {
		return writeSynced(genesisFile(home), raw, 0o644)
	}
	if err != nil {
		return err
	}
	var a, b bytes.Buffer
	if err := json.Compact(&a, old); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrGenesis, genesisFile(home), err)
	}
	if err := json.Compact(&b, raw); err != nil {
		return fmt.Errorf("%w: %w", ErrGenesis, err)
	}
	if !bytes.Equal(a.Bytes(), b.Bytes()) {
		return fmt.Errorf("%w: %s differs from the genesis document given; use another folder, or the old document", ErrOtherChain, genesisFile(home))
	}
	return nil
}

// writeSynced writes a file whole or not at all.
func writeSynced(file string, data []byte, mode os.FileMode) error {
	tmp, err := os.CreateTemp(filepath.Dir(file), filepath.Base(file)+".*")
	if err != nil {
		return fmt.Errorf("writing %s: %w", file, err)
	}
	defer func() { _ = os.Remove(tmp.Name()) }() // gone already if all went well
	_, err = tmp.Write(data)
	err = errors.Join(err, tmp.Chmod(mode), tmp.Sync(), tmp.Close())
	if err == nil {
		err = os.Rename(tmp.Name(), file)
	}
	if err != nil {
		return fmt.Errorf("writing %s: %w", file, err)
	}
	return nil
}

// NewValidatorKey makes a validator key and the state that guards it, both of mode 0600,
// and returns the public key for the genesis document. It never overwrites a file.
func NewValidatorKey(keyFile, stateFile string) (ed25519.PublicKey, error) {
	for _, f := range []string{keyFile, stateFile} {
		if _, err := os.Lstat(f); err == nil {
			return nil, fmt.Errorf("making validator key: %s exists: %w", f, fs.ErrExist)
		}
		if err := os.MkdirAll(filepath.Dir(f), 0o700); err != nil {
			return nil, fmt.Errorf("making validator key: %w", err)
		}
	}
	pv := privval.GenFilePV(keyFile, stateFile)
	key, err := cmtjson.MarshalIndent(pv.Key, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("making validator key: %w", err)
	}
	state, err := cmtjson.MarshalIndent(&pv.LastSignState, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("making validator key: %w", err)
	}
	if err := writeSynced(stateFile, state, 0o600); err != nil {
		return nil, err
	}
	if err := writeSynced(keyFile, key, 0o600); err != nil {
		return nil, err
	}
	return ed25519.PublicKey(pv.Key.PubKey.Bytes()), nil
}

// LoadValidatorKey returns the public key of a validator key file.
func LoadValidatorKey(keyFile string) (ed25519.PublicKey, error) {
	key, err := loadKey(keyFile)
	if err != nil {
		return nil, err
	}
	return ed25519.PublicKey(key.PrivKey.PubKey().Bytes()), nil
}

// loadValidator reads what NewValidatorKey wrote. The engine's own function for it ends
// the process when a file is missing or broken.
func loadValidator(keyFile, stateFile string) (*privval.FilePV, error) {
	key, err := loadKey(keyFile)
	if err != nil {
		return nil, err
	}
	state, err := loadSignState(stateFile)
	if err != nil {
		return nil, err
	}
	pv := privval.NewFilePV(key.PrivKey, keyFile, stateFile)
	pv.LastSignState.Height = state.Height
	pv.LastSignState.Round = state.Round
	pv.LastSignState.Step = state.Step
	pv.LastSignState.Signature = state.Signature
	pv.LastSignState.SignBytes = state.SignBytes
	return pv, nil
}

// loadSignState reads what a validator has signed last. The error wraps ErrSignState if that
// cannot be known from the file.
func loadSignState(stateFile string) (*privval.FilePVLastSignState, error) {
	raw, err := os.ReadFile(filepath.Clean(stateFile))
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("%w: %w", ErrSignState, err)
	}
	if err != nil {
		return nil, fmt.Errorf("reading validator state: %w", err)
	}
	state := new(privval.FilePVLastSignState)
	if err := cmtjson.Unmarshal(raw, state); err != nil {
		return nil, fmt.Errorf("reading validator state %s: %w: %w", stateFile, ErrSignState, err)
	}
	if state.Height < 0 || state.Round < 0 || state.Step < 0 || state.Step > 3 || (state.SignBytes != nil) != (state.Signature != nil) {
		return nil, fmt.Errorf("reading validator state %s: %w: height %s, round %d, step %d and signature do not fit together",
			stateFile, ErrSignState, strconv.FormatInt(state.Height, 10), state.Round, state.Step)
	}
	return state, nil
}

func writeSignState(stateFile string, state *privval.FilePVLastSignState) error {
	raw, err := cmtjson.MarshalIndent(state, "", "  ")
	if err != nil {
		return fmt.Errorf("writing validator state: %w", err)
	}
	return writeSynced(stateFile, raw, 0o600)
}

func loadKey(keyFile string) (*privval.FilePVKey, error) {
	info, err := os.Stat(keyFile)
	if err != nil {
		return nil, fmt.Errorf("reading validator key: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("reading validator key %s: others can read it (mode %04o): make it yours alone with `chmod 600 %s`", keyFile, info.Mode().Perm(), keyFile)
	}
	raw, err := os.ReadFile(filepath.Clean(keyFile))
	if err != nil {
		return nil, fmt.Errorf("reading validator key: %w", err)
	}
	var key privval.FilePVKey
	if err := cmtjson.Unmarshal(raw, &key); err != nil {
		// The decoder's message could repeat a part of the file, which is a secret.
		return nil, fmt.Errorf("reading validator key: %s is not a validator key file", keyFile)
	}
	priv, ok := key.PrivKey.(cmted25519.PrivKey)
	if !ok || len(priv) != cmted25519.PrivateKeySize {
		return nil, fmt.Errorf("reading validator key: %s holds no Ed25519 key", keyFile)
	}
	if pub := priv.PubKey(); key.PubKey == nil || !pub.Equals(key.PubKey) {
		return nil, fmt.Errorf("reading validator key: %s: public key does not belong to the private key (want %s)", keyFile, hex.EncodeToString(pub.Bytes()))
	}
	return &key, nil
}
