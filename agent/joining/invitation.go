package joining

import (
	"bytes"
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	ma "github.com/multiformats/go-multiaddr"

	"github.com/commonwatt/commonwatt/agent/paper"
	"github.com/commonwatt/commonwatt/p2p"
)

// Prefix begins the text of an invitation.
const Prefix = "commonwatt"

const (
	version      = 1
	hashBytes    = 16 // of the genesis hash in a text
	secretBytes  = 14
	tagBits      = 20 // of the genesis hash in words
	wordBits     = 8*secretBytes + tagBits
	maxNodes     = 4
	maxAddresses = 8  // of one node
	maxAddress   = 60 // bytes
)

// Invitation is what one person hands to another.
type Invitation struct {
	Genesis [hashBytes]byte // the first bytes of the genesis hash
	Secret  [secretBytes]byte
	Expires time.Time // whole seconds
	Nodes   []Node    // the homes that know of it
}

// Node is a home that can be visited.
type Node struct {
	Network   ed25519.PublicKey
	Addresses []string // multiaddrs without /p2p
}

// Visits are the addresses as p2p.Visit takes them.
func (i *Invitation) Visits() ([]string, error) {
	var addrs []string
	for _, n := range i.Nodes {
		id, err := p2p.IDOf(n.Network)
		if err != nil {
			return nil, err
		}
		for _, a := range n.Addresses {
			addrs = append(addrs, a+"/p2p/"+string(id))
		}
	}
	return addrs, nil
}

// GuestKey is the network key with which the guest comes; who knows the secret knows it.
func GuestKey(secret [secretBytes]byte) ed25519.PrivateKey {
	seed, err := hkdf.Key(sha256.New, secret[:], nil, "commonwatt/guest/1", ed25519.SeedSize)
	if err != nil {
		panic("joining: " + err.Error()) // only a wrong length can cause it
	}
	return ed25519.NewKeyFromSeed(seed)
}

// proof shows that a home knows the secret: bound to its identity, so that nobody between
// can pass it on, to the genesis hash, and to the guest's random number.
func proof(secret [secretBytes]byte, genesis [32]byte, home p2p.PeerID, nonce []byte) []byte {
	h := hmac.New(sha256.New, secret[:])
	fmt.Fprintf(h, "commonwatt/invitation/1\x00%s\x00", home)
	h.Write(genesis[:])
	h.Write(nonce)
	return h.Sum(nil)
}

// Text writes the invitation as letters.
func (i *Invitation) Text() (string, error) {
	var b bytes.Buffer
	b.WriteByte(version)
	b.Write(i.Genesis[:])
	b.Write(i.Secret[:])
	if s := i.Expires.Unix(); s < 0 || s > 1<<32-1 {
		return "", fmt.Errorf("writing invitation: expires: got %v, want a time from 1970 to 2106", i.Expires)
	}
	if err := binary.Write(&b, binary.BigEndian, uint32(i.Expires.Unix())); err != nil { //nolint:gosec // checked above
		return "", err
	}
	if len(i.Nodes) < 1 || len(i.Nodes) > maxNodes {
		return "", fmt.Errorf("writing invitation: got %d homes, want 1 to %d", len(i.Nodes), maxNodes)
	}
	b.WriteByte(byte(len(i.Nodes))) //nolint:gosec // at most 4
	for _, n := range i.Nodes {
		if len(n.Network) != ed25519.PublicKeySize || len(n.Addresses) < 1 || len(n.Addresses) > maxAddresses {
			return "", fmt.Errorf("writing invitation: got %d addresses, want 1 to %d", len(n.Addresses), maxAddresses)
		}
		b.Write(n.Network)
		b.WriteByte(byte(len(n.Addresses))) //nolint:gosec // at most 8
		for _, s := range n.Addresses {
			a, err := ma.NewMultiaddr(s)
			if err != nil || len(a.Bytes()) > maxAddress {
				return "", fmt.Errorf("writing invitation: address %.80q: want a multiaddr of at most %d bytes", s, maxAddress)
			}
			b.WriteByte(byte(len(a.Bytes()))) //nolint:gosec // at most 60
			b.Write(a.Bytes())
		}
	}
	if b.Len() > paper.MaxLetters {
		return "", fmt.Errorf("writing invitation: %d bytes, want at most %d: name fewer addresses", b.Len(), paper.MaxLetters)
	}
	return paper.Letters(Prefix, b.Bytes()), nil
}

