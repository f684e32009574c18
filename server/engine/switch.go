package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"

	"github.com/holdfast-db/holdfast/snapshot"
	"github.com/holdfast-db/holdfast/wal"
)

// Replacing data and log.
//
// The new store is complete, verified, synced and closed in snapshot.new. Then, with the executor's lock held and nobody
// reading:
//
//	1. the mark file SWITCH is written durably: THE COMMIT POINT. It tells the offset and the lineage to come
//	2. snapshot → snapshot.old, snapshot.new → snapshot, each rename made durable
//	3. the log is emptied and begins at the offset (wal.Log.Reset)
//	4. the new store is opened and memory forgotten
//	5. the mark is removed, durably; later snapshot.old
//
// A crash before 1 leaves the old data and the old log, and a snapshot.new that Open deletes. A crash after it is finished by
// Open: as long as snapshot.new is there it is the store to come, whatever else there is; then the log is reset, again if need
// be, since nothing is appended before the mark is gone.

const (
	switchName   = "SWITCH"
	storeName    = "snapshot"
	oldStoreName = "snapshot.old"
)

// switchMark is the text of the mark file.
type switchMark struct {
	Offset  wal.Offset
	Lineage []wal.LineageEntry
}

// errUnfinished is what offline tools say of a directory with the mark.
var errUnfinished = errors.New("data and log are being replaced by those of a primary: start the server once, it finishes that")

func (e *Engine) storeOptions(dir string) snapshot.Options {
	return snapshot.Options{FS: e.disk.fs, Dir: dir, Logger: e.opts.Logger, CacheBytes: e.opts.CacheBytes, HoldCompactions: true}
}

func (e *Engine) openStore(dir string) (*snapshot.Store, error) {
	s, err := snapshot.Open(e.storeOptions(dir))
	if err != nil {
		return nil, fmt.Errorf("snapshot store in %s: %w", dir, err)
	}
	return s, nil
}

// switchTo replaces store and log by what stands in snapshot.new. Unless begun, everything is as it was; if it has begun and
// fails, the server is of no use until a restart, which finishes it. REQUIRES: streamMu and the checkpointer's lock.
func (e *Engine) switchTo(ctx context.Context, m switchMark) (begun bool, err error) {
	text, err := json.Marshal(m)
	if err != nil {
		return false, err
	}
	e.marks.drop()
	if err := e.rows.gate.bar(ctx); err != nil {
		e.rows.gate.unbar()
		return false, err
	}
	if err := ctx.Err(); err != nil {
		e.rows.gate.unbar()
		return false, err
	}
	start := e.now()
	e.mu.Lock()
	e.commit()
	mark := e.writeMark
	switch e.opts.mutant {
	case "no switch mark":
		mark = func(string, string) error { return nil }
	case "log before the mark":
		if err := e.log.Reset(m.Offset, m.Lineage); err != nil {
			e.mu.Unlock()
			return false, err
		}
	}
	if err := mark(switchName, string(text)); err != nil {
		// Whether it is there is not known: it must not be.
		if rerr := e.removeMark(switchName); rerr != nil {
			err = e.switchFailed(errors.Join(err, rerr))
			e.mu.Unlock()
			return true, err
		}
		e.rows.gate.unbar()
		e.mu.Unlock()
		return false, err
	}
	err = e.exchange(m)
	held := e.now().Sub(start)
	e.mu.Unlock()
	if err != nil {
		return true, err
	}
	e.logger.Info("data and log replaced", "offset", int64(m.Offset), "replication-id", m.Lineage[len(m.Lineage)-1].ID,
		"max-hold-ms", held.Milliseconds())
	if err := e.disk.fs.RemoveAll(e.path(oldStoreName)); err != nil {
		e.logger.Warn("deleting the old snapshot store failed, the next start tries again", "error", err)
	}
	e.startPreload()
	return true, nil
}

