package consensus

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"slices"
	"testing"
	"time"
)

// A light home connects to every member, of whose records it holds none but its own, and to no
// stranger; also to those who become members later, and not to those who have ceased to be.
func TestLightKnowsMembers(t *testing.T) {
	t.Parallel()
	s := settlingStreet(t, 2)
	own, other, late := s.homes[0], s.homes[1], newHome("late")
	l := s.newLightHome(own, t.TempDir(), nil)
	connects := func(what string, h *home, want bool) {
		t.Helper()
		await(t, 60*time.Second, what, func() bool { return l.Connects(h.network.Public().(ed25519.PublicKey)) == want })
	}
	connects("a member", other, true)
	if l.now().state.IsMember(other.network.Public().(ed25519.PublicKey)) {
		t.Error("it should hold no record of the neighbour")
	}
	if l.Connects(late.network.Public().(ed25519.PublicKey)) || l.Connects(nil) {
		t.Error("it connects to a stranger")
	}
	s.submit(s.nodes[0], s.admission(late))
	connects("a new member, before the list is old", late, true)
	if a := l.Status().Accused; len(a) > 0 {
		t.Errorf("accused %+v", a)
	}
}

// Who was only told of tells of nobody; who is known without that is asked first.
func TestLightIsToldByThoseItKnows(t *testing.T) {
	t.Parallel()
	s := newStreet(t, streetOptions{validators: 1, homes: 3, interval: time.Minute, rate: 30, next: time.Minute})
	founder, named, neighbour := s.nodes[0].network.Public().(ed25519.PublicKey), networkOf(s.homes[1]), networkOf(s.homes[2])
	providers := []Provider{{ID: "neighbour", Key: neighbour}}
	lists := map[string][]byte{"neighbour": ordered(neighbour, networkOf(newHome("stranger"))), "named": ordered(neighbour), "founder": ordered(named)}
	var asked []string
	l, err := NewLight(LightConfig{
		Genesis: s.doc, Household: s.homes[0].id, File: t.TempDir() + "/headers", Named: []ed25519.PublicKey{named},
		Providers: func() []Provider { return providers }, Log: testLog(t, "light"),
		Ask: func(_ context.Context, provider string, _ []byte) ([]byte, error) {
			asked = append(asked, provider)
			if lists[provider] == nil {
				return nil, errors.New("silence")
			}
			return bundleEnc.Marshal(MembersAnswer{Keys: lists[provider]})
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ask := func(want ...string) {
		t.Helper()
		asked = nil
		l.learnMembers(t.Context())
		if !slices.Equal(asked, want) {
			t.Fatalf("asked %v, want %v", asked, want)
		}
	}
	ask()
	providers = append(providers, Provider{ID: "named", Key: named})
	if first := l.providers()[0].ID; first != "named" {
		t.Errorf("%s is asked first", first)
	}
	ask("named")
	ask() // not again so soon
	if !l.Connects(neighbour) || !l.Connects(named) || !l.Connects(founder) || l.Connects(networkOf(s.homes[0])) {
		t.Error("want the one told of, the one named and the founder, and nobody else")
	}

	// Without an answer it stays with what it was told, and asks again; nonsense is a lie.
	lists["named"] = nil
	l.told.at = time.Time{}
	ask("named")
	if !l.Connects(neighbour) {
		t.Error("silence made it forget a member")
	}
	lists["named"] = make([]byte, 31)
	l.told.at = time.Time{}
	ask("named")
	if a := l.Status().Accused; len(a) != 1 || a[0].Provider != "named" || !l.Connects(neighbour) {
		t.Errorf("accused %+v", a)
	}
	providers = append(providers, Provider{ID: "founder", Key: founder})
	ask("founder")
	if l.Connects(neighbour) {
		t.Error("it connects to somebody who is no member any more")
	}
}

func networkOf(h *home) ed25519.PublicKey { return h.network.Public().(ed25519.PublicKey) }

func ordered(keys ...ed25519.PublicKey) []byte {
	slices.SortFunc(keys, func(a, b ed25519.PublicKey) int { return bytes.Compare(a, b) })
	return bytes.Join(func() (all [][]byte) {
		for _, k := range keys {
			all = append(all, k)
		}
		return all
	}(), nil)
}

// FuzzMembers: no list makes a panic, and what is read was in order and is all there was.
func FuzzMembers(f *testing.F) {
	f.Add([]byte{})
	f.Add(make([]byte, 33))
	f.Add(make([]byte, 64))
	f.Add(ordered(networkOf(newHome("a")), networkOf(newHome("b"))))
	f.Fuzz(func(t *testing.T, raw []byte) {
		all, err := (&MembersAnswer{Keys: raw}).members()
		if err != nil {
			if !errors.Is(err, ErrAnswer) {
				t.Fatal(err)
			}
			return
		}
		var keys []ed25519.PublicKey
		for k := range all {
			keys = append(keys, k[:])
		}
		if !bytes.Equal(ordered(keys...), raw) {
			t.Fatalf("read %d keys of %x", len(all), raw)
		}
	})
}
