package street

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/commonwatt/commonwatt/firmware-sim/config"
)

// ErrJournal is returned for a file that is no journal of this street.
var ErrJournal = errors.New("not this street's journal")

// The journal is a file of lines. The first says whose journal it is, each
// further one is a command that was obeyed, in the order in which it was. A line
// is on the disk before its command is acknowledged or has any effect; half a
// line at the end is a command that never was, and is cut off.
const (
	journalFormat = 1
	maxRecord     = 4096 // bytes of a line
	maxRecords    = 5_000_000
)

type journalHead struct {
	Format int       `json:"firmware_sim_journal"`
	Epoch  time.Time `json:"epoch"`
	Seed   uint64    `json:"seed"`
}

// record is a write that a device took.
type record struct {
	At      int64    `json:"at"` // milliseconds of community time since 1970
	Home    string   `json:"home"`
	Role    string   `json:"role"`
	Address uint16   `json:"address"`
	Words   []uint16 `json:"words"`
}

// journal is the open file.
type journal struct {
	mu     sync.Mutex
	file   *os.File
	lines  int
	broken error // a line was begun and not ended, nothing may follow it
}

// openJournal reads a journal, makes its commands again, and goes on writing to
// it. A file that is not there is made.
func (s *Street) openJournal(cfg *config.Config) error {
	file, err := os.OpenFile(cfg.Journal, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("opening the journal: %w", err)
	}
	j := &journal{file: file}
	head := journalHead{Format: journalFormat, Epoch: cfg.Clock.Epoch.UTC(), Seed: cfg.Seed}
	var end int64
	end, j.lines, err = s.replay(file, head)
	if err == nil {
		err = file.Truncate(end)
	}
	if err == nil && end == 0 {
		err = j.append(head)
	}
	if err != nil {
		_ = file.Close()
		return fmt.Errorf("journal %s: %w", cfg.Journal, err)
	}
	s.journal = j
	if s.manual != nil && s.last > s.Now().UnixMilli() {
		s.manual.set(time.UnixMilli(s.last).UTC()) // time does not go back, not even by a restart
	}
	return nil
}

// replay makes a file's commands again, and says how many whole lines it has and
// how long they are.
func (s *Street) replay(file io.Reader, head journalHead) (end int64, whole int, err error) {
	lines := bufio.NewReaderSize(file, maxRecord)
	for number := 1; ; number++ {
		line, err := lines.ReadSlice('\n')
		if errors.Is(err, io.EOF) {
			return end, number - 1, nil
		}
		if err != nil { // also a line that is too long
			return end, 0, fmt.Errorf("line %d: %w: %w", number, ErrJournal, err)
		}
		if number > maxRecords {
			return end, 0, fmt.Errorf("line %d: %w: more than %d lines", number, ErrJournal, maxRecords)
		}
		if number == 1 {
			err = checkHead(line, head)
		} else {
			err = s.again(line)
		}
		if err != nil {
			return end, 0, fmt.Errorf("line %d: %w", number, err)
		}
		end += int64(len(line))
	}
}

func checkHead(line []byte, want journalHead) error {
	var got journalHead
	if err := strict(line, &got); err != nil {
		return err
	}
	if got.Format != want.Format || !got.Epoch.Equal(want.Epoch) || got.Seed != want.Seed {
		return fmt.Errorf("%w: it is of format %d, epoch %s and seed %d, want %d, %s and %d: give another file, or delete this one",
			ErrJournal, got.Format, got.Epoch.Format(time.RFC3339), got.Seed, want.Format, want.Epoch.Format(time.RFC3339), want.Seed)
	}
	return nil
}

// again makes one command again.
func (s *Street) again(line []byte) error {
	var r record
	if err := strict(line, &r); err != nil {
		return err
	}
	house, ok := s.House(r.Home)
	if !ok || house.inverter == nil || house.inverter.meter.Role != r.Role {
		return fmt.Errorf("%w: home %.80q has no inverter with role %.20q", ErrJournal, r.Home, r.Role)
	}
	if r.At < s.first*s.refresh || r.At > (s.first+maxRefreshes)*s.refresh {
		return fmt.Errorf("%w: a command at %d, want %d to %d", ErrJournal, r.At, s.first*s.refresh, (s.first+maxRefreshes)*s.refresh)
	}
	err := house.inverter.write(r.At, r.Address, r.Words, func(at int64) error {
		if at != r.At {
			return fmt.Errorf("%w: a command at %d after one at %d", ErrJournal, r.At, at)
		}
		return nil
	})
	if errors.Is(err, ErrJournal) {
		return err
	}
	if err != nil {
		return fmt.Errorf("register %d of %s: %w: was the configuration changed?", r.Address, r.Home, err)
	}
	s.last = max(s.last, r.At)
	return nil
}

func strict(line []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(line))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return fmt.Errorf("%w: %w", ErrJournal, err)
	}
	if d.More() {
		return fmt.Errorf("%w: more than one value in a line", ErrJournal)
	}
	return nil
}

// append writes a line and waits until it is on the disk.
func (j *journal) append(v any) error {
	line, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encoding a command: %w", err)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.broken != nil {
		return fmt.Errorf("the journal failed before: %w", j.broken)
	}
	if j.lines >= maxRecords {
		return fmt.Errorf("the journal is full: it has %d lines", j.lines)
	}
	j.lines++
	if _, err = j.file.Write(append(line, '\n')); err == nil {
		err = j.file.Sync()
	}
	if err != nil {
		j.broken = err
		return fmt.Errorf("writing the journal: %w", err)
	}
	return nil
}

func (j *journal) close() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.broken = os.ErrClosed
	return j.file.Close()
}
