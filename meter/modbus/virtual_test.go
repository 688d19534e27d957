package modbus

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/commonwatt/commonwatt/meter/serial"
)

// device answers what came on a line in virtual time. It may wait.
type device func(line net.Conn, request []byte)

// virtual is a line whose far end exists in memory, so that its times are exact and pass at once.
type virtual struct {
	device
	refuse func() error // may refuse a dial
	dials  []time.Time
	all    sync.WaitGroup
	ends   []net.Conn
}

func (v *virtual) line(t transport) Line {
	return Line{transport: t, host: "virtual:1", serial: serial.Settings{Device: "virtual"}.WithDefaults(), dial: v.open}
}

func (v *virtual) open(context.Context) (port, error) {
	v.dials = append(v.dials, time.Now())
	if v.refuse != nil {
		if err := v.refuse(); err != nil {
			return nil, err
		}
	}
	ours, theirs := net.Pipe()
	v.ends = append(v.ends, theirs)
	v.all.Go(func() {
		for {
			var in [maxFrame]byte
			n, err := theirs.Read(in[:]) // a request is one write
			if err != nil {
				return
			}
			v.device(theirs, slices.Clone(in[:n]))
		}
	})
	return ours, nil
}

// end waits for the far ends.
func (v *virtual) end() {
	for _, c := range v.ends {
		_ = c.Close()
	}
	v.all.Wait()
}

// reply is the proper answer to a request to read, over TCP or RTU; every register holds its own address.
func reply(rtu bool, request []byte) []byte {
	head := request[:1]
	if !rtu {
		head = request[6:7]
	}
	body := request[len(head):]
	if !rtu {
		body = request[7:]
	}
	address, count := binary.BigEndian.Uint16(body[1:]), binary.BigEndian.Uint16(body[3:])
	out := []byte{head[0], body[0], byte(2 * count)}
	for i := range count {
		out = binary.BigEndian.AppendUint16(out, address+i)
	}
	if !rtu {
		b := slices.Concat(request[:4], []byte{0, byte(len(out))}, out)
		return b
	}
	return addChecksum(out)
}

// addChecksum is a second implementation of it, bit by bit.
func addChecksum(b []byte) []byte {
	crc := uint16(0xffff)
	for _, c := range b {
		crc ^= uint16(c)
		for range 8 {
			odd := crc&1 != 0
			crc >>= 1
			if odd {
				crc ^= 0xa001
			}
		}
	}
	return binary.LittleEndian.AppendUint16(b, crc)
}

// pass lets virtual time pass.
func pass(t *testing.T, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-t.Context().Done():
	}
}

// TestRule7DialRateAndBackoff: a unit that fails is left alone for 2 s × failures, at most 5 min; a line that cannot be
// opened likewise, at most 30 s; and an open line that ends is dialled once a second.
func TestRule7DialRateAndBackoff(t *testing.T) {
	// backoffs lets a unit fail so often, and returns for how long it was left alone each time.
	backoffs := func(t *testing.T, b *Bus, failures int) (waits []time.Duration) {
		t.Helper()
		for range failures {
			if _, _, err := b.Read(t.Context(), 1, ReadHolding, 0, 1); err == nil || errors.Is(err, ErrBackoff) {
				t.Fatalf("got %v, expected a failure", err)
			}
			begin := time.Now()
			for b.health.refuses(1) != nil {
				if _, _, err := b.Read(t.Context(), 1, ReadHolding, 0, 1); !errors.Is(err, ErrBackoff) {
					t.Fatalf("got %v, expected %v", err, ErrBackoff)
				}
				pass(t, time.Second)
			}
			waits = append(waits, time.Since(begin))
		}
		return waits
	}
	t.Run("unit", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			v := &virtual{device: func(net.Conn, []byte) {}}
			b := NewBus(v.line(overTCP), Options{})
			waits := backoffs(t, b, 160)
			for i, got := range waits {
				if want := min(time.Duration(i+1)*2*time.Second, 5*time.Minute); got != want {
					t.Fatalf("after failure %d: got %v, expected %v", i+1, got, want)
				}
			}
			_ = b.Close()
			v.end()
		})
	})
	t.Run("line", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			broken := true
			v := &virtual{
				device: func(line net.Conn, request []byte) { _, _ = line.Write(reply(false, request)) },
				refuse: func() error {
					if broken {
						return io.ErrNoProgress
					}
					return nil
				},
			}
			b := NewBus(v.line(overTCP), Options{})
			for i, got := range backoffs(t, b, 20) {
				if want := min(time.Duration(i+1)*2*time.Second, 30*time.Second); got != want {
					t.Fatalf("after failure %d: got %v, expected %v", i+1, got, want)
				}
			}
			if _, _, err := b.Read(t.Context(), 2, ReadHolding, 0, 1); err == nil {
				t.Error("a line that cannot be opened was read")
			}
			pass(t, lineMost)
			broken = false
			if got, generation, err := b.Read(t.Context(), 2, ReadHolding, 5, 1); err != nil || got[0] != 5 || generation != 1 {
				t.Errorf("after it was mended: got %v of %d, %v", got, generation, err)
			}
			_ = b.Close()
			v.end()
		})
	})
	t.Run("dials", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			v := &virtual{device: func(line net.Conn, _ []byte) { _ = line.Close() }}
			b := NewBus(v.line(overTCP), Options{})
			for unit := range uint8(100) {
				if _, _, err := b.Read(t.Context(), unit, ReadHolding, 0, 1); !errors.Is(err, io.EOF) {
					t.Fatalf("got %v, expected %v", err, io.EOF)
				}
			}
			for i, at := range v.dials[1:] {
				if apart := at.Sub(v.dials[i]); apart < time.Second {
					t.Errorf("dial %d came %v after the one before", i+1, apart)
				}
			}
			_ = b.Close()
			v.end()
		})
	})
}

