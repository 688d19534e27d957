package listen

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"
)

// PTY is a pseudo-terminal: a reader opens its Path like a serial port. It is
// raw, as a line without an operator is, and stays open when its reader goes.
type PTY struct {
	Path string

	master, slave *os.File
	link          string
	deaf          bool // nobody read what was sent last
}

// OpenPTY makes a pseudo-terminal and, if link is not "", a symbolic link to it.
// A link of that name is replaced, anything else is not.
func OpenPTY(key, link string) (*PTY, error) {
	master, slave, err := pty.Open()
	if err != nil {
		return nil, fmt.Errorf("%s: opening a pseudo-terminal: %w", key, err)
	}
	p := &PTY{Path: slave.Name(), master: master, slave: slave}
	if err := p.raw(); err != nil {
		_ = p.Close()
		return nil, fmt.Errorf("%s: setting a pseudo-terminal up: %w", key, err)
	}
	if link == "" {
		return p, nil
	}
	if info, err := os.Lstat(link); err == nil && info.Mode()&fs.ModeSymlink == 0 {
		_ = p.Close()
		return nil, fmt.Errorf("%s: %s is there and no symbolic link: remove it or name another", key, link)
	} else if err == nil {
		_ = os.Remove(link)
	}
	if err := os.Symlink(p.Path, link); err != nil {
		_ = p.Close()
		return nil, fmt.Errorf("%s: %w", key, err)
	}
	p.link = link
	return p, nil
}

// raw switches off everything that a terminal does to bytes.
func (p *PTY) raw() error {
	fd := int(p.slave.Fd())
	t, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return err
	}
	t.Iflag &^= unix.IGNBRK | unix.BRKINT | unix.PARMRK | unix.ISTRIP | unix.INLCR | unix.IGNCR | unix.ICRNL | unix.IXON
	t.Oflag &^= unix.OPOST
	t.Lflag &^= unix.ECHO | unix.ECHONL | unix.ICANON | unix.ISIG | unix.IEXTEN
	t.Cflag = t.Cflag&^(unix.CSIZE|unix.PARENB) | unix.CS8
	t.Cc[unix.VMIN], t.Cc[unix.VTIME] = 1, 0
	return unix.IoctlSetTermios(fd, unix.TCSETS, t)
}

// Read gives what the reader of the terminal wrote.
func (p *PTY) Read(b []byte) (int, error) { return p.master.Read(b) }

// Write sends to the reader.
func (p *PTY) Write(b []byte) (int, error) { return p.master.Write(b) }

// SetReadDeadline limits Read.
func (p *PTY) SetReadDeadline(t time.Time) error { return p.master.SetReadDeadline(t) }

// SetWriteDeadline limits Write.
func (p *PTY) SetWriteDeadline(t time.Time) error { return p.master.SetWriteDeadline(t) }

// How long a reader may take to read what was sent.
const (
	patience = 2 * time.Second
	glance   = 5 * time.Millisecond // for one that did not read the last time
	look     = time.Millisecond
)

// ErrDeaf is returned when nobody reads.
var ErrDeaf = errors.New("nobody reads the line")

// Settle waits until what was written was read. What nobody reads is taken back,
// as a line loses what nobody listens to; from then on Settle waits no longer
// than a glance, until somebody reads again.
func (p *PTY) Settle() error {
	limit := patience
	if p.deaf {
		limit = glance
	}
	deadline := time.Now().Add(limit)
	ticker := time.NewTicker(look)
	defer ticker.Stop()
	for {
		waiting, err := unix.IoctlGetInt(int(p.slave.Fd()), unix.TIOCINQ)
		if err != nil {
			return fmt.Errorf("looking at a pseudo-terminal: %w", err)
		}
		if waiting == 0 {
			p.deaf = false
			return nil
		}
		if time.Now().After(deadline) {
			p.deaf = true
			return errors.Join(ErrDeaf, unix.IoctlSetInt(int(p.slave.Fd()), unix.TCFLSH, unix.TCIFLUSH))
		}
		<-ticker.C
	}
}

// Close closes both ends and removes the link.
func (p *PTY) Close() error {
	if p.link != "" {
		if to, err := os.Readlink(p.link); err == nil && to == p.Path {
			_ = os.Remove(p.link)
		}
	}
	return errors.Join(p.master.Close(), p.slave.Close())
}
