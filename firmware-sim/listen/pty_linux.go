package listen

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
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
	deaf          bool      // nobody read what was sent last
	until         time.Time // limit of Write; zero: none
}

// OpenPTY makes a pseudo-terminal and, if link is not "", a symbolic link to it.
// A link of that name is replaced, anything else is not.
func OpenPTY(key, link string) (*PTY, error) {
	master, slave, err := pty.Open()
	if err != nil {
		return nil, fmt.Errorf("%s: opening a pseudo-terminal: %w", key, err)
	}
	p := &PTY{Path: slave.Name(), master: master, slave: slave}
	if err := errors.Join(p.raw(), p.interruptible()); err != nil {
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

// interruptible opens the master's end anew in a way that a deadline and Close end
// a Read or Write.
func (p *PTY) interruptible() error {
	fd, err := unix.FcntlInt(p.master.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return err
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		_ = unix.Close(fd)
		return err
	}
	_ = p.master.Close()
	p.master = os.NewFile(uintptr(fd), "/dev/ptmx")
	return nil
}

// Read gives what the reader of the terminal wrote.
func (p *PTY) Read(b []byte) (int, error) { return p.master.Read(b) }

// Write sends to the reader. The kernel hands it over a little later: Write
// returns when that has happened, so that Clear sees it, or it was probably read
// at once.
func (p *PTY) Write(b []byte) (n int, err error) {
	for {
		// A master that waited for room is not always told when there is some again:
		// try anew now and then.
		try := time.Now().Add(again)
		if !p.until.IsZero() && p.until.Before(try) {
			try = p.until
		}
		if err := p.master.SetWriteDeadline(try); err != nil {
			return n, err
		}
		var more int
		more, err = p.master.Write(b[n:])
		n += more
		if err == nil || !errors.Is(err, os.ErrDeadlineExceeded) || !p.until.IsZero() && !time.Now().Before(p.until) {
			break
		}
	}
	for deadline := time.Now().Add(handover); err == nil && time.Now().Before(deadline); runtime.Gosched() {
		if waiting, failed := unix.IoctlGetInt(int(p.slave.Fd()), unix.TIOCINQ); failed != nil || waiting > 0 {
			break
		}
	}
	return n, err
}

// SetReadDeadline limits Read.
func (p *PTY) SetReadDeadline(t time.Time) error { return p.master.SetReadDeadline(t) }

// SetWriteDeadline limits the next Write; it is called by the one that writes.
func (p *PTY) SetWriteDeadline(t time.Time) error {
	p.until = t
	return nil
}

// How long a reader may take to read what was sent before.
const (
	patience = 500 * time.Millisecond
	look     = time.Millisecond
	handover = 2 * time.Millisecond
	again    = 50 * time.Millisecond
)

// Clear waits until everything that was written was read. What nobody reads is
// taken back, as a line loses what nobody listens to; after that Clear does not
// wait until somebody reads again.
func (p *PTY) Clear() error {
	deadline := time.Now().Add(patience)
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
		if p.deaf || time.Now().After(deadline) {
			p.deaf = true
			return p.takeBack()
		}
		<-ticker.C
	}
}

// takeBack reads what the reader did not. It does not flush, since that leaves
// some kernels with a terminal that takes nothing any more.
func (p *PTY) takeBack() error {
	fd := int(p.slave.Fd())
	if err := unix.SetNonblock(fd, true); err != nil {
		return fmt.Errorf("taking back from a pseudo-terminal: %w", err)
	}
	buffer := make([]byte, 4096)
	for {
		n, err := unix.Read(fd, buffer)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil && !errors.Is(err, unix.EAGAIN) {
			return fmt.Errorf("taking back from a pseudo-terminal: %w", err)
		}
		if n <= 0 {
			return nil
		}
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
