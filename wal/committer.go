package wal

import (
	"time"

	"github.com/cockroachdb/pebble/v2"
)

// The committer is one goroutine: it takes what has gathered, writes it as chunks, syncs as the policy asks, and tells.
//
// Under always nobody is told before the sync has returned, and what is appended meanwhile gathers for the next one: that
// is the group commit. Under everysec and no nobody waits for the committer, so it lets bytes gather for lazyGather before
// it writes them: fewer and larger chunks.

const (
	// lazyGather is how long bytes may gather when no client waits for them.
	lazyGather = 2 * time.Millisecond
	// lazyBytes ends the gathering early: half of a chunk.
	lazyBytes = 512 << 10
	// syncInterval is the pause between syncs under everysec.
	syncInterval = time.Second
	// maxSpare is the largest buffer in bytes that is kept for the next round.
	maxSpare = 8 << 20
)

func (l *Log) commitLoop() {
	defer close(l.done)
	lastSync := time.Now()
	var timer *time.Timer
	alarm := func(d time.Duration) {
		if timer == nil {
			timer = time.AfterFunc(d, l.Kick)
		} else {
			timer.Reset(d)
		}
	}
	defer func() {
		if timer != nil {
			timer.Stop()
		}
	}()
	for {
		l.mu.Lock()
		for {
			policy := Policy(l.policy.Load())
			eager := policy == Always || l.always.Load()
			unsynced := l.written.Load() > l.durable.Load() || len(l.mu.buf) > 0
			wantSync := l.mu.syncWant > Offset(l.durable.Load())
			due := policy == EverySec && unsynced && time.Since(lastSync) >= syncInterval
			if l.mu.err != nil {
				if l.mu.closing {
					l.mu.Unlock()
					return
				}
				// Failed for good: forget what arrives, it will never be durable (A2).
				l.mu.buf, l.mu.segs = l.mu.buf[:0], l.mu.segs[:0]
			} else {
				if l.mu.closing || wantSync && unsynced || due {
					break
				}
				if len(l.mu.buf) > 0 && eager && l.mu.kicked {
					break
				}
				if len(l.mu.buf) >= lazyBytes {
					break
				}
				if eager && unsynced && len(l.mu.buf) == 0 {
					break // the policy has become stricter: sync what is only written
				}
				if len(l.mu.buf) > 0 && l.mu.kicked {
					// Lazy: let it gather, then write without a sync.
					l.mu.kicked = false
					l.mu.Unlock()
					time.Sleep(lazyGather)
					l.mu.Lock()
					break
				}
				if policy == EverySec && unsynced {
					alarm(max(syncInterval-time.Since(lastSync), time.Millisecond))
				}
			}
			l.mu.kicked = false
			l.mu.asleep = true
			l.mu.cond.Wait()
		}
		policy := Policy(l.policy.Load())
		buf, segs := l.mu.buf, l.mu.segs
		l.mu.buf, l.mu.segs = l.mu.spare[:0], l.mu.spareSegs[:0]
		l.mu.spare, l.mu.spareSegs = nil, nil
		l.mu.kicked = false
		closing := l.mu.closing
		sync := closing || policy == Always || l.always.Load() || l.mu.syncWant > Offset(l.durable.Load()) ||
			policy == EverySec && time.Since(lastSync) >= syncInterval
		l.mu.Unlock()

		err := l.commit(buf, segs, sync)
		if sync {
			lastSync = time.Now()
		}
		l.mu.Lock()
		if cap(buf) <= maxSpare {
			l.mu.spare, l.mu.spareSegs = buf[:0], segs[:0]
		}
		if err != nil && l.mu.err == nil {
			l.mu.err = err
			l.wakeWaitersLocked()
			l.mu.Unlock()
			l.tail.fail(err)
			l.opts.Logger.Error("log failed, nothing is acknowledged any more", "error", err)
			if l.opts.OnFailure != nil {
				l.opts.OnFailure(err)
			}
			continue
		}
		if closing && len(l.mu.buf) == 0 {
			l.mu.Unlock()
			return
		}
		l.mu.Unlock()
	}
}

// commit writes buf as chunks, cut between appends, in one batch. With sync it is durable when commit returns.
func (l *Log) commit(buf []byte, segs []segment, sync bool) error {
	start := Offset(l.written.Load())
	began := time.Now()
	if len(buf) > 0 {
		b := l.db.NewBatchWithSize(len(buf) + 256)
		nowMs := l.opts.Now().UnixMilli()
		pos, db := 0, segs[0].db
		for i, s := range segs {
			if i+1 < len(segs) && segs[i+1].end-pos <= l.opts.MaxChunkBytes {
				continue
			}
			data := buf[pos:s.end]
			op := b.SetDeferred(9, chunkHeaderLen+len(data))
			at := start + Offset(pos)
			chunkKey(op.Key[:0], at)
			copy(op.Value[chunkHeaderLen:], data)
			putChunkHeader(op.Value, at, nowMs, db)
			if err := op.Finish(); err != nil {
				return err
			}
			pos = s.end
			if i+1 < len(segs) {
				db = segs[i+1].db
			}
			l.metrics.chunks.Add(1)
		}
		opt := pebble.NoSync
		if sync {
			opt = pebble.Sync
		}
		if l.opts.ackBeforeSync {
			l.advance(start+Offset(len(buf)), true)
		}
		if err := l.db.Apply(b, opt); err != nil {
			return err
		}
		if err := l.fatal.err(); err != nil {
			return err
		}
		if err := b.Close(); err != nil {
			return err
		}
		l.tail.write(start, buf)
		l.metrics.commits.Add(1)
		l.metrics.bytes.Add(int64(len(buf)))
		l.metrics.appends.Add(int64(len(segs)))
	} else if sync {
		if err := l.db.LogData(nil, pebble.Sync); err != nil {
			return err
		}
		if err := l.fatal.err(); err != nil {
			return err
		}
	}
	if sync {
		l.metrics.syncs.Add(1)
		l.metrics.syncNanos.Add(int64(time.Since(began)))
	}
	l.advance(start+Offset(len(buf)), sync)
	return nil
}

// advance announces what is written and, if it was synced, durable.
func (l *Log) advance(to Offset, synced bool) {
	l.written.Store(max(l.written.Load(), int64(to)))
	if !synced || int64(to) <= l.durable.Load() {
		return
	}
	l.durable.Store(int64(to))
	l.mu.Lock()
	l.wakeWaitersLocked()
	l.mu.Unlock()
	l.tail.advance(to)
	if l.opts.OnDurable != nil {
		l.opts.OnDurable(to)
	}
}
