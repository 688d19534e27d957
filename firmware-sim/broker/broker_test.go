package broker

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/commonwatt/commonwatt/firmware-sim/device"
	"github.com/commonwatt/commonwatt/firmware-sim/home"
	"github.com/commonwatt/commonwatt/firmware-sim/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// clockwork refreshes on demand of the test: the counters are the refresh.
type clockwork struct {
	latest atomic.Int64
	client *Client
}

func (c *clockwork) Latest() int64 { return c.latest.Load() }

// push refreshes, and says whether that reached the broker.
func (c *clockwork) push(t *testing.T, index int64) error {
	t.Helper()
	c.latest.Store(index)
	return c.client.Push(t.Context(), index)
}

func (c *clockwork) Messages(ctx context.Context, index int64) ([]device.Message, error) {
	return c.client.Device.Messages(ctx, device.Reading{Index: index, Import: home.MilliWattHours(index) * 1_000_000, Power: 1000})
}

func (*clockwork) Spoil(*wire.Answer) {}

func (*clockwork) Dead() bool { return false }

func testLog(t *testing.T) *slog.Logger {
	t.Helper()
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// debian finds a program of a Debian package.
func debian(t *testing.T, program, in string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		path, err = exec.LookPath("/usr/sbin/" + program)
	}
	if err != nil {
		t.Fatalf("%s is missing: install the Debian package %s", program, in)
	}
	return path
}

// startClient runs a Tasmota on a broker until the test or the returned
// function ends it.
func startClient(t *testing.T, address string, c *clockwork) (stop func()) {
	t.Helper()
	kind, _ := device.Lookup("tasmota")
	d, err := kind.New(device.Spec{Topic: "home-2"})
	if err != nil {
		t.Fatal(err)
	}
	client := NewClient(ClientOptions{
		Broker: address, ID: "firmware-sim-home-2", Device: d.(device.Publisher), Meter: c, Log: testLog(t),
	})
	c.client = client
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- client.Run(ctx) }()
	ended := false
	stop = func() {
		if ended {
			return
		}
		ended = true
		cancel()
		begin := time.Now()
		if err := <-done; err != nil {
			t.Errorf("client: %v", err)
		}
		if took := time.Since(begin); took > 3*time.Second { // a second, and what a busy machine adds
			t.Errorf("the client took %v to end", took)
		}
	}
	t.Cleanup(stop)
	return stop
}

// startServer runs the embedded broker until the test ends.
func startServer(t *testing.T) (address string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	open := func(ctx context.Context) (net.Listener, error) {
		var config net.ListenConfig
		return config.Listen(ctx, "tcp", listener.Addr().String())
	}
	server, err := NewServer([]net.Listener{listener}, []Open{open}, Login{}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- server.Serve(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("broker: %v", err)
		}
	})
	return listener.Addr().String()
}

// subscriber is mosquitto_sub: lines "topic payload", with r for retained.
type subscriber struct{ lines <-chan string }

func subscribe(t *testing.T, address, topic string) subscriber {
	t.Helper()
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	command := exec.CommandContext(ctx, debian(t, "mosquitto_sub", "mosquitto-clients"), "-h", host, "-p", port, "-t", topic, "-F", "%t %r %p")
	out, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	lines := make(chan string, 10_000)
	go func() {
		defer close(lines)
		for scanner := bufio.NewScanner(out); scanner.Scan(); {
			lines <- scanner.Text()
		}
	}()
	t.Cleanup(func() {
		cancel()
		for range lines { // until its end
		}
		_ = command.Wait()
	})
	return subscriber{lines}
}

// await waits for a line that has all of the parts.
func (s subscriber) await(t *testing.T, parts ...string) string {
	t.Helper()
	deadline := time.After(20 * time.Second)
next:
	for {
		select {
		case line, ok := <-s.lines:
			if !ok {
				t.Fatalf("the subscriber ended before %q", parts)
			}
			for _, part := range parts {
				if !strings.Contains(line, part) {
					continue next
				}
			}
			return line
		case <-deadline:
			t.Fatalf("no message with %q", parts)
		}
	}
}

