package engine

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"math"

	"github.com/holdfast-db/holdfast/server/keyspace"
	"github.com/holdfast-db/holdfast/snapshot"
)

// A file that has a key twice is damaged, or not what it says, and must not be taken over: the key would be counted twice. Two in
// one run are found by sorting it. Two in different runs would show when all rows are counted, but to walk over so many tables
// that lie upon each other takes longer than to write them. So the beginning of each key's place (its slot and some of its
// hash) is kept as long as the load lasts, about three bytes a key, sorted by run as the rows are. At the end the runs are merged:
// where a beginning comes more than once, and there only, the store is asked how many rows it has.

const (
	// headBits is how much of a place is kept, the slot's 16 bits among it: so much that of 20 million keys some hundred share
	// theirs with another by chance, so little that the differences within a run take three bytes.
	headBits = 40
	// keySetBytes bounds what is kept, 20 million keys. A load of more has its rows counted.
	keySetBytes = 64 << 20
)

// keySet is the beginnings of the places of all main rows of a load.
type keySet struct {
	runs  map[uint32][]headRun // by physical database
	bytes int
	over  bool // there were more than keySetBytes, and runs is empty
}

// headRun is ascending beginnings, each as the difference to the one before.
type headRun struct {
	diffs []byte
	head  uint64 // the one read last
}

// next reads the next beginning; false at the end.
func (r *headRun) next() bool {
	d, n := binary.Uvarint(r.diffs)
	if n <= 0 {
		return false
	}
	r.head += d
	r.diffs = r.diffs[n:]
	return true
}

// add takes the main rows of a sorted run.
func (s *keySet) add(r *run) {
	if s.over {
		return
	}
	if s.runs == nil {
		s.runs = map[uint32][]headRun{}
	}
	rows := r.rows
	for len(rows) > 0 && rows[0].tag < keyspace.TagMain {
		rows = rows[1:]
	}
	for len(rows) > 0 && rows[0].tag == keyspace.TagMain {
		phys, last, diffs := rows[0].phys, uint64(0), []byte(nil)
		for len(rows) > 0 && rows[0].tag == keyspace.TagMain && rows[0].phys == phys {
			head := rows[0].head >> (64 - headBits)
			diffs = binary.AppendUvarint(diffs, head-last)
			last, rows = head, rows[1:]
		}
		s.bytes += len(diffs)
		s.runs[phys] = append(s.runs[phys], headRun{diffs: bytes.Clone(diffs)})
	}
	if s.bytes > keySetBytes {
		s.runs, s.over = nil, true
	}
}

// repeated calls fn for each beginning that a database's runs have more than once, with how often.
func (s *keySet) repeated(ctx context.Context, phys uint32, fn func(head uint64, times int) error) (keys int64, err error) {
	heap := make([]headRun, 0, len(s.runs[phys]))
	for _, r := range s.runs[phys] {
		if r.next() {
			heap = append(heap, r)
		}
	}
	down := func(i int) {
		for {
			least := i
			for _, c := range [2]int{2*i + 1, 2*i + 2} {
				if c < len(heap) && heap[c].head < heap[least].head {
					least = c
				}
			}
			if least == i {
				return
			}
			heap[i], heap[least] = heap[least], heap[i]
			i = least
		}
	}
	for i := len(heap)/2 - 1; i >= 0; i-- {
		down(i)
	}
	const look = 1 << 16
	for len(heap) > 0 {
		head, times := heap[0].head, 0
		for len(heap) > 0 && heap[0].head == head {
			if keys++; keys%look == 0 && ctx.Err() != nil {
				return keys, ctx.Err()
			}
			times++
			if !heap[0].next() {
				heap[0] = heap[len(heap)-1]
				heap = heap[:len(heap)-1]
			}
			down(0)
		}
		if times > 1 {
			if err := fn(head, times); err != nil {
				return keys, err
			}
		}
	}
	return keys, nil
}

// checkOnce makes sure that no key has come twice.
func (l *Loader) checkOnce(ctx context.Context, dbs []snapshot.DBMeta) error {
	for _, d := range dbs {
		lo, hi := keyspace.MainRange(d.Phys)
		var keys int64
		var err error
		if l.names.over {
			keys, err = countRows(ctx, l.store, lo, hi)
		} else {
			keys, err = l.names.repeated(ctx, d.Phys, func(head uint64, times int) error {
				from, to := headRange(lo, hi, head)
				n, err := countRows(ctx, l.store, from, to)
				if err == nil && n != int64(times) {
					err = errKeyTwice
				}
				return err
			})
		}
		if err == nil && keys != d.Keys {
			err = errKeyTwice
		}
		if err != nil {
			return fmt.Errorf("database %d: of %d keys: %w", d.Logical, d.Keys, err)
		}
	}
	return nil
}

// headRange bounds the main rows whose place begins with head, within those of a database, [lo, hi).
func headRange(lo, hi []byte, head uint64) (from, to []byte) {
	at := func(head uint64) []byte {
		b := binary.BigEndian.AppendUint64(bytes.Clone(lo), head<<(64-headBits))
		return b[:len(lo)+headBits/8]
	}
	from = at(head)
	if head == math.MaxUint64>>(64-headBits) {
		return from, hi
	}
	return from, at(head + 1)
}

// countRows walks over rows and counts them.
func countRows(ctx context.Context, s *snapshot.Store, lo, hi []byte) (n int64, err error) {
	it, err := s.NewIter(lo, hi)
	if err != nil {
		return 0, err
	}
	const look = 1 << 16
	for ok := it.First(); ok; ok = it.Next() {
		if n++; n%look == 0 && ctx.Err() != nil {
			break
		}
	}
	if err := it.Close(); err != nil {
		return n, err
	}
	return n, ctx.Err()
}
