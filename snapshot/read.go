package snapshot

import (
	"context"
	"errors"

	"github.com/cockroachdb/pebble/v2"
)

// Get returns a copy of a row's value, which the caller owns.
func (s *Store) Get(rowKey []byte) (val []byte, ok bool, err error) {
	return get(s.db, rowKey, nil)
}

// GetInto appends a row's value to dst, for callers that read many.
func (s *Store) GetInto(dst, rowKey []byte) (val []byte, ok bool, err error) {
	return get(s.db, rowKey, dst)
}

// get appends a row's value to dst.
//
// Pebble's own Get does not ask the bloom filters of the bottom level, where nearly all rows are: for a store whose reads
// mostly find their key a filter there would be a waste. Ours are asked about every key that a command names and memory
// does not have, which is what creating a key is. An iterator can be told to use them; see BenchmarkGet for both ways.
func get(r pebble.Reader, rowKey, dst []byte) ([]byte, bool, error) {
	it, err := r.NewIter(&pointRead)
	if err != nil {
		return dst, false, readError(err)
	}
	ok := it.SeekPrefixGE(rowKey)
	if ok {
		dst = append(dst, it.Value()...)
		if dst == nil {
			dst = []byte{}
		}
	}
	return dst, ok, readError(it.Close())
}

var pointRead = pebble.IterOptions{UseL6Filters: true}

func readError(err error) error {
	if err != nil && pebble.IsCorruptionError(err) {
		return &CorruptionError{"a table", err}
	}
	return err
}

// Iter walks rows of a store or a view. Key and Value are valid until the next step. It keeps the tables that it reads
// on disk, so it must not stay open for long.
//
// A walk over everything takes little of the cache from what is read again and again: Pebble's cache is CLOCK-Pro, in which
// a block read once goes before most that were read twice (TestScanLeavesCache).
type Iter struct{ it *pebble.Iterator }

// NewIter returns an iterator over [lower, upper) that stands before the first row; nil bounds mean none.
func (s *Store) NewIter(lower, upper []byte) (*Iter, error) { return newIter(s.db, lower, upper) }

func newIter(r pebble.Reader, lower, upper []byte) (*Iter, error) {
	it, err := r.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
	if err != nil {
		return nil, readError(err)
	}
	return &Iter{it}, nil
}

// First goes to the first row and tells whether there is one; false may also mean an error, see Err. The same holds for
// SeekGE and Next.
func (i *Iter) First() bool { return i.it.First() }

// SeekGE goes to the first row at or after key.
func (i *Iter) SeekGE(key []byte) bool { return i.it.SeekGE(key) }

// SeekExact goes to the row at key, and tells whether there is one. It asks the bloom filters, so of the tables that lie upon each other
// it reads blocks of those only that may have the row: where SeekGE reads one of each. Next may not follow it, another seek may.
func (i *Iter) SeekExact(key []byte) bool { return i.it.SeekPrefixGE(key) }

// Next goes to the next row.
func (i *Iter) Next() bool { return i.it.Next() }

// Valid tells whether the iterator stands at a row.
func (i *Iter) Valid() bool { return i.it.Valid() }

// Key returns the row's key.
func (i *Iter) Key() []byte { return i.it.Key() }

// Value returns the row's value.
func (i *Iter) Value() []byte { return i.it.Value() }

// Err returns why the walk has ended early, nil if it has not.
func (i *Iter) Err() error { return readError(i.it.Error()) }

// Close releases the iterator and returns Err.
func (i *Iter) Close() error { return readError(i.it.Close()) }

// View is a consistent read of the store at one C. Later ingests do not show in it. While it is open, compactions keep
// what it sees: a view costs disk, not memory.
type View struct {
	s    *Store
	snap *pebble.Snapshot
	meta Meta
}

// View takes a view. The caller closes it, before the store.
func (s *Store) View() (*View, error) {
	s.mu.Lock()
	closed := s.mu.closed
	if !closed {
		s.mu.views++
	}
	s.mu.Unlock()
	if closed {
		return nil, ErrClosed
	}
	// The meta row is read from the view itself: an ingest may commit between the two.
	snap := s.db.NewSnapshot()
	v, ok, err := get(snap, metaKey, nil)
	m := emptyMeta()
	if err == nil && ok {
		m, err = decodeMeta(v)
	}
	if err != nil {
		err = errors.Join(err, snap.Close())
		s.viewClosed()
		return nil, err
	}
	return &View{s, snap, m}, nil
}

func (s *Store) viewClosed() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.views--; s.mu.views == 0 && s.mu.noViews != nil {
		close(s.mu.noViews)
		s.mu.noViews = nil
	}
}

// WaitViews waits until no view is open. More may be opened meanwhile, and are waited for.
func (s *Store) WaitViews(ctx context.Context) error {
	for {
		s.mu.Lock()
		if s.mu.views == 0 {
			s.mu.Unlock()
			return nil
		}
		if s.mu.noViews == nil {
			s.mu.noViews = make(chan struct{})
		}
		gone := s.mu.noViews
		s.mu.Unlock()
		select {
		case <-gone:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Meta returns the meta row of the view.
func (v *View) Meta() Meta { return v.meta }

// Get is Store.Get at the view's C.
func (v *View) Get(rowKey []byte) (val []byte, ok bool, err error) { return get(v.snap, rowKey, nil) }

// NewIter is Store.NewIter at the view's C.
func (v *View) NewIter(lower, upper []byte) (*Iter, error) { return newIter(v.snap, lower, upper) }

// Close releases the view. It is called once.
func (v *View) Close() error {
	err := v.snap.Close()
	v.s.viewClosed()
	return err
}
