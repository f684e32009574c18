package replication

import (
	"math"
	"slices"
	"sync"
	"time"

	"github.com/holdfast-db/holdfast/wal"
)

// Which is sooner: to replay the log from where a replica stands, or to send it the data as they are now?
//
// A replica that stands on our history is given a snapshot only where that is clearly sooner; it loses nothing by it, since all
// that it has is in the snapshot, too. Writes go on meanwhile and have to be replayed either way. With w their rate, a the rate of
// replay, b the bytes it lacks, t the bytes behind the snapshot's offset and s the snapshot's time:
//
//	by replay:    b / (a - w)
//	by snapshot:  s + (t + w·s) / (a - w)  =  (a·s + t) / (a - w)
//
// So the first is longer exactly if b/a > s + t/a, whatever w is, and w need not be known.

// SyncChoice is repl-sync-choice.
type SyncChoice string

// The choices. The zero value is ChooseSooner. ChooseReplay and ChooseSnapshot decide for any replica that could continue and has
// more than little to read.
const (
	ChooseSooner   SyncChoice = "auto"
	ChooseReplay   SyncChoice = "replay"
	ChooseSnapshot SyncChoice = "snapshot"
)

const (
	// littleToRead is what is always replayed, in bytes: about a second. Below, a snapshot could win nothing that counts, and
	// costs the replica a rewrite of its whole disk.
	littleToRead = 64 << 20
	// clearly is how many times sooner a snapshot must be: rates are measured, not known, and a replay serves fresher data from
	// its first second on. guessing is the same before both rates were measured.
	clearly  = 1.25
	guessing = 2
	// leastGain is how much sooner it must be in time: a full sync rewrites the replica's disk, and operators count them. A replica
	// that was killed and is back in seconds is always resumed.
	leastGain = 5 * time.Second
)

// The rates in bytes per second before anything was measured. Redis itself applies a stream, and loads an RDB file, at 60 to
// 170 MB/s; tables are written to disk as they come.
const (
	defaultReplayRate = 60e6
	defaultRDBRate    = 60e6
	defaultTablesRate = 250e6
)

// Cost is an amount of work and how long it takes.
type Cost struct {
	Bytes    int64
	Rate     float64 // bytes per second
	Measured bool    // else Rate is a default
	Time     time.Duration
}

// Estimate compares the two ways. The snapshots' times include the replay of what the log has behind them.
type Estimate struct {
	Replay      Cost
	RDB, Tables Cost // Bytes is -1 if the size of a snapshot is not known
	Behind      int64
}

// rates are bytes per second; 0: not measured.
type rates struct{ replay, rdb, tables float64 }

// estimate computes all costs: replay and snapshot in bytes, behind what the log has behind the snapshot's offset.
func estimate(replay, snapshot, behind int64, r rates) Estimate {
	rep := cost(replay, r.replay, defaultReplayRate)
	e := Estimate{Replay: rep, Behind: behind, RDB: cost(snapshot, r.rdb, defaultRDBRate), Tables: cost(snapshot, r.tables, defaultTablesRate)}
	tail := seconds(float64(behind) / rep.Rate)
	e.RDB.Time += tail
	e.Tables.Time += tail
	return e
}

func cost(bytes int64, rate, def float64) Cost {
	c := Cost{Bytes: bytes, Rate: rate, Measured: rate > 0}
	if !c.Measured {
		c.Rate = def
	}
	c.Time = seconds(float64(max(0, bytes)) / c.Rate)
	return c
}

// seconds makes a duration of s, which may be more than one can say.
func seconds(s float64) time.Duration {
	return time.Duration(min(s*float64(time.Second), math.MaxInt64/4))
}

// choose decides between replay and a snapshot of cost s.
func choose(c SyncChoice, e Estimate, s Cost) (snapshot bool, why string) {
	switch {
	case e.Replay.Bytes < littleToRead:
		return false, "there is little to replay"
	case c == ChooseReplay:
		return false, "repl-sync-choice is replay"
	case c == ChooseSnapshot:
		return true, "repl-sync-choice is snapshot"
	case s.Bytes < 0:
		return false, "the size of a snapshot is not known"
	}
	times := clearly
	if !e.Replay.Measured || !s.Measured {
		times = guessing
	}
	if float64(e.Replay.Time) > times*float64(s.Time) && e.Replay.Time-s.Time >= leastGain {
		return true, "the snapshot is sooner"
	}
	return false, "the snapshot is not clearly sooner"
}

