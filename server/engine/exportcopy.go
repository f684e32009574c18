package engine

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/holdfast-db/holdfast/snapshot"
)

// What a full sync exports is read from a copy of the store, not from the store itself: a copy has a block cache of its own, of a few
// blocks, while all that is read of the store goes through the one in which clients' cold keys are kept. There an export of 3 million
// keys took the whole cache, and what its many small pieces of memory leave unused between them beside it, for blocks that nobody
// reads twice. A copy shares the store's tables by hard links, as a view keeps them; it goes with its last user, and all exports
// that begin while the store stands at one C share one, so that their memory does not depend on how many there are (M1).

// exportCacheBytes bounds the blocks that exports keep: those that iterators stand at and the indexes of their tables, for some
// exports at a time.
const exportCacheBytes = 4 << 20

// exportCopies is the copies in use.
type exportCopies struct {
	mu  sync.Mutex
	cur *exportCopy // the newest; nil: nobody uses it any more
}

// exportCopy is one copy. users is under e.exports.mu.
type exportCopy struct {
	dir   string
	of    *snapshot.Store
	store *snapshot.Store // read only
	users int
}

// ExportView is what one full sync exports: the data at C. The caller closes it, and releases Pin when it is done with the log.
type ExportView struct {
	*snapshot.View
	Pin *SyncPin // keeps the log from C on

	e    *Engine
	copy *exportCopy // nil: the view is of the store itself
	once sync.Once
}

// OpenExport opens the data as the store has them now, for ExportRDB, and pins the log at its C: where the stream behind it begins
// (R2). The store's merges give way as long as the pin is there, so that none begins while the replica catches up, but for no longer than
// exportPause. The history that they belong to is Log().Lineage(). Where no copy can be made, on a full disk, the store itself is read; then
// ErrSwitching while a Loader's Commit replaces it.
func (e *Engine) OpenExport() (*ExportView, error) {
	endPause := limitPause(e.pauseMerges())
	pin := &SyncPin{e.Pin(0, "snapshot"), endPause} // see SnapshotView
	x, err := e.exportOfCopy()
	if err != nil {
		pin.Pin.Release()
		e.logger.Warn("a copy of the snapshot store to export could not be made, the store itself is read", "error", err)
		v, pin, err := e.SnapshotView()
		if err != nil {
			endPause()
			return nil, err
		}
		return &ExportView{View: v, Pin: &SyncPin{pin, endPause}, e: e}, nil
	}
	x.Pin = pin
	pin.Move(x.Meta().C)
	return x, nil
}

// limitPause ends a pause of the store's merges after exportPause, if end does not do so before: it is for a full sync, whose replica may
// take long to load. The time is for how long work is put off, not a matter of the data's clock.
func limitPause(endPause func()) (end func()) {
	t := time.AfterFunc(exportPause, endPause)
	return func() {
		t.Stop()
		endPause()
	}
}

// exportOfCopy returns a view of a copy that stands where the store does.
func (e *Engine) exportOfCopy() (*ExportView, error) {
	store, err := e.rows.gate.enter()
	if err != nil {
		return nil, err
	}
	defer e.rows.gate.leave()
	e.exports.mu.Lock()
	defer e.exports.mu.Unlock()
	c := e.exports.cur
	if c == nil || c.of != store || c.store.Meta().C != store.Meta().C {
		if c, err = e.openExportCopy(store); err != nil {
			return nil, err
		}
	}
	v, err := c.store.View()
	if err != nil {
		if c.users == 0 {
			err = errors.Join(err, e.closeExportCopy(c))
		}
		return nil, err
	}
	e.exports.cur = c
	c.users++
	return &ExportView{View: v, e: e, copy: c}, nil
}

func (e *Engine) openExportCopy(store *snapshot.Store) (c *exportCopy, err error) {
	dir, err := e.newCopyDir()
	if err != nil {
		return nil, err
	}
	c = &exportCopy{dir: dir, of: store}
	if err = store.Copy(dir); err == nil {
		o := e.storeOptions(dir)
		o.ReadOnly, o.CacheBytes = true, min(exportCacheBytes, max(o.CacheBytes, 1))
		c.store, err = snapshot.Open(o)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("copy of the snapshot store: %w", err), e.closeExportCopy(c))
	}
	return c, nil
}

// closeExportCopy closes and deletes a copy that nobody uses.
func (e *Engine) closeExportCopy(c *exportCopy) error {
	var err error
	if c.store != nil {
		err = c.store.Close()
	}
	e.deleteCopy(c.dir)
	return err
}

// Close ends the use of the data; the pin stays. It is idempotent.
func (x *ExportView) Close() (err error) {
	x.once.Do(func() {
		err = x.View.Close()
		if x.copy == nil {
			return
		}
		e, c := x.e, x.copy
		e.exports.mu.Lock()
		defer e.exports.mu.Unlock()
		if c.users--; c.users > 0 {
			return
		}
		if e.exports.cur == c {
			e.exports.cur = nil
		}
		err = errors.Join(err, e.closeExportCopy(c))
	})
	return err
}
