package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/holdfast-db/holdfast/server/keyspace"
	"github.com/holdfast-db/holdfast/snapshot"
	"github.com/holdfast-db/holdfast/wal"
)

// A checkpoint: freeze → ingest → settle.
//
//  1. Under the lock, O(1): C = end of the log, the dirty objects are handed over, a new epoch begins.
//  2. Wait until C is durable (S1): the store must never be ahead of the log.
//  3. Take the rows, a few objects for each hold of the lock, into sorted tables; big collections element by element.
//  4. One ingest with the new C: the commit point (S2).
//  5. Settle: what has not changed since is clean (K2), covered tombstones go (K3).
//
// A crash before 4 leaves tables that the next open deletes; after 4 the store is at C, whatever memory thought.

// visitBatch and settleBatch bound the objects for each hold of the lock: 50 to 150 µs. bigBatch is the same for the element
// rows of a big collection. What takes longer for so many ends at holdBudget.
//
// Each hold waits until sessions leave the lock, and the more they write, the longer; what they change meanwhile is frozen. So where
// more than manyFrozen objects are, rows are taken in steps of hurriedBatch.
const (
	visitBatch   = 512
	hurriedBatch = 1024
	manyFrozen   = 16 << 10
	settleBatch  = 256
	bigBatch     = 512
)

// batch returns n, or what a test has set to see every interleaving.
func (e *Engine) batch(n int) int {
	if e.opts.batch > 0 {
		return e.opts.batch
	}
	return n
}

// CheckpointInfo tells of the newest checkpoint.
type CheckpointInfo struct {
	Running bool
	Begun   time.Time  // when the one that runs began; zero: none does, or it is announced only
	Offset  wal.Offset // C
	End     time.Time
	Took    time.Duration
	Objects int64 // written
	Rows    int64
	Bytes   int64
	Frozen  keyspace.FreezeStats
	MaxHold time.Duration // longest hold of the executor lock
	MaxStep string        // and what for
	MaxCPU  time.Duration // most CPU time of its thread in one hold; 0 where that is not measured
	Err     error         // of the newest one; nil if it succeeded
	Count   int64
	Failed  int64
}

type checkpointer struct {
	e    *Engine
	wake chan struct{}
	one  sync.Mutex // one checkpoint at a time
	// visited is how many objects' rows the checkpoint that runs has taken.
	visited atomic.Int64

	mu struct {
		sync.Mutex
		info   CheckpointInfo
		plan   int           // checkpoints that PlanCheckpoint has announced and that have not begun
		room   chan struct{} // closed and replaced when a checkpoint ends: writers that wait for room look again
		handed handedOver
	}
}

// handedOver is what the checkpoint that runs was given; zero: none runs, or it has not been given anything yet.
type handedOver struct {
	at      wal.Offset // C
	objects int64
	when    time.Time
}

func (c *checkpointer) init(e *Engine) {
	c.e = e
	c.wake = make(chan struct{}, 1)
	c.mu.room = make(chan struct{})
	m := e.store.Meta()
	c.mu.info.Offset = m.C
	c.mu.info.End = time.UnixMilli(m.CreatedMs)
	if m.CreatedMs == 0 {
		c.mu.info.End = e.now() // new data: as if just saved
	}
}

// askCheckpoint wakes the checkpointer; asking twice is as good as once.
func (e *Engine) askCheckpoint() {
	select {
	case e.check.wake <- struct{}{}:
	default:
	}
}

// A replica that catches up gets the log many times faster than a primary writes it, most often for the same keys again and
// again: checkpoints of a fixed length of log would follow one another without pause, and take from the catching up what they
// need. So on a replica there is checkpointPause between two of them, as long as there is not checkpointMost times the log that
// else starts one: that bounds the time of a recovery, and what the log cannot let go of.
const (
	checkpointPause = ripeAfter
	checkpointMost  = 4
)

// checkpointObjectBytes is what an object that has changed counts at least, towards the length of log that starts a checkpoint. Small
// records make many of them in few bytes, and what a recovery does for each does not depend on its size: 1 us for what is written blind,
// some 4 us, on two processors, for what is read from the store.
const checkpointObjectBytes = 256

// checkpointDue tells whether the log since the newest checkpoint is long enough for the next one. REQUIRES: the lock.
func (e *Engine) checkpointDue() bool {
	grown, limit := int64(e.logEnd)-int64(e.checkpointAt), e.limits.CheckpointLogBytes.Load()
	if grown < limit {
		_, objects := e.ks.Dirty()
		return objects*checkpointObjectBytes >= limit && !e.replica.Load()
	}
	return !e.replica.Load() || grown/checkpointMost >= limit || e.lockedAt.Sub(e.handedAt) >= checkpointPause
}

