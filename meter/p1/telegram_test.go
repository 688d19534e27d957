package p1

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"
	"pgregory.net/rapid"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// sealed ends lines in CRLF and adds the checksum, computed by a table rather than as the package does it.
func sealed(lines ...string) []byte {
	text := strings.Join(lines, "\r\n") + "\r\n!"
	var crc uint16
	for i := range len(text) {
		crc = crc>>8 ^ crcTable[byte(crc)^text[i]]
	}
	return fmt.Appendf(nil, "%s%04X\r\n", text, crc)
}

var crcTable = func() (t [256]uint16) {
	for i := range t {
		for bit, v := 0, uint16(i); bit < 8; bit++ {
			if v = v>>1 ^ 0xA001*(v&1); bit == 7 {
				t[i] = v
			}
		}
	}
	return t
}()

var good = sealed(`/ISk5\2MT382-1000`, "", "1-3:0.2.8(50)", "0-0:1.0.0(250110121530W)", "1-0:1.8.1(000004.426*kWh)", "1-0:1.8.2(000002.399*kWh)",
	"1-0:1.7.0(00.244*kW)", "0-1:24.2.1(250110120000W)(00981.443*m3)")

// TestCRC: the check value that everybody publishes for CRC-16/ARC, and the telegram of a meter as a public test suite
// has it.
func TestCRC(t *testing.T) {
	if got := CRC([]byte("123456789")); got != 0xBB3D {
		t.Errorf("check value: got %04X, expected BB3D", got)
	}
	if got := CRC(good[:bytes.IndexByte(good, '!')+1]); fmt.Sprintf("%04X", got) != string(good[len(good)-6:len(good)-2]) {
		t.Errorf("by bits %04X, by table %s", got, good[len(good)-6:])
	}
}

func TestParse(t *testing.T) {
	lf := bytes.ReplaceAll(good, []byte("\r\n"), []byte("\n"))
	mixed := bytes.Replace(good, []byte("\r\n"), []byte("\n"), 3)
	for name, raw := range map[string][]byte{
		"as it came": good, "with LF": lf, "with both": mixed, "without the last line end": bytes.TrimRight(good, "\r\n"),
		"with a small checksum": slices.Concat(good[:len(good)-6], bytes.ToLower(good[len(good)-6:])),
	} {
		telegram, err := Parse(raw)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if !telegram.Checked || telegram.Ident != `ISk5\2MT382-1000` {
			t.Errorf("%s: got %+v", name, telegram)
		}
		for code, want := range map[string][]string{
			"1-0:1.8.1": {"000004.426*kWh"}, "0-1:24.2.1": {"250110120000W", "00981.443*m3"}, "1-0:2.8.1": nil,
		} {
			if got, err := telegram.Values(code); err != nil || !slices.Equal(got, want) {
				t.Errorf("%s: %s: got %q, %v, expected %q", name, code, got, err, want)
			}
		}
	}
}

