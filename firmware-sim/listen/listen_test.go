package listen

import (
	"errors"
	"os"
	"strconv"
	"strings"
	"testing"
)

func TestInUseNamesTheHolder(t *testing.T) {
	first, err := TCP(t.Context(), "modbus.listen", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	address := first.Addr().String()
	_, err = TCP(t.Context(), "modbus.listen", address)
	var inUse *InUseError
	if !errors.As(err, &inUse) {
		t.Fatalf("got %v, want an InUseError", err)
	}
	if want := "(process " + strconv.Itoa(os.Getpid()) + ")"; !strings.Contains(inUse.Holder, want) {
		t.Errorf("holder %q, want %q", inUse.Holder, want)
	}
	want := "modbus.listen: address " + address + " is in use by " + inUse.Holder +
		": end that, or set modbus.listen to another port (127.0.0.1:0 takes a free one)"
	if err.Error() != want {
		t.Errorf("got %q, want %q", err, want)
	}
}

func TestOtherErrorsNameTheKey(t *testing.T) {
	_, err := TCP(t.Context(), "control.listen", "192.0.2.1:1") // an address of nobody (RFC 5737)
	if err == nil || !strings.HasPrefix(err.Error(), "control.listen: ") {
		t.Errorf("got %v", err)
	}
	if _, ok := errors.AsType[*InUseError](err); ok {
		t.Errorf("got %v, want another error", err)
	}
}

func TestUnknownHolder(t *testing.T) {
	for _, address := range []string{"nonsense", "127.0.0.1:http", "127.0.0.1:1"} {
		if got := holder(address); got != "" {
			t.Errorf("%s is held by %s", address, got)
		}
	}
	if err := (&InUseError{Key: "k", Address: "[::1]:80"}).Error(); !strings.Contains(err, "by another program: ") || !strings.Contains(err, "[::1]:0") {
		t.Errorf("got %s", err)
	}
}
