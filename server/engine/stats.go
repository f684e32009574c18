package engine

import (
	"time"

	"github.com/holdfast-db/holdfast/server/command"
	"github.com/holdfast-db/holdfast/server/keyspace"
	"github.com/holdfast-db/holdfast/snapshot"
	"github.com/holdfast-db/holdfast/wal"
)

// counters are under the executor lock.
type counters struct {
	coldLoads    int64
	unloaded     int64
	backPressure int64
	blocked      int64
	blockedFor   int64 // of these, with a time limit
}

// DBStats are one database's counts.
type DBStats struct {
	Keys, Expires, Resident int
	Timed                   int // hashes with fields that expire
}

// Stats is what INFO shows of the engine.
type Stats struct {
	DBs          []DBStats
	UsedBytes    int64
	Budget       int64 // bytes that UsedBytes is kept to; 0: no bound
	DirtyBytes   int64
	DirtyObjects int64
	ColdLoads    int64 // keys read from the store before a command
	ColdInLock   int64 // keys read from the store under the executor lock
	Unloaded     int64
	BackPressure int64 // writes that waited for a checkpoint
	Blocked      int64 // clients waiting for a key
	BlockedFor   int64 // of these, for a limited time
	Expired      int64
	// ExpiredFields counts fields of hashes that have expired.
	ExpiredFields int64
	Evicted       int64
	Verified      int64 // payloads of RESTORE that were checked
	Expiry        ExpiryStats
	// OverBudget is for how long what is in memory has been more than maxmemory, OverNow for how long it is now.
	OverBudget, OverNow time.Duration
	MaxHold             time.Duration // longest hold of the executor lock since the last call with reset
	Watching            int

	First, Durable, End wal.Offset
	ReplID              string
	Checkpoint          CheckpointInfo
	Freezing            keyspace.FreezeStats // copied for the checkpoint that runs, so far
	Log                 wal.Metrics
	Store               snapshot.Metrics
	DiskFull            bool
	Preloading          bool // keys are being read into memory after the start
}

// Stats gathers figures.
func (e *Engine) Stats() Stats {
	s := e.statsUnlocked()
	e.mu.Lock()
	defer e.mu.Unlock()
	e.statsLocked(&s)
	return s
}

// StatsLocked is Stats for whoever has the lock. REQUIRES: the lock.
func (e *Engine) StatsLocked() Stats {
	s := e.statsUnlocked()
	e.statsLocked(&s)
	return s
}

// CountedStats is Stats with exact numbers of keys. Who has called LookUpBlind before holds the lock for less.
func (e *Engine) CountedStats() Stats {
	s := e.statsUnlocked()
	e.mu.Lock()
	defer e.mu.Unlock()
	e.countKeys()
	e.statsLocked(&s)
	return s
}

// CountedStatsLocked is CountedStats for whoever has the lock. REQUIRES: the lock.
func (e *Engine) CountedStatsLocked() Stats {
	e.countKeys()
	return e.StatsLocked()
}

// countKeys makes the numbers of keys exact. REQUIRES: the lock.
func (e *Engine) countKeys() {
	for i := range e.ks.NumDBs() {
		e.ks.DB(i).ResolveBlind()
	}
}

// statsUnlocked gathers what has locks of its own, all of which come after the executor lock.
func (e *Engine) statsUnlocked() Stats {
	s := Stats{ReplID: e.ReplID(), Checkpoint: e.LastCheckpoint(), Log: e.log.Metrics(),
		First: e.log.First(), Durable: e.log.Durable(), DiskFull: e.disk.full.Load(),
		Preloading: e.preloading.Load()}
	if store, err := e.rows.gate.enter(); err == nil {
		s.Store = store.Metrics()
		e.rows.gate.leave()
	}
	return s
}

func (e *Engine) statsLocked(s *Stats) {
	for i := range e.ks.NumDBs() {
		db := e.ks.DB(i)
		s.DBs = append(s.DBs, DBStats{db.Resident() + db.Cold(), db.Expires(), db.Resident(), db.TimedHashes()})
	}
	s.End = e.logEnd
	s.UsedBytes = e.ks.Used()
	if budget := e.limits.MaxMemory.Load(); budget > 0 {
		s.Budget = budget - e.budgetCut.Load()
	}
	s.DirtyBytes, s.DirtyObjects = e.ks.Dirty()
	s.ColdLoads, s.ColdInLock, s.Unloaded = e.stats.coldLoads, e.ks.ColdInLock, e.stats.unloaded
	s.BackPressure, s.Blocked, s.BlockedFor = e.stats.backPressure, e.stats.blocked, e.stats.blockedFor
	if s.Checkpoint.Running {
		s.Freezing = e.ks.FreezeStats
	}
	s.Expired, s.ExpiredFields, s.Evicted = e.ks.Expired, e.ks.ExpiredFields, e.evicted
	s.Verified, s.Expiry = e.ks.Verified, e.pressure.expiry
	s.OverBudget, s.OverNow = e.pressure.over(e.now())
	s.MaxHold = time.Duration(e.maxHold.ns)
	s.Watching = len(e.watched)
}

// ResetStats sets the counters to zero (CONFIG RESETSTAT). REQUIRES: the lock.
func (e *Engine) ResetStats() {
	e.stats = counters{blocked: e.stats.blocked, blockedFor: e.stats.blockedFor}
	e.ks.ExpiredFields, e.ks.Verified = 0, 0
	e.pressure.reset(e.now())
	e.ks.Expired, e.evicted, e.maxHold.ns, e.ks.ColdInLock = 0, 0, 0, 0
}

// --- what CONFIG SET changes

// SetFsync changes the fsync policy. REQUIRES: the lock.
func (e *Engine) SetFsync(p wal.Policy) {
	e.policy.Store(int32(p))
	e.log.SetPolicy(p)
}

// SetMaxMemory changes the budget in bytes; 0 = none.
func (e *Engine) SetMaxMemory(n int64) { e.limits.MaxMemory.Store(n) }

// SetCheckpointLogBytes changes the length of log that starts a checkpoint.
func (e *Engine) SetCheckpointLogBytes(n int64) { e.limits.CheckpointLogBytes.Store(n) }

// SetCheckpointInterval changes the time after which a checkpoint starts.
func (e *Engine) SetCheckpointInterval(d time.Duration) { e.limits.CheckpointInterval.Store(int64(d)) }

// SetDirtyBytes changes the bound of dirty bytes.
func (e *Engine) SetDirtyBytes(n int64) { e.limits.DirtyBytes.Store(n) }

// SetCommandConfig changes what handlers know of the configuration. REQUIRES: the lock.
func (e *Engine) SetCommandConfig(fn func(c *command.Config)) { fn(&e.conf) }

// SetLimits changes the encoding thresholds; they apply to what is changed from then on. REQUIRES: the lock.
func (e *Engine) SetLimits(fn func(l *keyspace.Limits)) { fn(e.opts.Limits) }
