package listen

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestPTYLosesWhatNobodyReads: a line without a listener takes everything, and
// the listener that comes gets what is sent from then on.
func TestPTYLosesWhatNobodyReads(t *testing.T) {
	link := filepath.Join(t.TempDir(), "line")
	p, err := OpenPTY("rtu.link", link)
	if err != nil {
		t.Fatal(err)
	}
	telegram := bytes.Repeat([]byte("\r\nABC 1-0:1.8.1"), 50)
	for i := range 100 { // 80 kB: more than any buffer in between
		if err := p.Clear(); err != nil {
			t.Fatal(err)
		}
		if err := p.SetWriteDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
		if _, err := p.Write(telegram); err != nil {
			t.Fatalf("telegram %d: %v", i, err)
		}
	}
	reader, err := os.Open(link)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	if err := p.Clear(); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Write([]byte("\x00the newest\xff")); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 100)
	n, err := reader.Read(got)
	if err != nil || string(got[:n]) != "\x00the newest\xff" {
		t.Errorf("got %q, %v", got[:n], err)
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(link); !os.IsNotExist(err) {
		t.Errorf("the link is still there: %v", err)
	}
}

// TestPTYLinkOfAnother: a file is not replaced, a stale link is.
func TestPTYLinkOfAnother(t *testing.T) {
	dir := t.TempDir()
	file, link := filepath.Join(dir, "file"), filepath.Join(dir, "link")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenPTY("rtu.link", file); err == nil {
		t.Error("a file was replaced")
	}
	if err := os.Symlink("/nowhere", link); err != nil {
		t.Fatal(err)
	}
	p, err := OpenPTY("rtu.link", link)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if to, err := os.Readlink(link); err != nil || to != p.Path {
		t.Errorf("the link goes to %s, %v", to, err)
	}
}
