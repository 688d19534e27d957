package main

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/commonwatt/commonwatt/firmware-sim/control"
)

// manualFile writes a street whose time stands still at a Sunday morning.
func manualFile(t *testing.T, more string) string {
	t.Helper()
	file := streetFile(t, "{listen: 127.0.0.1:0}")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	clock := regexp.MustCompile(`(?m)^clock: .*$`).ReplaceAllString(string(text), "clock: {manual: true, epoch: 2026-06-21T08:00:00Z}")
	manual := filepath.Join(filepath.Dir(file), "manual.yaml")
	if err := os.WriteFile(manual, []byte(clock+more), 0o600); err != nil {
		t.Fatal(err)
	}
	return manual
}

// move moves a manual clock.
func move(t *testing.T, address, body string) (c control.Clock) {
	t.Helper()
	response, err := http.Post("http://"+address+"/clock", "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if err := json.NewDecoder(response.Body).Decode(&c); err != nil || response.StatusCode != http.StatusOK {
		t.Fatalf("moving by %s: %s, %v", body, response.Status, err)
	}
	return c
}

// TestThirtyDaysByHand: every push of a month is out when the answer comes.
func TestThirtyDaysByHand(t *testing.T) {
	r := startServing(t, manualFile(t, ""))
	c := move(t, r.Control, `{"advance":"720h"}`)
	const refreshes = 30 * 480
	if *c.Refreshes != refreshes || *c.Sent != 3*refreshes || *c.Lost != 0 {
		t.Errorf("%d refreshes, %d sent, %d lost, want %d, three times that, and 0", *c.Refreshes, *c.Sent, *c.Lost, refreshes)
	}
	var counters control.Counters
	get(t, r.Control, "/homes/home-2/counters", &counters)
	if !counters.RefreshedAt.Equal(c.RefreshedAt) || c.RefreshedAt.Format("01-02 15:04") != "07-21 08:00" {
		t.Errorf("counters %+v at %+v", counters, c)
	}
}