func (c *checkpointer) run(ctx context.Context) {
	defer c.e.wg.Done()
	for {
		timer := time.NewTimer(time.Duration(c.e.limits.CheckpointInterval.Load()))
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-c.wake:
		case <-timer.C:
		}
		timer.Stop()
		if err := c.e.Checkpoint(ctx); err != nil && ctx.Err() == nil {
			c.e.logger.Warn("checkpoint failed, will be tried again", "error", err)
			// Do not spin on a full disk: the janitor asks again when there is room, the interval does at the latest.
			select {
			case <-ctx.Done():
				return
			case <-time.After(time.Second):
			}
		}
	}
}

// LastCheckpoint tells of the newest checkpoint.
func (e *Engine) LastCheckpoint() CheckpointInfo {
	e.check.mu.Lock()
	defer e.check.mu.Unlock()
	i := e.check.mu.info
	i.Running = i.Running || e.check.mu.plan > 0
	return i
}

// Checkpoint brings the store to the present end of the log. One that runs already is waited for first.
func (e *Engine) Checkpoint(ctx context.Context) error {
	return e.checkpoint(ctx, 0, &checkpointPass{e: e})
}

// CheckpointFrom takes a checkpoint unless the newest one, or one that is under way, has its C at off or behind it: who asks while
// another runs shares it, and does not wait for one that it does not need.
func (e *Engine) CheckpointFrom(ctx context.Context, off wal.Offset) error {
	if _, c := e.SnapshotSize(); c >= off {
		return ctx.Err()
	}
	return e.checkpoint(ctx, 0, &checkpointPass{e: e, unless: off})
}

// PlanCheckpoint announces a checkpoint: LastCheckpoint says from now on that one runs. take takes it as Checkpoint does, and
// is called once.
func (e *Engine) PlanCheckpoint() (take func(context.Context) error) {
	e.check.mu.Lock()
	e.check.mu.plan++
	e.check.mu.Unlock()
	return func(ctx context.Context) error { return e.checkpoint(ctx, 1, &checkpointPass{e: e}) }
}

// checkpoint takes a checkpoint, planned being 1 if it was announced.
func (e *Engine) checkpoint(ctx context.Context, planned int, p *checkpointPass) error {
	c := &e.check
	c.one.Lock()
	defer c.one.Unlock()
	start := e.now()
	c.mu.Lock()
	c.mu.plan -= planned
	if p.unless > 0 && c.mu.info.Offset >= p.unless {
		c.mu.Unlock()
		return nil
	}
	c.mu.info.Running, c.mu.info.Begun = true, start
	c.mu.Unlock()

	err := p.run(ctx)
	var afterErr error
	if err == nil && p.after != nil {
		afterErr = p.after()
	}

	c.mu.Lock()
	i := &c.mu.info
	i.Running, i.Begun = false, time.Time{}
	c.mu.handed = handedOver{}
	if !p.refused {
		i.MaxHold, i.MaxStep, i.MaxCPU = p.holds.max, p.holds.maxStep, p.holds.cpuMax
	}
	switch {
	case p.refused: // nothing was tried
	case err == nil:
		i.Err = nil
		i.Offset, i.End, i.Took = p.at, e.now(), e.now().Sub(start)
		i.Objects, i.Rows, i.Bytes, i.Frozen = p.objects, p.rows, p.bytes, p.frozen
		i.Count++
	default:
		i.Err = err
		i.Failed++
	}
	close(c.mu.room)
	c.mu.room = make(chan struct{})
	c.mu.Unlock()
	if err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	if err := e.retain(p.at); err != nil {
		e.logger.Warn("trimming the log failed", "error", err)
	}
	return afterErr
}

// checkpointPass is one checkpoint under way.
type checkpointPass struct {
	e       *Engine
	unless  wal.Offset // nothing to do if the newest C is here or behind it; 0: it is taken in any case
	at      wal.Offset
	holds   holds
	objects int64
	rows    int64
	bytes   int64
	frozen  keyspace.FreezeStats

	// For marks (mark.go), each may be nil. before runs under the executor lock just before the hand-over, and an error of it means
	// that there is no checkpoint; handed when it is done; after, once the store stands at C and before any other checkpoint.
	before  func() error
	handed  func()
	after   func() error
	refused bool // by before
}

