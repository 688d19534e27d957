package serial

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// speeds are the constants by which the kernel knows the speeds.
var speeds = map[int]uint32{
	300: unix.B300, 600: unix.B600, 1200: unix.B1200, 2400: unix.B2400, 4800: unix.B4800, 9600: unix.B9600,
	19200: unix.B19200, 38400: unix.B38400, 57600: unix.B57600, 115200: unix.B115200, 230400: unix.B230400,
}

// Port is an open serial port. Its deadlines and Close interrupt Read and Write.
type Port struct {
	*os.File
	exclusive bool
}

// Open opens a port for one owner: a second Open fails with ErrInUse, whoever does it.
func Open(s Settings) (*Port, error) {
	if err := s.Check(); err != nil {
		return nil, err
	}
	s = s.WithDefaults()
	fd, err := unix.Open(s.Device, unix.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, explain(s.Device, err)
	}
	exclusive, err := claim(fd)
	if err == nil {
		err = configure(fd, s)
	}
	if err != nil {
		_ = unix.Close(fd) // it was of no use
		return nil, explain(s.Device, err)
	}
	return &Port{File: os.NewFile(uintptr(fd), s.Device), exclusive: exclusive}, nil
}

// claim makes the port ours. The lock is for programs that ask for one, even if they are root's; the kernel's exclusive
// mode keeps out the others. It reports whether the mode was set.
func claim(fd int) (exclusive bool, err error) {
	if err := unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return false, err
	}
	taken, err := unix.IoctlGetInt(fd, unix.TIOCGEXCL)
	if err != nil {
		return false, err
	}
	if taken != 0 {
		return false, unix.EBUSY // only root gets here
	}
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil {
		return false, err
	}
	if major := unix.Major(stat.Rdev); major >= 136 && major <= 143 {
		// A pseudo-terminal stays in the mode after its user was killed, as long as the other end lives.
		return false, nil
	}
	return true, unix.IoctlSetInt(fd, unix.TIOCEXCL, 0)
}

// configure makes the port raw: every byte goes through as it is, and a broken one comes as 0, which no checksum
// survives.
func configure(fd int, s Settings) error {
	t, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return err
	}
	speed := speeds[s.Baud]
	t.Iflag = unix.IGNBRK
	t.Oflag, t.Lflag = 0, 0
	t.Cflag = unix.CREAD | unix.CLOCAL | speed
	t.Ispeed, t.Ospeed = speed, speed
	t.Cflag |= map[int]uint32{7: unix.CS7, 8: unix.CS8}[s.DataBits]
	if s.StopBits == 2 {
		t.Cflag |= unix.CSTOPB
	}
	if s.Parity != None {
		t.Iflag |= unix.INPCK
		t.Cflag |= unix.PARENB
	}
	if s.Parity == Odd {
		t.Cflag |= unix.PARODD
	}
	t.Cc[unix.VMIN], t.Cc[unix.VTIME] = 1, 0
	if err := unix.IoctlSetTermios(fd, unix.TCSETS, t); err != nil {
		return err
	}
	return unix.IoctlSetInt(fd, unix.TCFLSH, unix.TCIOFLUSH)
}

// explain says in one line what is wrong with a port.
func explain(device string, err error) error {
	switch {
	case errors.Is(err, unix.EBUSY), errors.Is(err, unix.EWOULDBLOCK):
		return fmt.Errorf("%s: another program has it open, or this one has it as another line: %w", device, ErrInUse)
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENXIO), errors.Is(err, unix.ENODEV), errors.Is(err, unix.EIO):
		return fmt.Errorf("%s: is the adapter plugged in?: %w (%w)", device, ErrAbsent, err)
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		return fmt.Errorf("%s: is this user in the group that owns it, often dialout?: %w", device, ErrPermission)
	case errors.Is(err, unix.ENOTTY), errors.Is(err, unix.EISDIR):
		return fmt.Errorf("%s: it is no serial port: %w", device, ErrSettings)
	}
	return fmt.Errorf("opening %s: %w", device, err)
}

// Close gives the port back.
func (p *Port) Close() error {
	if p.exclusive {
		if raw, err := p.SyscallConn(); err == nil {
			// Should it fail: the mode ends with the last user of the port.
			_ = raw.Control(func(fd uintptr) { _ = unix.IoctlSetInt(int(fd), unix.TIOCNXCL, 0) })
		}
	}
	return p.File.Close()
}
