package engine

import (
	"bytes"
	"context"
	"errors"
	"slices"

	"github.com/holdfast-db/holdfast/server/keyspace"
	"github.com/holdfast-db/holdfast/snapshot"
	"github.com/holdfast-db/holdfast/wal"
)

// A file has keys in any order, a table wants its rows in theirs: rows gather in a run, which is sorted and ingested while the
// next one gathers.

// runBytes is the size of a run. There are two, so this bounds a load's memory to 64 MiB, the largest value, and 32 bytes for
// each row, which the smallest rows make as much again; larger runs mean fewer tables upon each other for the store to merge.
const runBytes = 32 << 20

// errKeyTwice says that a file has a key twice in one database.
var errKeyTwice = errors.New("a key stands there twice")

// run is rows waiting to be sorted.
type run struct {
	buf  []byte
	rows []runRow
	keys *keySet // told of each run that was sorted
	// fetched is a sum of what fetch has loaded, without which the compiler would leave it out.
	fetched byte
}

// runRow is a row in run.buf, with what rows are compared by first.
type runRow struct {
	head            uint64
	phys            uint32
	start, key, end uint32
	tag             byte
}

func (r *run) put(key, val []byte) {
	r.room(len(key) + len(val))
	row := runRow{start: uint32(len(r.buf))}
	row.tag, row.phys, row.head = keyspace.RowPrefix(key)
	r.buf = append(r.buf, key...)
	row.key = uint32(len(r.buf))
	r.buf = append(r.buf, val...)
	row.end = uint32(len(r.buf))
	r.rows = append(r.rows, row)
}

// room makes room for n bytes and a row. A run grows in few steps: a load's first two are copied at each.
func (r *run) room(n int) {
	switch {
	case r.buf == nil && len(r.rows) == 0:
		r.buf = make([]byte, 0, max(runBytes/8, n))
	case cap(r.buf)-len(r.buf) < n:
		r.buf = slices.Grow(r.buf, max(n, runBytes+runBytes/64-len(r.buf)))
	}
	if len(r.rows) == cap(r.rows) {
		r.rows = slices.Grow(r.rows, max(len(r.rows), 1<<14))
	}
}

func (r *run) full() bool { return len(r.buf) >= runBytes }

func (r *run) sort() {
	sortRows(r.buf, r.rows)
	r.keys.add(r)
}

// runAhead is how many rows are fetched into the processor's cache together: in their order they lie anywhere in a run, and one
// after the other each would wait for memory.
const runAhead = 32

// fetch loads what rows hold, of a long one as much as is to be had for nothing: no load waits for another.
func (r *run) fetch(rows []runRow) {
	const line, most = 64, 512
	sum := r.fetched
	for i := range rows {
		from, to := rows[i].start, rows[i].end-1 // a key is never empty
		for at := from; at < min(to, from+most); at += line {
			sum += r.buf[at]
		}
		sum += r.buf[to]
	}
	r.fetched = sum
}

// ingest puts the sorted rows into s, which stands at no offset yet.
func (r *run) ingest(ctx context.Context, s *snapshot.Store) (err error) {
	ing, err := s.NewIngest()
	if err != nil {
		return err
	}
	var last []byte
	lastHead := uint64(0)
	for i, row := range r.rows {
		if i%runAhead == 0 {
			r.fetch(r.rows[i:min(i+runAhead, len(r.rows))])
		}
		key := r.buf[row.start:row.key]
		if row.head == lastHead && bytes.Equal(key, last) {
			return errors.Join(errKeyTwice, ing.Abort())
		}
		if err := ing.Set(key, r.buf[row.key:row.end]); err != nil {
			return errors.Join(err, ing.Abort())
		}
		last, lastHead = key, row.head
	}
	r.buf, r.rows = r.buf[:0], r.rows[:0]
	if cap(r.buf) > 2*runBytes { // one large value
		r.buf = nil
	}
	return ing.Commit(ctx, snapshot.Meta{C: 0, NextOID: 1})
}

// runWriter ingests runs in a goroutine of its own.
type runWriter struct {
	full  chan *run // to the goroutine
	empty chan *run // and back
	done  chan struct{}
	err   error // of the goroutine; read after done
	runs  int
	keys  keySet
}

func startRunWriter(ctx context.Context, s *snapshot.Store) *runWriter {
	w := &runWriter{full: make(chan *run), empty: make(chan *run, 2), done: make(chan struct{})}
	w.empty <- &run{keys: &w.keys}
	w.empty <- &run{keys: &w.keys}
	go func() {
		defer close(w.done)
		for r := range w.full {
			if w.err == nil {
				w.err = r.ingest(ctx, s)
			}
			if w.err != nil {
				return
			}
			w.empty <- r
		}
	}()
	return w
}

// swap sorts a run, hands it over, and returns an empty one; not ok: ingesting has failed.
func (w *runWriter) swap(r *run) (next *run, ok bool) {
	if r != nil {
		r.sort() // here, for ingesting takes longer than reading
		select {
		case w.full <- r:
			w.runs++
		case <-w.done:
			return nil, false
		}
	}
	select {
	case next = <-w.empty:
		return next, true
	case <-w.done:
		return nil, false
	}
}

// end waits for what was handed over.
func (w *runWriter) end() error {
	close(w.full)
	<-w.done
	return w.err
}

// layout is where a load has put the databases of its file.
type layout struct {
	dbs  map[int]*snapshot.DBMeta
	next uint32 // newest physical id given
}

func (l *layout) db(i int) *snapshot.DBMeta {
	d := l.dbs[i]
	if d == nil {
		l.next++
		d = &snapshot.DBMeta{Logical: i, Phys: l.next}
		l.dbs[i] = d
	}
	return d
}

// meta is the meta row of all of it at off. A keyspace wants every database to be named.
func (l *layout) meta(databases int, off wal.Offset) snapshot.Meta {
	m := snapshot.Meta{C: off}
	for i := range databases {
		m.DBs = append(m.DBs, *l.db(i))
	}
	m.NextPhys = l.next
	return m
}
