package modbus_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/commonwatt/commonwatt/meter/modbus"
	"github.com/commonwatt/commonwatt/meter/serial"
)

// need fails a test that cannot run without an independent program. It does not skip: a test that did not run is no
// proof.
func need(t *testing.T, program, debianPackage string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		t.Fatalf("%s is missing: apt-get install %s", program, debianPackage)
	}
	return path
}

// libmodbusRTU compiles the device of testdata.
func libmodbusRTU(t *testing.T) string {
	t.Helper()
	need(t, "gcc", "gcc")
	flags, err := exec.CommandContext(t.Context(), need(t, "pkg-config", "pkg-config"), "--cflags", "--libs", "libmodbus").Output()
	if err != nil {
		t.Fatalf("libmodbus is missing: apt-get install libmodbus-dev (%v)", err)
	}
	binary := filepath.Join(t.TempDir(), "device")
	args := append([]string{"-Wall", "-Werror", "-o", binary, filepath.Join("testdata", "libmodbus_rtu.c")}, strings.Fields(string(flags))...)
	if out, err := exec.CommandContext(t.Context(), "gcc", args...).CombinedOutput(); err != nil {
		t.Fatalf("compiling the libmodbus device: %v\n%s", err, out)
	}
	return binary
}

// start runs a program until stop, and waits until it has written a line that contains ready. Its output is one pipe, its
// input another that stays open.
func start(t *testing.T, ready string, program string, args ...string) (stop func()) {
	t.Helper()
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), program, args...)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, write := io.Pipe()
	cmd.Stdout, cmd.Stderr = write, write
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan string, 1) // how
	go func() {
		err := cmd.Wait()
		_ = write.Close()
		ended <- fmt.Sprint(err)
	}()
	lines := bufio.NewScanner(out)
	var said []string
	for lines.Scan() {
		said = append(said, lines.Text())
		if strings.Contains(lines.Text(), ready) {
			drained := make(chan struct{})
			go func() {
				defer close(drained)
				_, _ = io.Copy(io.Discard, out)
			}()
			stopped := false
			return func() {
				if stopped {
					return
				}
				stopped = true
				_ = in.Close()
				_ = cmd.Process.Signal(os.Interrupt)
				<-ended
				<-drained
			}
		}
	}
	t.Fatalf("%s ended: %s\n%s", program, <-ended, strings.Join(said, "\n"))
	return nil
}

// TestLibmodbusRTU reads and writes a device that is not ours, on a serial line between two pseudo-terminals, and goes on
// when the line is taken away and comes back.
func TestLibmodbusRTU(t *testing.T) {
	binary := libmodbusRTU(t)
	dir := t.TempDir()
	ours, theirs := filepath.Join(dir, "ours"), filepath.Join(dir, "theirs")
	plug := func() (unplug func()) {
		line := start(t, "starting data transfer loop", need(t, "socat", "socat"), "-d", "-d", "pty,raw,echo=0,link="+ours, "pty,raw,echo=0,link="+theirs)
		device := start(t, "ready", binary, theirs)
		return func() {
			line()
			device()
		}
	}
	unplug := plug()
	defer func() { unplug() }()
	bus := modbus.NewBus(modbus.RTU(serial.Settings{Device: ours, Baud: 19200, Parity: serial.Even}), modbus.Options{
		Timeout: 2 * time.Second, Slowest: 1, DialEvery: 1, BackoffStep: 1, BackoffMax: 1,
	})
	defer bus.Close()
	read := func(address, count uint16) []uint16 {
		t.Helper()
		got, _, err := bus.Read(t.Context(), 7, modbus.ReadHolding, address, count)
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	for _, count := range []uint16{1, 2, 60, 125} {
		for i, w := range read(75, count) {
			if w != 3*uint16(75+i) {
				t.Fatalf("register %d of %d: got %d", 75+i, count, w)
			}
		}
	}
	if err := bus.Write(t.Context(), 7, 50, []uint16{0xffff, 0, 0x8000}); err != nil {
		t.Error(err)
	}
	if err := bus.WriteSingle(t.Context(), 7, 53, 12); err != nil {
		t.Error(err)
	}
	if got, want := read(49, 6), []uint16{147, 0xffff, 0, 0x8000, 12, 162}; !slices.Equal(got, want) {
		t.Errorf("after writing: got %v, expected %v", got, want)
	}
	for _, err := range []error{
		bus.Write(t.Context(), 7, 199, []uint16{1, 2}),
		func() error { _, _, err := bus.Read(t.Context(), 7, modbus.ReadHolding, 199, 2); return err }(),
	} {
		if e, ok := errors.AsType[*modbus.Exception](err); !ok || e.Code != 2 {
			t.Errorf("past the last register: got %v, expected exception 2", err)
		}
	}
	if _, _, err := bus.Read(t.Context(), 8, modbus.ReadHolding, 0, 1); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a unit that is not there: got %v", err)
	}
	// libmodbus now waits for that unit's reply, and takes the next request for it.
	if _, _, err := bus.Read(t.Context(), 7, modbus.ReadHolding, 10, 1); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a device that takes a request for another's reply: got %v", err)
	}
	if got := read(10, 1); got[0] != 30 {
		t.Errorf("after that: got %v", got)
	}
	unplug()
	if _, _, err := bus.Read(t.Context(), 7, modbus.ReadHolding, 0, 1); !errors.Is(err, serial.ErrAbsent) {
		t.Errorf("unplugged: got %v, expected %v", err, serial.ErrAbsent)
	}
	unplug = plug()
	if got := read(10, 1); got[0] != 30 {
		t.Errorf("plugged in again: got %v", got)
	}
}
