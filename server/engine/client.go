package engine

import (
	"context"
	"encoding/binary"
	"slices"
	"time"

	"github.com/holdfast-db/holdfast/server/command"
	"github.com/holdfast-db/holdfast/server/keyspace"
	"github.com/holdfast-db/holdfast/server/reply"
	"github.com/holdfast-db/holdfast/wal"
)

// Client is the engine's view of one connection. Its session owns it; the engine changes it under the lock.
type Client struct {
	DB int
	// Raw is what the next command looks like on the wire if that is how the log would write it, else nil. It must stay
	// valid until Run has returned.
	Raw []byte

	// NoTouch: the client's commands leave the times of the last access alone, TOUCH excepted (CLIENT NO-TOUCH).
	NoTouch bool

	// Tracking: what the client reads is told to the KeyObserver, which finds out whose it is by Owner.
	Tracking bool
	Owner    any

	noBlock bool // DENY BLOCKING
	watches []watchKey
	broken  bool // a watched key has changed
	waiter  *waiter
	pinned  []pin
	counts  bool // Warm has looked up what was blind
}

type pin struct {
	l *keyspace.Loading
	o *keyspace.Object
}

type watchKey struct {
	db      int
	key     string
	expired bool // had expired already when WATCH was called: its removal is no change
}

// NewClient returns a client at database 0.
func (e *Engine) NewClient() *Client { return &Client{} }

// CloseClient forgets what the engine holds for cl.
func (e *Engine) CloseClient(cl *Client) {
	e.Lock()
	defer e.Unlock()
	e.Unwatch(cl)
	e.unpin(cl)
	if cl.waiter != nil {
		e.removeWaiter(cl.waiter)
		cl.waiter = nil
	}
}

func dbKey(db int, key string) string {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], uint32(db))
	return string(b[:]) + key
}

// --- WATCH

// Watch makes EXEC fail if key changes before it. REQUIRES: the lock.
func (e *Engine) Watch(cl *Client, key []byte) {
	k := string(key)
	for _, w := range cl.watches {
		if w.db == cl.DB && w.key == k {
			return
		}
	}
	o := e.ks.DB(cl.DB).Get(key)
	expired := o != nil && o.ExpireAt() != 0 && o.ExpireAt() <= e.ctx.Now
	cl.watches = append(cl.watches, watchKey{cl.DB, k, expired})
	id := dbKey(cl.DB, k)
	set := e.watched[id]
	if set == nil {
		set = map[*Client]bool{}
		e.watched[id] = set
	}
	set[cl] = true
	e.setWatching()
}

// Unwatch forgets all that cl watches. REQUIRES: the lock.
func (e *Engine) Unwatch(cl *Client) {
	for _, w := range cl.watches {
		id := dbKey(w.db, w.key)
		delete(e.watched[id], cl)
		if len(e.watched[id]) == 0 {
			delete(e.watched, id)
		}
	}
	cl.watches = nil
	cl.broken = false
	e.setWatching()
}

// watchBroken tells whether a watched key has changed or expired since.
func (e *Engine) watchBroken(cl *Client) bool {
	if cl.broken {
		return true
	}
	for _, w := range cl.watches {
		if w.expired {
			continue
		}
		o := e.ks.DB(w.db).Get([]byte(w.key))
		if o != nil && o.ExpireAt() != 0 && o.ExpireAt() <= e.ctx.Now {
			return true
		}
	}
	return false
}

// onTouch is the keyspace's hook for a changed key.
func (e *Engine) onTouch(db int, key string) {
	if e.observer != nil {
		e.observer.Changed(e.by, key)
	}
	if len(e.watched) == 0 {
		return
	}
	for cl := range e.watched[dbKey(db, key)] {
		for i := range cl.watches {
			w := &cl.watches[i]
			if w.db != db || w.key != key {
				continue
			}
			if w.expired {
				// What goes is the expired value that WATCH saw as absent.
				if o := e.ks.DB(db).Peek([]byte(key)); o != nil && o.ExpireAt() != 0 && o.ExpireAt() <= e.ctx.Now {
					w.expired = false
					continue
				}
			}
			cl.broken = true
		}
	}
}

