package wal

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/cockroachdb/pebble/v2"
)

// TimeAt returns when the byte at o was written, by its chunk's time stamp. ErrTrimmed, ErrFuture.
func (l *Log) TimeAt(o Offset) (at time.Time, err error) {
	if o < l.First() {
		return at, ErrTrimmed
	}
	if o >= l.Written() {
		return at, ErrFuture
	}
	done, err := l.use()
	if err != nil {
		return at, err
	}
	defer done()
	it, err := l.chunkIter()
	if err != nil {
		return at, err
	}
	_, c, err := seekChunk(it, o)
	return time.UnixMilli(c.unixMs), errors.Join(err, it.Close())
}

// OffsetAt returns the start of the first chunk written at t or later, the end of what is written if there is none: a
// binary search over offsets, since time stamps do not fall (a clock set back makes the answer as wrong as the clock).
func (l *Log) OffsetAt(t time.Time) (at Offset, err error) {
	done, err := l.use()
	if err != nil {
		return 0, err
	}
	defer done()
	lo, hi := l.First(), l.Written() // the answer lies in [lo, hi]
	it, err := l.chunkIter()
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	for lo < hi {
		start, c, err := seekChunk(it, lo+(hi-lo)/2)
		if err != nil {
			return 0, err
		}
		if c.unixMs >= t.UnixMilli() {
			hi = max(start, lo)
		} else {
			lo = start + Offset(len(c.data))
		}
	}
	return lo, nil
}

// Trim removes whole chunks that end at or before upTo, but never the newest, which tells where the log ends. What is
// removed is excised: tables that hold nothing else are deleted, one that also holds later chunks is kept whole behind new
// bounds, and nothing is rewritten. A crash leaves it done or not done. Callers keep W6.
func (l *Log) Trim(upTo Offset) error {
	l.admin.Lock()
	defer l.admin.Unlock()
	upTo = min(upTo, l.Durable())
	if upTo <= l.First() {
		return nil
	}
	done, err := l.use()
	if err != nil {
		return err
	}
	defer done()
	it, err := l.chunkIter()
	if err != nil {
		return err
	}
	// upTo may be the end, where no chunk is: the chunk that holds the byte before it ends at or behind upTo.
	cut, c, err := seekChunk(it, upTo-1)
	if err == nil && cut+Offset(len(c.data)) == upTo && it.Next() {
		cut = upTo
	}
	if err = errors.Join(err, readError(cut, it.Error()), it.Close()); err != nil || cut <= l.First() {
		return err
	}
	if err := l.Err(); err != nil {
		return err
	}
	if int64(l.Written()-cut) < (maxMemTables+2)*l.opts.MemTableBytes {
		// Some of it may still be in memtables, which cannot be excised: Pebble would wait for their flush, for ever if
		// the log fails meanwhile.
		if err := l.flushTables(); err != nil {
			return fmt.Errorf("wal: trim to %d: %w", cut, err)
		}
	}
	// Readers see the new bound before the bytes go: one that finds nothing looks at it again.
	l.first.Store(int64(cut))
	if err := l.db.Excise(context.Background(), pebble.KeyRange{Start: chunkLow, End: chunkKey(nil, cut)}); err != nil {
		return fmt.Errorf("wal: trim to %d: %w", cut, err)
	}
	l.metrics.trims.Add(1)
	return l.Err()
}

// Keep returns from where on RetainBytes and RetainAge keep the log; First if neither bounds it.
func (l *Log) Keep() (Offset, error) {
	keep := l.First()
	if n := l.retain.bytes.Load(); n > 0 {
		keep = max(keep, l.Durable()-Offset(n))
	}
	if age := time.Duration(l.retain.age.Load()); age > 0 {
		at, err := l.OffsetAt(l.opts.Now().Add(-age))
		if err != nil {
			return 0, err
		}
		keep = max(keep, at)
	}
	return keep, nil
}

// Retain trims what RetainBytes and RetainAge no longer keep, never beyond pin (W6).
func (l *Log) Retain(pin Offset) error {
	keep, err := l.Keep()
	if err != nil {
		return err
	}
	return l.Trim(min(keep, pin))
}

// Retention returns what SetRetention has set.
func (l *Log) Retention() (bytes int64, age time.Duration) {
	return l.retain.bytes.Load(), time.Duration(l.retain.age.Load())
}

// SetRetention changes what the next Retain keeps; 0 = everything.
func (l *Log) SetRetention(bytes int64, age time.Duration) {
	l.retain.bytes.Store(bytes)
	l.retain.age.Store(int64(age))
}

