package engine

import (
	"bytes"
	"cmp"
	"slices"
	"sync"

	"github.com/holdfast-db/holdfast/server/command"
	"github.com/holdfast-db/holdfast/server/keyspace"
	"github.com/holdfast-db/holdfast/wal"
)

// prefetchMin is the number of cold keys from which they are read by two goroutines: below it, starting them costs more
// than it saves.
const prefetchMin = 64

// prefetch loads the cold keys that a piece of the log names, in the order of the store's rows, so that what would be
// random reads in the order of the log becomes a walk. What it returns stays pinned until the piece has been applied.
// Keys that it cannot know beforehand, or that could not be read, are read when they are needed.
func (e *Engine) prefetch(data []byte, dbIndex int) []pin {
	loads := e.coldLoads(data, dbIndex)
	if len(loads) == 0 {
		return nil
	}
	e.readAll(loads)
	return install(loads)
}

// coldLoads begins the loads of the cold keys that a piece of the log names, in the order of the store's rows.
// REQUIRES: the lock, or nobody else.
func (e *Engine) coldLoads(data []byte, dbIndex int) []*keyspace.Loading {
	if !e.anyCold() {
		return nil
	}
	c := coldScan{e: e, rest: data, db: dbIndex, loads: make([]*keyspace.Loading, 0, len(data)/128+1)}
	c.next(len(data))
	return c.sorted()
}

// coldScan looks through a piece of the log for cold keys.
type coldScan struct {
	e     *Engine
	rest  []byte // not yet looked at
	db    int    // selected where rest begins
	loads []*keyspace.Loading
}

// next begins the loads of what the records name that begin in the next size bytes, and tells whether there is more to look at.
// REQUIRES: the lock, or nobody else.
func (c *coldScan) next(size int) (more bool) {
	e, data, dbIndex, loads := c.e, c.rest, c.db, c.loads
	defer func() { c.rest, c.db, c.loads = data, dbIndex, loads }()
	for end := len(data) - size; len(data) > max(end, 0); {
		args, n, err := wal.ReadRecord(data)
		if err != nil || n == 0 {
			return false // whoever applies it meets the same
		}
		data = data[n:]
		if isSelect(args) {
			if i, ok := command.ParseInt(args[1]); ok && i >= 0 && int(i) < e.ks.NumDBs() {
				dbIndex = int(i)
			}
			continue
		}
		spec := e.table.Lookup(args[0])
		if spec == nil || spec.Handler == nil || !spec.ArityOK(len(args)) {
			continue
		}
		if e.blindReplay(spec, args) {
			continue
		}
		db := e.ks.DB(dbIndex)
		spec.EachKey(args, func(i int) {
			if db.Residency(args[i]) == keyspace.Cold {
				loads = append(loads, db.BeginLoad(args[i]))
			}
		})
	}
	return len(data) > 0
}

// placedLoad is a load beside the beginning of its place: to sort hundreds of thousands by what they point to would wait for memory at
// each comparison.
type placedLoad struct {
	head uint64
	phys uint32
	l    *keyspace.Loading
}

func comparePlaced(a, b placedLoad) int {
	switch {
	case a.phys != b.phys:
		return cmp.Compare(a.phys, b.phys)
	case a.head != b.head:
		return cmp.Compare(a.head, b.head)
	case a.l.Less(b.l):
		return -1
	case b.l.Less(a.l):
		return 1
	}
	return 0
}

// sorted returns the loads that were begun, each once, in the order of the store's rows.
func (c *coldScan) sorted() []*keyspace.Loading {
	placed := make([]placedLoad, len(c.loads))
	for i, l := range c.loads {
		phys, head := l.Place()
		placed[i] = placedLoad{head, phys, l}
	}
	slices.SortFunc(placed, comparePlaced)
	for i, p := range placed {
		c.loads[i] = p.l
	}
	return slices.CompactFunc(c.loads, (*keyspace.Loading).Same)
}

// install puts in place what was read, and pins it. REQUIRES: the lock, or nobody else.
func install(loads []*keyspace.Loading) []pin {
	pins := make([]pin, 0, len(loads))
	for _, l := range loads {
		if l.Failed() {
			continue
		}
		if o, ok := l.Install(); ok && o != nil {
			pins = append(pins, pin{l, o})
		}
	}
	return pins
}

// readAll reads loads, which are in the order of the store's rows.
func (e *Engine) readAll(loads []*keyspace.Loading) {
	read := func(part []*keyspace.Loading) {
		rows := walkStore{rowStore: e.rows}
		for _, l := range part {
			_ = l.Read(&rows, e.opts.Limits) // kept in l; Failed tells
		}
		rows.close()
	}
	if len(loads) < prefetchMin {
		read(loads)
		return
	}
	var wg sync.WaitGroup
	half := len(loads) / 2
	wg.Go(func() { read(loads[:half]) })
	read(loads[half:])
	wg.Wait()
}

// A walkStore steps over rows before it seeks, which costs about as much as a dozen steps. How many depends on how dense the rows
// lie that it is asked for: where most come within the steps, more would pay, and else fewer. It begins with the most: where a third
// do not come within the steps, which is so at 8 steps for every eighth row, fewer and fewer are tried.
//
// Where even few steps do not pay, rows lie in blocks of their own, and what counts is how many blocks are read: a seek to a place
// reads one of each table that lies there, and a store that checkpoints write to has many upon each other. So then walkFar rows are
// looked up exactly, each in the one table that has it, before a place is sought again to see whether steps would pay now.
const (
	walkStepsFirst = 32
	walkStepsLeast = 2
	walkStepsMost  = 32
	walkFar        = 64
)

// walkStore is a rowStore for many reads in ascending order: one iterator goes forward from row to row, where a read of its
// own for each would ask every level of the store from its top.
type walkStore struct {
	rowStore
	it    *gatedIter
	steps int
	far   int  // rows that are still to be looked up exactly
	exact bool // that is how it came where it stands: no step leads from there
	err   error
}

// Get reads the row at key, which must not be less than that of the call before.
func (w *walkStore) Get(key []byte) ([]byte, bool, error) {
	if w.err != nil {
		return nil, false, w.err
	}
	if w.it == nil {
		if w.it, w.err = w.newIter(nil, nil); w.err != nil {
			return nil, false, w.err
		}
		w.steps = walkStepsFirst
	}
	if w.far > 0 {
		w.far--
		w.exact = true
		if !w.it.SeekExact(key) {
			return nil, false, w.it.Err()
		}
		return w.value(true)
	}
	if !w.exact {
		for range w.steps {
			if !w.it.Valid() {
				break
			}
			if c := bytes.Compare(w.it.Key(), key); c >= 0 {
				w.steps = min(w.steps+1, walkStepsMost)
				return w.value(c == 0)
			}
			w.it.Next()
		}
		if w.steps = max(w.steps-2, walkStepsLeast); w.steps == walkStepsLeast {
			w.far = walkFar
		}
	}
	w.exact = false
	if !w.it.SeekGE(key) {
		return nil, false, w.it.Err()
	}
	return w.value(bytes.Equal(w.it.Key(), key))
}

func (w *walkStore) value(found bool) ([]byte, bool, error) {
	if !found {
		return nil, false, nil
	}
	return append(make([]byte, 0, len(w.it.Value())), w.it.Value()...), true, nil
}

func (w *walkStore) close() {
	if w.it != nil {
		_ = w.it.Close() // what it met has been told by Get
	}
}