func TestParseRefuses(t *testing.T) {
	old := "/KMP5 KA6U001234567812\r\n\r\n0-0:96.1.1(2020)\r\n1-0:1.8.1(00608.400*kWh)\r\n0-1:24.3.0(121030140000)(00)(60)(1)(0-1:24.2.0)(m3)\r\n(00970.950)\r\n!\r\n"
	if _, err := Parse([]byte(old)); err != nil {
		t.Fatalf("a telegram of DSMR 2.2: %v", err)
	}
	replace := func(from, to string) string {
		if !strings.Contains(old, from) {
			t.Fatalf("%q is not in the telegram", from)
		}
		return strings.Replace(old, from, to, 1)
	}
	for name, c := range map[string]struct{ raw, want string }{
		"nothing":                    {"", "expected text from a /"},
		"no slash":                   {old[1:], "expected text from a /"},
		"no end":                     {replace("!", ""), "a line that begins with !"},
		"! within a line":            {replace("\r\n!\r\n", "!\r\n"), "a line that begins with !"},
		"wrong checksum":             {strings.Replace(string(good), "244", "245", 1), "checksum: got "},
		"checksum that is none":      {replace("!", "!12G4"), `checksum: got "12G4", expected up to 4 hexadecimal digits`},
		"checksum of 5 digits":       {replace("!", "!12345"), "checksum: got"},
		"checksum missing":           {string(good[:len(good)-6]) + "\r\n", "expected one after ! in a telegram of version 50"},
		"too long":                   {replace("0-0:96.1.1(2020)", "0-0:96.13.0("+strings.Repeat("30", 9000)+")"), "expected at most 16384"},
		"too many lines":             {replace("0-0:96.1.1(2020)", strings.Repeat("\r\n", 500)), "expected at most 400"},
		"no identification":          {replace("/KMP5 KA6U001234567812", "/K"), "first line"},
		"bytes above 127":            {replace("KA6U", "\xcb\xc1\xb6"), "first line"},
		"a line without brackets":    {replace("(2020)", "2020"), "line 3"},
		"a bracket that stays open":  {replace("(2020)", "(2020"), "line 3"},
		"a bracket in a bracket":     {replace("(2020)", "((2020))"), "line 3"},
		"a code that is none":        {replace("0-0:96.1.1", "0-0:96.1"), "a code such as 1-0:1.8.1"},
		"a code above 255":           {replace("0-0:96.1.1", "0-0:961.1.1"), "a code such as 1-0:1.8.1"},
		"a digit lost before":        {replace("00608.400", "0608.400"), "expected all digits"},
		"a digit lost behind":        {replace("00608.400", "00608.40"), "expected all digits"},
		"the dot lost":               {replace("00608.400", "00608400"), "expected all digits"},
		"a continuation of nothing":  {"/KMP5 KA6U\r\n(1)\r\n!\r\n", "a code before it"},
		"a control character inside": {replace("2020", "20\x0020"), "line 3"},
	} {
		_, err := Parse([]byte(c.raw))
		if !errors.Is(err, ErrTelegram) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, expected %q", name, err, c.want)
		}
		if err != nil && len(err.Error()) > 250 {
			t.Errorf("%s: an error of %d characters", name, len(err.Error()))
		}
	}
}

// TestTwice (T5): a line that is there twice has no value; in a telegram with a checksum the others have.
func TestTwice(t *testing.T) {
	raw := sealed(`/ISk5\2MT382-1000`, "", "1-3:0.2.8(50)", "1-0:1.8.1(000004.426*kWh)", "1-0:1.8.1(000004.426*kWh)", "what is this", "1-0:2.8.1*255(1*kWh)")
	telegram, err := Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := telegram.Values("1-0:1.8.1"); !errors.Is(err, ErrTwice) {
		t.Errorf("got %v, expected %v", err, ErrTwice)
	}
	if v, err := telegram.Values("1-0:2.8.1"); err != nil || len(v) != 1 {
		t.Errorf("got %q, %v", v, err)
	}
}

// TestDamage (T1): of a telegram with a checksum, no change of one to sixteen bits in a row is taken.
func TestDamage(t *testing.T) {
	end := bytes.IndexByte(good, '!')
	rapid.Check(t, func(t *rapid.T) {
		at := rapid.IntRange(0, end*8-16).Draw(t, "bit")
		burst := rapid.Uint16Range(1, 0xffff).Draw(t, "burst")
		raw := bytes.Clone(good)
		for i := range 16 {
			if burst>>i&1 == 1 {
				raw[(at+i)/8] ^= 1 << ((at + i) % 8)
			}
		}
		// A change that only touches line ends may be put right again.
		if _, err := Parse(raw); err == nil && !bytes.Equal(bytes.ReplaceAll(raw, []byte("\r"), nil), bytes.ReplaceAll(good, []byte("\r"), nil)) {
			t.Fatalf("taken with the damage %04x at bit %d: %q", burst, at, raw)
		}
	})
}

