package snapshot

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/cockroachdb/pebble/v2/objstorage/objstorageprovider"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// Ingest gathers the rows of one checkpoint in sorted tables. Points come in strictly ascending order; range deletes in
// any order, and they delete what the store has, never the points of the same ingest.
type Ingest struct {
	s      *Store
	ranges [][2][]byte
	w      *sstable.Writer
	size   int64 // of finished tables
	names  []string
	last   []byte
	low    []byte // lower bound of the current table; nil for the first
	any    bool
	err    error
	closed bool
}

// NewIngest begins the tables of a checkpoint. One at a time.
func (s *Store) NewIngest() (*Ingest, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.closed {
		return nil, ErrClosed
	}
	if s.mu.busy {
		return nil, errors.New("snapshot: an ingest is under way")
	}
	s.mu.busy = true
	return &Ingest{s: s}, nil
}

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
	o := g.s.pebbleOptions()
	o.EnsureDefaults()
	wo := o.MakeWriterOptions(0, g.s.db.TableFormat())
	if g.s.opts.noSync {
		f = unsynced{f}
	}
	g.w = sstable.NewWriter(objstorageprovider.NewFileWritable(f), wo)
	return nil
}

// unsynced is a file whose syncs do nothing: a mutant for tests.
type unsynced struct{ vfs.File }

func (unsynced) Sync() error                { return nil }
func (unsynced) SyncData() error            { return nil }
func (unsynced) SyncTo(int64) (bool, error) { return true, nil }

// cut ends the table before key next (nil: the last table). Tables of one ingest must not overlap, so range deletes are
// cut apart at the same places.
func (g *Ingest) cut(next []byte) error {
	for _, r := range g.ranges {
		lo, hi := r[0], r[1]
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
	slices.SortFunc(g.ranges, func(a, b [2][]byte) int { return bytes.Compare(a[0], b[0]) })
	out := g.ranges[:0]
	for _, r := range g.ranges {
		if n := len(out); n > 0 && bytes.Compare(r[0], out[n-1][1]) <= 0 {
			if bytes.Compare(r[1], out[n-1][1]) > 0 {
				out[n-1][1] = r[1]
			}
			continue
		}
		out = append(out, r)
	}
	g.ranges = out
}

// finish ends the table: the writer syncs the file.
func (g *Ingest) finish() error {
	if g.w == nil {
		return nil
	}
	size := g.w.Raw().EstimatedSize()
	err := g.w.Close()
	g.w = nil
	g.size += int64(size)
	return err
}

func (g *Ingest) point(key []byte) error {
	if g.err != nil {
		return g.err
	}
	if !g.any {
		g.mergeRanges()
	}
	if g.any && bytes.Compare(key, g.last) <= 0 {
		return g.fail(fmt.Errorf("%w: %x after %x", ErrOrder, key, g.last))
	}
	g.any = true
	g.last = append(g.last[:0], key...)
	if g.w != nil && int64(g.w.Raw().EstimatedSize()) >= g.s.opts.TableBytes {
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

// Set puts a row.
func (g *Ingest) Set(key, val []byte) error {
	if err := g.point(key); err != nil {
		return err
	}
	if err := g.w.Set(key, val); err != nil {
		return g.fail(err)
	}
	return nil
}

// Delete removes a row.
func (g *Ingest) Delete(key []byte) error {
	if err := g.point(key); err != nil {
		return err
	}
	if err := g.w.Delete(key); err != nil {
		return g.fail(err)
	}
	return nil
}

// DeleteRange removes the rows that the store has in [lo, hi). All of them come before the first point.
func (g *Ingest) DeleteRange(lo, hi []byte) error {
	if g.any {
		return g.fail(errors.New("snapshot: range deletes come before points"))
	}
	g.ranges = append(g.ranges, [2][]byte{bytes.Clone(lo), bytes.Clone(hi)})
	return nil
}

// Size returns the bytes of the tables so far.
func (g *Ingest) Size() int64 {
	if g.w != nil {
		return g.size + int64(g.w.Raw().EstimatedSize())
	}
	return g.size
}

// Commit makes the rows and m the store's, atomically. On error the store is as it was, and the tables are gone.
func (g *Ingest) Commit(ctx context.Context, m Meta) (err error) {
	if g.closed {
		return errors.New("snapshot: ingest is over")
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, g.Abort())
		}
	}()
	if g.err != nil {
		return g.err
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
	m.Format = formatVersion
	v, err := json.Marshal(m)
	if err != nil {
		return err
	}
	// A table of its own, never empty: a checkpoint without rows still moves C.
	if err := g.table(); err != nil {
		return err
	}
	if err := g.w.Set(metaKey, v); err != nil {
		return err
	}
	if err := g.finish(); err != nil {
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
	g.s.mu.meta = m
	g.s.mu.busy = false
	g.s.mu.Unlock()
	return nil
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

// Abort removes the tables. It is idempotent, and does nothing after a Commit that succeeded.
func (g *Ingest) Abort() error {
	if g.closed {
		return nil
	}
	g.closed = true
	var err error
	if g.w != nil {
		err = g.w.Close()
		g.w = nil
	}
	for _, n := range g.names {
		if _, serr := g.s.opts.FS.Stat(n); serr == nil {
			err = errors.Join(err, g.s.opts.FS.Remove(n))
		}
	}
	g.s.mu.Lock()
	g.s.mu.busy = false
	g.s.mu.Unlock()
	return err
}