// How samples are taken.
const (
	// sampleLag is how far behind in bytes a replica must be, before and after, for its progress to be the rate at which it can
	// apply, and not the one at which there is something to apply.
	sampleLag = 4 << 20
	// sampleTime is the shortest time that makes a sample: an acknowledgement asked for tells of too little.
	sampleTime = 500 * time.Millisecond
	// sampleBytes is the smallest snapshot that makes one; below, opening and switching count for more than bytes.
	sampleBytes = 16 << 20
	// memorySeconds is how many seconds of measuring it takes for what was known before to count for a third.
	memorySeconds = 10
	// maxMeters bounds for how many replicas rates are remembered one by one.
	maxMeters = 256
)

// meter is an average whose older part fades as measured time passes.
type meter float64

func (m *meter) add(bytes int64, took time.Duration) {
	if bytes <= 0 || took <= 0 {
		return
	}
	s := took.Seconds()
	rate := float64(bytes) / s
	if *m == 0 {
		*m = meter(rate)
		return
	}
	w := 1 - math.Exp(-s/memorySeconds)
	*m += meter(w * (rate - float64(*m)))
}

// meters are the rates of one replica, or of all.
type meters struct{ replay, rdb, tables meter }

// estimator remembers rates: those of each replica, by name or address, and of all of them, which count for one that is new.
type estimator struct {
	mu    sync.Mutex
	all   meters
	each  map[string]*meters
	order []string // of each, by the time of the first sample
}

func (e *estimator) note(who string, add func(*meters)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	m := e.each[who]
	if m == nil {
		if e.each == nil {
			e.each = map[string]*meters{}
		}
		if len(e.order) >= maxMeters {
			delete(e.each, e.order[0])
			e.order = slices.Delete(e.order, 0, 1)
		}
		m = &meters{}
		e.each[who] = m
		e.order = append(e.order, who)
	}
	add(m)
	add(&e.all)
}

// rates returns what counts for a replica.
func (e *estimator) rates(who string) rates {
	e.mu.Lock()
	defer e.mu.Unlock()
	m := e.each[who]
	if m == nil {
		m = &meters{}
	}
	pick := func(own, all meter) float64 {
		if own > 0 {
			return float64(own)
		}
		return float64(all)
	}
	return rates{pick(m.replay, e.all.replay), pick(m.rdb, e.all.rdb), pick(m.tables, e.all.tables)}
}

// ReplayRate returns how many bytes of the stream replicas replay in a second: measured, or what is assumed before.
func (p *Primary) ReplayRate() float64 {
	if r := p.speed.rates("").replay; r > 0 {
		return r
	}
	return defaultReplayRate
}

// progress measures how fast one replica applies the stream, by its acknowledgements.
type progress struct {
	off   wal.Offset
	at    time.Time
	valid bool // it was behind at off
}

// ack takes an acknowledgement of off at now, when durable was there to be read. took > 0: a sample.
func (p *progress) ack(off, durable wal.Offset, now time.Time) (bytes int64, took time.Duration) {
	if durable-off < sampleLag {
		p.valid = false
		return 0, 0
	}
	if p.valid {
		if d := now.Sub(p.at); d < sampleTime {
			return 0, 0
		} else if off > p.off {
			bytes, took = int64(off-p.off), d
		}
	}
	p.off, p.at, p.valid = off, now, true
	return bytes, took
}

// Explanation is how a request would be answered, and why.
type Explanation struct {
	Decision
	// Snapshot: the replica could continue, and gets a full sync, since that is sooner.
	Snapshot bool
	Tables   bool // the snapshot would be sent as tables
	Choice   SyncChoice
	Reason   string   // for replay or snapshot; "" if the log alone decides
	Estimate Estimate // of a request that could continue
}