// TestRule8QuietAfterFailure: nothing is sent on a line without transaction ids between a failure and the time by which
// the slowest reply has come; whatever comes until then is thrown away.
func TestRule8QuietAfterFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const timeout, slowest = time.Second, 3 * time.Second
		type seen struct {
			at   time.Time
			late bool
		}
		asked := make(chan seen, 2)
		v := &virtual{}
		dice := rand.New(rand.NewPCG(1, 2))
		v.device = func(line net.Conn, request []byte) {
			out, late := reply(true, request), dice.IntN(3) == 0
			asked <- seen{time.Now(), late}
			if !late {
				_, _ = line.Write(out)
				return
			}
			// It comes after the timeout, whole or in two pieces; net.Pipe holds it until it is read.
			pass(t, timeout+time.Duration(dice.Int64N(int64(slowest-timeout)-int64(200*time.Millisecond))))
			cut := dice.IntN(len(out))
			_, _ = line.Write(out[:cut])
			_, _ = line.Write(out[cut:])
		}
		b := NewBus(v.line(overSerial), Options{Timeout: timeout, Slowest: slowest, BackoffStep: 1, BackoffMax: 1})
		wrong, right := 0, 0
		rng := rand.New(rand.NewPCG(3, 4))
		for range 2000 {
			address := uint16(rng.Uint32N(60000))
			got, _, err := b.Read(t.Context(), 1, ReadHolding, address, 2)
			first := <-asked
			if len(asked) != 0 {
				t.Fatal("one Read made two requests")
			}
			switch {
			case err == nil && slices.Equal(got, []uint16{address, address + 1}):
				right++
			case err == nil:
				wrong++
			case !first.late:
				t.Fatalf("a reply in time was refused: %v", err)
			}
			if err != nil {
				_, _, _ = b.Read(t.Context(), 2, ReadHolding, 0, 1)
				if apart := (<-asked).at.Sub(first.at); apart < slowest {
					t.Fatalf("asked again after %v, expected %v at least", apart, slowest)
				}
			}
		}
		if wrong != 0 || right == 0 {
			t.Errorf("got %d right and %d wrong", right, wrong)
		}
		_ = b.Close()
		v.end()
	})
}

// TestTurns: units take turns however many requests each of them has waiting; who stops waiting loses nobody's turn.
func TestTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var q turns
		if err := q.take(t.Context(), 0); err != nil {
			t.Fatal(err)
		}
		var order []int
		var all sync.WaitGroup
		wait := func(ctx context.Context, unit int) {
			all.Go(func() {
				if q.take(ctx, unit) == nil {
					order = append(order, unit)
					q.give()
				}
			})
			synctest.Wait()
		}
		for range 3 {
			wait(t.Context(), 7) // greedy
		}
		gone, leave := context.WithCancel(t.Context())
		wait(gone, 7)
		wait(gone, 9) // the only one of its unit
		wait(t.Context(), 8)
		wait(t.Context(), 8)
		leave()
		synctest.Wait()
		q.give()
		all.Wait()
		if want := []int{7, 8, 7, 8, 7}; !slices.Equal(order, want) {
			t.Errorf("got %v, expected %v", order, want)
		}
		if q.busy || len(q.waiting) != 0 || len(q.units) != 0 {
			t.Errorf("left over: %+v", &q)
		}
	})
}

// TestLatenessIsBounded: 64 units share a slow line, three of them dead and one greedy. No poll of a unit that lives waits
// for longer than one request of each other unit can take.
func TestLatenessIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const units, greedy, took = 64, 9, 50 * time.Millisecond
		dead := []byte{5, 6, 40}
		v := &virtual{device: func(line net.Conn, request []byte) {
			if !slices.Contains(dead, request[0]) {
				pass(t, took)
				_, _ = line.Write(reply(true, request))
			}
		}}
		b := NewBus(v.line(overSerial), Options{})
		ctx, stop := context.WithCancel(t.Context())
		time.AfterFunc(20*time.Minute, stop) // a deadline would tell the bus not to begin what cannot end in time
		var all sync.WaitGroup
		var mu sync.Mutex
		var worst time.Duration
		polls := 0
		poll := func(unit uint8, every time.Duration) {
			all.Go(func() {
				ticker := time.NewTicker(every)
				defer ticker.Stop()
				for {
					begin := time.Now()
					_, _, err := b.Read(ctx, unit, ReadHolding, 0, 2)
					if ctx.Err() != nil {
						return
					}
					mu.Lock()
					if !slices.Contains(dead, unit) {
						if err != nil {
							t.Errorf("unit %d: %v", unit, err)
						}
						if unit != greedy {
							worst = max(worst, time.Since(begin))
						}
					}
					polls++
					mu.Unlock()
					select {
					case <-ticker.C:
					case <-ctx.Done():
						return
					}
				}
			})
		}
		for unit := range uint8(units) {
			poll(unit+1, 10*time.Second)
		}
		for range 20 {
			poll(greedy, time.Nanosecond)
		}
		all.Wait()
		// Opening, then one request of each; a dead one costs its timeout and the quiet after it.
		bound := 2*time.Second + units*(took+10*time.Millisecond) + time.Duration(len(dead))*2100*time.Millisecond
		t.Logf("%d polls in 20 minutes, the worst took %v, bound %v", polls, worst, bound)
		if worst > bound {
			t.Errorf("worst poll: got %v, expected %v at most", worst, bound)
		}
		_ = b.Close()
		v.end()
	})
}