func (p *checkpointPass) run(ctx context.Context) error {
	e := p.e
	p.holds.begin(e)
	defer p.holds.end()
	var h *keyspace.Handover
	var selected int
	var refusal error
	locked := func(fn func()) { p.holds.locked("hand-over", func(func() bool) { fn() }) }
	if err := e.seeAll(ctx, locked, func() {
		if p.before != nil {
			if refusal = p.before(); refusal != nil {
				return
			}
		}
		e.commit()
		if e.logEnd == e.store.Meta().C && !e.ks.AnyDirty() {
			return
		}
		h = e.ks.HandOver()
		p.at, selected = e.logEnd, e.bufDB
		e.checkpointAt, e.handedAt = e.logEnd, e.now()
		e.check.mu.Lock() // under the lock: who sees that less is dirty sees where it went
		e.check.mu.handed = handedOver{p.at, h.Objects, e.handedAt}
		e.check.visited.Store(0)
		e.check.mu.Unlock()
		select {
		case <-e.check.wake: // whatever asked before this hand-over is served by it
		default:
		}
	}); err != nil {
		return err
	}
	if p.handed != nil {
		p.handed()
	}
	if refusal != nil {
		p.refused = true
		return refusal
	}
	if h == nil {
		p.at = e.store.Meta().C
		return nil // nothing has changed
	}
	if err := p.write(ctx, h, selected); err != nil {
		p.giveBack(h)
		return err
	}
	p.settle(h)
	e.logger.Info("checkpoint finished", "offset", int64(p.at), "objects", p.objects, "rows", p.rows,
		"size-bytes", p.bytes, "frozen-objects", p.frozen.Objects, "frozen-bytes", p.frozen.Bytes, "max-hold-us", p.holds.max.Microseconds(), "max-hold-step", p.holds.maxStep,
		"max-hold-cpu-us", p.holds.cpuMax.Microseconds())
	return nil
}

type expireRow struct {
	key []byte
	del bool
}

func (p *checkpointPass) write(ctx context.Context, h *keyspace.Handover, selected int) (err error) {
	e := p.e
	// Sync demands what the policy may leave for later (S1).
	if e.opts.mutant != "store ahead of the log" {
		if err := e.log.Sync(ctx); err != nil {
			return err
		}
	}
	ing, err := e.store.NewIngest()
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, ing.Abort())
		}
	}()
	for _, phys := range h.DeadDBs {
		for _, r := range [][2][]byte{rangeOf(keyspace.MainRange(phys)), rangeOf(keyspace.ElemRange(phys)), rangeOf(keyspace.ExpireRange(phys))} {
			if err := ing.DeleteRange(r[0], r[1]); err != nil {
				return err
			}
		}
	}

	for i := range h.DBs {
		d := &h.DBs[i]
		for _, oid := range d.DeadOIDs {
			lo, hi := keyspace.ElemObjectRange(d.Phys, oid)
			if err := ing.DeleteRange(lo, hi); err != nil {
				return err
			}
		}
	}

	type bigPart struct {
		phys uint32
		oid  uint64
		rows *keyspace.BigRows
	}
	var bigs []bigPart
	var expires, few []expireRow // few: of one hold, so that the long list grows outside the lock
	batch := newRowBatch()
	var phys uint32
	sink := &keyspace.RowSink{
		Main:   batch.add,
		Shared: batch.share,
		Expire: func(old, now []byte) {
			if old != nil {
				few = append(few, expireRow{old, true})
			}
			if now != nil {
				few = append(few, expireRow{now, false})
			}
		},
		Big: func(oid uint64, r *keyspace.BigRows) { bigs = append(bigs, bigPart{phys, oid, r}) },
	}
	var scratch []byte
	frozen := 0 // objects
	for i := range h.DBs {
		d := &h.DBs[i]
		phys = d.Phys
		d.Sort()
		p.objects += int64(len(d.Objects))
		for objs := d.Objects; len(objs) > 0; {
			if err := ctx.Err(); err != nil {
				return err
			}
			step := visitBatch
			if frozen > manyFrozen {
				step = hurriedBatch
			}
			n := min(e.batch(step), len(objs))
			p.holds.locked("rows", func(enough func() bool) {
				n = d.Visit(objs[:n], sink, &scratch, enough)
				frozen = e.ks.Frozen()
			})
			objs = objs[n:]
			e.check.visited.Add(int64(n))
			expires, few = append(expires, few...), few[:0]
			if err := p.flushRows(ing, batch); err != nil {
				return err
			}
		}
	}

	slices.SortFunc(bigs, func(a, b bigPart) int {
		if a.phys != b.phys {
			return int(a.phys) - int(b.phys)
		}
		if a.oid < b.oid {
			return -1
		}
		return 1
	})
	for _, b := range bigs {
		p.holds.locked("elements", func(func() bool) { b.rows.Prepare() })
		b.rows.Sort()
		for more := true; more; {
			if err := ctx.Err(); err != nil {
				return err
			}
			p.holds.locked("elements", func(enough func() bool) {
				more = b.rows.Next(e.batch(bigBatch), enough, func(sub string, val []byte, exists bool) {
					scratch = keyspace.AppendElemKey(scratch[:0], b.phys, b.oid, []byte(sub))
					if !exists {
						val = nil
					} else if val == nil {
						val = []byte{}
					}
					batch.add(scratch, val)
				})
			})
			if err := p.flushRows(ing, batch); err != nil {
				return err
			}
		}
	}

	slices.SortFunc(expires, func(a, b expireRow) int { return slices.Compare(a.key, b.key) })
	for _, x := range expires {
		if x.del {
			err = ing.Delete(x.key)
		} else {
			err = ing.Set(x.key, nil)
		}
		if err != nil {
			return err
		}
		p.rows++
	}

	lineage, err := json.Marshal(e.log.Lineage())
	if err != nil {
		return err
	}
	meta := snapshot.Meta{C: p.at, SelectedDB: selected, NextPhys: h.NextPhys, Lineage: lineage,
		CreatedMs: e.now().UnixMilli(), ReplID: e.ReplID()}
	for _, l := range h.Layout {
		meta.DBs = append(meta.DBs, snapshot.DBMeta{Logical: l.Logical, Phys: l.Phys, Keys: l.Keys, Expires: l.Expires, Timed: l.Timed})
	}
	p.holds.locked("identities", func(func() bool) { meta.NextOID = e.ks.NextOID() })
	p.bytes = ing.Size()
	return ing.Commit(ctx, meta)
}

