package engine

import "github.com/holdfast-db/holdfast/snapshot"

// rowBatch carries rows from under the lock to the table writer.
type rowBatch struct {
	buf   []byte
	rows  []rowSpan
	whole []byte // of a row whose value came in two
}

// rowSpan is one row.
type rowSpan struct {
	key, end int // ends in buf
	del      bool
	rest     []byte // what of the value is not in buf
}

// keptRow is the longest row in bytes whose copy is kept for the next.
const keptRow = 1 << 20

// newRowBatch returns a batch with room for what one hold of the lock commonly yields.
func newRowBatch() *rowBatch {
	return &rowBatch{buf: make([]byte, 0, 64<<10), rows: make([]rowSpan, 0, 2*bigBatch)}
}

// add copies a row; val nil: the row goes.
func (b *rowBatch) add(key, val []byte) {
	b.buf = append(b.buf, key...)
	k := len(b.buf)
	b.buf = append(b.buf, val...)
	b.rows = append(b.rows, rowSpan{key: k, end: len(b.buf), del: val == nil})
}

// share takes a row whose value is head and val. val is not copied and must not change any more.
func (b *rowBatch) share(key, head, val []byte) {
	b.add(key, head)
	b.rows[len(b.rows)-1].rest = val
}

// flushRows writes the rows of b to the tables and empties it.
func (p *checkpointPass) flushRows(ing *snapshot.Ingest, b *rowBatch) error {
	pos := 0
	for i, r := range b.rows {
		key, val := b.buf[pos:r.key], b.buf[r.key:r.end]
		if r.rest != nil {
			b.whole = append(append(b.whole[:0], val...), r.rest...)
			val = b.whole
		}
		var err error
		if r.del {
			err = ing.Delete(key)
		} else {
			err = ing.Set(key, val)
		}
		if err != nil {
			return err
		}
		b.rows[i].rest = nil
		pos = r.end
	}
	if cap(b.whole) > keptRow {
		b.whole = nil
	}
	p.rows += int64(len(b.rows))
	b.buf, b.rows = b.buf[:0], b.rows[:0]
	return nil
}
