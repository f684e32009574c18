package wal

import (
	"fmt"
	"time"

	"github.com/cockroachdb/pebble/v2"
)

// Two goroutines move the log's bytes on.
//
// The committer takes what has gathered and writes it as chunks. Under always, and while somebody wants durable bytes
// without pause (SetContinuousSync), it writes with a sync. What is appended meanwhile gathers for the next one: where somebody
// waits for it, a little longer if that pays (gatherer), which is the group commit. Otherwise nobody waits for it: it lets bytes gather
// for lazyGather, so that chunks are few and large, and syncs fewer; and without a continuous sync it writes without one.
//
// The syncer makes durable what was only written: once a second under everysec, on demand of Sync under any policy, and
// once when the policy becomes stricter. It does so beside the committer, so that writing goes on while the disk syncs.
//
// Both tell with announce. A failure of either is the end of the log (A2). Under always an event loop may do the committer's
// work itself, see CommitNow: writing is held by the one who writes.

const (
	// lazyGather is how long bytes may gather when no client waits for them. It bounds what a killed process (not a
	// crashed machine) loses under everysec and no, and the memory in which bytes gather; and it is what a replica is behind
	// at least, while nobody waits for it (Hurry).
	lazyGather = 2 * time.Millisecond
	// lazyBytes ends the gathering early: half of a piece.
	lazyBytes = 512 << 10
	// syncInterval is the pause between syncs under everysec. It is measured with the monotonic clock, not Options.Now:
	// a clock that is set back must not suspend durability.
	syncInterval = time.Second
	// maxRecordBytes is what one Append may have: a Pebble batch ends at 4 GiB.
	maxRecordBytes = 1<<32 - 1<<20
)

// eager tells whether the committer syncs with each write.
func (l *Log) eager() bool { return Policy(l.policy.Load()) == Always || l.continuous.Load() }

// prompt tells whether somebody waits for what it syncs. REQUIRES: eager.
func (l *Log) prompt() bool { return Policy(l.policy.Load()) == Always || l.Hurried() }

// readyLocked tells whether the committer has something to do now. REQUIRES: mu.
func (l *Log) readyLocked() bool {
	n := l.mu.bytes
	switch {
	case l.mu.err != nil:
		return n > 0 || l.mu.closing
	case n == 0:
		l.mu.kicked = false // or the next Kick would take it for its own, not yet seen
		return l.mu.closing
	case l.mu.closing, l.mu.syncWant > Offset(l.written.Load()), n >= lazyBytes, l.mu.ripe:
		return true
	case !l.mu.kicked:
		return false
	case l.eager() && l.prompt():
		return true
	}
	if !l.mu.ripening {
		l.mu.ripening = true
		l.ripener.Reset(lazyGather)
	}
	return false
}

// ripen ends the gathering.
func (l *Log) ripen() {
	l.mu.Lock()
	l.mu.ripe, l.mu.ripening = true, false
	l.mu.commit.Signal()
	l.mu.Unlock()
}

func (l *Log) commitLoop() {
	defer close(l.committed)
	var g gatherer
	for {
		l.mu.Lock()
		for !l.readyLocked() {
			l.mu.commit.Wait()
		}
		eager := l.eager()
		grouped := eager && l.prompt()
		l.mu.Unlock()
		if grouped {
			l.gather(&g)
		}
		l.writing.Lock()
		l.mu.Lock()
		failed, closing := l.mu.err != nil, l.mu.closing
		appends := l.takeLocked()
		l.mu.kicked, l.mu.ripe = false, false
		l.mu.Unlock()
		switch {
		case failed:
			clear(l.taken) // for good: what arrives is forgotten, it will never be durable (A2)
		case appends > 0:
			began := time.Now()
			if came := l.commitTaken(eager); grouped {
				g.committed(appends, came, time.Since(began))
			}
			closing = false // there may be more
		}
		l.writing.Unlock()
		if closing {
			return
		}
	}
}

