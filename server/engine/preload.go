package engine

import (
	"context"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/holdfast-db/holdfast/server/keyspace"
)

// A server answers as soon as the log is replayed, when nearly all keys are still cold: a command that names one waits for a
// read of the store. Preloading reads them all behind the clients' backs, in the order of the rows, which is some ten times
// cheaper than one by one, until everything is resident or the budget is nearly used up. What it installs is clean, so it
// may be unloaded again at any time (K2).
//
// Behind a full sync comes what the primary has logged meanwhile. It goes first: a replica is of use when it has caught up. But where the
// load took much longer than the preload will, so much may come that reading all keys is cheaper than reading those that it names.
//
// Merges of the store give way meanwhile: what a load or a crash has left takes as long to merge as to read.

const (
	// preloadRows is how many rows of keys are read in one walk, and preloadBytes of how many bytes at most, but for the last one.
	preloadRows  = 512
	preloadBytes = 1 << 20
	// preloadBatch is how many keys are put in place for each hold of the lock: about 100 µs.
	preloadBatch = 128
	// preloadTries is how often keys are read again because a checkpoint was settled meanwhile, before they are left to
	// whoever names them.
	preloadTries = 3
	// preloadLook is how often is asked whether the stream still takes most of the time, and preloadPatience for how long at
	// most: under a load that never ends, keys in memory are what makes applying it cheap. preloadCalm is how many looks in a row
	// must find that it does not: behind a full sync the stream is not there at the first one, and where processors are short it
	// pauses for want of what the primary has not sent yet.
	preloadLook     = 100 * time.Millisecond
	preloadPatience = 5 * time.Second
	preloadCalm     = 3
	// preloadKeyTime is what the preload of a key takes at least, where processors are free; a guess that only behindLongLoad uses.
	preloadKeyTime = 700 * time.Nanosecond
)

// startPreload starts it unless that is not wanted, or it runs already: then it goes on with whatever data there are.
func (e *Engine) startPreload() {
	if e.opts.Manual || e.opts.NoPreload || !e.preloading.CompareAndSwap(false, true) {
		return
	}
	e.wg.Add(1)
	go e.preload(e.whileOpen)
}

// preload brings cold keys into memory. It ends when it is done, or with ctx.
func (e *Engine) preload(ctx context.Context) {
	defer e.wg.Done()
	defer e.preloading.Store(false)
	defer e.pauseMerges()()
	if e.replica.Load() && !e.behindLongLoad() {
		awaitQuiet(ctx, e.streamWork.total)
	}
	e.preloadReads.Store(true)
	defer e.preloadReads.Store(false)
	if err := e.LookUpBlind(ctx); err != nil && ctx.Err() == nil {
		e.logger.Warn("keys that were written blind could not be looked up, the next checkpoint does it", "error", err)
	}
	start, total := e.now(), int64(0)
	for i := range e.opts.Databases {
		n, err := e.preloadDB(ctx, i)
		total += n
		if err != nil {
			e.logger.Warn("loading keys into memory ended early, they are read when they are named", "error", err, "keys", total)
			return
		}
	}
	if total > 0 {
		e.logger.Info("keys loaded into memory", "keys", total, "elapsed-ms", e.now().Sub(start).Milliseconds())
	}
}

// behindLongLoad tells whether the load before took so long that its stream is not waited for.
func (e *Engine) behindLongLoad() bool {
	cold := 0
	e.politely(func() {
		for i := range e.opts.Databases {
			cold += e.ks.DB(i).Cold()
		}
	})
	return time.Duration(e.loadTook.Load()) > 2*time.Duration(cold)*preloadKeyTime
}

// awaitQuiet waits until the work whose time is asked for has taken no more than half of all time for some looks, or ctx ends, or
// patience does.
func awaitQuiet(ctx context.Context, work func() time.Duration) {
	tick := time.NewTicker(preloadLook)
	defer tick.Stop()
	calm := 0
	for last, left := work(), preloadPatience; left > 0 && calm < preloadCalm; left -= preloadLook {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		now := work()
		if now-last <= preloadLook/2 {
			calm++
		} else {
			calm = 0
		}
		last = now
	}
}

// workTime sums for how long something has been done, by one goroutine at a time.
type workTime struct {
	since atomic.Int64 // when it began, in Unix nanoseconds; 0: it is not being done
	sum   atomic.Int64 // nanoseconds, of what has ended
}

// begin notes that it begins; the function returned, that it ends.
func (w *workTime) begin() (end func()) {
	start := time.Now() // work, not a matter of the data's clock
	w.since.Store(start.UnixNano())
	return func() {
		w.since.Store(0)
		w.sum.Add(int64(time.Since(start)))
	}
}

// total returns the sum, what is under way included.
func (w *workTime) total() time.Duration {
	sum := w.sum.Load()
	if since := w.since.Load(); since > 0 {
		sum += time.Now().UnixNano() - since
	}
	return time.Duration(sum)
}

