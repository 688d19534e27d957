package cli

import "golang.org/x/sys/unix"

// roomOf asks the operating system; false if it does not say.
func roomOf(dir string) (diskRoom, bool) {
	var s unix.Statfs_t
	if unix.Statfs(dir, &s) != nil || s.Bsize <= 0 {
		return diskRoom{}, false
	}
	return diskRoom{free: s.Bavail * uint64(s.Bsize), readOnly: s.Flags&unix.ST_RDONLY != 0}, true
}