// Explain tells how PSYNC id offset would be answered now, if a Holdfast of whose speed nothing is known asked. id "": the
// current one.
func (p *Primary) Explain(id string, offset int64) Explanation {
	log := p.o.Source.Log()
	lineage := log.Lineage()
	if n := len(lineage); id == "" && n > 0 {
		id = lineage[n-1].ID
	}
	q := Request{ID: id, Offset: offset, EOF: true, PSYNC2: true, Tables: true}
	return p.judge(log, lineage, &q, "")
}

// judge decides how a request is answered. who names the replica for its rates.
func (p *Primary) judge(log *wal.Log, lineage []wal.LineageEntry, q *Request, who string) Explanation {
	durable := log.Durable()
	x := Explanation{Decision: Decide(lineage, log.First(), durable, q.ID, q.Offset), Choice: p.conf.Load().SyncChoice,
		Tables: q.wantsTables()}
	if x.Choice == "" {
		x.Choice = ChooseSooner
	}
	current := ""
	if n := len(lineage); n > 0 {
		current = lineage[n-1].ID
	}
	switch {
	case q.Old || q.RDBOnly:
		x.Decision = Decision{Why: "full resync requested"}
	case x.Continue && !q.PSYNC2 && q.ID != current:
		// It would take the bytes that follow for bytes of the old id (W3).
		x.Continue, x.Why = false, "the replica would not learn the new replication ID (no capa psync2)"
	}
	if !x.Continue {
		return x
	}
	size, at := int64(-1), durable
	if p.o.SnapshotSize != nil {
		size, at = p.o.SnapshotSize()
	}
	x.Estimate = estimate(int64(durable-x.From), size, int64(max(0, durable-at)), p.speed.rates(who))
	s := x.Estimate.RDB
	if x.Tables {
		s = x.Estimate.Tables
	}
	x.Snapshot, x.Reason = choose(x.Choice, x.Estimate, s)
	if at <= x.From {
		x.Snapshot, x.Reason = false, "the snapshot has no more than the replica"
	}
	return x
}

// logChoice tells what was chosen for a replica that could continue, where there was something to choose.
func (l *link) logChoice(x Explanation) {
	if x.Estimate.Replay.Bytes < littleToRead {
		return
	}
	kind, s := "rdb", x.Estimate.RDB
	if x.Tables {
		kind, s = "tables", x.Estimate.Tables
	}
	chosen := "replay"
	if x.Snapshot {
		chosen = "snapshot"
	}
	e := x.Estimate
	l.p.log.Info("replica is far behind", "replica", l.addr, "chosen", chosen, "reason", x.Reason,
		"replay-bytes", e.Replay.Bytes, "replay-bytes-per-sec", int64(e.Replay.Rate), "replay-rate-measured", e.Replay.Measured,
		"replay-ms", e.Replay.Time.Milliseconds(), "snapshot-kind", kind, "snapshot-bytes", s.Bytes,
		"snapshot-bytes-per-sec", int64(s.Rate), "snapshot-rate-measured", s.Measured, "snapshot-ms", s.Time.Milliseconds())
}

// who names the replica for its rates.
func (l *link) who() string {
	if l.q.Name != "" {
		return l.q.Name
	}
	return l.addr
}

// measureReplay takes an acknowledgement for the rate of replay.
func (l *link) measureReplay(ack, durable wal.Offset, now time.Time) {
	if bytes, took := l.progress.ack(ack, durable, now); took > 0 {
		l.p.speed.note(l.who(), func(m *meters) { m.replay.add(bytes, took) })
	}
}

// measureSnapshot takes the first acknowledgement after a full sync, which says that the replica has loaded it. The rate is that
// of the store's bytes, whatever was sent for them: it is the store's size that the next estimate begins with.
func (l *link) measureSnapshot(now time.Time) {
	size := l.snapshotSize
	if l.snapshotStart.IsZero() || size < sampleBytes || l.q.RDBOnly || l.q.NoData {
		return
	}
	if l.tablesSent && l.snapshot.Load() < size/2 {
		return // a resumed one: most of it was there already
	}
	took := now.Sub(l.snapshotStart)
	l.snapshotStart = time.Time{}
	l.p.speed.note(l.who(), func(m *meters) {
		if l.tablesSent {
			m.tables.add(size, took)
		} else {
			m.rdb.add(size, took)
		}
	})
}
