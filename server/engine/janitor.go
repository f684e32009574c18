package engine

import (
	"bytes"
	"context"
	"strings"
	"time"

	"github.com/holdfast-db/holdfast/server/command"
	"github.com/holdfast-db/holdfast/server/keyspace"
)

// The janitor removes expired keys and fields of hashes, unloads what does not fit the memory budget, and watches the disk.

// janitorTick is how often the janitor looks: Redis's hz 10.
const janitorTick = 100 * time.Millisecond

// expireBudget bounds one pass of active expiry, so that a burst of dying keys cannot take the executor for itself: 25 %
// of a tick, as Redis's slow cycle. Larger raises every client's p99; smaller lets dead keys pile up.
const expireBudget = janitorTick / 4

// expireBatch is how many keys may expire in one hold of the lock, about 50 µs.
const expireBatch = 64

// unloadBurst is how many objects are unloaded in one hold of the lock, about 100 µs.
const unloadBurst = 128

func (e *Engine) janitor(ctx context.Context) {
	defer e.wg.Done()
	tick := time.NewTicker(janitorTick)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			e.Tick(ctx)
		}
	}
}

// ripeAfter is how long the log may stay above a quarter of the length that else starts a checkpoint. Where writes are few or
// come in bursts, there is time to keep the next recovery short; not at once, since a burst is followed by reads.
const ripeAfter = 3 * time.Second

// ripe tells whether a checkpoint should not wait for more, grown being the bytes of log since the last one.
func (e *Engine) ripe(grown int64) bool {
	if grown <= e.limits.CheckpointLogBytes.Load()/4 {
		e.ripeSince = time.Time{}
		return false
	}
	now := e.now()
	if e.ripeSince.IsZero() {
		e.ripeSince = now
	}
	return now.Sub(e.ripeSince) >= ripeAfter
}

// Tick does one round of the janitor's work; tests call it themselves.
func (e *Engine) Tick(ctx context.Context) {
	e.expireCycle(ctx)
	e.fitBudget()
	e.unloadCycle(ctx)
	e.disk.look()
	e.keepSlots()
	e.marks.expire(e.now())
	e.expireCopies()
	e.lookAtMemory()
	if e.limits.CheckpointInterval.Load() > 0 {
		e.mu.Lock()
		dirty, _ := e.ks.Dirty()
		grown := int64(e.logEnd - e.checkpointAt)
		e.mu.Unlock()
		if dirty > e.dirtyLimit()/2 || e.ripe(grown) {
			e.askCheckpoint()
		}
	}
}

// lookAtMemory notes whether more is in memory than maxmemory allows.
func (e *Engine) lookAtMemory() {
	budget, now := e.limits.MaxMemory.Load(), e.now()
	e.mu.Lock()
	defer e.mu.Unlock()
	e.pressure.look(budget > 0 && e.ks.Used() > budget, now)
}

// SetActiveExpire turns active expiry on or off (DEBUG SET-ACTIVE-EXPIRE).
func (e *Engine) SetActiveExpire(on bool) { e.activeExpire.Store(on) }

func (e *Engine) expireCycle(ctx context.Context) {
	if !e.activeExpire.Load() || e.refuse.Load() != nil || e.replica.Load() {
		return
	}
	start := time.Now() // a budget of work, not a matter of the data's clock
	more, keys, expired := true, -1, int64(0)
	for more && ctx.Err() == nil && time.Since(start) < expireBudget {
		more = false
		e.Lock()
		if e.replica.Load() {
			e.Unlock()
			return
		}
		if keys < 0 {
			keys, expired = e.canExpire(), e.ks.Expired
		}
		for i := range e.ks.NumDBs() {
			db := e.ks.DB(i)
			n := 0
			for o := db.Due(e.ctx.Now); o != nil && n < expireBatch; o = db.Due(e.ctx.Now) {
				e.expire(db, o)
				n++
			}
			for o := db.DueFields(e.ctx.Now); o != nil && n < expireBatch; o = db.DueFields(e.ctx.Now) {
				n += e.expireFields(db, o, expireBatch-n)
			}
			more = more || n >= expireBatch
		}
		e.Unlock()
	}
	e.expireCold(ctx)
	e.Lock()
	defer e.Unlock()
	e.pressure.passed(keys, e.ks.Expired-expired, more && ctx.Err() == nil, time.Since(start))
}

