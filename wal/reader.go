package wal

import (
	"context"
	"errors"

	"github.com/cockroachdb/pebble/v2"
)

// Reader reads durable bytes of the log from any offset on (W5): old ones from disk, whole chunks at a time, new ones from
// the shared ring. One goroutine at a time.
type Reader struct {
	l    *Log
	pos  Offset
	it   *pebble.Iterator
	buf  []byte
	info chunkInfo
	done bool
}

// readerBuf is how many bytes a reader takes from the ring at once.
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
	l.tail.attach()
	return &Reader{l: l, pos: from}, nil
}

// Offset returns the position of the next byte.
func (r *Reader) Offset() Offset { return r.pos }

// Next returns the next durable bytes, at least one, and their offset; it waits for some at the live tail. From disk they
// are the rest of one chunk. The slice is valid until the next call.
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
	if r.it != nil {
		// In the middle of a walk over the disk: go on with it as long as it yields, it has been paid for.
		if data, err = r.fromDisk(); err != nil || len(data) > 0 {
			return data, nil, err
		}
	}
	if r.buf == nil {
		r.buf = make([]byte, readerBuf)
	}
	n, ok, more, err := r.l.tail.read(r.pos, r.buf)
	if err != nil {
		return nil, nil, err
	}
	if ok {
		r.pos += Offset(n)
		return r.buf[:n], more, nil
	}
	if r.pos < r.l.First() {
		return nil, nil, ErrTrimmed
	}
	data, err = r.openDisk()
	if err == nil && len(data) == 0 {
		err = &CorruptionError{r.pos, errors.New("no chunk holds this offset")}
	}
	return data, nil, err
}

// openDisk begins a walk over the chunks from r.pos on.
func (r *Reader) openDisk() ([]byte, error) {
	it, err := r.l.db.NewIter(&pebble.IterOptions{LowerBound: chunkLow, UpperBound: chunkHigh})
	if err != nil {
		return nil, err
	}
	r.it = it
	if !it.SeekLT(chunkKey(nil, r.pos+1)) {
		return nil, errors.Join(it.Error(), r.endWalk())
	}
	return r.chunk()
}

// fromDisk goes on to the next chunk; without data the walk is over.
func (r *Reader) fromDisk() ([]byte, error) {
	if !r.it.Next() {
		return nil, errors.Join(r.it.Error(), r.endWalk())
	}
	return r.chunk()
}

// chunk returns what the current chunk has from r.pos on, durable bytes only.
func (r *Reader) chunk() ([]byte, error) {
	start, ok := parseChunkKey(r.it.Key())
	if !ok {
		return nil, &CorruptionError{r.pos, ErrChunk}
	}
	c, err := parseChunk(start, r.it.Value())
	if err != nil {
		return nil, &CorruptionError{start, err}
	}
	end := start + Offset(len(c.data))
	if start > r.pos || end <= r.pos {
		return nil, &CorruptionError{r.pos, errors.New("chunks are not dense")}
	}
	if durable := r.l.Durable(); end > durable {
		if durable <= r.pos {
			return nil, r.endWalk()
		}
		end = durable
	}
	r.info = c
	data := c.data[r.pos-start : end-start]
	r.pos = end
	return data, nil
}

func (r *Reader) endWalk() error {
	it := r.it
	r.it = nil
	return it.Close()
}

// ChunkTime returns when the chunk that Next last read from disk was written, in unix ms, and the database selected at
// its start; 0, 0 for bytes from the ring.
func (r *Reader) ChunkTime() (unixMs int64, db int) { return r.info.unixMs, r.info.db }

// Close releases the reader. It is idempotent.
func (r *Reader) Close() error {
	if r.done {
		return nil
	}
	r.done = true
	r.l.tail.detach()
	if r.it != nil {
		return r.endWalk()
	}
	return nil
}
