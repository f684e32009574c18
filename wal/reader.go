package wal

import (
	"context"
	"errors"
)

// Reader reads durable bytes of the log from any offset on (W5): old ones from disk, new ones from the shared ring. One
// goroutine at a time.
//
// Between two calls it holds nothing but its buffer: an iterator kept open would keep memtables and tables alive that are
// long flushed or trimmed, so that a replica that no longer reads would cost the primary memory and disk (M1).
type Reader struct {
	l      *Log
	pos    Offset // of what the next call returns
	buf    []byte
	ahead  []byte      // of buf: read from disk and not yet returned, from pos on
	chunks []diskChunk // of ahead
	cur    diskChunk   // of what the last call returned
	// attached: has reached the live tail, from where on the ring is kept for it.
	attached bool
}

// diskChunk is a chunk, or the rest of one, that was read from disk.
type diskChunk struct {
	size   int
	unixMs int64
	db     int
}

// readerBuf is how many bytes a reader takes at once, unless a chunk is larger.
const readerBuf = 256 << 10

// NewReader returns a reader whose first byte is the one at from. ErrTrimmed: the log no longer reaches back so far.
// ErrFuture: from lies beyond the end.
func (l *Log) NewReader(from Offset) (*Reader, error) {
	if from < l.First() {
		return nil, ErrTrimmed
	}
	if from > l.End() {
		return nil, ErrFuture
	}
	return &Reader{l: l, pos: from}, nil
}

// Offset returns the position of the next byte.
func (r *Reader) Offset() Offset { return r.pos }

// Next returns the next durable bytes, at least one, and their offset; it waits for some at the live tail. From disk they
// are the rest of one chunk. The slice is valid until the next call. ErrTrimmed if the log was trimmed beyond the reader; the error of the log if it has failed or
// was closed and everything durable has been read.
func (r *Reader) Next(ctx context.Context) (start Offset, data []byte, err error) {
	for {
		data, more, err := r.TryNext()
		if err != nil {
			return r.pos, nil, err
		}
		if len(data) > 0 {
			return r.pos - Offset(len(data)), data, nil
		}
		select {
		case <-more:
		case <-ctx.Done():
			return r.pos, nil, ctx.Err()
		}
	}
}

// TryNext is Next that does not wait: without data, more is closed when there may be some.
func (r *Reader) TryNext() (data []byte, more <-chan struct{}, err error) {
	if len(r.chunks) > 0 {
		return r.take(), nil, nil
	}
	if r.buf == nil || cap(r.buf) > 8*readerBuf { // grown for a chunk beyond the usual: given back
		r.buf = make([]byte, 0, readerBuf)
	}
	n, ok, more, err := r.l.tail.read(r.pos, r.buf[:cap(r.buf)])
	if err != nil {
		return nil, nil, err
	}
	if ok {
		if !r.attached {
			r.attached = true
			r.l.tail.attach()
		}
		r.cur = diskChunk{}
		r.pos += Offset(n)
		return r.buf[:n], more, nil
	}
	if r.pos < r.l.First() {
		return nil, nil, ErrTrimmed
	}
	if err = r.fromDisk(); err != nil {
		r.chunks = r.chunks[:0]
		if r.pos < r.l.First() { // trimmed under our feet
			err = ErrTrimmed
		}
		return nil, nil, err
	}
	return r.take(), nil, nil
}

// take returns the next chunk of those read ahead.
func (r *Reader) take() []byte {
	r.cur = r.chunks[0]
	data := r.ahead[:r.cur.size:r.cur.size]
	r.ahead, r.chunks = r.ahead[r.cur.size:], r.chunks[1:]
	r.pos += Offset(len(data))
	return data
}

// fromDisk reads ahead: the rest of the chunk that holds r.pos, and more chunks as long as they fit. Durable bytes only
// (W5).
func (r *Reader) fromDisk() (err error) {
	done, err := r.l.use()
	if err != nil {
		return err
	}
	defer done()
	durable := r.l.Durable()
	it, err := r.l.chunkIter()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	start, c, err := seekStart(it, r.pos)
	if err != nil {
		return err
	}
	size := len(c.data)
	c.data = c.data[r.pos-start:]
	r.buf, r.chunks = r.buf[:0], r.chunks[:0]
	for next := r.pos; ; {
		c.data = c.data[:min(Offset(len(c.data)), durable-next)]
		r.buf = append(r.buf, c.data...)
		r.chunks = append(r.chunks, diskChunk{len(c.data), c.unixMs, c.db})
		next += Offset(len(c.data))
		// Chunks are much alike where there are many: one that will hardly fit is not read twice.
		if next >= durable || len(r.buf)+size > readerBuf || !it.Next() {
			break
		}
		if start, c, err = chunkAt(it); err != nil {
			return err
		}
		size = len(c.data)
		if start != next {
			return &CorruptionError{next, errNoChunk}
		}
		if len(r.buf)+len(c.data) > readerBuf {
			break
		}
	}
	r.ahead = r.buf
	return readError(r.pos, it.Error())
}

// ChunkTime returns when the chunk was written from which the last call returned, in unix ms, and the database selected at
// its start; 0, 0 for bytes from memory.
func (r *Reader) ChunkTime() (unixMs int64, db int) { return r.cur.unixMs, r.cur.db }

// Close releases the reader. It is idempotent.
func (r *Reader) Close() error {
	if r.attached {
		r.attached = false
		r.l.tail.detach()
	}
	return nil
}
