package p2p

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/record"
	ma "github.com/multiformats/go-multiaddr"
)

// signer is a home that signs records for tests.
type signer struct {
	key crypto.PrivKey
	id  peer.ID
}

func newSigner(tb testing.TB) signer {
	tb.Helper()
	key, _, err := crypto.GenerateEd25519Key(rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	id, err := peer.IDFromPrivateKey(key)
	if err != nil {
		tb.Fatal(err)
	}
	return signer{key, id}
}

func (s signer) record(tb testing.TB, about peer.ID, at time.Time, addrs ...string) []byte {
	tb.Helper()
	rec := &peer.PeerRecord{PeerID: about, Seq: uint64(at.UnixNano())}
	for _, a := range addrs {
		rec.Addrs = append(rec.Addrs, ma.StringCast(a))
	}
	envelope, err := record.Seal(rec, s.key)
	if err != nil {
		tb.Fatal(err)
	}
	raw, err := envelope.Marshal()
	if err != nil {
		tb.Fatal(err)
	}
	return raw
}

func TestReadRecord(t *testing.T) {
	s, other, now := newSigner(t), newSigner(t), time.Now()
	good := s.record(t, s.id, now, "/ip4/11.0.1.2/udp/8602/quic-v1", "/ip4/192.168.178.11/tcp/8602")
	r, err := readRecord(good)
	if err != nil || r.id != s.id || r.seq != uint64(now.UnixNano()) || len(r.addrs) != 2 {
		t.Fatalf("got %+v, %v", r, err)
	}
	flipped := bytes.Clone(good)
	flipped[len(flipped)-1] ^= 1
	many := make([]string, 2*maxRecordAddrs+1)
	for i := range many {
		many[i] = fmt.Sprintf("/ip4/11.0.1.2/udp/%d/quic-v1", i+1)
	}
	rsaKey, _, err := crypto.GenerateKeyPairWithReader(crypto.RSA, 2048, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rsaID, err := peer.IDFromPrivateKey(rsaKey)
	if err != nil {
		t.Fatal(err)
	}
	for name, raw := range map[string][]byte{
		"nothing":             nil,
		"noise":               []byte("commonwatt"),
		"too large":           make([]byte, maxRecordBytes+1),
		"a flipped bit":       flipped,
		"about somebody else": s.record(t, other.id, now, "/ip4/11.0.1.2/tcp/8602"),
		"no address":          s.record(t, s.id, now),
		"too many addresses":  s.record(t, s.id, now, many...),
		"another kind of key": signer{rsaKey, rsaID}.record(t, rsaID, now, "/ip4/11.0.1.2/tcp/8602"),
		"signed before 1970":  s.record(t, s.id, time.Unix(-1, 0), "/ip4/11.0.1.2/tcp/8602"),
		"an address too long": s.record(t, s.id, now, "/dns4/"+string(bytes.Repeat([]byte("a"), maxAddrBytes))+"/tcp/1"),
	} {
		if _, err := readRecord(raw); !errors.Is(err, ErrFrame) {
			t.Errorf("%s: got %v, want ErrFrame", name, err)
		}
	}
}

func TestAddressFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "addresses")
	if got, err := loadRecords(file); err != nil || got != nil {
		t.Fatalf("no file: got %v, %v", got, err)
	}
	a, b := newSigner(t), newSigner(t)
	raw := [][]byte{a.record(t, a.id, time.Now(), "/ip4/11.0.1.2/tcp/8602"), b.record(t, b.id, time.Now(), "/ip4/11.0.2.2/tcp/8602")}
	for _, records := range [][][]byte{raw[:1], raw, nil} {
		if err := saveRecords(file, records); err != nil {
			t.Fatal(err)
		}
		got, err := loadRecords(file)
		if err != nil || len(got) != len(records) {
			t.Fatalf("got %d records, %v, want %d", len(got), err, len(records))
		}
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v, want 0600: it says who lives where", info.Mode(), err)
	}
	if left, err := filepath.Glob(filepath.Join(filepath.Dir(file), ".addresses-*")); err != nil || len(left) != 0 {
		t.Errorf("left over: %v, %v", left, err)
	}
	whole := append([]byte(fileMagic), encodeRecords(raw)...)
	for name, content := range map[string][]byte{
		"empty": {}, "no magic": []byte("hello"), "cut": whole[:len(whole)-1],
		"twice the same": append([]byte(fileMagic), encodeRecords([][]byte{raw[0], raw[0]})...),
		"a length of 0":  append([]byte(fileMagic), 0, 0),
		"half a length":  append([]byte(fileMagic), 0),
	} {
		if err := os.WriteFile(file, content, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := loadRecords(file); !errors.Is(err, ErrFrame) {
			t.Errorf("%s: got %v, want ErrFrame", name, err)
		}
	}
	if err := os.WriteFile(file, make([]byte, len(fileMagic)+maxRecords*(2+maxRecordBytes)+1), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := loadRecords(file); !errors.Is(err, ErrTooLarge) {
		t.Errorf("too large: got %v, want ErrTooLarge", err)
	}
}

// testHost is a host on the loopback with a gate for some members.
func testHost(t *testing.T, file string, members ...signer) (*Host, signer) {
	t.Helper()
	self := newSigner(t)
	return self.run(t, file, members...), self
}

// run starts the signer's host.
func (s signer) run(t *testing.T, file string, members ...signer) *Host {
	t.Helper()
	key, err := s.key.Raw()
	if err != nil {
		t.Fatal(err)
	}
	h, err := New(Config{
		Key: key, Listen: []string{"/ip4/127.0.0.1/udp/0/quic-v1"}, AddressFile: file,
		Member: func(pub ed25519.PublicKey) bool {
			for _, m := range members {
				if raw, err := m.key.GetPublic().Raw(); err == nil && bytes.Equal(raw, pub) {
					return true
				}
			}
			return false
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	return h
}

// TestBook: what a home keeps of what it is told.
func TestBook(t *testing.T) {
	m, stranger, now := newSigner(t), newSigner(t), time.Now()
	file := filepath.Join(t.TempDir(), "addresses")
	h, _ := testHost(t, file, m)
	tell := func(s signer, at time.Time, own bool, addr string) bool {
		r, err := readRecord(s.record(t, s.id, at, addr))
		if err != nil {
			t.Fatal(err)
		}
		return h.book.keep(r, now, own)
	}
	const a, b, c = "/ip4/11.0.1.2/udp/8602/quic-v1", "/ip4/11.0.1.3/udp/8602/quic-v1", "/ip4/11.0.1.4/udp/8602/quic-v1"
	for _, step := range []struct {
		name   string
		who    signer
		at     time.Time
		own    bool
		addr   string
		taken  bool
		stands string // what the book says of m afterwards
	}{
		{"of a stranger", stranger, now, false, a, false, ""},
		{"too old", m, now.Add(-recordLasts - time.Minute), false, a, false, ""},
		{"from the future", m, now.Add(recordAhead + time.Minute), false, a, false, ""},
		{"the first", m, now.Add(-time.Hour), false, a, true, a},
		{"the same again", m, now.Add(-time.Hour), false, a, false, a},
		{"an older one", m, now.Add(-2 * time.Hour), false, b, false, a},
		{"a newer one", m, now.Add(-time.Minute), false, b, true, b},
		{"an older one of its own", m, now.Add(-2 * time.Minute), true, a, false, b},
		{"its clock is ahead, and it says so itself", m, now.Add(48 * time.Hour), true, c, true, c},
		{"others cannot set it back", m, now, false, a, false, c},
		{"it can", m, now, true, a, true, a},
	} {
		if got := tell(step.who, step.at, step.own, step.addr); got != step.taken {
			t.Errorf("%s: taken %v, want %v", step.name, got, step.taken)
		}
		if addrs := h.book.addrs(m.id); step.stands == "" && len(addrs) != 0 || step.stands != "" && (len(addrs) != 1 || addrs[0].String() != step.stands) {
			t.Errorf("%s: the book says %v, want %q", step.name, addrs, step.stands)
		}
	}
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	again, _ := testHost(t, file, m)
	if addrs := again.book.addrs(m.id); len(addrs) != 1 || addrs[0].String() != a {
		t.Errorf("after a restart the book says %v, want %s", addrs, a)
	}
	// It is no member any more.
	other, _ := testHost(t, file)
	if other.book.has(m.id) {
		t.Error("the book has a former member")
	}
}

// FuzzAddresses: no bytes of a peer or of a file do harm, and what is taken is what would be
// written.
func FuzzAddresses(f *testing.F) {
	s := newSigner(f)
	raw := s.record(f, s.id, time.Unix(1, 0), "/ip4/11.0.1.2/udp/8602/quic-v1")
	f.Add(encodeRecords([][]byte{raw}))
	f.Add(append([]byte(fileMagic), encodeRecords([][]byte{raw})...))
	f.Add(encodeDigest(map[peer.ID]uint64{s.id: 7}))
	f.Add(encodeAddrs([]ma.Multiaddr{ma.StringCast("/ip4/11.0.1.2/udp/8602/quic-v1"), ma.StringCast("/ip6/2a10::1/tcp/8602")}))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, decode := range []func([]byte) ([]signedRecord, error){
			func(b []byte) ([]signedRecord, error) { return decodeRecords(b, maxReply) },
			func(b []byte) ([]signedRecord, error) { return decodeFile(append([]byte(fileMagic), b...)) },
		} {
			records, err := decode(b)
			if err != nil {
				continue
			}
			var again [][]byte
			for _, r := range records {
				again = append(again, r.raw)
			}
			if !bytes.Equal(encodeRecords(again), b) {
				t.Errorf("records: % x becomes % x", b, encodeRecords(again))
			}
		}
		if have, err := decodeDigest(b); err == nil && !bytes.Equal(encodeDigest(have), b) {
			t.Errorf("digest: % x becomes % x", b, encodeDigest(have))
		}
		if addrs, err := decodeAddrs(b); err == nil && !bytes.Equal(encodeAddrs(addrs), b) {
			t.Errorf("addresses: % x becomes % x", b, encodeAddrs(addrs))
		}
	})
}
