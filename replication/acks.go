package replication

import (
	"context"
	"slices"

	"github.com/holdfast-db/holdfast/wal"
)

var getackCommand = [][]byte{[]byte("REPLCONF"), []byte("GETACK"), []byte("*")}

// waiter is a WAIT that has not got its replicas yet.
type waiter struct {
	off    wal.Offset
	n      int
	onDisk bool
	done   chan struct{} // closed when n replicas have it
}

// CountAcks counts the replicas that have applied the stream up to off, or, with onDisk, that have it on disk.
func (p *Primary) CountAcks(off wal.Offset, onDisk bool) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.countLocked(off, onDisk)
}

func (p *Primary) countLocked(off wal.Offset, onDisk bool) int {
	n := 0
	for _, l := range p.mu.links {
		if l.has(onDisk) >= off {
			n++
		}
	}
	return n
}

// has returns up to where the replica has acknowledged; -1 for one that does not count. REQUIRES: p.mu.
func (l *link) has(onDisk bool) wal.Offset {
	switch {
	case l.state != StateOnline || !l.heard:
		return -1
	case onDisk:
		return l.fack
	default:
		return l.ack
	}
}

// AckedBy returns the largest offset that at least n replicas have applied, or have on disk; -1 if there are not so many.
func (p *Primary) AckedBy(n int, onDisk bool) wal.Offset {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n <= 0 || n > len(p.mu.links) {
		return -1
	}
	all := make([]wal.Offset, 0, len(p.mu.links))
	for _, l := range p.mu.links {
		all = append(all, l.has(onDisk))
	}
	slices.Sort(all)
	return all[len(all)-n]
}

// WaitAcks waits until n replicas have applied the stream up to off (WAIT), or with onDisk have it on disk (WAITAOF), and
// returns how many have; fewer than n if ctx ends first. It asks the replicas for their acknowledgement, with one record in
// the stream for all who wait for no more than what stands before it.
func (p *Primary) WaitAcks(ctx context.Context, off wal.Offset, n int, onDisk bool) int {
	p.mu.Lock()
	have := p.countLocked(off, onDisk)
	if have >= n || ctx.Err() != nil {
		p.mu.Unlock()
		return have
	}
	w := &waiter{off: off, n: n, onDisk: onDisk, done: make(chan struct{})}
	p.mu.waiters = append(p.mu.waiters, w)
	p.mu.Unlock()
	p.Getack(off)
	select {
	case <-w.done:
	case <-ctx.Done():
	case <-p.ctx.Done():
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mu.waiters = slices.DeleteFunc(p.mu.waiters, func(o *waiter) bool { return o == w })
	return p.countLocked(off, onDisk)
}

// Getack asks all replicas to acknowledge at once, unless a request is in the stream already at off or behind it.
func (p *Primary) Getack(off wal.Offset) {
	p.mu.Lock()
	asked := p.mu.getack >= off || len(p.mu.links) == 0
	if !asked {
		p.mu.getack = off // others who wait for no more do not ask again meanwhile
	}
	p.mu.Unlock()
	if asked {
		return
	}
	end, ok := p.o.Source.AppendOwn(getackCommand...)
	if !ok {
		return
	}
	p.mu.Lock()
	p.mu.getack = max(p.mu.getack, end-GetackLen)
	p.mu.Unlock()
}

// GetackLen is the length of REPLCONF GETACK * in the stream. A replica answers it with the offset before it.
const GetackLen = 37

// acked notes an acknowledgement.
func (p *Primary) acked(l *link, ack, fack wal.Offset) {
	now, durable := p.o.Clock.Now(), p.o.Source.Log().Durable()
	p.mu.Lock()
	l.ackTime = now
	if l.fullSync && !l.heard {
		l.measureSnapshot(now)
	}
	if l.state == StateOnline {
		l.measureReplay(ack, durable, now)
	}
	l.ack, l.fack = max(l.ack, ack), max(l.fack, fack)
	if !l.heard {
		l.heard = true
		close(l.first)
	}
	full := l.fullSync && l.state == StateOnline
	p.wakeLocked()
	p.mu.Unlock()
	if full {
		p.movePin(l, ack)
	}
	if fack < 0 {
		fack = ack // it has nothing but memory
	}
	p.onDisk(l, fack)
	if p.o.OnAck != nil {
		p.o.OnAck()
	}
}

func (p *Primary) wakeLocked() {
	p.mu.waiters = slices.DeleteFunc(p.mu.waiters, func(w *waiter) bool {
		if p.countLocked(w.off, w.onDisk) < w.n {
			return false
		}
		close(w.done)
		return true
	})
}
