package p2p

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/record"
	"github.com/libp2p/go-libp2p/p2p/host/eventbus"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
)

// AddressProtocol is how members tell each other where members live. A request lists what
// the asker has, the reply holds the records that are newer or missing there.
const AddressProtocol = "/commonwatt/addresses/1"

const (
	// maxRecords bounds the book, its file and a request; maxReply the records of one reply.
	maxRecords = 1024
	maxReply   = 256
	// recordLasts is how long a record is good for; signEvery how often a home signs its own
	// anew, so that the record of a living one never gets old.
	recordLasts = 30 * 24 * time.Hour
	signEvery   = 6 * time.Hour
	// recordAhead is how far in the future a record may be signed: clocks differ.
	recordAhead = time.Hour
	// exchangeMin and exchangeMax are between which intervals a member is asked for news; it
	// begins anew when somebody connects, our own addresses change or somebody else's do. A
	// question costs about 50 bytes for each member, of everybody's line and all day long.
	exchangeMin = time.Second
	exchangeMax = 15 * time.Second
	// saveFirst is when a changed book is written to disk for the first time after a start,
	// saveEvery how often after that.
	saveFirst = 20 * time.Second
	saveEvery = 15 * time.Minute
)

// book is what this home knows about where members live: for each the newest record that it
// has signed itself, so that nobody can say anything about another.
type book struct {
	h    *Host
	key  crypto.PrivKey
	file string // empty: not kept
	wake chan struct{}
	ids  event.Subscription

	mu      sync.Mutex
	entries map[peer.ID]*entry
	signed  []ma.Multiaddr // what our own record says
	dirty   bool
	news    bool // somebody lives elsewhere than the book said
}

type entry struct {
	raw   []byte // the envelope
	seq   uint64 // when it was signed, in nanoseconds since 1970
	addrs []ma.Multiaddr
}

func (e *entry) at() time.Time { return time.Unix(0, int64(e.seq)) } //nolint:gosec // bounded by readRecord

func newBook(h *Host, key crypto.PrivKey, file string) *book {
	return &book{h: h, key: key, file: file, wake: make(chan struct{}, 1), entries: make(map[peer.ID]*entry)}
}

func (b *book) poke() { poke(b.wake) }

// open reads the file and begins to listen to what peers say about themselves.
func (b *book) open() error {
	if b.file != "" {
		records, err := loadRecords(b.file)
		if err != nil {
			// It holds nothing that others could not tell us again.
			b.h.log.Warn("cannot read the addresses of other homes, learning them anew", "file", b.file, "err", err)
		}
		now := time.Now()
		for _, r := range records {
			b.keep(r, now, true)
		}
	}
	var err error
	b.ids, err = b.h.host.EventBus().Subscribe(new(event.EvtPeerIdentificationCompleted), eventbus.Name("addresses"), eventbus.BufSize(256))
	return err
}

// keep takes a record into the book if it is newer than the one there. Own says that it
// comes from the peer itself, or from our own file.
func (b *book) keep(r signedRecord, now time.Time, own bool) bool {
	if r.id == b.h.host.ID() || !b.h.gate.allows(r.id) {
		return false
	}
	e := &entry{raw: r.raw, seq: r.seq, addrs: r.addrs}
	if !own && (e.at().After(now.Add(recordAhead)) || now.Sub(e.at()) > recordLasts) {
		return false
	}
	b.mu.Lock()
	old, had := b.entries[r.id]
	// A peer whose clock was ahead and has been set right is believed itself, nobody else.
	stale := had && (e.seq == old.seq || e.seq < old.seq && (!own || !old.at().After(now)))
	if stale || !had && len(b.entries) >= maxRecords {
		b.mu.Unlock()
		return false
	}
	b.entries[r.id], b.dirty = e, true
	news := !had || !slices.EqualFunc(old.addrs, e.addrs, ma.Multiaddr.Equal)
	b.news = b.news || news
	b.mu.Unlock()
	b.h.dialer.know(r.id, news)
	return true
}

// addrs are where a member says that it lives, as far as it makes sense to dial there.
func (b *book) addrs(id peer.ID) []ma.Multiaddr {
	b.mu.Lock()
	e, ok := b.entries[id]
	b.mu.Unlock()
	if !ok {
		return nil
	}
	// Somebody else's loopback is ours when dialled. Only homes that all live on one machine
	// mean the same by it.
	lonely := !slices.ContainsFunc(b.h.allAddrs(), func(a ma.Multiaddr) bool { return !manet.IsIPLoopback(a) })
	return slices.DeleteFunc(slices.Clone(e.addrs), func(a ma.Multiaddr) bool {
		return manet.IsIPLoopback(a) && !lonely || relayed(a) && relayOf(a) == b.h.host.ID()
	})
}

// Addresses are where a member says that it can be reached, each with /p2p/ID, and those
// through relays left out; none if this home has not heard of any.
func (h *Host) Addresses(id PeerID) []string {
	decoded, err := peer.Decode(string(id))
	if err != nil {
		return nil
	}
	var out []string
	for _, a := range h.book.addrs(decoded) {
		if !relayed(a) {
			out = append(out, a.String()+"/p2p/"+decoded.String())
		}
	}
	return out
}

// has reports whether the book knows a member.
func (b *book) has(id peer.ID) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	_, ok := b.entries[id]
	return ok
}

