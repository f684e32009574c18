package engine

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/holdfast-db/holdfast/server/keyspace"
	"github.com/holdfast-db/holdfast/snapshot/digest"
	"github.com/holdfast-db/holdfast/snapshot/rdb"
)

// Digests of ranges of keys at a mark. A key's place is its hash slot and its hash, ten bytes of the row's key; a range is what
// begins with some of them. Neither physical ids nor encodings enter a digest: two servers may hold the same data in other rows.

// PlaceLen is the length in bytes of a key's place: slot (2) and hash (8).
const PlaceLen = 10

// RangeDigest is the digest of the keys in one part of a range.
type RangeDigest struct {
	Part  uint32 // the bytes of the place behind the range's, big endian
	Keys  uint64
	Range digest.Range
}

// KeyDigest describes one key.
type KeyDigest struct {
	Key      []byte
	Place    []byte // PlaceLen bytes
	Type     string
	ExpireMs int64 // 0: none
	Value    digest.Sum128
}

// markLook is after how many keys a walk asks whether it is still wanted.
const markLook = 256

// phys returns the physical id of a database, and whether it has any keys.
func (v *MarkView) phys(db int) (uint32, bool) {
	for _, d := range v.Meta.DBs {
		if d.Logical == db && d.Keys > 0 {
			return d.Phys, true
		}
	}
	return 0, false
}

// Digests returns the digests of the parts of a range that have keys, in order: the range is the keys of db whose place begins
// with prefix, and its parts are told by the next depth bytes, 1 or 2.
func (v *MarkView) Digests(ctx context.Context, db int, prefix []byte, depth int) ([]RangeDigest, error) {
	if depth < 1 || depth > 2 || len(prefix)+depth > PlaceLen {
		return nil, errors.New("a range's prefix and depth are out of range")
	}
	var out []RangeDigest
	var h digest.KeyHasher
	err := v.walk(ctx, db, prefix, nil, func(phys uint32, place, key []byte, row *keyspace.RowHeader) (bool, error) {
		part := uint32(place[len(prefix)])
		if depth == 2 {
			part = part<<8 | uint32(place[len(prefix)+1])
		}
		if len(out) == 0 || out[len(out)-1].Part != part {
			out = append(out, RangeDigest{Part: part})
		}
		h.Reset(db, key, row.ExpireAt)
		if err := v.feedRow(ctx, phys, row, &h); err != nil {
			return false, fmt.Errorf("key %q: %w", key, err)
		}
		d := &out[len(out)-1]
		d.Keys++
		d.Range.Add(h.Sum())
		return true, nil
	})
	return out, err
}

// Keys describes the keys of db whose place begins with prefix, in order, at most count of them, from the row after on; nil: from
// the first. next is what to go on with, nil at the end.
func (v *MarkView) Keys(ctx context.Context, db int, prefix, after []byte, count int) (keys []KeyDigest, next []byte, err error) {
	var h digest.KeyHasher
	err = v.walk(ctx, db, prefix, after, func(phys uint32, place, key []byte, row *keyspace.RowHeader) (bool, error) {
		if len(keys) == count {
			last := keys[len(keys)-1]
			next = append(append([]byte(nil), last.Place...), last.Key...)
			return false, nil
		}
		h.Reset(db, key, 0)
		if err := v.feedRow(ctx, phys, row, &h); err != nil {
			return false, fmt.Errorf("key %q: %w", key, err)
		}
		keys = append(keys, KeyDigest{Key: bytes.Clone(key), Place: bytes.Clone(place), Type: row.Type.String(), ExpireMs: row.ExpireAt, Value: h.Sum()})
		return true, nil
	})
	return keys, next, err
}

