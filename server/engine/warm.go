package engine

import (
	"context"

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
		if err := ctx.Err(); err != nil {
			return err
		}
		e.Lock()
		loads := e.coldOf(cl, queue)
		e.Unlock()
		if len(loads) == 0 {
			return nil
		}
		for _, l := range loads {
			if err := l.Read(e.rows, e.opts.Limits); err != nil {
				return err
			}
		}
		e.Lock()
		e.stats.coldLoads += int64(len(loads))
		for _, l := range loads {
			if o, ok := l.Install(); ok && o != nil {
				cl.pinned = append(cl.pinned, pin{l, o})
			}
		}
		e.unload(unloadBurst)
		e.Unlock()
	}
}

// unpin releases what Warm has pinned for cl. REQUIRES: the lock.
func (e *Engine) unpin(cl *Client) {
	for _, p := range cl.pinned {
		p.l.Unpin(p.o)
	}
	cl.pinned = nil
}
