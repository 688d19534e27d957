package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/commonwatt/commonwatt/firmware-sim/control"
)

// patience is how long a reader waits for what has to come: a last resort, so
// that a test fails and does not hang.
const patience = 20 * time.Second

// stream is a connection or a terminal of a naive reader.
type stream interface {
	io.ReadWriteCloser
	SetReadDeadline(time.Time) error
}

// certificate writes one that is its own authority for the loopback address.
func certificate(t *testing.T, dir string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "street"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{
		"cert.pem": {Type: "CERTIFICATE", Bytes: der}, "key.pem": {Type: "PRIVATE KEY", Bytes: private},
	} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// wholeStreet has every transport and stands still.
func wholeStreet(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	certificate(t, dir)
	file := filepath.Join(dir, "street.yaml")
	text := `
clock: {manual: true, epoch: 2026-06-21T08:00:00Z}
refresh: 180s
seed: 42
weather: {cloudiness: 0.2}
modbus: {listen: 127.0.0.1:0}
modbus_tls: {listen: 127.0.0.1:0, cert: cert.pem, key: key.pem}
rtu: {link: line}
rtu_tcp: {listen: 127.0.0.1:0}
mqtt: {listen: 127.0.0.1:0}
homes:
  - id: home-1
    load: {model: household, yearly_kwh: 3500}
    solar: {kwp: 6}
    devices:
      - {role: grid, definition: sunspec-meter, unit: 1}
      - {role: solar, definition: eastron-sdm630, unit: 2}
  - id: home-2
    load: {model: household, yearly_kwh: 2500}
    solar: {kwp: 4}
    devices:
      - {role: grid, definition: tasmota, topic: home-2}
      - {role: solar, definition: shelly-3em, listen: 127.0.0.1:0}
  - id: home-3
    load: {model: household, yearly_kwh: 2500}
    solar: {kwp: 4}
    devices:
      - {role: grid, definition: dsmr-p1, listen: 127.0.0.1:0, link: p1}
`
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// addressOf finds a device's address of a scheme, without the scheme.
func addressOf(t *testing.T, r ready, home, role, scheme string) string {
	t.Helper()
	var homes []control.Home
	get(t, r.Control, "/homes", &homes)
	for _, h := range homes {
		for _, d := range h.Devices {
			for _, a := range d.Addresses {
				if rest, ok := bytes.CutPrefix([]byte(a), []byte(scheme+"://")); ok && h.ID == home && d.Role == role {
					return string(rest)
				}
			}
		}
	}
	t.Fatalf("%s %s has no %s address", home, role, scheme)
	return ""
}

func dialTCP(t *testing.T, address string) stream {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

func dialTLS(t *testing.T, address string) stream {
	t.Helper()
	conn, err := tls.Dial("tcp", address, &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// openLine opens a pseudo-terminal as a reader of a serial port does, without
// any setting: it is raw already.
func openLine(t *testing.T, path string) stream {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR|0x100|0x800, 0) // no controlling terminal, not blocking
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// pump reads a line all the time, as the reader of a serial port does, so that
// nothing is lost.
type pump struct {
	stream
	bytes chan byte
}

func pumped(t *testing.T, line stream) stream {
	t.Helper()
	p := pump{line, make(chan byte, 1<<20)}
	done := make(chan struct{}, 1)
	go func() {
		defer close(done)
		defer close(p.bytes)
		buffer := make([]byte, 512)
		for {
			n, err := line.Read(buffer)
			for _, b := range buffer[:n] {
				p.bytes <- b
			}
			if err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() {
		line.Close()
		<-done
	})
	return p
}

func (p pump) Read(b []byte) (int, error) {
	select {
	case c, ok := <-p.bytes:
		if !ok {
			return 0, io.EOF
		}
		b[0] = c
		return 1, nil
	case <-time.After(patience):
		return 0, os.ErrDeadlineExceeded
	}
}

// SetReadDeadline has no effect: patience is the limit.
func (pump) SetReadDeadline(time.Time) error { return nil }

// readUntil reads until the bytes end with some, or the stream does.
func readUntil(t *testing.T, s stream, end []byte) (got []byte, closed bool) {
	t.Helper()
	if err := s.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	buffer := make([]byte, 1) // not a byte further than to the end
	for !bytes.HasSuffix(got, end) {
		n, err := s.Read(buffer)
		got = append(got, buffer[:n]...)
		if err != nil {
			if os.IsTimeout(err) {
				t.Fatalf("got %q, and %q never came", got, end)
			}
			return got, true
		}
	}
	return got, false
}

// readAtLeast reads some bytes more.
func readAtLeast(t *testing.T, s stream, n int) []byte {
	t.Helper()
	if err := s.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, n)
	if _, err := io.ReadFull(s, got); err != nil {
		t.Fatalf("got %x: %v", got, err)
	}
	return got
}

// crcModbus is a second CRC-16, by the table of its polynomial's definition: bit
// by bit over the message with 16 zero bits, everything reflected.
func crcModbus(data []byte, begin uint16) uint16 {
	register := begin
	for _, b := range data {
		for i := range 8 {
			in := uint16(b>>i) & 1
			out := register & 1
			register >>= 1
			if in != out {
				register ^= 0xA001
			}
		}
	}
	return register
}

// asRTU puts a unit and a PDU into a frame.
func asRTU(unit byte, pdu []byte) []byte {
	frame := append([]byte{unit}, pdu...)
	return binary.LittleEndian.AppendUint16(frame, crcModbus(frame, 0xFFFF))
}

// asTCP puts them behind a header.
func asTCP(id uint16, unit byte, pdu []byte) []byte {
	b := binary.BigEndian.AppendUint16(nil, id)
	b = append(b, 0, 0, 0, byte(len(pdu)+1), unit)
	return append(b, pdu...)
}

// mosquittoSub is mosquitto_sub, which has subscribed: lines "topic retained payload".
func mosquittoSub(t *testing.T, address string, more ...string) <-chan string {
	t.Helper()
	path, err := exec.LookPath("mosquitto_sub")
	if err != nil {
		t.Fatal("mosquitto_sub is missing: install the Debian package mosquitto-clients")
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	command := exec.CommandContext(ctx, path, append([]string{"-d", "-h", host, "-p", port, "-F", "%t %r %p"}, more...)...)
	out, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	lines, subscribed := make(chan string, 10_000), make(chan struct{})
	go func() {
		defer close(lines)
		for scanner := bufio.NewScanner(out); scanner.Scan(); {
			switch line := scanner.Text(); {
			case strings.HasPrefix(line, "Subscribed (mid: "):
				select {
				case subscribed <- struct{}{}:
				default: // once more, with another connection
				}
			case !strings.HasPrefix(line, "Client "): // else it says what it does
				lines <- line
			}
		}
	}()
	t.Cleanup(func() {
		cancel()
		for range lines { // until its end
		}
		_ = command.Wait()
	})
	select {
	case <-subscribed:
	case <-time.After(patience):
		t.Fatal("mosquitto_sub has not subscribed")
	}
	return lines
}

// nextLine waits for one.
func nextLine(t *testing.T, lines <-chan string) string {
	t.Helper()
	select {
	case line, ok := <-lines:
		if !ok {
			t.Fatal("mosquitto_sub ended")
		}
		return line
	case <-time.After(patience):
		t.Fatal("no message")
	}
	return ""
}

func pageRequest(path string) string {
	return "GET " + path + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
}

// fetchRaw asks for a page as netcat would.
func fetchRaw(t *testing.T, address, path string) string {
	t.Helper()
	conn := dialTCP(t, address)
	defer conn.Close()
	if _, err := io.WriteString(conn, pageRequest(path)); err != nil {
		t.Fatal(err)
	}
	return rawPage(t, conn)
}

// rawPage is all that comes until the connection ends, without the date.
func rawPage(t *testing.T, conn stream) string {
	t.Helper()
	got, _ := readUntil(t, conn, []byte("\x00 never"))
	var kept []byte
	for line := range bytes.Lines(got) {
		if !bytes.HasPrefix(line, []byte("Date:")) {
			kept = append(kept, line...)
		}
	}
	return string(kept)
}