// walk visits the rows of a range behind the row after, until visit returns false.
func (v *MarkView) walk(ctx context.Context, db int, prefix, after []byte,
	visit func(phys uint32, place, key []byte, row *keyspace.RowHeader) (bool, error)) (err error) {
	phys, ok := v.phys(db)
	if !ok {
		return nil
	}
	base, hi := keyspace.MainRange(phys)
	lo := append(bytes.Clone(base), prefix...)
	if end := successor(lo); len(prefix) > 0 && end != nil && bytes.Compare(end, hi) < 0 {
		hi = end
	}
	if after != nil {
		lo = append(append(bytes.Clone(base), after...), 0)
	}
	for n := 0; lo != nil; {
		it, err := v.view.NewIter(lo, hi)
		if err != nil {
			return err
		}
		lo = nil
		for more := it.First(); more; more = it.Next() {
			if n++; n%markLook == 0 {
				if err := v.ended(ctx); err != nil {
					return errors.Join(err, it.Close())
				}
			}
			if n%exportRows == 0 { // an iterator keeps tables on disk
				lo = bytes.Clone(it.Key())
				break
			}
			_, _, _, key, ok := keyspace.ParseMainKey(it.Key())
			if !ok {
				return errors.Join(fmt.Errorf("key %x is malformed", it.Key()), it.Close())
			}
			row, err := keyspace.ParseRow(it.Value())
			if err != nil {
				return errors.Join(fmt.Errorf("key %q: %w", key, err), it.Close())
			}
			more, err := visit(phys, it.Key()[len(base):len(base)+PlaceLen], key, &row)
			if err != nil || !more {
				return errors.Join(err, it.Close())
			}
		}
		if err := it.Close(); err != nil {
			return err
		}
	}
	return nil
}

// successor returns the first string behind all that begin with p; nil if there is none.
func successor(p []byte) []byte {
	p = bytes.Clone(p)
	for i := len(p) - 1; i >= 0; i-- {
		if p[i]++; p[i] != 0 {
			return p[:i+1]
		}
	}
	return nil
}

// ended tells whether a walk is no longer wanted: its caller has gone, or the mark is dropped.
func (v *MarkView) ended(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if v.ctx.Err() != nil {
		return ErrNoMark
	}
	return nil
}

// feedRow feeds a key's value to sink, straight from its rows.
func (v *MarkView) feedRow(ctx context.Context, phys uint32, row *keyspace.RowHeader, sink rdb.Sink) error {
	if !row.Big {
		rest, err := rdb.DecodeTrusted(rdb.Type(row.Value[0]), row.Value[1:], sink)
		if err == nil && len(rest) > 0 {
			err = fmt.Errorf("%d bytes behind the value", len(rest))
		}
		return err
	}
	t, ok := row.Type.PlainType()
	if !ok {
		return fmt.Errorf("a big %s", row.Type)
	}
	kind, _ := t.Kind()
	if err := sink.Begin(kind, 0); err != nil {
		return err
	}
	lo, hi := keyspace.ElemObjectRange(phys, row.OID)
	it, err := v.view.NewIter(lo, hi)
	if err != nil {
		return err
	}
	times := fieldTimesWalk{open: v.view.NewIter, phys: phys, oid: row.TimesOID}
	count := uint64(0)
	for more, n := it.First(), 1; more; more, n = it.Next(), n+1 {
		if n%markLook == 0 { // whoever replaces the store waits for views to be closed
			if err := v.ended(ctx); err != nil {
				return errors.Join(err, it.Close(), times.close(times.seen))
			}
		}
		_, _, sub, ok := keyspace.ParseElemKey(it.Key())
		if !ok {
			return errors.Join(fmt.Errorf("element row %x is malformed", it.Key()), it.Close(), times.close(times.seen))
		}
		at, err := times.next(sub)
		if err != nil {
			return errors.Join(err, it.Close(), times.close(times.seen))
		}
		n := 1
		if at != 0 {
			err = sink.FieldTTL(sub, it.Value(), at)
		} else {
			n, err = keyspace.VisitRowElements(row.Type, sub, it.Value(), sink)
		}
		if err != nil {
			return errors.Join(err, it.Close(), times.close(times.seen))
		}
		count += uint64(n)
	}
	if err := errors.Join(it.Close(), times.close(row.Times)); err != nil {
		return err
	}
	if count != row.Count {
		return fmt.Errorf("%d elements where its row says %d", count, row.Count)
	}
	return sink.End()
}

// AppendDigests appends digests as HOLDFAST DIGEST sends them: for each part 4 bytes of it, 8 of its number of keys, and 16 of the sum,
// big endian. DigestLen is the length of one.
func AppendDigests(dst []byte, ds []RangeDigest) []byte {
	for i := range ds {
		dst = binary.BigEndian.AppendUint32(dst, ds[i].Part)
		dst = binary.BigEndian.AppendUint64(dst, ds[i].Keys)
		dst, _ = ds[i].Range.Sum.AppendBinary(dst) // never fails
	}
	return dst
}

// DigestLen is the length in bytes of one digest of AppendDigests.
const DigestLen = 28