// commitTaken writes what was taken, and returns how many appends have come meanwhile. A failure is the log's end. REQUIRES:
// writing.
func (l *Log) commitTaken(sync bool) (came int) {
	if err := l.commit(l.taken, sync); err != nil {
		l.fail(err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.sync.Signal()
	l.wakeWriteWaitersLocked()
	return l.mu.appends
}

// commit writes pieces, a batch for each, and lets go of them. With sync all of it is durable when commit returns, and announced:
// that is the commit point under always.
func (l *Log) commit(pieces []*piece, sync bool) error {
	began := time.Now()
	defer clear(pieces)
	for i, p := range pieces {
		if err := l.commitPiece(p, sync && i == len(pieces)-1); err != nil {
			return err
		}
		l.recycle(p)
	}
	if sync {
		l.metrics.synced(time.Since(began))
		l.announce(Offset(l.written.Load()))
	}
	return nil
}

// commitPiece writes a piece as chunks, cut between appends, in one batch.
func (l *Log) commitPiece(p *piece, sync bool) error {
	base := Offset(l.written.Load()) // of p.buf[0]
	nowMs := l.opts.Now().UnixMilli()
	l.metrics.appends.Add(int64(len(p.segs)))
	if l.stalls.wait(l.memTables) {
		l.metrics.stalls.Add(1)
	}
	if err := l.Err(); err != nil {
		return err
	}
	b := l.db.NewBatchWithSize(len(p.buf)+batchSlack, pebble.WithMaxRetainedSizeBytes(pieceBytes+batchSlack))
	for pos, i := 0, 0; i < len(p.segs); {
		// One chunk: at least one append, and as many more as fit.
		j := i + 1
		for j < len(p.segs) && p.segs[j].end-pos <= l.opts.MaxChunkBytes {
			j++
		}
		data := p.buf[pos:p.segs[j-1].end]
		if len(data) > maxRecordBytes {
			return fmt.Errorf("wal: append of %d bytes, more than %d", len(data), int64(maxRecordBytes))
		}
		at := base + Offset(pos)
		op := b.SetDeferred(chunkKeyLen, chunkHeaderLen+len(data))
		chunkKey(op.Key[:0], at)
		copy(op.Value[chunkHeaderLen:], data)
		putChunkHeader(op.Value, at, nowMs, p.segs[i].db, l.durable.Load() >= int64(at))
		if err := op.Finish(); err != nil {
			return err
		}
		l.metrics.chunks.Add(1)
		pos, i = p.segs[j-1].end, j
	}
	end := base + Offset(len(p.buf))
	opt := pebble.NoSync
	if sync {
		opt = pebble.Sync
	}
	if l.opts.mutant == mutantAckBeforeSync {
		l.tail.write(base, p.buf)
		l.announce(end)
	}
	if err := l.db.Apply(b, opt); err != nil {
		return err
	}
	// The guard has told of a failed write by now if there was one: Apply itself cannot say so.
	if err := l.Err(); err != nil && l.opts.mutant != mutantIgnoreFailure {
		return err
	}
	if err := b.Close(); err != nil {
		return err
	}
	if l.opts.mutant != mutantAckBeforeSync {
		l.tail.write(base, p.buf)
	}
	l.written.Store(int64(end))
	l.metrics.commits.Add(1)
	l.metrics.bytes.Add(int64(len(p.buf)))
	return nil
}

// memTables returns how many memtables there are, in units of full ones: Pebble lets the first memtables of a database be
// small, and flushes none before half a full one's bytes have gathered, so their number would stall a new log for good.
func (l *Log) memTables() int64 { return int64(l.db.Metrics().MemTable.Size) / l.opts.MemTableBytes }

// batchSlack is room for a batch's header and the keys and headers of its chunks.
const batchSlack = 4 << 10

// syncDueLocked tells whether the syncer has something to do now. REQUIRES: mu.
func (l *Log) syncDueLocked() bool {
	written, durable := Offset(l.written.Load()), Offset(l.durable.Load())
	if l.mu.err != nil || written <= durable {
		return false
	}
	if l.mu.syncWant > durable {
		return written >= l.mu.syncWant // the committer is about to write the rest
	}
	if l.eager() {
		// Written under a laxer policy. What is appended since may never come, so this is not left to the committer.
		return true
	}
	if Policy(l.policy.Load()) != EverySec {
		return false
	}
	left := syncInterval - time.Since(l.lastSync)
	if left > 0 && !l.mu.alarmed {
		l.mu.alarmed = true
		l.alarm.Reset(left)
	}
	return left <= 0
}

func (l *Log) ring() {
	l.mu.Lock()
	l.mu.alarmed = false
	l.mu.sync.Signal()
	l.mu.Unlock()
}

func (l *Log) syncLoop() {
	defer close(l.synced)
	for {
		l.mu.Lock()
		for !l.mu.closing && !l.syncDueLocked() {
			l.mu.sync.Wait()
		}
		closing := l.mu.closing
		l.mu.Unlock()
		if closing {
			return // Close does the last sync, when the committer has written the rest
		}
		l.lastSync = time.Now()
		if err := l.syncWritten(); err != nil {
			l.fail(err)
		}
	}
}

// syncWritten makes all that is written durable, and announces it.
func (l *Log) syncWritten() error {
	to := Offset(l.written.Load())
	began := time.Now()
	if err := l.db.LogData(nil, pebble.Sync); err != nil {
		return err
	}
	if err := l.Err(); err != nil && l.opts.mutant != mutantIgnoreFailure {
		return err
	}
	l.metrics.synced(time.Since(began))
	l.announce(to)
	return nil
}

// announce tells everybody that the log is durable up to to. REQUIRES: a sync that covers to has returned (W4), and the
// ring has the bytes.
func (l *Log) announce(to Offset) {
	l.telling.Lock()
	defer l.telling.Unlock()
	if to <= Offset(l.durable.Load()) {
		return
	}
	l.durable.Store(int64(to))
	l.tail.advance(to)
	l.mu.Lock()
	l.wakeWaitersLocked()
	l.mu.Unlock()
	if l.opts.OnDurable != nil {
		l.opts.OnDurable(to)
	}
}

// fail ends the log for good (A2). It may be called from within Pebble, under its locks, so it calls nothing of Pebble's,
// and OnFailure has a goroutine of its own.
func (l *Log) fail(err error) {
	if l.opts.mutant == mutantIgnoreFailure {
		return
	}
	l.mu.Lock()
	if l.mu.err != nil {
		l.mu.Unlock()
		return
	}
	l.guard.dead.Store(true)
	l.mu.err = err
	close(l.failed)
	l.wakeWaitersLocked()
	l.wakeWriteWaitersLocked()
	l.mu.commit.Signal()
	l.mu.sync.Signal()
	l.mu.Unlock()
	l.stalls.release()
	l.tail.fail(err)
	l.opts.Logger.Error("log failed, nothing is acknowledged any more", "error", err)
	if l.opts.OnFailure != nil && l.running.Load() {
		l.calls.Go(func() { l.opts.OnFailure(err) })
	}
}
