package fault

import (
	"bytes"
	"net/http"
	"slices"
	"time"

	"github.com/commonwatt/commonwatt/firmware-sim/wire"
)

// busyCode is the Modbus exception "server device busy".
const busyCode = 6

// isModbus says that the body is a PDU.
func isModbus(a *wire.Answer) bool { return slices.Contains(onModbus, a.Transport) }

// refuse answers with an exception or a status instead.
func refuse(a *wire.Answer, code byte, status int) {
	if isModbus(a) {
		if len(a.Body) > 0 {
			a.Body = []byte{a.Body[0] | 0x80, code}
		}
		return
	}
	a.Status, a.Body = status, []byte("{}")
}

type exception struct{ code int }

func (f exception) spoil(a *wire.Answer) {
	refuse(a, byte(f.code), http.StatusInternalServerError) //nolint:gosec // G115: 1 to 11
}

type busy struct{}

func (busy) spoil(a *wire.Answer) { refuse(a, busyCode, http.StatusServiceUnavailable) }

// registers says how many an answer to a reading request has.
func registers(a *wire.Answer) (int, bool) {
	if len(a.Body) < 2 || a.Body[0] != 3 && a.Body[0] != 4 {
		return 0, false
	}
	return int(a.Body[1]) / 2, true
}

type short struct{ by int }

func (f short) spoil(a *wire.Answer) {
	if !isModbus(a) {
		a.Cut = f.by
		return
	}
	if n, ok := registers(a); ok {
		n = max(0, n-f.by)
		a.Body = bytes.Clone(a.Body[:2+2*n])
		a.Body[1] = byte(2 * n) //nolint:gosec // G115: at most 250
	}
}

type long struct{ by int }

func (f long) spoil(a *wire.Answer) {
	if !isModbus(a) {
		a.Body = append(bytes.Clone(a.Body), bytes.Repeat([]byte("x"), f.by)...)
		return
	}
	const most = 125
	if n, ok := registers(a); ok {
		more := min(f.by, most-n)
		a.Body = append(bytes.Clone(a.Body), bytes.Repeat([]byte{0x55}, 2*more)...)
		a.Body[1] = byte(2 * (n + more)) //nolint:gosec // G115: at most 250
	}
}

type wrongID struct{ by int }

func (f wrongID) spoil(a *wire.Answer) { a.Transaction += uint16(f.by) } //nolint:gosec // G115: at most 65535

type corrupt struct{}

func (corrupt) spoil(a *wire.Answer) { a.Flip = true }

type late struct{ by time.Duration }

func (f late) spoil(a *wire.Answer) {
	if a.Transport == wire.MQTT {
		a.Later = true
		return
	}
	a.Delay += f.by
}

type duplicate struct{ copies int }

func (f duplicate) spoil(a *wire.Answer) { a.Copies += f.copies }

type reorder struct{}

func (reorder) spoil(a *wire.Answer) { a.Later, a.Swapped = true, true }

type split struct {
	pieces int
	pause  time.Duration
}

func (f split) spoil(a *wire.Answer) { a.Pieces, a.Pause = f.pieces, f.pause }

type drop struct{}

func (drop) spoil(a *wire.Answer) { a.Silent = true }

type hangUp struct{}

func (hangUp) spoil(a *wire.Answer) { a.Silent, a.Close = true, true }