// TruncateTo cuts the log back to an earlier record boundary, durably and in one batch: a crash leaves the log before or
// after it. Ids that began later are forgotten, and the one that then covers the end becomes the current one; bytes that
// follow will be others, so the caller begins an id before it appends (W3). ErrTrimmed, ErrFuture; ErrRecord if o lies
// within a record. REQUIRES: nobody appends or reads.
func (l *Log) TruncateTo(o Offset) error {
	l.admin.Lock()
	defer l.admin.Unlock()
	if err := l.Sync(context.Background()); err != nil {
		return err
	}
	switch {
	case o > l.Durable():
		return ErrFuture
	case o < l.First():
		return ErrTrimmed
	case o == l.End():
		return nil
	}
	done, err := l.use()
	if err != nil {
		return err
	}
	b, err := l.cutAt(o)
	done()
	if err != nil {
		return err
	}
	lineage := l.Lineage()
	for n := len(lineage); n > 0; n-- {
		if lineage[n-1].Start <= o {
			lineage[n-1].End = -1
			lineage = lineage[:n]
			break
		}
		lineage = lineage[:n-1]
	}
	if err := l.apply(b, lineage); err != nil {
		return err
	}
	l.standAt(l.First(), o)
	return l.excise(o)
}

// excise drops what was deleted from o on together with its tombstones, which would overlap all tables that follow. It
// only puts in order.
func (l *Log) excise(o Offset) error {
	done, err := l.use()
	if err != nil {
		return err
	}
	defer done()
	if err := l.flushTables(); err != nil {
		return err
	}
	return l.db.Excise(context.Background(), pebble.KeyRange{Start: chunkKey(nil, o), End: chunkHigh})
}

// cutAt returns a batch that removes everything from o on.
func (l *Log) cutAt(o Offset) (*pebble.Batch, error) {
	it, err := l.chunkIter()
	if err != nil {
		return nil, err
	}
	start, c, err := seekChunk(it, o)
	b := l.db.NewBatch()
	if err == nil && start < o {
		data := c.data[:o-start]
		if err = checkRecords(data); err == nil { // W2
			v := append(make([]byte, chunkHeaderLen, chunkHeaderLen+len(data)), data...)
			putChunkHeader(v, start, c.unixMs, c.db, c.settled)
			err = b.Set(chunkKey(nil, start), v, nil)
		}
	}
	if err == nil {
		err = b.DeleteRange(chunkKey(nil, o), chunkHigh, nil)
	}
	if err == nil {
		err = b.Set(beginKey, binary.BigEndian.AppendUint64(nil, uint64(o)), nil)
	}
	if err = errors.Join(err, it.Close()); err != nil {
		return nil, errors.Join(err, b.Close())
	}
	return b, nil
}

// Reset empties the log and makes it begin at o with this lineage, durably and in one batch: what a replica does that has
// taken over a primary's data at o. A crash leaves the old log or the new one. REQUIRES: nobody appends or reads.
func (l *Log) Reset(o Offset, lineage []LineageEntry) error {
	if o < 0 {
		return fmt.Errorf("wal: reset to offset %d", o)
	}
	if err := checkLineage(lineage, o); err != nil {
		return fmt.Errorf("wal: reset: %w", err)
	}
	l.admin.Lock()
	defer l.admin.Unlock()
	if err := l.Sync(context.Background()); err != nil {
		return err
	}
	done, err := l.use()
	if err != nil {
		return err
	}
	b := l.db.NewBatch()
	done()
	if err := errors.Join(b.DeleteRange(chunkLow, chunkHigh, nil),
		b.Set(beginKey, binary.BigEndian.AppendUint64(nil, uint64(o)), nil)); err != nil {
		return errors.Join(err, b.Close())
	}
	if err := l.apply(b, append([]LineageEntry{}, lineage...)); err != nil {
		return err
	}
	l.standAt(o, o)
	return l.excise(0)
}

// standAt makes the log reach from first to end after a change of what is on disk.
func (l *Log) standAt(first, end Offset) {
	l.telling.Lock()
	defer l.telling.Unlock()
	l.mu.Lock()
	l.mu.syncWant = 0
	l.first.Store(int64(first))
	l.end.Store(int64(end))
	l.written.Store(int64(end))
	l.durable.Store(int64(end))
	l.mu.Unlock()
	l.tail.reset(end)
}
