package engine

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/holdfast-db/holdfast/snapshot"
	"github.com/holdfast-db/holdfast/wal"
)

// Copies of the store for full syncs by tables. A copy shares the store's tables by hard links, so it costs a few files at
// first, and the tables that compactions replace as long as it is there. All replicas that ask share one, until the log behind
// it has grown too long; it pins the log from its C on (W6). When a link was cut it stays a while for the replica that will want
// the rest. A restart deletes it: the replica's claims are compared with the store's tables, nearly all of which are the same.

const (
	// copiesName is the directory of the copies.
	copiesName = "sync"
	// copyStays is how long a copy is kept for a replica that was cut off.
	copyStays = 10 * time.Minute
	// A copy is shared while the log behind it is shorter than this, or than half of its own size.
	copyTail = 16 << 20
)

type syncCopies struct {
	mu  sync.Mutex
	cur *syncCopy
}

// syncCopy is one copy. All but what Open uses is under e.copies.mu.
type syncCopy struct {
	dir   string
	c     wal.Offset
	files []SyncFile
	size  int64
	store *snapshot.Store // of which it is a copy
	pin   *Pin
	users int
	cut   bool      // somebody left without having all of it
	idle  time.Time // since when it has no users
	gone  bool      // no longer offered: deleted with its last user
}

// SyncFile is one file of a store.
type SyncFile struct {
	Name string
	Size int64
}

// SyncTables is the use of a copy of the store by one full sync. Close ends it; Pin is released by the caller.
type SyncTables struct {
	e   *Engine
	c   *syncCopy
	Pin *SyncPin

	once sync.Once
	done bool
}

// SyncPin keeps the log from a full sync's C on (W6), and the store's merges from beginning: until the replica has caught up.
type SyncPin struct {
	*Pin
	endPause func()
}

// Release ends it. It is idempotent.
func (p *SyncPin) Release() {
	p.Pin.Release()
	p.endPause()
}

// OpenTables returns the store's files as they are at one C, shared or made now; fresh is called before one is made: to take a
// checkpoint if it is due. ErrSwitching while a Loader's Commit replaces the store.
func (e *Engine) OpenTables(ctx context.Context, fresh func(context.Context) error) (t *SyncTables, err error) {
	endPause := e.pauseMerges()
	defer func() {
		if err != nil {
			endPause()
		}
	}()
	if t := e.shareTables(endPause); t != nil {
		return t, nil
	}
	if err := fresh(ctx); err != nil {
		return nil, err
	}
	pin := e.Pin(0, "snapshot") // see SnapshotView
	store, err := e.rows.gate.enter()
	if err != nil {
		pin.Release()
		return nil, err
	}
	defer e.rows.gate.leave()
	e.copies.mu.Lock()
	defer e.copies.mu.Unlock()
	c, err := e.copyStore(store)
	if err != nil {
		pin.Release()
		return nil, fmt.Errorf("copy of the snapshot store: %w", err)
	}
	pin.Move(c.c)
	c.pin = pin
	e.retireLocked(e.copies.cur)
	e.copies.cur = c
	return e.useLocked(c, endPause), nil
}

// pauseMerges has merges of the store's tables give way to a full sync, until end: one takes a core and the disk, and has the tables
// twice that a copy still holds. They are made up for when it is over (snapshot.Store.PauseCompactions).
func (e *Engine) pauseMerges() (end func()) {
	store, err := e.rows.gate.enter()
	if err != nil { // there is none any more, and nothing to pause
		return func() {}
	}
	defer e.rows.gate.leave()
	return store.PauseCompactions()
}

// shareTables returns the copy that is there, if it will do.
func (e *Engine) shareTables(endPause func()) *SyncTables {
	store, err := e.rows.gate.enter()
	if err != nil {
		return nil // told by who comes next
	}
	defer e.rows.gate.leave()
	e.copies.mu.Lock()
	defer e.copies.mu.Unlock()
	c := e.copies.cur
	if c == nil || c.store != store || int64(e.log.End()-c.c) > max(copyTail, c.size/2) {
		return nil
	}
	return e.useLocked(c, endPause)
}

func (e *Engine) useLocked(c *syncCopy, endPause func()) *SyncTables {
	c.users++
	return &SyncTables{e: e, c: c, Pin: &SyncPin{e.Pin(c.c, "full sync"), endPause}}
}