// onFlush is the keyspace's hook for a database that is emptied or replaced: keys that exist before or after change.
func (e *Engine) onFlush(db, by int) {
	if e.observer != nil {
		e.observer.Flushed()
	}
	for _, clients := range e.watched {
		for cl := range clients {
			for _, w := range cl.watches {
				if w.db != db {
					continue
				}
				if e.ks.DB(db).Get([]byte(w.key)) != nil || by >= 0 && e.ks.DB(by).Get([]byte(w.key)) != nil {
					cl.broken = true
				}
			}
		}
	}
}

// --- blocked clients
//
// A blocking command that finds nothing is parked with the keys it waits for. When one of them comes into being, the
// command that made it is finished first (its effects are in the log), then the parked commands run again, first come
// first served, each as if it had just arrived; their effects follow in the log. To add a blocking command: let its
// handler call Ctx.Block when there is nothing, and give its Spec a Timeout reply if that is not a null array.

type waiter struct {
	cl        *Client
	spec      *command.Spec
	args      [][]byte
	db        int
	keys      []string // dbKey of each
	proto     int
	start     time.Time
	limit     time.Duration // 0 = none
	done      chan struct{}
	served    bool
	reply     []byte
	need      wal.Offset
	unblocked bool
}

type readyKey struct {
	db  int
	key string
}

func (e *Engine) park(cl *Client, spec *command.Spec, args [][]byte, proto int) {
	b := e.ctx.BlockWanted()
	w := &waiter{cl: cl, spec: spec, db: cl.DB, proto: proto, start: e.lockedAt,
		limit: time.Duration(b.TimeoutMs) * time.Millisecond, done: make(chan struct{})}
	for _, a := range args {
		w.args = append(w.args, append([]byte(nil), a...))
	}
	for _, k := range b.Keys {
		id := dbKey(cl.DB, string(k))
		if slices.Contains(w.keys, id) {
			continue
		}
		w.keys = append(w.keys, id)
		e.waiting[id] = append(e.waiting[id], w)
	}
	cl.waiter = w
	e.ks.Blocking = true
	e.stats.blocked++
	if w.limit > 0 {
		e.stats.blockedFor++
	}
}

func (e *Engine) removeWaiter(w *waiter) {
	for _, id := range w.keys {
		list := e.waiting[id]
		if i := slices.Index(list, w); i >= 0 {
			list = slices.Delete(list, i, i+1)
		}
		if len(list) == 0 {
			delete(e.waiting, id)
		} else {
			e.waiting[id] = list
		}
	}
	if !w.served {
		w.served = true
		e.stats.blocked--
		if w.limit > 0 {
			e.stats.blockedFor--
		}
	}
	e.ks.Blocking = len(e.waiting) > 0
}

// onAdd is the keyspace's hook for a key that came into being; key "" stands for a whole database (SWAPDB).
func (e *Engine) onAdd(db int, key string, t keyspace.Type) {
	if t == keyspace.TypeNone {
		for id := range e.waiting {
			if int(binary.BigEndian.Uint32([]byte(id))) == db {
				e.ready = append(e.ready, readyKey{db, id[4:]})
			}
		}
		slices.SortFunc(e.ready, func(a, b readyKey) int {
			if a.db != b.db {
				return a.db - b.db
			}
			if a.key < b.key {
				return -1
			} else if a.key > b.key {
				return 1
			}
			return 0
		})
		return
	}
	if len(e.waiting[dbKey(db, key)]) > 0 {
		e.ready = append(e.ready, readyKey{db, key})
	}
}