// run signs our own record, asks others for theirs, and writes the file.
func (b *book) run(ctx context.Context) {
	defer b.ids.Close() //nolint:errcheck // it only unsubscribes
	pause, save, swept := exchangeMin, time.Now().Add(saveFirst), time.Now()
	timer := time.NewTimer(pause)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			b.save(ctx)
			return
		case e := <-b.ids.Out():
			b.identified(e)
			pause = exchangeMin
			timer.Reset(pause)
			continue
		case <-b.wake:
			if b.sign(time.Now()) {
				pause = exchangeMin
			}
			timer.Reset(pause)
			continue
		case <-timer.C:
		}
		b.sign(time.Now())
		b.exchange(ctx)
		if now := time.Now(); now.After(save) && b.save(ctx) {
			save = now.Add(saveEvery)
		}
		if now := time.Now(); now.Sub(swept) >= recheckEvery {
			b.sweep(now)
			swept = now
		}
		if pause = min(2*pause, exchangeMax); b.hasNews() {
			pause = exchangeMin // and others may not know of them yet
		}
		timer.Reset(pause)
	}
}

func (b *book) hasNews() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	news := b.news
	b.news = false
	return news
}

// identified takes what a peer says about itself when it connects.
func (b *book) identified(e any) {
	evt, ok := e.(event.EvtPeerIdentificationCompleted)
	if !ok || evt.SignedPeerRecord == nil {
		return
	}
	raw, err := evt.SignedPeerRecord.Marshal()
	if err == nil {
		var r signedRecord
		if r, err = readRecord(raw); err == nil && r.id == evt.Peer {
			b.keep(r, time.Now(), true)
		}
	}
	if err != nil {
		b.h.log.Debug("reading a member's record", "peer", evt.Peer.String(), "err", err)
	}
}

// sign signs our own record if our addresses have changed or it gets old, and reports
// whether it did.
func (b *book) sign(now time.Time) bool {
	addrs := b.h.host.Addrs()
	addrs = addrs[:min(len(addrs), maxRecordAddrs)]
	self := b.h.host.ID()
	b.mu.Lock()
	defer b.mu.Unlock()
	old, had := b.entries[self]
	if len(addrs) == 0 || had && now.Sub(old.at()) < signEvery && slices.EqualFunc(b.signed, addrs, ma.Multiaddr.Equal) {
		return false
	}
	rec := peer.PeerRecordFromAddrInfo(peer.AddrInfo{ID: self, Addrs: addrs})
	envelope, err := record.Seal(rec, b.key)
	if err != nil {
		b.h.log.Warn("cannot sign our addresses", "err", err)
		return false
	}
	raw, err := envelope.Marshal()
	if err != nil || len(raw) > maxRecordBytes {
		b.h.log.Warn("cannot write our addresses", "bytes", len(raw), "err", err)
		return false
	}
	b.entries[self] = &entry{raw: raw, seq: rec.Seq, addrs: addrs}
	b.signed = slices.Clone(addrs)
	return true
}

// exchange asks one connected member for news.
func (b *book) exchange(ctx context.Context) {
	peers := slices.DeleteFunc(b.h.host.Network().Peers(), func(id peer.ID) bool { return !b.h.gate.allows(id) })
	if len(peers) == 0 {
		return
	}
	id := peers[rand.N(len(peers))] //nolint:gosec // not a secret
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	reply, err := b.h.Request(ctx, PeerID(id.String()), AddressProtocol, encodeDigest(b.digest()), maxReply*(2+maxRecordBytes))
	if err != nil {
		b.h.log.DebugContext(ctx, "asking for addresses", "peer", id.String(), "err", err)
		return
	}
	records, err := decodeRecords(reply, maxReply)
	if err != nil {
		b.h.log.DebugContext(ctx, "reading addresses", "peer", id.String(), "err", err)
		return
	}
	for _, r := range records {
		b.keep(r, time.Now(), r.id == id)
	}
}

// digest says which record of whom we have.
func (b *book) digest() map[peer.ID]uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	have := make(map[peer.ID]uint64, len(b.entries))
	for id, e := range b.entries {
		have[id] = e.seq
	}
	return have
}

// answer gives a member what it lacks.
func (b *book) answer(_ context.Context, _ PeerID, request []byte) ([]byte, error) {
	have, err := decodeDigest(request)
	if err != nil {
		return nil, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	var out [][]byte
	for id, e := range b.entries {
		if seq, ok := have[id]; (!ok || seq < e.seq) && len(out) < maxReply {
			out = append(out, e.raw)
		}
	}
	return encodeRecords(out), nil
}

// sweep forgets records that are too old and those of former members.
func (b *book) sweep(now time.Time) {
	self := b.h.host.ID()
	b.mu.Lock()
	defer b.mu.Unlock()
	for id, e := range b.entries {
		if id != self && (now.Sub(e.at()) > recordLasts || !b.h.gate.allows(id)) {
			delete(b.entries, id)
			b.dirty = true
		}
	}
}

// save writes the book to its file if it has changed, and says whether it did.
func (b *book) save(ctx context.Context) bool {
	b.mu.Lock()
	dirty := b.dirty && b.file != ""
	b.dirty = false
	var raw [][]byte
	for id, e := range b.entries {
		if id != b.h.host.ID() {
			raw = append(raw, e.raw)
		}
	}
	b.mu.Unlock()
	if !dirty {
		return false
	}
	if err := saveRecords(b.file, raw); err != nil {
		b.h.log.WarnContext(ctx, "cannot keep the addresses of other homes", "file", b.file, "err", err)
		b.mu.Lock()
		b.dirty = true
		b.mu.Unlock()
	}
	return true
}
