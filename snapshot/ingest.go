package snapshot

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2/objstorage"
	"github.com/cockroachdb/pebble/v2/objstorage/objstorageprovider"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// Ingest gathers the rows of one checkpoint in sorted tables. Range deletes come first, in any order; then points in
// strictly ascending order. A range delete removes what the store has, never the points of the same ingest. Memory is
// that of one block, one filter and writeBytes, whatever the size. One goroutine uses it.
type Ingest struct {
	s      *Store
	ranges []keyRange
	w      *sstable.Writer // of the current table; nil between tables
	file   *tableFile      // of w
	buf    []byte          // that file gathers in
	size   int64           // bytes of finished tables
	names  []string
	last   []byte
	low    []byte // lower bound of the current table; nil for the first
	any    bool   // a point has come
	err    error  // sticky
	closed bool
}

type keyRange struct{ lo, hi []byte }

// NewIngest begins the tables of a checkpoint. There is one at a time: ErrBusy. The caller ends it by Commit or Abort.
func (s *Store) NewIngest() (*Ingest, error) {
	if err := s.reserve(); err != nil {
		return nil, err
	}
	if err := s.cleanIngest(); err != nil {
		s.release()
		return nil, fmt.Errorf("snapshot: deleting what an earlier ingest left: %w", err)
	}
	return &Ingest{s: s}, nil
}

func (s *Store) reserve() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.mu.closed:
		return ErrClosed
	case s.mu.err != nil:
		return s.mu.err
	case s.opts.ReadOnly:
		return ErrReadOnly
	case s.mu.busy:
		return ErrBusy
	}
	s.mu.busy = true
	return nil
}

func (s *Store) release() {
	s.mu.Lock()
	s.mu.busy = false
	s.mu.Unlock()
}

// tableFile is the file of a table. Pebble writes block by block through a buffer of half a block, which would be two system calls
// a block, so they are gathered. Once given up it takes no more bytes, so that closing the writer neither writes the rest of the
// table nor syncs it.
type tableFile struct {
	objstorage.Writable
	buf     []byte // not yet written, at most its capacity
	givenUp atomic.Bool
}

// writeBytes is how much is written at once: so much that a system call costs nothing beside it.
const writeBytes = 128 << 10

var errGivenUp = errors.New("snapshot: table given up")

func (t *tableFile) Write(p []byte) error {
	if t.givenUp.Load() {
		return errGivenUp
	}
	if len(t.buf)+len(p) > cap(t.buf) {
		if err := t.write(); err != nil {
			return err
		}
		if len(p) >= cap(t.buf) {
			return t.Writable.Write(p)
		}
	}
	t.buf = append(t.buf, p...)
	return nil
}

// write writes what has gathered.
func (t *tableFile) write() error {
	if len(t.buf) == 0 {
		return nil
	}
	err := t.Writable.Write(t.buf)
	t.buf = t.buf[:0]
	return err
}

// Finish writes the rest, syncs the file and closes it.
func (t *tableFile) Finish() error {
	err := errGivenUp
	if !t.givenUp.Load() {
		err = t.write()
	}
	if err != nil {
		t.Abort()
		return err
	}
	return t.Writable.Finish()
}

// unsynced is a file whose syncs do nothing: a mutant for tests.
type unsynced struct{ vfs.File }

func (unsynced) Sync() error                { return nil }
func (unsynced) SyncData() error            { return nil }
func (unsynced) SyncTo(int64) (bool, error) { return true, nil }