func TestEmbeddedBroker(t *testing.T) {
	address := startServer(t)
	c := &clockwork{}
	c.latest.Store(7)
	stop := startClient(t, address, c)
	s := subscribe(t, address, "tele/home-2/#")
	s.await(t, "tele/home-2/LWT", "Online")
	if err := c.push(t, 8); err != nil {
		t.Fatal(err)
	}
	line := s.await(t, "tele/home-2/SENSOR 0 ", `"Total_in":8.0000`) // 0: not retained
	var payload struct{ SML map[string]any }
	if err := json.Unmarshal([]byte(strings.SplitN(line, " ", 3)[2]), &payload); err != nil || payload.SML["Power_curr"] != 1.0 {
		t.Errorf("got %s, %v", line, err)
	}
	subscribe(t, address, "tele/home-2/LWT").await(t, "tele/home-2/LWT 1 Online") // kept for who comes later
	stop()
	s.await(t, "tele/home-2/LWT", "Offline")
}

// TestBrokerComesBack: mosquitto is killed and started again, a while later, on
// the same port.
func TestBrokerComesBack(t *testing.T) {
	address := freeAddress(t)
	kill := startMosquitto(t, address)
	c := &clockwork{}
	c.latest.Store(1)
	startClient(t, address, c)
	subscribe(t, address, "tele/home-2/#").await(t, "LWT", "Online")
	kill()
	for c.push(t, 2) == nil { // nobody hears of this one at its time
		t.Log("the connection is not known to be gone yet")
	}
	startMosquitto(t, address)
	s := subscribe(t, address, "tele/home-2/#")
	s.await(t, "SENSOR", `"Total_in":2.0000`) // the present value, though no refresh is due
	if err := c.push(t, 3); err != nil {
		t.Error(err)
	}
	s.await(t, "SENSOR", `"Total_in":3.0000`)
	subscribe(t, address, "tele/home-2/LWT").await(t, "LWT", "Online")
}

// TestLastWill: a device that goes without a word is said to be offline by the
// broker. The connection is cut between the two.
func TestLastWill(t *testing.T) {
	address := startServer(t)
	proxy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	cut := make(chan struct{})
	proxied := make(chan struct{})
	go func() {
		defer close(proxied)
		relay(proxy, address, cut)
	}()
	c := &clockwork{}
	startClient(t, proxy.Addr().String(), c)
	s := subscribe(t, address, "tele/home-2/LWT")
	s.await(t, "Online")
	close(cut)
	s.await(t, "Offline")
	<-proxied
}

// relay passes one connection on until it is cut, and takes no other.
func relay(listener net.Listener, to string, cut <-chan struct{}) {
	in, err := listener.Accept()
	listener.Close()
	if err != nil {
		return
	}
	out, err := net.Dial("tcp", to)
	if err != nil {
		in.Close()
		return
	}
	done := make(chan struct{}, 2)
	go func() { _, _ = io.Copy(out, in); done <- struct{}{} }()
	go func() { _, _ = io.Copy(in, out); done <- struct{}{} }()
	<-cut
	in.Close()
	out.Close()
	<-done
	<-done
}

// TestEndsWithoutBroker: nobody listens, somebody listens and never answers.
func TestEndsWithoutBroker(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	for _, address := range []string{freeAddress(t), silent.Addr().String()} {
		stop := startClient(t, address, &clockwork{})
		if address == silent.Addr().String() {
			conn, err := silent.Accept()
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
		}
		stop()
	}
}

// freeAddress is a port that was free a moment ago, below those that the
// system gives out by itself.
func freeAddress(t *testing.T) string {
	t.Helper()
	for port := 20_000 + time.Now().UnixNano()%10_000; port < 32_000; port++ {
		address := fmt.Sprintf("127.0.0.1:%d", port)
		if listener, err := net.Listen("tcp", address); err == nil {
			listener.Close()
			return address
		}
	}
	t.Fatal("no free port")
	return ""
}

// startMosquitto runs the real broker and waits until it answers; kill is kill -9.
func startMosquitto(t *testing.T, address string) (kill func()) {
	t.Helper()
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	command := exec.Command(debian(t, "mosquitto", "mosquitto"), "-p", port)
	command.Dir = filepath.Join(t.TempDir())
	command.Stderr = t.Output()
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	ended := false
	kill = func() {
		if ended {
			return
		}
		ended = true
		_ = command.Process.Kill()
		_ = command.Wait()
	}
	t.Cleanup(kill)
	for deadline := time.Now().Add(10 * time.Second); ; {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			conn.Close()
			return kill
		}
		if time.Now().After(deadline) {
			t.Fatalf("mosquitto does not answer on %s: %v", address, err)
		}
	}
}