// canExpire counts the keys that have an expiry. REQUIRES: the lock.
func (e *Engine) canExpire() (n int) {
	for i := range e.ks.NumDBs() {
		n += e.ks.DB(i).Expires()
	}
	return n
}

// expire deletes an expired key and logs its deletion. REQUIRES: the lock.
func (e *Engine) expire(db *keyspace.DB, o *keyspace.Object) {
	key := []byte(o.Key())
	db.DeleteObject(o)
	db.CountExpired()
	verb := "DEL"
	if e.conf.LazyfreeExpire {
		verb = "UNLINK"
	}
	e.emit(db.Index(), [][]byte{[]byte(verb), key})
	e.setNextOff()
	e.ks.AfterCommand()
	e.tellKey(db, command.EventExpired, "expired", key)
}

// expireFields deletes up to max fields of a hash whose time has come, and the key with the last field; it logs an HDEL and returns
// how many there were. REQUIRES: the lock.
func (e *Engine) expireFields(db *keyspace.DB, o *keyspace.Object, max int) int {
	h := o.Hash()
	due := command.DueFields(h, e.ctx.Now, max)
	if len(due) == 0 {
		return 0
	}
	db.Touch(o)
	for _, f := range due {
		h.Del(f)
	}
	e.ks.ExpiredFields += int64(len(due))
	key := []byte(o.Key())
	e.emit(db.Index(), append([][]byte{[]byte("HDEL"), key}, due...))
	last := h.Len() == 0
	if last {
		db.DeleteObject(o)
	}
	e.setNextOff()
	e.ks.AfterCommand()
	e.tellKey(db, command.EventHash, "hexpired", key)
	if last {
		e.tellKey(db, command.EventGeneric, "del", key)
	}
	return len(due)
}

// coldExpireBatch is how many expired keys that are not in memory are removed in one round.
const coldExpireBatch = 256

// expireCold removes keys that have expired in the store. The expiry rows are in order of time, so that a look at the
// first one tells whether there is anything to do.
func (e *Engine) expireCold(ctx context.Context) {
	type due struct {
		db  int
		key []byte
	}
	var found []due
	type place struct {
		index int
		phys  uint32
	}
	var places []place
	e.mu.Lock()
	now := e.now().UnixMilli()
	for i := range e.ks.NumDBs() {
		if db := e.ks.DB(i); db.HasColdExpires() {
			places = append(places, place{i, db.Phys()})
		}
	}
	e.mu.Unlock()
	for _, p := range places {
		lo, _ := keyspace.ExpireRange(p.phys)
		hi := keyspace.AppendExpireKey(nil, p.phys, now+1, 0, 0, nil)
		it, err := e.rows.Iter(lo, hi)
		if err != nil {
			e.logger.Warn("looking for expired keys failed", "error", err)
			return
		}
		for ok := it.SeekGE(lo); ok && len(found) < coldExpireBatch; ok = it.Next() {
			if _, _, _, _, key, good := keyspace.ParseExpireKey(it.Key()); good {
				found = append(found, due{p.index, bytes.Clone(key)})
			}
		}
		if err := it.Close(); err != nil {
			e.logger.Warn("looking for expired keys failed", "error", err)
			return
		}
	}
	for len(found) > 0 && ctx.Err() == nil {
		n := min(expireBatch, len(found))
		var loads []*keyspace.Loading
		e.Lock()
		for _, d := range found[:n] {
			if db := e.ks.DB(d.db); db.Residency(d.key) == keyspace.Cold {
				loads = append(loads, db.BeginLoad(d.key))
			}
		}
		e.Unlock()
		e.readAll(loads)
		e.Lock()
		for _, l := range loads {
			if l.Failed() {
				continue
			}
			o, ok := l.Install()
			if !ok || o == nil {
				continue
			}
			if at := o.ExpireAt(); o.Type() != keyspace.TypeNone && at != 0 && at <= e.ctx.Now && !e.replica.Load() {
				e.expire(l.DB(), o)
			} else if o.Type() == keyspace.TypeHash && !e.replica.Load() {
				e.expireFields(l.DB(), o, expireBatch) // it is in memory now: the rest is found like that of others
			}
			l.Unpin(o)
		}
		e.Unlock()
		found = found[n:]
	}
}

