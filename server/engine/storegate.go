package engine

import (
	"context"
	"sync"

	"github.com/holdfast-db/holdfast/server/keyspace"
	"github.com/holdfast-db/holdfast/snapshot"
)

// storeGate hands out the snapshot store, so that it can be replaced: a read that has begun is waited for, one that begins
// meanwhile waits for the new store. Rows read before or after the replacement never mix: what was read outside the lock is
// installed into the keyspace for which it was read, and that one is gone.
type storeGate struct {
	mu      sync.Mutex
	cond    sync.Cond
	store   *snapshot.Store // nil while it is being replaced
	readers int
	barred  bool  // no new views: the store is about to be replaced
	err     error // replacing it has failed: there is no store any more
}

func newStoreGate(s *snapshot.Store) *storeGate {
	g := &storeGate{store: s}
	g.cond.L = &g.mu
	return g
}

// enter returns the store for a read; leave ends it.
func (g *storeGate) enter() (*snapshot.Store, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for g.store == nil && g.err == nil {
		g.cond.Wait()
	}
	if g.err != nil {
		return nil, g.err
	}
	g.readers++
	return g.store, nil
}

func (g *storeGate) leave() {
	g.mu.Lock()
	if g.readers--; g.readers == 0 {
		g.cond.Broadcast()
	}
	g.mu.Unlock()
}

// view takes a view, unless the store is about to be replaced.
func (g *storeGate) view() (*snapshot.View, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case g.err != nil:
		return nil, g.err
	case g.store == nil || g.barred:
		return nil, ErrSwitching
	}
	return g.store.View()
}

// bar keeps new views out and waits until those that are open have been closed.
func (g *storeGate) bar(ctx context.Context) error {
	g.mu.Lock()
	g.barred = true
	s := g.store
	g.mu.Unlock()
	return s.WaitViews(ctx)
}

func (g *storeGate) unbar() {
	g.mu.Lock()
	g.barred = false
	g.mu.Unlock()
}

// takeOut waits for reads to end and takes the store out. REQUIRES: the executor lock, which every goroutine that reads takes
// between two reads; barred.
func (g *storeGate) takeOut() *snapshot.Store {
	g.mu.Lock()
	defer g.mu.Unlock()
	for g.readers > 0 {
		g.cond.Wait()
	}
	s := g.store
	g.store = nil
	return s
}

// putIn lets reads go on with another store, or fail with err.
func (g *storeGate) putIn(s *snapshot.Store, err error) {
	g.mu.Lock()
	g.store, g.err, g.barred = s, err, false
	g.cond.Broadcast()
	g.mu.Unlock()
}

// rowStore gives the keyspace the store's rows.
type rowStore struct{ gate *storeGate }

func (r rowStore) Get(key []byte) ([]byte, bool, error) {
	s, err := r.gate.enter()
	if err != nil {
		return nil, false, err
	}
	defer r.gate.leave()
	return s.Get(key)
}

func (r rowStore) Iter(lo, hi []byte) (keyspace.RowIter, error) {
	it, err := r.newIter(lo, hi)
	if err != nil {
		return nil, err
	}
	return it, nil
}

// newIter is snapshot.Store.NewIter of the present store.
func (r rowStore) newIter(lo, hi []byte) (*gatedIter, error) {
	s, err := r.gate.enter()
	if err != nil {
		return nil, err
	}
	it, err := s.NewIter(lo, hi)
	if err != nil {
		r.gate.leave()
		return nil, err
	}
	return &gatedIter{it, r.gate}, nil
}

// gatedIter is an iterator that the replacement of its store waits for.
type gatedIter struct {
	*snapshot.Iter
	gate *storeGate
}

// Close releases the iterator. It is called once.
func (i *gatedIter) Close() error {
	err := i.Iter.Close()
	i.gate.leave()
	return err
}
