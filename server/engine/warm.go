package engine

import (
	"bytes"
	"context"
	"slices"

	"github.com/holdfast-db/holdfast/server/command"
	"github.com/holdfast-db/holdfast/server/keyspace"
)

// Reading cold keys before the lock. What Warm has read stays pinned until the command has run (K2), so that a tiny
// memory budget cannot take it away again before that.

// anyCold tells whether any key is only in the store: while all data is resident nothing is looked up twice.
func (e *Engine) anyCold() bool {
	for i := range e.ks.NumDBs() {
		if e.ks.DB(i).Cold() > 0 {
			return true
		}
	}
	return false
}

// hasCold tells whether a key that the command names has to be read first. REQUIRES: the lock.
func (e *Engine) hasCold(dbIndex int, spec *command.Spec, args [][]byte) bool {
	db := e.ks.DB(dbIndex)
	if spec.Keys == nil {
		if spec.FirstKey <= 0 {
			return false
		}
		if spec.LastKey == spec.FirstKey { // the common case, without a closure
			return spec.FirstKey < len(args) && db.Residency(args[spec.FirstKey]) == keyspace.Cold
		}
	}
	cold := false
	spec.EachKey(args, func(i int) {
		cold = cold || db.Residency(args[i]) == keyspace.Cold
	})
	return cold
}

// coldOf lists what a transaction has to read first. A SELECT inside it changes the database of what follows.
func (e *Engine) coldOf(cl *Client, queue []Queued) (loads []*keyspace.Loading) {
	dbIndex := cl.DB
	for i := range queue {
		q := &queue[i]
		if q.Spec.Name == "select" && len(q.Args) == 2 {
			if n, ok := command.ParseInt(q.Args[1]); ok && n >= 0 && int(n) < e.ks.NumDBs() {
				dbIndex = int(n)
			}
			continue
		}
		db := e.ks.DB(dbIndex)
		q.Spec.EachKey(q.Args, func(k int) {
			if db.Residency(q.Args[k]) == keyspace.Cold {
				loads = append(loads, db.BeginLoad(q.Args[k]))
			}
		})
	}
	return loads
}

// Warm reads the cold keys of one command. It is called without the lock, after StatusCold.
func (e *Engine) Warm(ctx context.Context, cl *Client, spec *command.Spec, args [][]byte) error {
	return e.WarmMulti(ctx, cl, []Queued{{Spec: spec, Args: args}})
}

// WarmMulti reads the cold keys of a transaction.
func (e *Engine) WarmMulti(ctx context.Context, cl *Client, queue []Queued) error {
	for {
		if warm, err := e.warmOnce(ctx, cl, queue); warm || err != nil {
			return err
		}
	}
}

// warmOnce reads what is cold now. warm = nothing was: what was read may have become cold again, where memory is short.
func (e *Engine) warmOnce(ctx context.Context, cl *Client, queue []Queued) (warm bool, err error) {
	if slices.ContainsFunc(queue, func(q Queued) bool { return q.Spec.Counts }) && !cl.counts {
		if err := e.LookUpBlind(ctx); err != nil {
			return false, err
		}
		cl.counts = true
	}
	end, err := e.coldTurn(ctx)
	if err != nil {
		return false, err
	}
	defer end()
	e.Lock()
	loads := e.coldOf(cl, queue)
	e.Unlock()
	if len(loads) == 0 {
		return true, nil
	}
	around, read := e.readAround(loads[0])
	rest := loads
	if read {
		rest = loads[1:]
	}
	for _, l := range rest {
		if err := l.Read(e.rows, e.opts.Limits); err != nil {
			return false, err
		}
	}
	e.Lock()
	defer e.Unlock()
	e.stats.coldLoads += int64(len(loads))
	for _, l := range loads {
		if o, ok := l.Install(); ok && o != nil {
			cl.pinned = append(cl.pinned, pin{l, o})
		}
	}
	for _, l := range around {
		if l.DB().Residency(l.Key()) != keyspace.Cold {
			continue
		}
		if o, ok := l.Install(); ok && o != nil {
			l.Unpin(o)
		}
	}
	e.unload(unloadBurst)
	return false, nil
}

// coldTurn waits until the caller may read cold keys, in the order in which they ask; end gives the turn back. While everything is being
// read anyway, only half of the processors serve such reads: some hundred clients that each read their own keys would leave
// nothing of them to the preload, which brings the same keys several times sooner, and so be served later themselves.
func (e *Engine) coldTurn(ctx context.Context) (end func(), err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if !e.preloadReads.Load() {
		return func() {}, nil
	}
	select {
	case e.coldTurns <- struct{}{}:
		return func() { <-e.coldTurns }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// aroundRows is how many keys behind a cold one are read with it, as long as there is room: the block that has them must be
// read and decoded anyway, and that is most of the work.
// While the preload brings the same keys sooner, and others wait for their turn, fewer are worth their time.
const (
	aroundRows    = 64
	aroundPreload = 8
)

// readAround reads l and the keys that follow it in the store, in one walk, so that a server that has just started is warm after
// a fraction of its keys have been named. Some of them may be in memory already: to find out first would take the lock once more
// and the walk twice. What of them cannot be read is left to whoever names it: it must not keep l from being read. If read is
// false, l is still to be read.
func (e *Engine) readAround(l *keyspace.Loading) (around []*keyspace.Loading, read bool) {
	if e.limits.MaxMemory.Load() > 0 || e.opts.NoPreload {
		return nil, false // what is not asked for would take the place of what is
	}
	phys, row := l.Row()
	_, end := keyspace.MainRange(phys)
	it, err := e.rows.newIter(row, end) // not older than l, which has noted which checkpoint was settled last
	if err != nil {
		return nil, false
	}
	ok := it.First()
	read = true // as absent, unless it is there
	if ok && bytes.Equal(it.Key(), row) {
		read = l.Take(it.Value(), e.opts.Limits)
		ok = it.Next()
	}
	rows := aroundRows
	if e.preloadReads.Load() {
		rows = aroundPreload
	}
	around = make([]*keyspace.Loading, 0, rows)
	for n := 0; ok && n < rows; n++ {
		if m := l.Beside(it.Key(), it.Value(), e.opts.Limits); m != nil {
			around = append(around, m)
		}
		ok = it.Next()
	}
	if it.Close() != nil {
		return nil, false // reading l by itself tells why
	}
	return around, read
}

// unpin releases what Warm has pinned for cl. REQUIRES: the lock.
func (e *Engine) unpin(cl *Client) {
	for _, p := range cl.pinned {
		p.l.Unpin(p.o)
	}
	cl.pinned = nil
}