// table starts a table.
func (g *Ingest) table() error {
	g.s.mu.Lock()
	g.s.mu.seq++
	name := g.s.path(fmt.Sprintf("%06d.sst", g.s.mu.seq))
	g.s.mu.Unlock()
	f, err := g.s.opts.FS.Create(name, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	g.names = append(g.names, name)
	if g.s.opts.noSync {
		f = unsynced{f}
	}
	f = vfs.NewSyncingFile(f, vfs.SyncingFileOptions{BytesPerSync: syncBytes})
	o := g.s.pebbleOptions()
	o.EnsureDefaults()
	if g.buf == nil {
		g.buf = make([]byte, 0, writeBytes)
	}
	g.file = &tableFile{Writable: objstorageprovider.NewFileWritable(f), buf: g.buf}
	g.w = sstable.NewWriter(g.file, o.MakeWriterOptions(0, g.s.db.TableFormat()))
	return nil
}

// cut ends the table before key next (nil: the last table). Tables of one ingest must not overlap, so range deletes are
// cut apart at the same places.
func (g *Ingest) cut(next []byte) error {
	for _, r := range g.ranges {
		lo, hi := r.lo, r.hi
		if bytes.Compare(lo, g.low) < 0 {
			lo = g.low
		}
		if next != nil && bytes.Compare(hi, next) > 0 {
			hi = next
		}
		if bytes.Compare(lo, hi) < 0 {
			if err := g.w.DeleteRange(lo, hi); err != nil {
				return err
			}
		}
	}
	g.low = bytes.Clone(next)
	return g.finish()
}

// mergeRanges sorts the range deletes and joins those that touch: a table wants them in order and apart.
func (g *Ingest) mergeRanges() {
	slices.SortFunc(g.ranges, func(a, b keyRange) int { return bytes.Compare(a.lo, b.lo) })
	out := g.ranges[:0]
	for _, r := range g.ranges {
		if n := len(out); n > 0 && bytes.Compare(r.lo, out[n-1].hi) <= 0 {
			if bytes.Compare(r.hi, out[n-1].hi) > 0 {
				out[n-1].hi = r.hi
			}
			continue
		}
		out = append(out, r)
	}
	g.ranges = out
}

// finish ends the table: the writer syncs the file and closes it.
func (g *Ingest) finish() error {
	if g.w == nil {
		return nil
	}
	err := g.w.Close()
	if err == nil {
		if m, merr := g.w.Raw().Metadata(); merr == nil {
			g.size += int64(m.Size)
		}
	}
	g.w, g.file = nil, nil
	return err
}

// point makes room for the row at key, which comes next.
func (g *Ingest) point(key []byte) error {
	if g.err != nil {
		return g.err
	}
	if g.closed {
		return ErrClosed
	}
	if !g.any {
		g.mergeRanges()
		g.any = true
		g.last = append(g.last[:0], metaKey...) // all rows come after the meta row
	}
	if bytes.Compare(key, g.last) <= 0 {
		return g.fail(fmt.Errorf("%w: %x after %x", ErrOrder, key, g.last))
	}
	g.last = append(g.last[:0], key...)
	if g.w != nil && int64(g.w.Raw().EstimatedSize()) >= g.s.opts.ingestBytes {
		if err := g.cut(key); err != nil {
			return g.fail(err)
		}
	}
	if g.w == nil {
		if err := g.table(); err != nil {
			return g.fail(err)
		}
	}
	return nil
}

func (g *Ingest) fail(err error) error {
	if g.err == nil {
		g.err = err
	}
	return g.err
}

// Set puts a row. key and val are copied. The first error of Set, Delete and DeleteRange is that of all later calls.
func (g *Ingest) Set(key, val []byte) error {
	if err := g.point(key); err != nil {
		return err
	}
	if err := g.w.Set(key, val); err != nil {
		return g.fail(err)
	}
	return nil
}

// Delete removes a row, which need not be there.
func (g *Ingest) Delete(key []byte) error {
	if err := g.point(key); err != nil {
		return err
	}
	if err := g.w.Delete(key); err != nil {
		return g.fail(err)
	}
	return nil
}

// DeleteRange removes the rows that the store has in [lo, hi). All range deletes come before the first point, for a
// finished table cannot take one in any more.
func (g *Ingest) DeleteRange(lo, hi []byte) error {
	switch {
	case g.err != nil:
		return g.err
	case g.closed:
		return ErrClosed
	case g.any:
		return g.fail(fmt.Errorf("%w: range delete after a point", ErrOrder))
	case bytes.Compare(lo, metaKey) <= 0 || bytes.Compare(lo, hi) >= 0:
		return g.fail(fmt.Errorf("%w: range delete from %x to %x", ErrOrder, lo, hi))
	}
	g.ranges = append(g.ranges, keyRange{bytes.Clone(lo), bytes.Clone(hi)})
	return nil
}

// Size returns the bytes of the tables so far.
func (g *Ingest) Size() int64 {
	if g.w != nil {
		return g.size + int64(g.w.Raw().EstimatedSize())
	}
	return g.size
}

// Commit makes the rows and m the store's, atomically. m.C must not be less than the store's. On error the store is as it
// was and takes another ingest, and the tables are gone. An error of the manifest itself goes to Options.OnFatal instead.
func (g *Ingest) Commit(ctx context.Context, m Meta) (err error) {
	if g.closed {
		return ErrClosed
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, g.Abort())
		}
	}()
	if g.err != nil {
		return g.err
	}
	if err := g.tables(m); err != nil {
		return err
	}
	if err := g.syncDir(); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := g.ingest(ctx); err != nil {
		return err
	}
	g.closed = true
	g.s.mu.Lock()
	defer g.s.mu.Unlock()
	g.s.mu.meta = m
	g.s.mu.meta.Format = m.format()
	g.s.mu.busy = false
	return nil
}

// tables ends the last table of rows and writes the one of the meta row.
func (g *Ingest) tables(m Meta) error {
	if at := g.s.Meta().C; m.C < at {
		return fmt.Errorf("snapshot: an ingest at offset %d, the store stands at %d", m.C, at)
	}
	if !g.any {
		g.mergeRanges()
	}
	if len(g.ranges) > 0 && g.w == nil {
		if err := g.table(); err != nil {
			return err
		}
	}
	if g.w != nil {
		if err := g.cut(nil); err != nil {
			return err
		}
	}
	// A table of its own, never empty: a checkpoint without rows still moves C. Pebble drops empty tables.
	m.Format = m.format()
	v, err := encodeMeta(m)
	if err != nil {
		return err
	}
	if err := g.table(); err != nil {
		return err
	}
	if err := g.w.Set(metaKey, v); err != nil {
		return err
	}
	return g.finish()
}

// ingest is the commit point (S2).
func (g *Ingest) ingest(ctx context.Context) error {
	if g.s.opts.metaApart {
		n := len(g.names) - 1
		if n > 0 {
			if err := g.s.db.Ingest(ctx, g.names[:n]); err != nil {
				return err
			}
		}
		return g.s.db.Ingest(ctx, g.names[n:])
	}
	return g.s.db.Ingest(ctx, g.names)
}

func (g *Ingest) syncDir() error {
	d, err := g.s.opts.FS.OpenDir(g.s.opts.FS.PathJoin(g.s.opts.Dir, ingestDir))
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Abort removes the tables. It is idempotent, and does nothing after Commit.
func (g *Ingest) Abort() error {
	if g.closed {
		return nil
	}
	g.closed = true
	if g.w != nil {
		g.file.givenUp.Store(true)
		// The writer's goroutine ends and the file is closed; that it could not be completed is the purpose.
		_ = g.w.Close()
		g.w, g.file = nil, nil
	}
	var err error
	for _, n := range g.names {
		// What cannot be removed now is so by the next NewIngest or Open.
		if rerr := g.s.opts.FS.Remove(n); rerr != nil && !errors.Is(rerr, fs.ErrNotExist) {
			err = errors.Join(err, rerr)
		}
	}
	g.s.release()
	return err
}
