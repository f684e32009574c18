package engine

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/holdfast-db/holdfast/wal"
)

// A slot is what a named replica has on disk, remembered while it is away: it pins the log from there on (W6), across
// restarts. SLOTS in the data directory holds them all.
//
// What the file says may be older than what memory knows, never newer: a slot whose offset is too low keeps more than
// is needed, one too high would let go of bytes that a replica will ask for. So moving a slot up is written when there is time,
// at most once in slotSaveEvery, while creating one, or setting it back, is durable before anybody relies on it.
//
// A slot is lost when the log no longer has what its replica lacks: it held more than SlotMaxBytes, or data and log
// were replaced by those of a primary. It keeps its name, holds nothing, and lives again when its replica is attached.

const slotsName = "SLOTS"

// maxSlots bounds how many there are, since each costs a line of the file that is written anew each second: far more than
// a primary has replicas, few enough for a client that invents names to do no harm.
const maxSlots = 1024

// maxSlotName is the longest name in bytes.
const maxSlotName = 64

// slotSaveEvery is the least time between two writes of offsets that have moved. What a power cut costs is that so much more
// of the log is kept.
const slotSaveEvery = time.Second

// slotSeenEvery is how old the file may grow in telling when an idle slot was last heard of.
const slotSeenEvery = time.Minute

// Errors of slots.
var (
	ErrSlotName   = errors.New("engine: a slot's name is 1 to 64 of A-Z a-z 0-9 . _ : -")
	ErrSlotExists = errors.New("engine: slot exists")
	ErrNoSlot     = errors.New("engine: no such slot")
	ErrSlotActive = errors.New("engine: slot belongs to a replica that is attached")
	ErrManySlots  = errors.New("engine: too many slots")
)

// SlotInfo tells of one slot.
type SlotInfo struct {
	Name    string
	Offset  wal.Offset // the replica has everything before it on disk
	Created time.Time
	Seen    time.Time // when it was last heard of; zero: never
	Active  bool      // its replica is attached
	Lost    string    // why the log no longer has what it needs; empty: it has
	Held    int64     // durable bytes of log from Offset on; 0 for a lost one
}

// slotRecord is a slot in the file.
type slotRecord struct {
	Name    string     `json:"name"`
	Offset  wal.Offset `json:"offset"`
	Created int64      `json:"created-ms"`
	Seen    int64      `json:"seen-ms,omitempty"`
	Lost    string     `json:"lost,omitempty"`
}

type slot struct {
	slotRecord
	active    bool
	pin       *Pin  // nil: lost
	savedSeen int64 // what the file says of Seen
}

// slotSet is all slots of an engine. Lock order: file before mu; mu before the pins' lock.
type slotSet struct {
	maxBytes atomic.Int64 // see Options.SlotMaxBytes

	file struct {
		sync.Mutex
		saved time.Time
	}
	mu struct {
		sync.Mutex
		all   map[string]*slot
		moved bool // memory knows more than the file
	}
	failing bool // the last write by the janitor failed; of the janitor
	// trimming is held while the log is trimmed and while a pin is placed: whoever holds it knows that First stands (W6).
	trimming sync.Mutex
}

// ValidSlotName tells whether a slot, and so a replica, may have this name.
func ValidSlotName(name string) bool {
	for _, c := range []byte(name) {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '.', c == '_', c == ':', c == '-':
		default:
			return false
		}
	}
	return len(name) >= 1 && len(name) <= maxSlotName
}

// SetSlotMaxBytes changes how much a slot may hold; 0 = no limit. It counts when the log is trimmed next.
func (e *Engine) SetSlotMaxBytes(n int64) { e.slots.maxBytes.Store(n) }

// loadSlots reads the file. REQUIRES: the log is open, and nothing trims it yet.
func (e *Engine) loadSlots() error {
	records, err := e.readSlots()
	if err != nil {
		return err
	}
	e.slots.mu.all = make(map[string]*slot, len(records))
	for _, r := range records {
		sl := &slot{slotRecord: r, savedSeen: r.Seen}
		if sl.Lost == "" {
			// Whatever was trimmed the pin had left behind, though the file does not say so yet.
			sl.Offset = max(sl.Offset, e.log.First())
			sl.pin = e.pinSlot(sl.Name, sl.Offset)
		}
		e.slots.mu.all[r.Name] = sl
	}
	e.checkSlots()
	return nil
}