// --- memory budget

// Memory is allocated in spans of one size each, and a span is free for another size only once everything in it has gone. When
// values of another size take the place of those that leave, here one and there one, the process needs both for a while: up to
// twice the budget. While it takes too much the budget is cut, a little with each tick.
const (
	maxCutEighths = 5  // that many eighths of the budget are cut at most
	cutSteps      = 32 // that part of it with one tick
)

// fitBudget decides how much less than the budget is kept in memory.
func (e *Engine) fitBudget() {
	budget := e.limits.MaxMemory.Load()
	if budget == 0 || e.opts.Overrun == nil {
		e.budgetCut.Store(0)
		return
	}
	step := budget / cutSteps
	cut := e.budgetCut.Load() + min(max(e.opts.Overrun(budget), -step), step)
	e.budgetCut.Store(min(max(cut, 0), budget/8*maxCutEighths))
}

// unloadCycle keeps what is resident within the budget.
func (e *Engine) unloadCycle(ctx context.Context) {
	for ctx.Err() == nil {
		e.mu.Lock()
		over, n := e.unload(unloadBurst)
		e.mu.Unlock()
		if !over {
			return
		}
		if n < unloadBurst {
			// Clean objects are hard to find: a checkpoint makes some.
			e.mu.Lock()
			_, dirty := e.ks.Dirty()
			e.mu.Unlock()
			if dirty > 0 {
				e.askCheckpoint()
			}
			return
		}
	}
}

// unload takes up to max objects out of memory if the budget is used up. REQUIRES: mu.
func (e *Engine) unload(max int) (over bool, n int) {
	budget := e.limits.MaxMemory.Load()
	if budget == 0 {
		return false, 0
	}
	if budget -= e.budgetCut.Load(); e.ks.Used() <= budget {
		return false, 0
	}
	n = e.ks.Unload(e.rand, budget, max)
	e.stats.unloaded += int64(n)
	return e.ks.Used() > budget, n
}

// UnloadAll takes all clean objects out of memory (a verb of test scripts).
func (e *Engine) UnloadAll() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.UnloadAllLocked()
}

// UnloadAllLocked is UnloadAll for whoever has the lock. REQUIRES: the lock.
func (e *Engine) UnloadAllLocked() int { return e.ks.UnloadAll() }

// --- Redis's eviction policies: only when the user asks for one are keys deleted

// evictShort tells whether a policy other than noeviction is set and the budget is used up. REQUIRES: the lock.
func (e *Engine) evictShort() bool {
	budget := e.limits.MaxMemory.Load()
	return budget > 0 && e.conf.MaxMemoryPolicy != "noeviction" && e.ks.Used() > budget
}

// evictSamples is how many keys compete for each deletion, as Redis's maxmemory-samples.
const evictSamples = 5

// evict deletes keys by the policy until the budget is met; it reports false when there is nothing left to delete.
func (e *Engine) evict() bool {
	policy := e.conf.MaxMemoryPolicy
	volatile := strings.HasPrefix(policy, "volatile-")
	for tries := 0; e.evictShort(); {
		var best *keyspace.Object
		var home *keyspace.DB
		var bestScore int64
		for range evictSamples {
			db, o := e.ks.SampleResident(e.rand)
			if o == nil || volatile && o.ExpireAt() == 0 {
				continue
			}
			var score int64
			switch {
			case strings.HasSuffix(policy, "-ttl"):
				score = -o.ExpireAt()
			case strings.HasSuffix(policy, "-random"):
				score = e.rand.Int64()
			default: // lru; lfu is kept as recency too, see docs/ARCHITECTURE.md
				score = db.IdleSeconds(o)
			}
			if best == nil || score > bestScore {
				best, home, bestScore = o, db, score
			}
		}
		if best == nil {
			if tries++; tries > 100 {
				return false
			}
			continue
		}
		key := []byte(best.Key())
		home.DeleteObject(best)
		e.evicted++
		e.emit(home.Index(), [][]byte{[]byte("DEL"), key})
		e.setNextOff()
		e.tellKey(home, command.EventEvicted, "evicted", key)
	}
	return true
}
