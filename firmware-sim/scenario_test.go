package main

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/commonwatt/commonwatt/firmware-sim/control"
	"github.com/commonwatt/commonwatt/firmware-sim/device"
	"github.com/commonwatt/commonwatt/firmware-sim/fault"
)

const scenarios = "../configs/scenarios"

// serveFiles runs what the command line would name, until the test ends.
func serveFiles(t *testing.T, f files) ready {
	t.Helper()
	out, in := io.Pipe()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		err := serve(ctx, f, in, slog.New(slog.NewTextHandler(t.Output(), nil)))
		in.CloseWithError(io.EOF)
		done <- err
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("serving: %v", err)
		}
		out.Close()
	})
	var r ready
	if err := json.NewDecoder(out).Decode(&r); err != nil || !r.Ready {
		t.Fatalf("not ready: %v", err)
	}
	return r
}

// TestScenarios serves each file that we give along, over a day of its time.
func TestScenarios(t *testing.T) {
	list, err := filepath.Glob(filepath.Join(scenarios, "*.yaml"))
	if err != nil || len(list) < 6 {
		t.Fatalf("got %v, %v", list, err)
	}
	for _, file := range list {
		if filepath.Base(file) == "street.yaml" {
			continue
		}
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			r := serveFiles(t, files{scenario: file})
			var rules []control.Fault
			get(t, r.Control, "/faults", &rules)
			if len(rules) == 0 {
				t.Fatal("no faults")
			}
			for _, f := range rules {
				if len(f.Targets) == 0 && f.Fault != "broker-restart" {
					t.Errorf("fault %d, %s, strikes nobody", f.ID, f.Fault)
				}
			}
			if c := move(t, r.Control, `{"advance":"24h"}`); *c.Refreshes != 480 {
				t.Errorf("%d refreshes in a day", *c.Refreshes)
			}
		})
	}
}

// TestEverythingHasEverything: no fault of the table is missing there.
func TestEverythingHasEverything(t *testing.T) {
	_, s, err := files{scenario: filepath.Join(scenarios, "everything.yaml")}.read()
	if err != nil {
		t.Fatal(err)
	}
	var named []string
	for _, r := range s.Rules {
		named = append(named, r.Fault)
	}
	for _, kind := range fault.Kinds() {
		if !slices.Contains(named, kind.Name) {
			t.Errorf("%s is missing", kind.Name)
		}
	}
}

// TestSameSeedSameBytes: two runs of one scenario give the same bytes to a reader
// that asks the same; another seed gives others.
func TestSameSeedSameBytes(t *testing.T) {
	dir := t.TempDir()
	street, err := filepath.Abs(filepath.Join(scenarios, "street.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	run := func(seed string) []byte {
		file := filepath.Join(dir, "scenario-"+seed+".yaml")
		text := "street: " + street + "\nseed: " + seed + `
faults:
  - {fault: short, share: 0.3}
  - {fault: wrong-id, share: 0.2}
  - {fault: duplicate, share: 0.2}
  - {fault: exception, every: 10m, for: 4m, probability: 0.5}
  - {fault: zero-bounce, every: 20m, for: 6m, probability: 0.5}
  - {fault: jump, every: 25m, for: 6m, probability: 0.5}
`
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		r := serveFiles(t, files{scenario: file})
		line := dialTCP(t, r.Modbus)
		var got []byte
		for step := range uint16(60) {
			for unit := range byte(3) {
				if _, err := line.Write(asTCP(step*3+uint16(unit), unit+1, []byte{4, 0, 0x48, 0, 4})); err != nil {
					t.Fatal(err)
				}
			}
			// All are answered when one is that nobody strikes: a gateway answers for units
			// that are not there.
			fence := 0xF000 + step
			if _, err := line.Write(asTCP(fence, 99, []byte{4, 0, 0, 0, 1})); err != nil {
				t.Fatal(err)
			}
			answers, closed := readUntil(t, line, asTCP(fence, 99, []byte{0x84, 0x0B}))
			if closed {
				t.Fatalf("closed after %x", answers)
			}
			got = append(got, answers...)
			move(t, r.Control, `{"advance":"3m"}`)
		}
		if len(got) < 1000 {
			t.Fatalf("got %d bytes", len(got))
		}
		return got
	}
	first := run("11")
	if diff := cmp.Diff(first, run("11")); diff != "" {
		t.Errorf("the same seed gives other bytes: %s", diff)
	}
	if cmp.Equal(first, run("12")) {
		t.Error("another seed gives the same bytes")
	}
}

// TestListIsComplete: what the tables have, the list has, for people and for
// programs.
func TestListIsComplete(t *testing.T) {
	for _, format := range []string{"table", "json"} {
		var b strings.Builder
		if err := list(&b, format); err != nil {
			t.Fatal(err)
		}
		for _, kind := range fault.Kinds() {
			if kind.Sentence == "" || !strings.Contains(b.String(), kind.Sentence) {
				t.Errorf("%s: no sentence of %s", format, kind.Name)
			}
		}
		for _, id := range device.Kinds() {
			if !strings.Contains(b.String(), id) {
				t.Errorf("%s: no %s", format, id)
			}
		}
		golden := filepath.Join("testdata", "list."+format)
		if *update {
			if err := os.WriteFile(golden, []byte(b.String()), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), b.String()); diff != "" {
			t.Errorf("%s (-update writes it anew): %s", format, diff)
		}
	}
}
