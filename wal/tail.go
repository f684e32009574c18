package wal

import "sync"

// tailRing holds the newest bytes of the log in memory, one ring for all readers (M1). The committer copies what it has
// written into it, but only while somebody reads.
type tailRing struct {
	mu      sync.Mutex
	size    int
	buf     []byte // nil while nobody reads
	start   Offset // first byte in the ring
	end     Offset // behind the last
	durable Offset
	readers int
	err     error
	more    chan struct{} // closed and replaced when durable moves or the log ends
}

func (t *tailRing) init(size int) {
	t.size = size
	t.more = make(chan struct{})
}

// reset empties the ring; the log ends at end.
func (t *tailRing) reset(end Offset) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.start, t.end, t.durable = end, end, end
	t.wakeLocked()
}

func (t *tailRing) attach() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.readers++; t.buf == nil {
		t.buf = make([]byte, t.size)
		t.start = t.end
	}
}

func (t *tailRing) detach() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.readers--; t.readers == 0 {
		t.buf = nil
	}
}

// write puts bytes written at start into the ring.
func (t *tailRing) write(start Offset, p []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	end := start + Offset(len(p))
	if t.buf == nil {
		t.start, t.end = end, end
		return
	}
	if start != t.end {
		t.start = start
	}
	if len(p) > t.size {
		start += Offset(len(p) - t.size)
		p = p[len(p)-t.size:]
		t.start = start
	}
	for len(p) > 0 {
		i := int(start % Offset(t.size))
		n := copy(t.buf[i:], p)
		p = p[n:]
		start += Offset(n)
	}
	t.end = end
	t.start = max(t.start, end-Offset(t.size))
}

// read copies durable bytes from o on into dst. ok is false if the ring does not have them; n 0 with ok means that none
// are durable yet, and more is closed when that changes.
func (t *tailRing) read(o Offset, dst []byte) (n int, ok bool, more <-chan struct{}, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.err != nil && o >= t.durable {
		return 0, true, nil, t.err
	}
	if o >= t.durable {
		return 0, true, t.more, nil
	}
	if t.buf == nil || o < t.start {
		return 0, false, nil, nil
	}
	upTo := min(t.durable, t.end)
	for o < upTo && n < len(dst) {
		i := int(o % Offset(t.size))
		k := copy(dst[n:], t.buf[i:min(t.size, i+int(upTo-o))])
		n += k
		o += Offset(k)
	}
	return n, true, nil, nil
}

func (t *tailRing) advance(o Offset) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.durable = max(t.durable, o)
	t.wakeLocked()
}

func (t *tailRing) wakeLocked() {
	close(t.more)
	t.more = make(chan struct{})
}

func (t *tailRing) fail(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.err == nil {
		t.err = err
		t.wakeLocked()
	}
}
