package p2p_test

import (
	"regexp"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/commonwatt/commonwatt/p2p"
)

// Names that can stand in a DNS label stay as they are, others are mended.
func TestServiceTag(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"elm-street":            `_commonwatt-elm-street\._udp`,
		"demo-7":                `_commonwatt-demo-7\._udp`,
		"Elm Street!":           `_commonwatt-elm-street-[0-9a-f]{10}\._udp`,
		"Elm Street":            `_commonwatt-elm-street-[0-9a-f]{10}\._udp`,
		"elm.street":            `_commonwatt-elm-street-[0-9a-f]{10}\._udp`,
		"Straße 5":              `_commonwatt-stra-e-5-[0-9a-f]{10}\._udp`,
		"通り":                    `_commonwatt-[0-9a-f]{10}\._udp`,
		"join-12345":            `_commonwatt-join-12345-[0-9a-f]{10}\._udp`, // else that of guests
		strings.Repeat("a", 51): `_commonwatt-a{51}\._udp`,
		strings.Repeat("a", 52): `_commonwatt-a{40}-[0-9a-f]{10}\._udp`,
	} {
		if got := p2p.ServiceTag(name); !regexp.MustCompile("^" + want + "$").MatchString(got) {
			t.Errorf("%q: got %s, want %s", name, got, want)
		}
	}
}

// Whatever the names are, tags are labels of DNS, and of two communities they are two.
func TestServiceTagIsLabel(t *testing.T) {
	t.Parallel()
	label := regexp.MustCompile(`^_commonwatt(-[a-z0-9]+)+$`)
	rapid.Check(t, func(t *rapid.T) {
		names := rapid.OneOf(rapid.String(), rapid.StringMatching(`[eE]lm[ .!-]?[sS]treet[!-]{0,2}`), rapid.StringMatching(`[a-z -]{40,60}`))
		a, b := names.Draw(t, "a"), names.Draw(t, "b")
		tag := p2p.ServiceTag(a)
		name, found := strings.CutSuffix(tag, "._udp")
		if !found || len(name) > 63 || !label.MatchString(name) {
			t.Fatalf("%q gives %q", a, tag)
		}
		if a != b && tag == p2p.ServiceTag(b) {
			t.Fatalf("%q and %q give %q", a, b, tag)
		}
	})
}
