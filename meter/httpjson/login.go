package httpjson

import (
	"crypto/md5" //nolint:gosec // RFC 7616 still has it, and old devices know nothing else
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strings"
)

// login is how a host wants to know who asks; the zero value says nothing.
type login struct {
	basic     bool
	algorithm string // of Digest: SHA-256 or MD5; empty for none
	named     bool   // the host named the algorithm
	realm     string
	nonce     string
	opaque    string
	qop       bool
	count     uint32 // requests with this nonce
}

// answer picks the best way that the host offers.
func answer(challenges []string) (login, error) {
	var best login
	for _, c := range challenges {
		scheme, rest, _ := strings.Cut(c, " ")
		switch strings.ToLower(scheme) {
		case "basic":
			if best.algorithm == "" {
				best.basic = true
			}
		case "digest":
			l, ok := parseDigest(rest)
			if ok && (best.algorithm == "" || l.algorithm == "SHA-256") {
				best = l
			}
		}
	}
	if !best.basic && best.algorithm == "" {
		return login{}, fmt.Errorf("%w: the device asks for %q, expected Basic, or Digest with SHA-256 or MD5", ErrLogin, short(strings.Join(challenges, "; ")))
	}
	return best, nil
}

func parseDigest(text string) (login, bool) {
	fields := parseFields(text)
	l := login{algorithm: "MD5", realm: fields["realm"], nonce: fields["nonce"], opaque: fields["opaque"]}
	if a, ok := fields["algorithm"]; ok {
		l.named = true
		switch strings.ToUpper(a) {
		case "SHA-256":
			l.algorithm = "SHA-256"
		case "MD5":
		default:
			return login{}, false
		}
	}
	if q, ok := fields["qop"]; ok {
		for option := range strings.SplitSeq(q, ",") {
			l.qop = l.qop || strings.TrimSpace(option) == "auth"
		}
		if !l.qop {
			return login{}, false
		}
	}
	const most = 512
	return l, l.nonce != "" && len(l.nonce) <= most && len(l.realm) <= most && len(l.opaque) <= most
}

// parseFields reads name=value, name="value", …
func parseFields(text string) map[string]string {
	fields := map[string]string{}
	for text != "" {
		name, rest, found := strings.Cut(text, "=")
		if !found {
			break
		}
		name = strings.ToLower(strings.Trim(name, " ,\t"))
		rest = strings.TrimLeft(rest, " ")
		var value strings.Builder
		i := 0
		if strings.HasPrefix(rest, `"`) {
			for i = 1; i < len(rest) && rest[i] != '"'; i++ {
				if rest[i] == '\\' && i+1 < len(rest) {
					i++
				}
				value.WriteByte(rest[i])
			}
		} else {
			for ; i < len(rest) && rest[i] != ','; i++ {
				value.WriteByte(rest[i])
			}
		}
		fields[name] = strings.TrimSpace(value.String())
		text = rest[min(i+1, len(rest)):]
	}
	return fields
}

// header is the Authorization of a request, or empty.
func (l *login) header(user, password, method, uri string) string {
	if l.basic {
		return "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
	}
	if l.algorithm == "" {
		return ""
	}
	var random [8]byte
	_, _ = rand.Read(random[:]) // cannot fail
	l.count++
	return l.digest(user, password, method, uri, hex.EncodeToString(random[:]))
}

func (l *login) digest(user, password, method, uri, cnonce string) string {
	sum := func(parts ...string) string {
		h := sha256.New()
		if l.algorithm == "MD5" {
			h = md5.New() //nolint:gosec // see above
		}
		_, _ = h.Write([]byte(strings.Join(parts, ":"))) // cannot fail
		return hex.EncodeToString(h.Sum(nil))
	}
	who, what := sum(user, l.realm, password), sum(method, uri)
	var b strings.Builder
	fmt.Fprintf(&b, `Digest username=%s, realm=%s, nonce=%s, uri=%s`, quote(user), quote(l.realm), quote(l.nonce), quote(uri))
	if l.qop {
		nc := fmt.Sprintf("%08x", l.count)
		fmt.Fprintf(&b, `, qop=auth, nc=%s, cnonce=%s, response="%s"`, nc, quote(cnonce), sum(who, l.nonce, nc, cnonce, "auth", what))
	} else {
		fmt.Fprintf(&b, `, response="%s"`, sum(who, l.nonce, what))
	}
	if l.named {
		fmt.Fprintf(&b, `, algorithm=%s`, l.algorithm)
	}
	if l.opaque != "" {
		fmt.Fprintf(&b, `, opaque=%s`, quote(l.opaque))
	}
	return b.String()
}

// quote writes a quoted string; characters that would end the header are left out.
func quote(s string) string {
	s = strings.NewReplacer("\r", "", "\n", "", `\`, `\\`, `"`, `\"`).Replace(s)
	return `"` + s + `"`
}

// short keeps a foreign text within an error message.
func short(s string) string {
	const most = 100
	if len(s) <= most {
		return s
	}
	return s[:most] + "…"
}