func (e *Engine) preloadDB(ctx context.Context, index int) (loaded int64, err error) {
	var phys uint32
	cold := 0
	e.politely(func() {
		db := e.ks.DB(index)
		phys, cold = db.Phys(), db.Cold()
	})
	if cold == 0 {
		return 0, nil
	}
	next, end := keyspace.MainRange(phys)
	for ctx.Err() == nil {
		p := preloadPart{e: e, index: index, phys: phys}
		more, err := p.walk(next, end)
		if err != nil {
			return loaded, err
		}
		full := p.install()
		// What one row does not tell, and what a checkpoint came in between, is read key by key.
		for try := 0; len(p.left) > 0 && !full && try < preloadTries && ctx.Err() == nil; try++ {
			full = p.readLeft()
		}
		if loaded += p.loaded; full || !more {
			break
		}
		next = append(p.last, 0)
	}
	return loaded, nil
}

// preloadPart is a piece of a database that is read in one walk.
type preloadPart struct {
	e      *Engine
	index  int
	phys   uint32
	loads  []*keyspace.Loading // read and not yet put in place
	left   [][]byte            // keys that could not be loaded so
	last   []byte              // row of the last key
	loaded int64
}

// walk reads the next rows of keys; more tells whether there may be others behind them.
func (p *preloadPart) walk(from, end []byte) (more bool, err error) {
	var first *keyspace.Loading // notes which checkpoint was settled last, for all: the iterator must not be older
	p.e.politely(func() { first = p.e.ks.DB(p.index).BeginLoad(nil) })
	it, err := p.e.rows.newIter(from, end)
	if err != nil {
		return false, err
	}
	bytes := 0
	for ok := it.First(); ok; ok = it.Next() {
		if len(p.loads)+len(p.left) == preloadRows || bytes > preloadBytes {
			more = true
			break
		}
		p.last = append(p.last[:0], it.Key()...)
		bytes += len(it.Value())
		if l := first.Beside(it.Key(), it.Value(), p.e.opts.Limits); l != nil {
			p.loads = append(p.loads, l)
		} else if _, _, _, key, valid := keyspace.ParseMainKey(it.Key()); valid {
			p.left = append(p.left, append([]byte(nil), key...))
		} // else a damaged store; whoever reads that row is told
	}
	return more, it.Close()
}

// readLeft reads the keys that are left, a batch after the other, so that no more than a batch is read and not yet accounted for,
// and puts them in place; full is as with install.
func (p *preloadPart) readLeft() (full bool) {
	keys := p.left
	p.left = nil
	for len(keys) > 0 && !full {
		n := min(preloadBatch, len(keys))
		p.e.politely(func() {
			db := p.e.ks.DB(p.index)
			if full = p.full(db); full {
				return
			}
			for _, key := range keys[:n] {
				if db.Residency(key) == keyspace.Cold {
					p.loads = append(p.loads, db.BeginLoad(key))
				}
			}
		})
		keys = keys[n:]
		// Its iterator must not be older than the loads: they have noted which checkpoint was settled last.
		rows := walkStore{rowStore: p.e.rows}
		for _, l := range p.loads {
			_ = l.Read(&rows, p.e.opts.Limits) // kept in l; Failed tells
		}
		rows.close()
		full = p.install() || full
	}
	return full
}

// install puts what was read in place, a batch for each hold of the lock. It is clean, and memory may let it go again at any
// time (K2). full says that there is no room for more, or that the database is not what it was.
func (p *preloadPart) install() (full bool) {
	for loads := p.loads; len(loads) > 0 && !full; {
		n := min(preloadBatch, len(loads))
		p.e.politely(func() {
			db := p.e.ks.DB(p.index)
			if full = p.full(db); full {
				return
			}
			for _, l := range loads[:n] {
				if l.Failed() || db.Residency(l.Key()) != keyspace.Cold {
					continue // of what failed, whoever names the key is told
				}
				switch o, ok := l.Install(); {
				case !ok:
					p.left = append(p.left, l.Key())
				case o != nil:
					l.Unpin(o)
					p.loaded++
				}
			}
		})
		loads = loads[n:]
	}
	p.loads = p.loads[:0]
	return full
}

// full tells whether the preload of a database ends here. REQUIRES: the lock.
func (p *preloadPart) full(db *keyspace.DB) bool {
	return db.Phys() != p.phys || db.Cold() == 0 || p.e.preloadFull()
}

// preloadFull tells whether memory is nearly used up: the rest is left to what clients ask for. REQUIRES: the lock.
func (e *Engine) preloadFull() bool {
	budget := e.limits.MaxMemory.Load()
	return budget > 0 && e.ks.Used() > budget/10*9
}

// politely runs fn under the executor lock, but lets sessions go first.
func (e *Engine) politely(fn func()) {
	for range stepBackMax {
		if e.wanted.Load() == 0 {
			break
		}
		runtime.Gosched()
	}
	e.mu.Lock()
	fn()
	e.mu.Unlock()
	if e.opts.between != nil {
		e.opts.between()
	}
}
