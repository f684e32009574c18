package engine

import (
	"bytes"

	"github.com/holdfast-db/holdfast/server/command"
	"github.com/holdfast-db/holdfast/wal"
)

// Records are applied one after the other, but looked at a few ahead: each is parsed once, and what their keys are in memory
// is fetched into the processor's cache together. One by one, each look-up in a large table would wait for memory four times,
// and that would be most of what applying a small record takes.

// batchRecords is how many records are looked at together: as many as keyspace.DB.Prefetch has under way at once, few enough
// that what was fetched is still in the cache when it is used. batchKeys bounds the keys of commands that name many, batchKeptArgs the arguments
// for which room is kept.
const (
	batchRecords  = 32
	batchKeys     = 64
	batchKeptArgs = 1024
)

// parsedRecord is a record of one command.
type parsedRecord struct {
	spec *command.Spec // nil: it changes no data, see Replayer.spec
	args [][]byte      // point into the stream
	size int           // in bytes of the stream
}

// recordBatch is records that have been parsed and not yet been applied.
type recordBatch struct {
	recs []parsedRecord
	next int      // of recs: to be applied next
	args [][]byte // of all recs
	// Of Prefetch.
	keys, elems [][]byte
	// What a command was last found by: most often the next one has the same name.
	name []byte
	spec *command.Spec
}

// drop forgets what has not been applied.
func (b *recordBatch) drop() { b.recs, b.next = b.recs[:0], 0 }

// forget drops all, and holds nothing of the stream any longer.
func (b *recordBatch) forget() {
	b.drop()
	clear(b.recs[:cap(b.recs)])
	for _, s := range [][][]byte{b.args, b.keys, b.elems} {
		clear(s[:cap(s)])
	}
	if cap(b.args) > batchKeptArgs {
		b.args = nil
	}
}

// pop returns the record that is to be applied next, nil if there is none.
func (b *recordBatch) pop() *parsedRecord {
	if b.next == len(b.recs) {
		return nil
	}
	b.next++
	return &b.recs[b.next-1]
}

// lookAhead parses the records that begin in the first size bytes of data, a few of them, and fetches what they name.
// It ends before what is not a whole record of one command that can be applied: a transaction, a record whose end has not
// come, a malformed one; and behind a SELECT, since the keys that follow are another database's. It reports false if nothing
// was parsed. REQUIRES: the lock, or nobody else.
func (r *Replayer) lookAhead(data []byte, size int) bool {
	b := &r.batch
	b.drop()
	b.args, b.keys, b.elems = b.args[:0], b.keys[:0], b.elems[:0]
	for pos := 0; pos < size && len(b.recs) < batchRecords; {
		from := len(b.args)
		all, n, err := wal.AppendArgs(b.args, data[pos:])
		if err != nil || n == 0 {
			break
		}
		args := all[from:len(all):len(all)]
		spec, ok := r.plain(args)
		if !ok {
			break
		}
		b.args = all
		b.recs = append(b.recs, parsedRecord{spec, args, n})
		if spec == nil && isSelect(args) {
			break
		}
		if spec != nil {
			b.keys, b.elems = spec.AppendKeys(b.keys, b.elems, args, batchKeys)
		}
		pos += n
	}
	if len(b.keys) > 1 {
		r.e.ks.DB(r.db).Prefetch(b.keys, b.elems)
	}
	return len(b.recs) > 0
}

// applyParsed applies a record that lookAhead has parsed.
func (r *Replayer) applyParsed(p *parsedRecord) error {
	if p.spec == nil {
		return r.apply(p.args)
	}
	return r.execute(p.spec, p.args)
}

// plain returns how to apply a command that is a record by itself, nil for one that changes no data, SELECT included. ok is
// false for one that is not, or that cannot be applied.
func (r *Replayer) plain(args [][]byte) (spec *command.Spec, ok bool) {
	b := &r.batch
	if b.spec != nil && bytes.Equal(b.name, args[0]) && b.spec.ArityOK(len(args)) {
		return b.spec, true
	}
	if isSelect(args) {
		return nil, true
	}
	if isWord(args, "MULTI") {
		return nil, false
	}
	spec, err := r.spec(args)
	if err != nil {
		return nil, false
	}
	if spec != nil {
		b.name, b.spec = append(b.name[:0], args[0]...), spec
	}
	return spec, true
}