// copyStore makes a copy. REQUIRES: copies.mu.
func (e *Engine) copyStore(store *snapshot.Store) (c *syncCopy, err error) {
	fs := e.disk.fs
	dir, err := e.newCopyDir()
	if err != nil {
		return nil, err
	}
	c = &syncCopy{dir: dir, store: store}
	defer func() {
		if err != nil {
			e.deleteCopy(dir)
		}
	}()
	if err := store.Copy(c.dir); err != nil {
		return nil, err
	}
	// An ingest may have come just before or after: where the copy stands, it says itself.
	m, err := e.metaOf(c.dir)
	if err != nil {
		return nil, err
	}
	c.c = m.C
	names, err := fs.List(c.dir)
	if err != nil {
		return nil, err
	}
	for _, n := range names {
		if n == lockName {
			continue
		}
		st, err := fs.Stat(fs.PathJoin(c.dir, n))
		if err != nil {
			return nil, err
		}
		if st.IsDir() {
			continue // none that a store needs
		}
		c.files = append(c.files, SyncFile{n, st.Size()})
		c.size += st.Size()
	}
	return c, nil
}

// lockName is the file by which Pebble keeps a directory to one process.
const lockName = "LOCK"

// metaOf reads the meta row of a store that nobody has open.
func (e *Engine) metaOf(dir string) (snapshot.Meta, error) {
	o := e.storeOptions(dir)
	o.ReadOnly, o.CacheBytes = true, metaCacheBytes
	s, err := snapshot.Open(o)
	if err != nil {
		return snapshot.Meta{}, err
	}
	return s.Meta(), s.Close()
}

const metaCacheBytes = 1 << 20

// retireLocked lets go of a copy that is no longer offered.
func (e *Engine) retireLocked(c *syncCopy) {
	if c == nil {
		return
	}
	if e.copies.cur == c {
		e.copies.cur = nil
	}
	if c.gone = true; c.users == 0 {
		c.pin.Release()
		e.deleteCopy(c.dir)
	}
}

func (e *Engine) deleteCopy(dir string) {
	if err := e.disk.fs.RemoveAll(dir); err != nil {
		e.logger.Warn("deleting a copy of the snapshot store failed, the next start tries again", "dir", dir, "error", err)
	}
}

// newCopyDir names a directory for a copy, which does not exist yet.
func (e *Engine) newCopyDir() (string, error) {
	fs := e.disk.fs
	if err := fs.MkdirAll(e.path(copiesName), 0o755); err != nil {
		return "", err
	}
	return fs.PathJoin(e.path(copiesName), strconv.FormatInt(e.copySeq.Add(1), 10)), nil
}

// expireCopies lets go of a copy for which no replica has come back.
func (e *Engine) expireCopies() {
	if !e.copies.mu.TryLock() {
		return // one is being made
	}
	defer e.copies.mu.Unlock()
	if c := e.copies.cur; c != nil && c.users == 0 && e.now().Sub(c.idle) >= copyStays {
		e.retireLocked(c)
	}
}

// endCopies lets go of the copy that waits for a replica: the engine closes.
func (e *Engine) endCopies() {
	e.copies.mu.Lock()
	defer e.copies.mu.Unlock()
	e.retireLocked(e.copies.cur)
}

// C returns the offset at which the files stand.
func (t *SyncTables) C() wal.Offset { return t.c.c }

// Files returns the files.
func (t *SyncTables) Files() []SyncFile { return t.c.files }

// SyncReader is an open file of a copy.
type SyncReader interface {
	io.ReaderAt
	io.Closer
}

// Open opens a file for reading once, from its beginning to its end.
func (t *SyncTables) Open(name string) (SyncReader, error) {
	fs := t.e.disk.fs
	f, err := fs.Open(fs.PathJoin(t.c.dir, name), vfs.SequentialReadsOption)
	if err != nil {
		return nil, err
	}
	return f, nil
}

// Done notes that a replica has all of it: unless others want it, it need not be kept.
func (t *SyncTables) Done() { t.done = true }

// Close ends the use of the copy. It is idempotent.
func (t *SyncTables) Close() {
	t.once.Do(func() {
		e, c := t.e, t.c
		e.copies.mu.Lock()
		defer e.copies.mu.Unlock()
		c.users--
		c.cut = c.cut || !t.done
		if c.users > 0 {
			return
		}
		c.idle = e.now()
		if c.gone || !c.cut {
			e.retireLocked(c)
		}
	})
}
