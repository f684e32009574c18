package engine

import (
	"cmp"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/holdfast-db/holdfast/snapshot"
	"github.com/holdfast-db/holdfast/wal"
)

// pinSet is who needs the log from which offset on (W6). Its lock is held for moments only: pins move with every
// acknowledgement.
type pinSet struct {
	mu  sync.Mutex
	all map[*Pin]struct{}
}

// Pin keeps the log from an offset on. Its methods may be called from any goroutine.
type Pin struct {
	set *pinSet
	off wal.Offset // under set.mu
	why string
}

// PinInfo tells of one pin.
type PinInfo struct {
	Offset wal.Offset
	Why    string
}

// Pin keeps the log from off on until the pin is released (W6). A trim under way may still cut before it: a caller that
// does not hold another pin at or below off looks at Log().First() afterwards.
func (e *Engine) Pin(off wal.Offset, why string) *Pin {
	p := &Pin{set: &e.pins, off: off, why: why}
	e.pins.mu.Lock()
	defer e.pins.mu.Unlock()
	if e.pins.all == nil {
		e.pins.all = map[*Pin]struct{}{}
	}
	e.pins.all[p] = struct{}{}
	return p
}

// Move lets the log go up to off, which is never less than before.
func (p *Pin) Move(off wal.Offset) {
	p.set.mu.Lock()
	p.off = max(p.off, off)
	p.set.mu.Unlock()
}

// Release ends the pin. It is idempotent.
func (p *Pin) Release() {
	p.set.mu.Lock()
	delete(p.set.all, p)
	p.set.mu.Unlock()
}

// Offset returns where the pin stands.
func (p *Pin) Offset() wal.Offset {
	p.set.mu.Lock()
	defer p.set.mu.Unlock()
	return p.off
}

// Pins tells what keeps the log, lowest first.
func (e *Engine) Pins() []PinInfo {
	e.pins.mu.Lock()
	defer e.pins.mu.Unlock()
	var all []PinInfo
	for p := range e.pins.all {
		all = append(all, PinInfo{p.off, p.why})
	}
	slices.SortFunc(all, func(a, b PinInfo) int {
		return cmp.Or(cmp.Compare(a.Offset, b.Offset), cmp.Compare(a.Why, b.Why))
	})
	return all
}

// retain trims the log as configured, but never what a recovery from the store at c or a pin needs (W6). Slots may lose
// their pins by it.
func (e *Engine) retain(c wal.Offset) error {
	e.slots.trimming.Lock()
	defer e.slots.trimming.Unlock()
	keep, err := e.log.Keep()
	if err != nil {
		return err
	}
	e.trimSlots(min(c, keep))
	e.pins.mu.Lock()
	for p := range e.pins.all {
		c = min(c, p.off)
	}
	e.pins.mu.Unlock()
	return e.log.Trim(min(keep, c))
}

// SetRetention changes how much log is kept beyond what is needed (W6): bytes, age; 0 = no bound. It counts when the next
// checkpoint is taken.
func (e *Engine) SetRetention(bytes int64, age time.Duration) { e.log.SetRetention(bytes, age) }

// ErrSwitching says that the data are being replaced by those of a primary.
var ErrSwitching = errors.New("engine: the data are being replaced")

// SnapshotView takes a view of the store and pins the log at its C: what a full sync sends, and where the stream behind it
// begins (R2). The history that it belongs to is Log().Lineage(). The caller closes the view and releases the pin, each
// when it is done with it. ErrSwitching while a Loader's Commit replaces the store.
func (e *Engine) SnapshotView() (v *snapshot.View, pin *Pin, err error) {
	// Pinned at 0 while the view is taken: whatever trims meanwhile keeps what the store needs, and from then on the pin
	// is seen.
	pin = e.Pin(0, "snapshot")
	if v, err = e.rows.gate.view(); err != nil {
		pin.Release()
		return nil, nil, err
	}
	pin.Move(v.Meta().C)
	return v, pin, nil
}

// SnapshotSize returns the bytes of the snapshot store, and its offset C; -1 while a Loader's Commit replaces it.
func (e *Engine) SnapshotSize() (bytes int64, c wal.Offset) {
	store, err := e.rows.gate.enter()
	if err != nil {
		return -1, 0
	}
	defer e.rows.gate.leave()
	return store.Metrics().DiskSize, store.Meta().C
}

// LogHolders tells what keeps the log, and from where on: retention, the last checkpoint, which a recovery begins at, and
// pins. The lowest comes first: it is what keeps the disk from being given back (W6).
func (e *Engine) LogHolders() ([]PinInfo, error) {
	keep, err := e.log.Keep()
	if err != nil {
		return nil, err
	}
	why := "retention"
	if bytes, age := e.log.Retention(); bytes == 0 && age == 0 {
		why = "retention without a limit"
	}
	all := append([]PinInfo{{keep, why}, {e.LastCheckpoint().Offset, "checkpoint"}}, e.Pins()...)
	slices.SortStableFunc(all, func(a, b PinInfo) int { return cmp.Compare(a.Offset, b.Offset) })
	return all, nil
}

// DiskUsage returns the bytes free for this process and in all on the file system of the data directory; ok is false if it
// cannot tell.
func (e *Engine) DiskUsage() (free, total int64, ok bool) {
	u, err := e.opts.FS.GetDiskUsage(e.opts.Dir)
	if err != nil || u.TotalBytes == 0 {
		return 0, 0, false
	}
	return int64(u.AvailBytes), int64(u.TotalBytes), true
}
