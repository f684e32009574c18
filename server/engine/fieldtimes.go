package engine

import (
	"errors"
	"fmt"

	"github.com/holdfast-db/holdfast/server/keyspace"
	"github.com/holdfast-db/holdfast/snapshot"
)

// fieldTimesWalk reads the times of a big hash's fields beside its element rows: both are in the order of fields. The zero oid has
// no times.
type fieldTimesWalk struct {
	open func(lo, hi []byte) (*snapshot.Iter, error)
	phys uint32
	oid  uint64

	it   *snapshot.Iter
	more bool
	n    int    // rows read with it
	seen uint64 // times that were a field's
}

// next returns when a field expires, 0 = never. Fields come in ascending order.
func (w *fieldTimesWalk) next(field []byte) (at int64, err error) {
	if w.oid == 0 {
		return 0, nil
	}
	if w.n++; w.it == nil || w.n > exportRows { // an iterator keeps tables on disk
		if w.it != nil {
			if err := w.it.Close(); err != nil {
				return 0, err
			}
			w.it = nil
		}
		_, hi := keyspace.ElemObjectRange(w.phys, w.oid)
		if w.it, err = w.open(keyspace.AppendElemKey(nil, w.phys, w.oid, field), hi); err != nil {
			w.it = nil
			return 0, err
		}
		w.n, w.more = 0, w.it.First()
	}
	if !w.more {
		return 0, w.it.Err()
	}
	_, _, sub, ok := keyspace.ParseElemKey(w.it.Key())
	if !ok || string(sub) < string(field) {
		return 0, fmt.Errorf("a time without its field, row %x", w.it.Key())
	}
	if string(sub) != string(field) {
		return 0, nil
	}
	if at, err = keyspace.ParseFieldTime(w.it.Value()); err != nil {
		return 0, err
	}
	w.seen++
	w.more = w.it.Next()
	return at, nil
}

// close ends the walk. It is an error if there were not as many times as want.
func (w *fieldTimesWalk) close(want uint64) (err error) {
	if w.it != nil {
		err = w.it.Close()
	}
	if w.seen != want {
		err = errors.Join(err, fmt.Errorf("%d times of fields where its row says %d", w.seen, want))
	}
	return err
}
