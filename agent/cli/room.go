package cli

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"syscall"
	"time"
)

// Room on the disk of a home's folder. An agent that has little stops before a write fails
// in its middle, and goes on when there is more.
const (
	leastRoom = 2 << 20 // bytes: below this it ends
	startRoom = 4 << 20 // and with less it does not begin, lest it end at once
	roomEvery = 5 * time.Second
)

// diskRoom is what a disk can take.
type diskRoom struct {
	free     uint64 // bytes that this user may write
	readOnly bool
}

// errDisk is a disk that takes nothing more; the text says which and why.
var errDisk = errors.New("the disk cannot be written")

// diskProblem says what can be done about an error that came from a disk which is full,
// read-only, or failing; nil if it is about something else.
func diskProblem(err error, dir string) error {
	room, known := roomOf(dir)
	folder := dir
	if abs, aerr := filepath.Abs(dir); aerr == nil {
		folder = abs
	}
	again := "; then `commonwatt run --home " + dir + "` goes on where it was: what was kept is whole"
	switch {
	case errors.Is(err, syscall.EROFS) || known && room.readOnly:
		return &problem{
			exitDisk, fmt.Errorf("%w: %s is on a read-only file system: %w", errDisk, folder, err),
			"the system makes a failing card read-only: see `dmesg`, replace the card if it says so, or run `mount -o remount,rw` on it" + again,
		}
	case errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || known && room.free < leastRoom:
		return &problem{
			exitDisk, fmt.Errorf("%w: %s is full, %d bytes are free, at least %d are needed: %w", errDisk, folder, room.free, startRoom, err),
			"make room on it: `du -xh " + folder + " | sort -h | tail` shows what is large; damaged-* folders may go" + again,
		}
	case errors.Is(err, syscall.EIO):
		return &problem{
			exitDisk, fmt.Errorf("%w: %s is on a disk that fails: %w", errDisk, folder, err),
			"see `dmesg`; copy the folder to another disk with `cp -a`, and run `commonwatt ledger check` on the copy",
		}
	}
	return nil
}

// checkRoom returns an error if there is less room than that.
func checkRoom(dir string, least uint64) error {
	room, known := roomOf(dir)
	switch {
	case !known:
		return nil
	case room.readOnly:
		return syscall.EROFS
	case room.free < least:
		return syscall.ENOSPC
	}
	return nil
}

// watchRoom ends the agent before the disk is full.
func (g *gateway) watchRoom(ctx context.Context) error {
	tick := time.NewTicker(roomEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			if err := checkRoom(g.dir, leastRoom); err != nil {
				return err
			}
		}
	}
}