// TestFramer: of any stream of telegrams, noise and telegrams that are cut, whole ones come out, in order, however the
// stream is cut into pieces.
func TestFramer(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var stream []byte
		var want [][]byte
		for range rapid.IntRange(0, 8).Draw(t, "parts") {
			switch rapid.SampledFrom([]string{"whole", "noise", "cut"}).Draw(t, "part") {
			case "whole":
				whole := sealed(`/ISk5\`+rapid.StringMatching(`[a-z0-9]{3,9}`).Draw(t, "ident"), "", "1-0:1.8.1(000004.426*kWh)")
				stream, want = append(stream, whole...), append(want, whole)
			case "noise":
				stream = append(stream, rapid.SliceOfN(rapid.SampledFrom([]byte("!\r\n(x)\x00\xff")), 0, 40).Draw(t, "noise")...)
			case "cut": // somewhere before its end, with the next one on a line of its own
				stream = append(stream, good[:rapid.IntRange(1, bytes.IndexByte(good, '!')-1).Draw(t, "length")]...)
				stream = append(stream, "\r\n/reset\r\n!\r\n"...)
				want = append(want, []byte("/reset\r\n!\r\n"))
			}
		}
		var f Framer
		var got [][]byte
		found := func(raw []byte, err error) {
			if err != nil {
				t.Fatalf("nothing here is too long: %v", err)
			}
			got = append(got, raw)
		}
		for len(stream) > 0 {
			n := min(len(stream), rapid.IntRange(1, 60).Draw(t, "piece"))
			f.Feed(stream[:n], found)
			stream = stream[n:]
		}
		if !slices.EqualFunc(got, want, bytes.Equal) {
			t.Fatalf("got %q, expected %q", got, want)
		}
	})
}

// TestFramerBounds (T4): what never ends is given up, and the next telegram is found.
func TestFramerBounds(t *testing.T) {
	for name, endless := range map[string]string{
		"one line":       "/" + strings.Repeat("x", 1<<20),
		"many lines":     "/x\r\n" + strings.Repeat("\r\n", 1<<16),
		"a closing line": "/x\r\n!" + strings.Repeat("0", 1<<16),
	} {
		var f Framer
		failed, whole := 0, 0
		f.Feed(append([]byte(endless+"\r\n"), good...), func(_ []byte, err error) {
			if err != nil {
				failed++
				if !errors.Is(err, ErrTelegram) {
					t.Errorf("%s: %v", name, err)
				}
				return
			}
			whole++
		})
		if failed != 1 || whole != 1 || cap(f.buf) > 4*MaxTelegram {
			t.Errorf("%s: %d given up, %d whole, a buffer of %d bytes", name, failed, whole, cap(f.buf))
		}
	}
}

// FuzzTelegram: any bytes are cut, parsed and refused without a panic; what is taken is of the form that was asked for.
func FuzzTelegram(f *testing.F) {
	f.Add(good)
	f.Add([]byte("/KMP5 KA6U001234567812\r\n\r\n0-0:96.1.1(2020)\r\n1-0:1.8.1(00608.400*kWh)\r\n(00970.950)\r\n!\r\n"))
	f.Add([]byte("/\n!\n/x\n/y\n!1\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		telegram, raw, err := Last(data)
		if err != nil {
			if !errors.Is(err, ErrTelegram) {
				t.Fatalf("an error of another kind: %v", err)
			}
			return
		}
		if !bytes.Contains(data, bytes.TrimRight(raw, "\r\n")) || len(raw) > MaxTelegram || raw[0] != '/' {
			t.Fatalf("%q is not in what came", raw)
		}
		sum := bytes.TrimRight(raw[bytes.LastIndexByte(raw, '!')+1:], "\r\n")
		if telegram.Checked != (len(sum) > 0) {
			t.Fatalf("checked %v with %q", telegram.Checked, sum)
		}
		for _, o := range telegram.objects {
			if !IsOBIS(o.code) {
				t.Fatalf("code %q", o.code)
			}
			if _, err := telegram.Values(o.code); err != nil && !errors.Is(err, ErrTwice) {
				t.Fatal(err)
			}
		}
	})
}
