package wal

import (
	"errors"
	"time"

	"github.com/cockroachdb/pebble/v2"
)

// TimeAt returns when the byte at o was written, by its chunk's time stamp.
func (l *Log) TimeAt(o Offset) (time.Time, error) {
	if o < l.First() {
		return time.Time{}, ErrTrimmed
	}
	it, err := l.db.NewIter(&pebble.IterOptions{LowerBound: chunkLow, UpperBound: chunkHigh})
	if err != nil {
		return time.Time{}, err
	}
	defer it.Close()
	if !it.SeekLT(chunkKey(nil, o+1)) {
		return time.Time{}, errors.Join(it.Error(), ErrFuture)
	}
	start, _ := parseChunkKey(it.Key())
	c, err := parseChunk(start, it.Value())
	if err != nil {
		return time.Time{}, &CorruptionError{start, err}
	}
	return time.UnixMilli(c.unixMs), nil
}

// OffsetAt returns the start of the first chunk written at t or later, the end of the log if there is none: a binary
// search over offsets, since time stamps do not fall (a clock set back makes the answer as wrong as the clock).
func (l *Log) OffsetAt(t time.Time) (Offset, error) {
	it, err := l.db.NewIter(&pebble.IterOptions{LowerBound: chunkLow, UpperBound: chunkHigh})
	if err != nil {
		return 0, err
	}
	defer it.Close()
	lo, hi := l.First(), l.Written() // the answer lies in [lo, hi]
	for lo < hi {
		mid := lo + (hi-lo)/2
		if !it.SeekLT(chunkKey(nil, mid+1)) {
			return 0, errors.Join(it.Error(), &CorruptionError{mid, errors.New("no chunk holds this offset")})
		}
		start, _ := parseChunkKey(it.Key())
		c, err := parseChunk(start, it.Value())
		if err != nil {
			return 0, &CorruptionError{start, err}
		}
		if c.unixMs >= t.UnixMilli() {
			hi = min(start, mid)
		} else {
			lo = start + Offset(len(c.data))
		}
	}
	return lo, nil
}

// Trim removes whole chunks that end at or before upTo. Tables that hold nothing else are dropped, not rewritten.
func (l *Log) Trim(upTo Offset) error {
	upTo = min(upTo, l.Durable())
	if upTo <= l.First() {
		return nil
	}
	it, err := l.db.NewIter(&pebble.IterOptions{LowerBound: chunkLow, UpperBound: chunkHigh})
	if err != nil {
		return err
	}
	ok := it.SeekLT(chunkKey(nil, upTo+1))
	var cut Offset
	if ok {
		start, _ := parseChunkKey(it.Key())
		c, perr := parseChunk(start, it.Value())
		if perr != nil {
			return errors.Join(&CorruptionError{start, perr}, it.Close())
		}
		// The newest chunk stays in any case: it tells where the log ends.
		if cut = start; start+Offset(len(c.data)) <= upTo && it.Next() {
			cut = start + Offset(len(c.data))
		}
	}
	if err := errors.Join(it.Error(), it.Close()); err != nil || !ok || cut <= l.First() {
		return err
	}
	if err := l.db.DeleteRange(chunkKey(nil, l.First()), chunkKey(nil, cut), pebble.NoSync); err != nil {
		return err
	}
	if err := l.fatal.err(); err != nil {
		return err
	}
	l.first.Store(int64(cut))
	l.metrics.trims.Add(1)
	return nil
}

// Retain trims what RetainBytes and RetainAge no longer keep, never beyond pin (W6).
func (l *Log) Retain(pin Offset) error {
	keep := l.First()
	if l.opts.RetainBytes > 0 {
		keep = max(keep, l.Durable()-Offset(l.opts.RetainBytes))
	}
	if l.opts.RetainAge > 0 {
		at, err := l.OffsetAt(l.opts.Now().Add(-l.opts.RetainAge))
		if err != nil {
			return err
		}
		keep = max(keep, at)
	}
	return l.Trim(min(keep, pin))
}

// SetRetention changes what Retain keeps. REQUIRES: not concurrent with Retain.
func (l *Log) SetRetention(bytes int64, age time.Duration) {
	l.opts.RetainBytes, l.opts.RetainAge = bytes, age
}

// TruncateTo cuts the log back to an earlier record boundary, durably. Only for a log that nobody appends to; it begins a
// state of its own, so the caller begins a new id (W3).
func (l *Log) TruncateTo(o Offset) error {
	if o > l.Durable() {
		return ErrFuture
	}
	if o < l.First() {
		return ErrTrimmed
	}
	if o == l.End() {
		return nil
	}
	it, err := l.db.NewIter(&pebble.IterOptions{LowerBound: chunkLow, UpperBound: chunkHigh})
	if err != nil {
		return err
	}
	b := l.db.NewBatch()
	if it.SeekLT(chunkKey(nil, o)) {
		start, _ := parseChunkKey(it.Key())
		c, perr := parseChunk(start, it.Value())
		if perr == nil && start+Offset(len(c.data)) > o {
			data := c.data[:o-start]
			if perr = checkRecords(data); perr == nil {
				v := append(make([]byte, chunkHeaderLen), data...)
				putChunkHeader(v, start, c.unixMs, c.db)
				perr = b.Set(chunkKey(nil, start), v, nil)
			}
		}
		err = perr
	}
	if err = errors.Join(err, it.Error(), it.Close()); err != nil {
		return errors.Join(err, b.Close())
	}
	if err := b.DeleteRange(chunkKey(nil, o), chunkHigh, nil); err != nil {
		return errors.Join(err, b.Close())
	}
	if err := l.db.Apply(b, pebble.Sync); err != nil {
		return err
	}
	if err := l.fatal.err(); err != nil {
		return err
	}
	l.end.Store(int64(o))
	l.written.Store(int64(o))
	l.durable.Store(int64(o))
	return nil
}