// serveReady runs parked commands whose keys came into being. Serving one may make others ready (BLMOVE).
func (e *Engine) serveReady() {
	if e.serving {
		return
	}
	e.serving = true
	defer func() { e.serving = false }()
	for len(e.ready) > 0 {
		ready := e.ready
		e.ready = nil
		for _, r := range ready {
			for _, w := range slices.Clone(e.waiting[dbKey(r.db, r.key)]) {
				if e.ks.DB(r.db).Get([]byte(r.key)) == nil {
					break
				}
				e.retry(w)
			}
		}
	}
}

func (e *Engine) retry(w *waiter) {
	var rw reply.Writer
	rw.Reset(w.proto)
	c := &e.ctx
	saved := c.W
	c.DB, c.W = e.ks.DB(w.db), &rw
	c.Reset(w.spec, w.args)
	c.SetNoBlock(false)
	by := e.by
	e.by = w.cl
	w.spec.Handler(c)
	e.by = by
	c.W = saved
	e.finish(w.db)
	if c.BlockWanted().Wanted {
		return
	}
	w.reply = rw.Bytes()
	w.need = 0
	if e.unreleased(wal.Offset(e.ks.Seen)) {
		w.need = wal.Offset(e.ks.Seen)
	}
	e.removeWaiter(w)
	close(w.done)
}

// Blocked tells whether cl waits for a key. REQUIRES: the lock.
func (e *Engine) Blocked(cl *Client) bool { return cl.waiter != nil && !cl.waiter.served }

// Wait waits, without the lock, until the parked command of cl is served, timed out, unblocked or ctx ends (then it
// returns ctx's error and writes nothing). The reply goes to w; it may leave once need is durable.
func (e *Engine) Wait(ctx context.Context, cl *Client, w *reply.Writer) (need wal.Offset, err error) {
	wt := cl.waiter
	if wt == nil {
		return 0, nil
	}
	var timeout <-chan time.Time
	if wt.limit > 0 {
		t := time.NewTimer(max(0, wt.limit-e.now().Sub(wt.start)))
		defer t.Stop()
		timeout = t.C
	}
	select {
	case <-wt.done:
	case <-ctx.Done():
	case <-timeout:
	}
	e.Lock()
	defer e.Unlock()
	cl.waiter = nil
	if !wt.served {
		e.removeWaiter(wt)
		if ctx.Err() != nil {
			return 0, ctx.Err()
		}
		e.writeTimeout(wt, w)
		return 0, nil
	}
	w.Raw(wt.reply)
	if !e.unreleased(wt.need) {
		return 0, nil
	}
	return wt.need, nil
}

func (e *Engine) writeTimeout(wt *waiter, w *reply.Writer) {
	if wt.spec.Timeout == nil {
		w.NullArray()
		return
	}
	c := &e.ctx
	saved := c.W
	c.Reset(wt.spec, wt.args)
	c.W = w
	wt.spec.Timeout(c)
	c.W = saved
}

// unblockAll ends the wait of all clients with an error. REQUIRES: the lock.
func (e *Engine) unblockAll(text string) {
	for len(e.waiting) > 0 {
		for _, list := range e.waiting {
			e.sendHome(list[0], func(rw *reply.Writer) { rw.Error(text) })
			break
		}
	}
}

// sendHome ends a wait with what answer writes. REQUIRES: the lock.
func (e *Engine) sendHome(wt *waiter, answer func(rw *reply.Writer)) {
	var rw reply.Writer
	rw.Reset(wt.proto)
	answer(&rw)
	wt.reply = rw.Bytes()
	e.removeWaiter(wt)
	close(wt.done)
}

// Unblock ends the wait of cl as a timeout, or with an error. It tells whether cl was waiting. REQUIRES: the lock.
func (e *Engine) Unblock(cl *Client, withError bool) bool {
	wt := cl.waiter
	if wt == nil || wt.served {
		return false
	}
	e.sendHome(wt, func(rw *reply.Writer) {
		if withError {
			rw.Error(reply.UnblockedByClient)
		} else {
			e.writeTimeout(wt, rw)
		}
	})
	return true
}