// errInvitation is a text whose letters are right and whose content is not.
var errInvitation = errors.New("invitation")

// ParseText reads an invitation from letters. Typing mistakes are *paper.Mistake.
func ParseText(text string) (*Invitation, error) {
	raw, err := paper.ReadLetters(Prefix, text)
	if err != nil {
		return nil, err
	}
	r := bytes.NewReader(raw)
	i := new(Invitation)
	var head struct {
		Version byte
		Genesis [hashBytes]byte
		Secret  [secretBytes]byte
		Expires uint32
		Nodes   byte
	}
	if err := binary.Read(r, binary.BigEndian, &head); err != nil {
		return nil, fmt.Errorf("%w: %w", errInvitation, err)
	}
	if head.Version != version {
		return nil, fmt.Errorf("%w: it is of version %d, this program knows version %d: one of the two is too old", errInvitation, head.Version, version)
	}
	i.Genesis, i.Secret, i.Expires = head.Genesis, head.Secret, time.Unix(int64(head.Expires), 0).UTC()
	if head.Nodes < 1 || head.Nodes > maxNodes {
		return nil, fmt.Errorf("%w: got %d homes, want 1 to %d", errInvitation, head.Nodes, maxNodes)
	}
	for range head.Nodes {
		n, err := readNode(r)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errInvitation, err)
		}
		i.Nodes = append(i.Nodes, n)
	}
	if r.Len() > 0 {
		return nil, fmt.Errorf("%w: %d bytes too many", errInvitation, r.Len())
	}
	return i, nil
}

func readNode(r *bytes.Reader) (n Node, err error) {
	n.Network = make(ed25519.PublicKey, ed25519.PublicKeySize)
	if _, err := io.ReadFull(r, n.Network); err != nil {
		return n, err
	}
	count, err := r.ReadByte()
	if err != nil {
		return n, err
	}
	if count < 1 || count > maxAddresses {
		return n, fmt.Errorf("got %d addresses, want 1 to %d", count, maxAddresses)
	}
	for range count {
		size, err := r.ReadByte()
		if err != nil {
			return n, err
		}
		if size > maxAddress {
			return n, fmt.Errorf("got an address of %d bytes, want at most %d", size, maxAddress)
		}
		raw := make([]byte, size)
		if _, err := io.ReadFull(r, raw); err != nil {
			return n, err
		}
		a, err := ma.NewMultiaddrBytes(raw)
		if err != nil {
			return n, fmt.Errorf("address: %w", err)
		}
		n.Addresses = append(n.Addresses, a.String())
	}
	return n, nil
}

// Tag is what words carry of a community: the first bits of its genesis hash.
type Tag [3]byte

// TagOf takes the tag from a genesis hash, or the beginning of one.
func TagOf(genesis []byte) (t Tag) {
	copy(t[:], genesis)
	t[2] &= 0xf0
	return t
}

// Discovery is under which name homes that have invitations announce themselves on their
// local network.
func (t Tag) Discovery() string { return fmt.Sprintf("_commonwatt-join-%.5x._udp", t[:]) }

// Words writes what can be read out: the secret and the tag. Whoever has only words needs
// the address of an inviting home beside them, or its local network.
func (i *Invitation) Words() []string {
	t := TagOf(i.Genesis[:])
	return paper.EncodeWords(append(append([]byte(nil), i.Secret[:]...), t[:]...), wordBits)
}

// WordCount is how many words an invitation has.
var WordCount = paper.WordCount(wordBits)

// ParseWords reads what Words wrote.
func ParseWords(words []string) (secret [secretBytes]byte, tag Tag, err error) {
	raw, err := paper.DecodeWords(words, wordBits)
	if err != nil {
		return secret, tag, err
	}
	copy(secret[:], raw)
	copy(tag[:], raw[secretBytes:])
	return secret, tag, nil
}

// LooksLikeText tells letters from words.
func LooksLikeText(s string) bool {
	return paper.HasPrefix(Prefix, s) || strings.Contains(s, ":")
}