// exchange does what the mark says. REQUIRES: mu, and what switchTo requires.
func (e *Engine) exchange(m switchMark) error {
	err := e.rows.gate.takeOut().Close()
	if err == nil {
		err = e.renameStores()
	}
	if err == nil {
		err = e.log.Reset(m.Offset, m.Lineage)
	}
	var s *snapshot.Store
	if err == nil {
		s, err = e.openStore(e.path(storeName))
	}
	if err != nil {
		return e.switchFailed(err)
	}
	s.SetCompactions(1)
	e.store = s
	e.checkSlots()
	e.rows.gate.putIn(s, nil)
	watching, blocking := e.ks.Watching, e.ks.Blocking
	if err := e.recover(-1); err != nil {
		return e.switchFailed(err)
	}
	e.ks.Watching, e.ks.Blocking = watching, blocking
	e.begin()
	if e.observer != nil {
		e.observer.Flushed()
		e.observer.Released()
	}
	for _, clients := range e.watched {
		for cl := range clients {
			cl.broken = true
		}
	}
	if err := e.removeMark(switchName); err != nil {
		return e.switchFailed(err)
	}
	e.check.mu.Lock()
	e.check.mu.info.Offset, e.check.mu.info.End, e.check.mu.info.Err = m.Offset, e.now(), nil
	e.check.mu.Unlock()
	return nil
}

func (e *Engine) renameStores() error {
	fs := e.disk.fs
	if err := fs.RemoveAll(e.path(oldStoreName)); err != nil {
		return err
	}
	if err := fs.Rename(e.path(storeName), e.path(oldStoreName)); err != nil {
		return err
	}
	if err := syncDir(fs, e.opts.Dir); err != nil {
		return err
	}
	if err := fs.Rename(e.path(newStoreName), e.path(storeName)); err != nil {
		return err
	}
	return syncDir(fs, e.opts.Dir)
}

// switchFailed ends everything: the mark is there, and only a start can finish what it says.
func (e *Engine) switchFailed(err error) error {
	err = fmt.Errorf("replacing the data: %w; a restart finishes it", err)
	msg := "MISCONF Errors replacing the data: " + err.Error()
	e.logger.Error("data and log could not be replaced, a restart finishes it", "error", err)
	e.disk.broken.Store(true)
	e.refuseWrites(&msg)
	e.rows.gate.putIn(nil, err)
	if e.opts.OnFailure != nil {
		e.opts.OnFailure(err)
	}
	return err
}

// removeMark removes a mark file, durably; it need not be there.
func (e *Engine) removeMark(name string) error {
	if err := e.disk.fs.Remove(e.path(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return syncDir(e.disk.fs, e.opts.Dir)
}

// readSwitch returns the mark of a switch that was cut off; nil if there is none.
func (e *Engine) readSwitch() (*switchMark, error) {
	text, err := readFile(e.disk.fs, e.path(switchName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	m := &switchMark{}
	if err == nil {
		err = json.Unmarshal([]byte(text), m)
	}
	if err == nil && len(m.Lineage) == 0 {
		err = errors.New("no lineage")
	}
	if err != nil {
		return nil, fmt.Errorf("mark %s in %s: %w", switchName, e.opts.Dir, err)
	}
	return m, nil
}

// settleStores puts the right store in place before one is opened: the new one if there is a mark, else the one that is there.
func (e *Engine) settleStores(m *switchMark) error {
	fs := e.disk.fs
	names, err := fs.List(e.opts.Dir)
	if err != nil {
		return err
	}
	there := map[string]bool{}
	for _, n := range names {
		there[n] = true
	}
	switch {
	case m != nil && there[newStoreName]:
		if err := fs.RemoveAll(e.path(storeName)); err != nil {
			return err
		}
		if err := syncDir(fs, e.opts.Dir); err != nil {
			return err
		}
		if err := fs.Rename(e.path(newStoreName), e.path(storeName)); err != nil {
			return err
		}
		if err := syncDir(fs, e.opts.Dir); err != nil {
			return err
		}
	case there[newStoreName]:
		if err := fs.RemoveAll(e.path(newStoreName)); err != nil {
			return err
		}
	}
	if there[oldStoreName] {
		return fs.RemoveAll(e.path(oldStoreName))
	}
	return nil
}

// finishSwitch does the rest of what a mark says, once log and store are open.
func (e *Engine) finishSwitch(m *switchMark) error {
	if c := e.store.Meta().C; c != m.Offset {
		return fmt.Errorf("data and log were being replaced at offset %d, but the snapshot store stands at %d: restore the directory from a copy", m.Offset, c)
	}
	if err := e.log.Reset(m.Offset, m.Lineage); err != nil {
		return err
	}
	if err := e.removeMark(switchName); err != nil {
		return err
	}
	e.logger.Info("replacing data and log finished, it had been cut off", "offset", int64(m.Offset))
	return nil
}
