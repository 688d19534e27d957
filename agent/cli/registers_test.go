package cli_test

import (
	"encoding/binary"
	"io"
	"net"
	"strconv"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"
)

// registers serves Modbus TCP from a file until the script ends: each line is a unit, a function, the first address and
// the words in hexadecimal. What a unit does not have is refused with exception 2, a unit that has nothing is silent.
func registers(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: registers VAR FILE")
	}
	held := map[[3]int]uint16{} // unit, function, address
	for line := range strings.Lines(ts.ReadFile(args[1])) {
		fields := strings.Fields(line)
		if len(fields) < 4 {
			continue
		}
		var head [3]int
		for i := range head {
			n, err := strconv.Atoi(fields[i])
			ts.Check(err)
			head[i] = n
		}
		for _, text := range fields[3:] {
			w, err := strconv.ParseUint(text, 16, 16)
			ts.Check(err)
			held[head] = uint16(w)
			head[2]++
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			serveRegisters(conn, held)
		}
	}()
	ts.Defer(func() {
		_ = l.Close()
		<-done
	})
	_, port, err := net.SplitHostPort(l.Addr().String())
	ts.Check(err)
	ts.Setenv(args[0], port)
}

func serveRegisters(conn net.Conn, held map[[3]int]uint16) {
	defer conn.Close()
	be := binary.BigEndian
	for {
		var q [12]byte
		if _, err := io.ReadFull(conn, q[:]); err != nil {
			return
		}
		unit, function, address, count := int(q[6]), q[7], int(be.Uint16(q[8:])), int(be.Uint16(q[10:]))
		there := false
		for at := range held {
			there = there || at[0] == unit
		}
		if !there {
			continue
		}
		body := []byte{function, byte(2 * count)}
		for i := range count {
			w, ok := held[[3]int{unit, int(function), address + i}]
			if !ok {
				body = []byte{function | 0x80, 2}
				break
			}
			body = be.AppendUint16(body, w)
		}
		reply := be.AppendUint16(append([]byte{}, q[:4]...), uint16(len(body)+1))
		if _, err := conn.Write(append(append(reply, q[6]), body...)); err != nil {
			return
		}
	}
}
