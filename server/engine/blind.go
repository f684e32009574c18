package engine

import (
	"context"
	"errors"

	"github.com/holdfast-db/holdfast/server/command"
	"github.com/holdfast-db/holdfast/server/keyspace"
	"github.com/holdfast-db/holdfast/snapshot"
)

// Blind writes: a command that replaces keys whatever they held (command.Spec.Blind) does not wait until cold ones are read. What the
// store has for them is looked up behind it, in the order of the rows, which is some ten times cheaper: by whoever wants exact counts,
// when a start is over, and at the latest by the next checkpoint, which must know which rows to delete. So a recovery, a replica that
// follows its stream, and clients of a server that has just started all write at the speed of memory.

// blindBatch is how many keys are looked up with one iterator, and told to the keyspace in one hold of the lock: 50 to 150 µs.
const blindBatch = 512

// replaces lets the command that is about to run replace its keys without their being read, and reports whether it may. Where keys
// that expire may be cold, a client's command may not: it deletes those whose time has come, and the log and events tell of it. Nor may it
// within a memory budget: data 5 times the budget took 650 MiB in the process then, 450 when its keys are read (why was not found; writes
// were 1.6 times as fast).
// REQUIRES: the lock; AfterCommand is called once the command has run.
func (e *Engine) replaces(db *keyspace.DB, spec *command.Spec, args [][]byte) bool {
	if db.HasColdExpires() || e.limits.MaxMemory.Load() > 0 || !e.blindReplay(spec, args) {
		return false
	}
	placeBlind(db, spec, args)
	return true
}

func placeBlind(db *keyspace.DB, spec *command.Spec, args [][]byte) {
	if spec.LastKey == spec.FirstKey { // the common case, without a closure
		db.Blind(args[spec.FirstKey])
		return
	}
	spec.EachKey(args, func(i int) { db.Blind(args[i]) })
}

// replacesNow is replaces of a command of the log or a primary's stream: those say themselves what expires. REQUIRES: as replaces.
func (e *Engine) replacesNow(db *keyspace.DB, spec *command.Spec, args [][]byte) {
	if db.Cold() > 0 && e.blindReplay(spec, args) {
		placeBlind(db, spec, args)
	}
}

// blindReplay tells whether a command of the log or a primary's stream need not know what its keys held. REQUIRES: the lock, or nobody
// else.
func (e *Engine) blindReplay(spec *command.Spec, args [][]byte) bool {
	return spec.Blind != nil && spec.Blind(args) && !e.ks.NoBlind && !e.ks.Announcing && e.opts.mutant != "no blind writes"
}

// manyBlind is from how many blind keys on they are looked up without the lock before somebody counts keys.
const manyBlind = 256

// ManyBlind tells whether whoever wants to count keys exactly should call LookUpBlind before. REQUIRES: the lock.
func (e *Engine) ManyBlind() bool { return e.ks.Blinds() > manyBlind }

// LookUpBlind finds out what the store has for the keys that were written blind before it was called.
func (e *Engine) LookUpBlind(ctx context.Context) error {
	var blind []*keyspace.BlindObjects
	e.politely(func() {
		for i := range e.ks.NumDBs() {
			if b := e.ks.DB(i).BlindObjects(); b != nil {
				blind = append(blind, b)
			}
		}
	})
	for _, b := range blind {
		if err := e.lookUp(ctx, b); err != nil {
			return err
		}
	}
	return nil
}

func (e *Engine) lookUp(ctx context.Context, b *keyspace.BlindObjects) error {
	b.Sort()
	found := make([]keyspace.StoredKey, blindBatch)
	for at := 0; at < b.Len(); at += len(found) {
		if err := ctx.Err(); err != nil {
			return err
		}
		found = found[:min(len(found), b.Len()-at)]
		rows := walkStore{rowStore: e.rows}
		err := b.Look(&rows, at, found)
		rows.close() // before the lock: see storeGate.takeOut
		if err != nil {
			return err
		}
		e.politely(func() { b.Resolve(at, found) })
	}
	e.politely(b.Resolved)
	return nil
}

// seeAll looks up what was written blind until nothing is, and calls fn under the lock while that is so. After the first look cold keys
// are read before they are written, so that there is an end.
func (e *Engine) seeAll(ctx context.Context, locked func(fn func()), fn func()) error {
	for try := 0; ; try++ {
		done := false
		locked(func() {
			if done = e.ks.Blinds() == 0; done {
				fn()
			}
			e.ks.NoBlind = !done && try > 0
		})
		if done {
			return nil
		}
		if err := e.LookUpBlind(ctx); err != nil {
			locked(func() {
				e.ks.NoBlind = false
				if errors.As(err, new(*snapshot.CorruptionError)) || keyspace.Malformed(err) {
					e.readFailed(err) // there will be no checkpoint: writers would wait for room for ever
				}
			})
			return err
		}
	}
}