// readSlots returns what the file says, which is nothing if there is none.
func (e *Engine) readSlots() (records []slotRecord, err error) {
	text, err := readFile(e.opts.FS, e.path(slotsName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err == nil {
		err = json.Unmarshal([]byte(text), &records)
	}
	names := map[string]bool{}
	for _, r := range records {
		if err == nil && (!ValidSlotName(r.Name) || r.Offset < 0 || names[r.Name]) {
			err = fmt.Errorf("slot %q at %d", r.Name, int64(r.Offset))
		}
		names[r.Name] = true
	}
	if err != nil {
		return nil, fmt.Errorf("%s in %s: %w (without the file named replicas may need a full sync)", slotsName, e.opts.Dir, err)
	}
	return records, nil
}

// pinSlot keeps the log for a slot (W6).
func (e *Engine) pinSlot(name string, off wal.Offset) *Pin {
	if e.opts.mutant == "slots hold nothing" {
		off = math.MaxInt64
	}
	return e.Pin(off, "slot "+name)
}

// checkSlots finds the slots whose bytes the log does not have.
func (e *Engine) checkSlots() {
	first, end := e.log.First(), e.log.End()
	e.loseSlots(func(sl *slot) string {
		switch {
		case sl.Offset < first:
			return fmt.Sprintf("the log begins at %d", int64(first))
		case sl.Offset > end:
			return fmt.Sprintf("the log ends at %d", int64(end))
		}
		return ""
	})
}

// loseSlots marks the slots for which why gives a reason.
func (e *Engine) loseSlots(why func(*slot) string) {
	s := &e.slots
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, sl := range s.mu.all {
		if sl.pin == nil {
			continue
		}
		reason := why(sl)
		if reason == "" {
			continue
		}
		sl.pin.Release()
		sl.pin, sl.Lost, s.mu.moved = nil, reason, true
		e.logger.Warn("slot lost, its replica will need a full sync", "slot", sl.Name, "offset", int64(sl.Offset), "reason", reason)
	}
}

// Slots tells of all slots, in the order of their names.
func (e *Engine) Slots() []SlotInfo {
	s, durable := &e.slots, e.log.Durable()
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]SlotInfo, 0, len(s.mu.all))
	for _, sl := range s.mu.all {
		i := SlotInfo{Name: sl.Name, Offset: sl.Offset, Created: time.UnixMilli(sl.Created), Active: sl.active, Lost: sl.Lost}
		if sl.Seen != 0 {
			i.Seen = time.UnixMilli(sl.Seen)
		}
		if sl.Lost == "" {
			i.Held = int64(max(0, durable-sl.Offset))
		}
		out = append(out, i)
	}
	slices.SortFunc(out, func(a, b SlotInfo) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

// CreateSlot makes a slot at off, negative: at the durable end, for a replica that has everything before it. It is durable when
// it returns. ErrSlotName, ErrSlotExists, ErrManySlots; wal.ErrTrimmed and wal.ErrFuture for an offset that the log does not have.
func (e *Engine) CreateSlot(name string, off wal.Offset) error {
	s := &e.slots
	s.trimming.Lock()
	defer s.trimming.Unlock()
	if off < 0 {
		off = e.log.Durable()
	}
	return e.changeSlots(func() error {
		if s.mu.all[name] != nil {
			return fmt.Errorf("%w: %s", ErrSlotExists, name)
		}
		_, err := e.placeSlotLocked(name, off)
		return err
	})
}

// AttachSlot says that the replica of that name is attached and stands at off. A slot is created if there is none; one that
// stands below off stays there, since what the replica has is not all on its disk; one that stands above it, or is lost, is
// set to off. Errors as CreateSlot's.
func (e *Engine) AttachSlot(name string, off wal.Offset) error {
	s := &e.slots
	s.trimming.Lock()
	defer s.trimming.Unlock()
	now := e.now().UnixMilli()
	s.mu.Lock()
	if sl := s.mu.all[name]; sl != nil && sl.pin != nil && sl.Offset <= off {
		sl.active, sl.Seen, s.mu.moved = true, now, true
		s.mu.Unlock()
		return nil
	}
	s.mu.Unlock()
	return e.changeSlots(func() error {
		sl, err := e.placeSlotLocked(name, off)
		if err != nil {
			return err
		}
		sl.active, sl.Seen = true, now
		return nil
	})
}

// placeSlotLocked makes or moves a slot and pins the log for it. REQUIRES: mu, trimming.
func (e *Engine) placeSlotLocked(name string, off wal.Offset) (*slot, error) {
	s := &e.slots
	sl := s.mu.all[name]
	switch {
	case !ValidSlotName(name):
		return nil, ErrSlotName
	case off < e.log.First():
		return nil, wal.ErrTrimmed
	case off > e.log.Durable():
		return nil, wal.ErrFuture // W5: nobody has it
	case sl == nil && len(s.mu.all) >= maxSlots:
		return nil, fmt.Errorf("%w: %d", ErrManySlots, maxSlots)
	}
	if sl == nil {
		sl = &slot{slotRecord: slotRecord{Name: name, Created: e.now().UnixMilli()}}
		s.mu.all[name] = sl
	}
	old := sl.pin
	sl.pin, sl.Offset, sl.Lost = e.pinSlot(name, off), off, ""
	if old != nil {
		old.Release()
	}
	return sl, nil
}

// changeSlots runs change and makes what it did durable. If it cannot be written, memory keeps it and the error is returned:
// the slot holds the log, but may be forgotten by a restart.
func (e *Engine) changeSlots(change func() error) error {
	s := &e.slots
	s.mu.Lock()
	err := change()
	if err == nil {
		s.mu.moved = true
	}
	s.mu.Unlock()
	if err != nil {
		return err
	}
	if e.opts.mutant == "slots are written later" {
		return nil
	}
	return e.saveSlots(true)
}

// MoveSlot says that the replica has everything before off on its disk. A slot never moves down by it; an unknown or lost one
// stays what it is.
func (e *Engine) MoveSlot(name string, off wal.Offset) {
	s := &e.slots
	off = min(off, e.log.Durable())
	now := e.now().UnixMilli()
	s.mu.Lock()
	defer s.mu.Unlock()
	sl := s.mu.all[name]
	if sl == nil {
		return
	}
	sl.Seen = now
	if now-sl.savedSeen >= slotSeenEvery.Milliseconds() {
		s.mu.moved = true
	}
	if sl.pin != nil && off > sl.Offset {
		sl.Offset, s.mu.moved = off, true
		sl.pin.Move(off)
	}
}

// SlotActive says whether the replica is attached.
func (e *Engine) SlotActive(name string, on bool) {
	s := &e.slots
	now := e.now().UnixMilli()
	s.mu.Lock()
	defer s.mu.Unlock()
	if sl := s.mu.all[name]; sl != nil {
		sl.active, sl.Seen, s.mu.moved = on, now, true
	}
}

// DropSlot forgets a slot and lets its part of the log go. It is durable when it returns. ErrNoSlot; ErrSlotActive, since
// its replica would only make it anew.
func (e *Engine) DropSlot(name string) error {
	s := &e.slots
	return e.changeSlots(func() error {
		sl := s.mu.all[name]
		switch {
		case sl == nil:
			return fmt.Errorf("%w: %s", ErrNoSlot, name)
		case sl.active:
			return fmt.Errorf("%w: %s", ErrSlotActive, name)
		}
		if sl.pin != nil {
			sl.pin.Release()
		}
		delete(s.mu.all, name)
		return nil
	})
}

// saveSlots writes the file if memory knows more than it says. Unless at once, it leaves slotSaveEvery between two writes.
func (e *Engine) saveSlots(atOnce bool) error {
	s := &e.slots
	s.file.Lock()
	defer s.file.Unlock()
	now := e.now()
	if !atOnce && now.Sub(s.file.saved) < slotSaveEvery {
		return nil
	}
	s.mu.Lock()
	if !s.mu.moved {
		s.mu.Unlock()
		return nil
	}
	s.mu.moved = false
	records := make([]slotRecord, 0, len(s.mu.all))
	for _, sl := range s.mu.all {
		records = append(records, sl.slotRecord)
		sl.savedSeen = sl.Seen
	}
	s.mu.Unlock()
	s.file.saved = now
	slices.SortFunc(records, func(a, b slotRecord) int { return cmp.Compare(a.Name, b.Name) })
	text, err := json.Marshal(records)
	if err == nil {
		err = e.writeMark(slotsName, string(text)+"\n")
	}
	if err != nil {
		s.mu.Lock()
		s.mu.moved = true // tried again
		s.mu.Unlock()
		return fmt.Errorf("slots: %w", err)
	}
	return nil
}

// keepSlots writes what has moved, once in a while: the janitor's part.
func (e *Engine) keepSlots() {
	err := e.saveSlots(false)
	if failing := err != nil; failing != e.slots.failing {
		e.slots.failing = failing
		if failing {
			e.logger.Warn("slots cannot be written, a restart would keep more of the log than is needed", "error", err)
		} else {
			e.logger.Info("slots are written again")
		}
	}
}

// trimSlots marks as lost what would keep more than SlotMaxBytes of log from being trimmed; keep is from where on the log is kept
// without any slot. REQUIRES: trimming.
func (e *Engine) trimSlots(keep wal.Offset) {
	most := e.slots.maxBytes.Load()
	if most <= 0 {
		return
	}
	durable := e.log.Durable()
	e.loseSlots(func(sl *slot) string {
		if held := int64(durable - sl.Offset); sl.Offset < keep && held > most {
			return fmt.Sprintf("it would hold %d bytes of log, at most %d are allowed", held, most)
		}
		return ""
	})
}
