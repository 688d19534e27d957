package httpjson

import (
	"errors"
	"net/http"
	"strings"
	"testing"
)

// The example of RFC 7616, section 3.9.1.
const (
	rfcUser     = "Mufasa"
	rfcPassword = "Circle of Life"
	rfcFields   = `realm="http-auth@example.org", qop="auth, auth-int", algorithm=%, nonce="7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v", opaque="FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS"`
	rfcCnonce   = "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ"
	rfcSHA      = "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"
	rfcMD5      = "8ca523f5e9506fed4657c9700eebdbec"
)

func rfcChallenge(algorithm string) string {
	return "Digest " + strings.Replace(rfcFields, "%", algorithm, 1)
}

func TestDigestRFC7616(t *testing.T) {
	for algorithm, want := range map[string]string{"SHA-256": rfcSHA, "MD5": rfcMD5} {
		l, err := answer([]string{rfcChallenge(algorithm)})
		if err != nil {
			t.Fatal(err)
		}
		l.count = 1
		header := l.digest(rfcUser, rfcPassword, http.MethodGet, "/dir/index.html", rfcCnonce)
		for _, part := range []string{
			`response="` + want + `"`, `username="Mufasa"`, `nc=00000001`, `qop=auth`, `algorithm=` + algorithm,
			`uri="/dir/index.html"`, `opaque="FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS"`, `cnonce="` + rfcCnonce + `"`,
		} {
			if !strings.Contains(header, part) {
				t.Errorf("%s: %s is not in %s", algorithm, part, header)
			}
		}
	}
}

// TestChoice (H5): the best way that is offered.
func TestChoice(t *testing.T) {
	for name, c := range map[string]struct {
		challenges []string
		want       string // beginning of the header, or of the error
	}{
		"Basic":                          {[]string{`Basic realm="x"`}, "Basic bWV0ZXI6d2F0dA=="},
		"Digest before Basic":            {[]string{`Basic realm="x"`, rfcChallenge("SHA-256")}, "Digest "},
		"Basic after Digest":             {[]string{rfcChallenge("SHA-256"), `Basic realm="x"`}, "Digest "},
		"SHA-256 before MD5":             {[]string{rfcChallenge("MD5"), rfcChallenge("SHA-256")}, "SHA-256"},
		"SHA-256 stays":                  {[]string{rfcChallenge("SHA-256"), rfcChallenge("MD5")}, "SHA-256"},
		"of RFC 2069":                    {[]string{`Digest realm="x", nonce="1"`}, "Digest "},
		"a quote in the realm":           {[]string{`Digest realm="a \"b\" c", nonce="1"`}, `realm="a \"b\" c"`},
		"nothing":                        {nil, "login: the device asks for"},
		"something else":                 {[]string{`Bearer`, "Digest"}, "login: the device asks for"},
		"a digest that nobody knows":     {[]string{rfcChallenge("SHA-512-256-sess")}, "login: the device asks for"},
		"a protection that nobody knows": {[]string{`Digest realm="x", nonce="1", qop="auth-int"`}, "login: the device asks for"},
		"a nonce without end":            {[]string{`Digest realm="x", nonce="` + strings.Repeat("1", 1000) + `"`}, "login: the device asks for"},
	} {
		l, err := answer(c.challenges)
		got := l.header("meter", "watt", http.MethodGet, "/")
		if err != nil {
			got = err.Error()
		}
		if !strings.Contains(got, c.want) || strings.Contains(got, "watt") || (err != nil && !errors.Is(err, ErrLogin)) {
			t.Errorf("%s: got %s, expected %s", name, got, c.want)
		}
	}
}

// TestLogin (H5): nothing is shown before it is asked for; then each request shows it at once, with a count; a nonce that
// has grown old is answered anew; a wrong password is one clear error, and is not in it.
func TestLogin(t *testing.T) {
	nonce, asked := "first", 0
	var shown []string
	_, host := server(t, func(w http.ResponseWriter, r *http.Request) {
		asked++
		shown = append(shown, r.Header.Get("Authorization"))
		want := login{algorithm: "SHA-256", named: true, realm: "shellypro3em-1", nonce: nonce, qop: true}
		got := parseFields(strings.TrimPrefix(r.Header.Get("Authorization"), "Digest "))
		for count := uint32(1); count < 10; count++ {
			want.count = count
			if expected := parseFields(strings.TrimPrefix(want.digest("admin", "pass", r.Method, r.URL.RequestURI(), got["cnonce"]), "Digest ")); got["response"] == expected["response"] {
				_, _ = w.Write([]byte("in"))
				return
			}
		}
		w.Header().Set("WWW-Authenticate", `Digest qop="auth", realm="shellypro3em-1", nonce="`+nonce+`", algorithm=SHA-256`)
		http.Error(w, "", http.StatusUnauthorized)
	})
	o := quick
	o.Username, o.Password = "admin", "pass"
	c := client(t, host, o)
	for i, want := range []int{2, 3, 5} {
		if i == 2 {
			nonce = "second"
		}
		if body, err := c.Get(t.Context(), "/rpc/Shelly.GetStatus?x=1"); err != nil || string(body) != "in" || asked != want {
			t.Errorf("request %d: got %q, %v, asked %d times, expected %d", i, body, err, asked, want)
		}
	}
	if shown[0] != "" || !strings.Contains(shown[1], "nc=00000001") || !strings.Contains(shown[2], "nc=00000002") || !strings.Contains(shown[4], "nc=00000001") {
		t.Errorf("shown: %q", shown)
	}
	o.Password = "wrong-password"
	_, err := client(t, host, o).Get(t.Context(), "/")
	if !errors.Is(err, ErrLogin) || !strings.Contains(err.Error(), "the user name or the password is wrong") || strings.Contains(err.Error(), "wrong-password") {
		t.Errorf("got %v", err)
	}
}

// FuzzChallenge: any challenge gives a header of one line or an error.
func FuzzChallenge(f *testing.F) {
	f.Add(rfcChallenge("MD5"), "/")
	f.Add(`Digest realm="a\`, "/x?y")
	f.Add("Digest nonce=\x00,", "/")
	f.Fuzz(func(t *testing.T, challenge, uri string) {
		l, err := answer([]string{challenge})
		if err != nil {
			return
		}
		if h := l.header("user", "password", http.MethodGet, uri); strings.ContainsAny(h, "\r\n") || h == "" {
			t.Fatalf("got %q", h)
		}
	})
}