func rangeOf(lo, hi []byte) [2][]byte { return [2][]byte{lo, hi} }

func (p *checkpointPass) settle(h *keyspace.Handover) {
	e := p.e
	p.holds.locked("settle", func(func() bool) {
		p.frozen = e.ks.FreezeStats
		e.ks.BeginSettle()
	})
	for i := range h.DBs {
		d := &h.DBs[i]
		for objs := d.Objects; len(objs) > 0; {
			n := min(e.batch(settleBatch), len(objs))
			p.holds.locked("settle", func(enough func() bool) { n = d.Settle(h, objs[:n], enough) })
			objs = objs[n:]
		}
		d.Objects = nil
	}
	p.holds.locked("end", func(func() bool) { e.ks.EndCheckpoint() })
}

// giveBack makes everything of a checkpoint that failed dirty again.
func (p *checkpointPass) giveBack(h *keyspace.Handover) {
	e := p.e
	for i := range h.DBs {
		d := &h.DBs[i]
		d.Sort() // whatever it failed at
		for objs := d.Objects; len(objs) > 0; {
			n := min(e.batch(visitBatch), len(objs))
			p.holds.locked("give-back", func(func() bool) { d.GiveBack(h, objs[:n]) })
			objs = objs[n:]
		}
	}
	p.holds.locked("give-back", func(func() bool) {
		e.ks.EndGiveBack(h)
		e.checkpointAt = e.store.Meta().C
	})
}

// --- back-pressure

// roomShort tells whether writers must wait for a checkpoint: too much is dirty, or the log's buffer is not being
// written. REQUIRES: the lock.
func (e *Engine) roomShort() bool {
	if dirty, _ := e.ks.Dirty(); dirty > e.dirtyLimit() {
		e.askCheckpoint()
		return true
	}
	return e.log.Pending() > maxPendingLog
}

// dirtyLimit is the bound of dirty bytes: what is dirty cannot be unloaded, so it may be no more than a quarter of a memory
// budget.
func (e *Engine) dirtyLimit() int64 {
	limit := e.limits.DirtyBytes.Load()
	if budget := e.limits.MaxMemory.Load(); budget > 0 {
		limit = min(limit, budget/4)
	}
	return limit
}

// maxPendingLog bounds in bytes what is appended and not yet written: with the memtables that may wait before it, some hundred
// milliseconds of a slow disk.
const maxPendingLog = 16 << 20

// WaitRoom waits, without the lock, until a write that met StatusRoom may be tried again.
func (e *Engine) WaitRoom(ctx context.Context) error {
	e.mu.Lock()
	e.stats.backPressure++
	e.mu.Unlock()
	e.check.mu.Lock()
	room := e.check.mu.room
	e.check.mu.Unlock()
	e.mu.Lock()
	short := e.roomShort()
	pending := e.log.Pending() > maxPendingLog
	e.mu.Unlock()
	if !short {
		return nil
	}
	if pending {
		// Sync asks for the write as well: nobody else may be about to wake the committer.
		return e.log.Sync(ctx)
	}
	e.askCheckpoint()
	select {
	case <-room:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// ReplID returns the current replication id.
func (e *Engine) ReplID() string {
	l := e.log.Lineage()
	if len(l) == 0 {
		return ""
	}
	return l[len(l)-1].ID
}
