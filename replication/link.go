package replication

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"time"

	"github.com/holdfast-db/holdfast/wal"
)

// link is one attached replica. Its goroutine writes, a second one reads what the replica acknowledges; they end together.
type link struct {
	p          *Primary
	conn       net.Conn
	q          Request
	host, addr string
	ctx        context.Context
	cancel     context.CancelCauseFunc
	first      chan struct{} // closed at the first acknowledgement
	gone       chan struct{} // closed when the link has ended and reads the log no more

	read, wrote    atomic.Int64 // unix ns of the last byte in and of the last write that returned
	sent, snapshot atomic.Int64
	// Who tells of the snapshot's progress, and the bytes that were told last: the ticker's alone.
	teller     *teller
	told       int64
	total, had atomic.Int64 // bytes of the snapshot, 0: not known; and of it what the replica had

	// Below: p.mu.
	state     string
	ack, fack wal.Offset
	ackTime   time.Time
	heard     bool // has acknowledged
	fullSync  bool
	// pin keeps the log from the snapshot on until the replica has acknowledged all there was when its stream began: until
	// then a cut would cost it a second full sync (W6).
	pin      Pin
	pinUntil wal.Offset

	// Of measuring: p.mu.
	progress      progress
	snapshotStart time.Time     // when the full sync began; zero: none, or measured
	snapshotSize  int64         // bytes of the store then
	tablesSent    bool          // as tables, not as RDB
	tables        *tableRequest // what the replica has of the tables offered; nil: none were
}

// Limits of a link's memory beside its log reader's buffer (M1).
const (
	// ackBuf holds what a replica sends: acknowledgements of some 60 bytes.
	ackBuf = 4 << 10
	// snapshotBuf gathers what the snapshot's writer produces into large writes.
	snapshotBuf = 256 << 10
)

// run serves the link to its end.
func (l *link) run(rest []byte) {
	stop := context.AfterFunc(l.ctx, func() {
		_ = l.conn.Close() // unblocks both goroutines; what is under way is lost in any case
	})
	reader := make(chan struct{})
	go func() {
		defer close(reader)
		l.cancel(l.readAcks(rest))
	}()
	err := l.serve()
	var failed *snapshotError
	if errors.As(err, &failed) {
		l.holdBack()
	}
	l.cancel(err)
	<-reader
	if stop() {
		_ = l.conn.Close()
	}
	l.p.release(l)
	switch err := context.Cause(l.ctx); {
	case errors.Is(err, errSilent):
		l.p.log.Warn("Disconnecting timedout replica (streaming sync): " + l.addr)
	case errors.Is(err, errSnapshotSent):
	case errors.Is(err, errPeerClosed):
		l.p.log.Info(fmt.Sprintf("Connection with replica %s lost.", l.addr))
	default:
		l.p.log.Info(fmt.Sprintf("Connection with replica %s lost: %v", l.addr, err))
	}
}

// snapshotError says that no snapshot could be made.
type snapshotError struct{ err error }

func (e *snapshotError) Error() string { return "snapshot: " + e.err.Error() }
func (e *snapshotError) Unwrap() error { return e.err }

// holdBack waits a second before a link ends whose snapshot could not be made: replicas come back at once, and what is wrong
// (a full disk) will still be.
func (l *link) holdBack() {
	ticks, stop := l.p.o.Clock.NewTicker(cron)
	defer stop()
	select {
	case <-ticks:
	case <-l.ctx.Done():
	}
}

// silentLocked returns for how long nothing has come from the replica. Online, only what it sends counts: it acknowledges
// each second. Before that, what it takes counts as well.
func (l *link) silentLocked(now time.Time) time.Duration {
	last := l.read.Load()
	if l.state != StateOnline {
		last = max(last, l.wrote.Load())
	} else if l.q.Old {
		return 0 // never acknowledges
	}
	return now.Sub(time.Unix(0, last))
}

// tellProgress logs how far the snapshot is on its way. It is called by the ticker alone, while the snapshot is sent.
func (l *link) tellProgress() {
	had, total := l.had.Load(), l.total.Load()
	done := had + l.snapshot.Load()
	if l.teller == nil {
		l.teller = newTeller(l.p.o.Clock, func(s string) { l.p.log.Info(s) }, "Sending the snapshot to replica "+l.addr, done)
	}
	if done != l.told { // else the replica loads, or does not read
		last := l.teller.last
		if l.teller.tell(done, total); l.teller.last != last {
			l.told = done
		}
	}
}

func (l *link) serve() error {
	p := l.p
	p.log.Info(fmt.Sprintf("Replica %s asks for synchronization", l.addr))
	log := p.o.Source.Log()
	lineage := log.Lineage()
	d := p.judge(log, lineage, &l.q, l.who())
	if d.Continue {
		l.logChoice(d)
		if !d.Snapshot {
			return l.resume(log, d.From, lineage[len(lineage)-1].ID)
		}
	}
	if d.Ahead && p.mayCatchUp(l.addr) {
		p.log.Info(fmt.Sprintf("Replica %s is ahead of this one, which is still catching up: it is to come back", l.addr))
		if _, err := l.write([]byte("-" + errNoMasterLink + "\r\n")); err != nil {
			return err
		}
		return errBehind
	}
	p.full.Add(1)
	if d.Snapshot {
		p.chosen.Add(1)
	} else if d.Asked {
		p.failed.Add(1)
		p.log.Info(fmt.Sprintf("Partial resynchronization with %s not accepted: %s", l.addr, d.Why))
	} else {
		p.log.Info("Full resync requested by replica " + l.addr)
	}
	return l.sync()
}

// mayCatchUp tells whether a replica that has more of our history than we have should wait: we are a replica ourselves, and will
// have these bytes in a moment. Not for ever: should they not come, it gets a full sync.
func (p *Primary) mayCatchUp(addr string) bool {
	if p.o.Following == nil || !p.o.Following() {
		return false
	}
	now := p.o.Clock.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	since, ok := p.mu.ahead[addr]
	if !ok {
		if p.mu.ahead == nil {
			p.mu.ahead = map[string]time.Time{}
		}
		since = now
		p.mu.ahead[addr] = now
	}
	if now.Sub(since) > p.conf.Load().Timeout {
		delete(p.mu.ahead, addr)
		return false
	}
	return true
}

// resume answers +CONTINUE and streams.
func (l *link) resume(log *wal.Log, from wal.Offset, id string) error {
	l.p.mu.Lock()
	delete(l.p.mu.ahead, l.addr)
	l.p.mu.Unlock()
	l.p.claim(l, from)
	r, err := log.NewReader(from)
	if err != nil {
		return err // trimmed this moment: it asks again and gets a full sync
	}
	l.p.ok.Add(1)
	line := "+CONTINUE\r\n"
	if l.q.PSYNC2 {
		line = "+CONTINUE " + id + "\r\n"
	}
	l.p.log.Info(fmt.Sprintf("Partial resynchronization request from %s accepted. Sending %d bytes of backlog starting from offset %d.",
		l.addr, int64(log.Durable()-from), int64(from)+1))
	if _, err := l.write([]byte(line)); err != nil {
		return errors.Join(err, r.Close())
	}
	l.online(from)
	return l.stream(r)
}

// stream writes the log as it becomes durable (W5), until the link ends.
func (l *link) stream(r *wal.Reader) (err error) {
	defer func() { err = errors.Join(err, r.Close()) }()
	for {
		_, data, err := r.Next(l.ctx)
		if err != nil {
			return err
		}
		if _, err := l.write(data); err != nil {
			return err
		}
		l.sent.Store(int64(r.Offset()))
		if l.q.Old {
			l.p.movePin(l, r.Offset()) // nothing better will come from it
		}
	}
}

// online makes the replica one that gets the stream from off on.
func (l *link) online(off wal.Offset) {
	now := l.p.o.Clock.Now()
	l.read.Store(now.UnixNano())
	l.sent.Store(int64(off))
	l.p.mu.Lock()
	defer l.p.mu.Unlock()
	l.state, l.ackTime = StateOnline, now
	l.ack = max(l.ack, off)
	l.p.streamingLocked()
	l.p.wakeLocked()
}

func (l *link) setState(s string) {
	l.p.mu.Lock()
	defer l.p.mu.Unlock()
	l.state = s
}

func (l *link) write(b []byte) (int, error) {
	n, err := l.conn.Write(b)
	l.p.bytes.Add(int64(n))
	if n > 0 {
		l.wrote.Store(l.p.o.Clock.Now().UnixNano())
	}
	return n, err
}

// sync sends a full sync: the data at C, then the log from C (R2). Each link has a view of its own, which costs the store
// nothing but keeping some tables a while longer.
func (l *link) sync() (err error) {
	p := l.p
	size, start := int64(0), p.o.Clock.Now()
	if p.o.SnapshotSize != nil {
		size, _ = p.o.SnapshotSize()
	}
	var s *Snapshot
	err = l.keepalive(func() (err error) {
		open := p.o.Source.OpenSnapshot
		if ts, ok := p.o.Source.(TableSource); ok && l.q.wantsTables() {
			open = ts.OpenTables
		}
		if s, err = open(l.ctx); err != nil {
			err = &snapshotError{err}
		}
		return err
	})
	if s == nil {
		return err
	}
	p.mu.Lock()
	l.fullSync, l.pin, l.pinUntil = true, s.Pin, s.C
	l.snapshotStart, l.snapshotSize = start, size
	p.mu.Unlock()
	open := true
	closeView := func() {
		if open {
			open = false
			s.Close()
		}
	}
	defer closeView()
	if err != nil {
		return err
	}
	if !l.q.RDBOnly && !l.q.Old {
		p.claim(l, s.C)
	}
	if !l.q.Old {
		if _, err := l.write(fmt.Appendf(nil, "+FULLRESYNC %s %d\r\n", s.ID, int64(s.C))); err != nil {
			return err
		}
	}
	switch {
	case s.Tables != nil:
		err = l.sendTables(s)
	case l.q.EOF && (!l.q.Old || l.q.RDBOnly) && !p.conf.Load().Spooled: // what follows a mark waits for an ACK, which SYNC has not
		err = l.sendMarked(s)
	default:
		err = l.sendSpooled(s)
	}
	if err != nil {
		return err
	}
	closeView()
	if l.q.RDBOnly {
		return l.linger()
	}
	log := p.o.Source.Log()
	p.mu.Lock()
	l.pinUntil = log.End()
	p.mu.Unlock()
	r, err := log.NewReader(s.C)
	if err != nil {
		return err
	}
	l.online(s.C)
	p.mu.Lock()
	ack, heard := l.ack, l.heard
	p.mu.Unlock()
	if heard { // before it was online
		p.movePin(l, ack)
	}
	p.log.Info(fmt.Sprintf("Synchronization with replica %s succeeded", l.addr))
	return l.stream(r)
}

// sendMarked sends the snapshot as it is made, between a mark and its repetition, and waits for the first acknowledgement: a
// replica that loads from disk finds the mark only as the last bytes that have come, so nothing may follow it.
func (l *link) sendMarked(s *Snapshot) error {
	l.setState(StateBulk)
	mark := l.p.o.Rand()
	w := bufio.NewWriterSize(l.bulk(), snapshotBuf)
	if _, err := l.write([]byte("$EOF:" + mark + "\r\n")); err != nil {
		return err
	}
	if err := s.Write(l.ctx, w, l.q.NoData); err != nil {
		return &snapshotError{err}
	}
	if _, err := w.WriteString(mark); err != nil {
		return err
	}
	if err := w.Flush(); err != nil {
		return err
	}
	l.p.log.Info(fmt.Sprintf("Streamed snapshot of %d bytes to replica %s", l.snapshot.Load(), l.addr))
	if l.q.RDBOnly {
		return nil
	}
	select {
	case <-l.first:
		return nil
	case <-l.ctx.Done():
		return context.Cause(l.ctx)
	}
}

// sendSpooled writes the snapshot to a file first, whose length it announces.
func (l *link) sendSpooled(s *Snapshot) (err error) {
	var spool Spool
	defer func() {
		if spool != nil {
			err = errors.Join(err, spool.Close())
		}
	}()
	var size int64
	err = l.keepalive(func() (err error) {
		if spool, err = l.p.o.NewSpool(); err != nil {
			return &snapshotError{err}
		}
		w := bufio.NewWriterSize(spool, snapshotBuf)
		if err := s.Write(l.ctx, w, l.q.NoData); err != nil {
			return &snapshotError{err}
		}
		if err := w.Flush(); err != nil {
			return &snapshotError{err}
		}
		if size, err = spool.Seek(0, io.SeekEnd); err != nil {
			return &snapshotError{err}
		}
		_, err = spool.Seek(0, io.SeekStart)
		return err
	})
	if err != nil {
		return err
	}
	l.total.Store(size)
	l.setState(StateBulk)
	if _, err := l.write(fmt.Appendf(nil, "$%d\r\n", size)); err != nil {
		return err
	}
	n, err := io.CopyBuffer(l.bulk(), io.LimitReader(spool, size), make([]byte, snapshotBuf))
	if err == nil && n < size {
		err = &snapshotError{io.ErrUnexpectedEOF}
	}
	return err
}

// linger ends a link that wanted the snapshot only: the peer closes when it has all of it. Closing first would reset the
// connection under what is still on its way.
func (l *link) linger() error {
	if c, ok := l.conn.(interface{ CloseWrite() error }); ok {
		if err := c.CloseWrite(); err != nil {
			return err
		}
		<-l.ctx.Done()
	}
	return errSnapshotSent
}

// keepalive does work in a goroutine of its own and writes a newline each second meanwhile: allowed until the reply's or
// the snapshot's first line, and what keeps the replica from giving us up. It returns when work is done, in any case.
func (l *link) keepalive(work func() error) error {
	ticks, stop := l.p.o.Clock.NewTicker(cron)
	defer stop()
	done := make(chan error, 1)
	go func() { done <- work() }()
	for {
		select {
		case err := <-done:
			return err
		case <-ticks:
			if _, err := l.write([]byte{'\n'}); err != nil {
				l.cancel(err)
				return errors.Join(err, <-done)
			}
		}
	}
}

// bulk returns the connection as a writer that counts the snapshot's bytes.
func (l *link) bulk() io.Writer { return bulkWriter{l} }

type bulkWriter struct{ l *link }

func (w bulkWriter) Write(b []byte) (int, error) {
	done := 0
	for {
		k, err := w.l.p.pace(w.l.ctx, len(b)-done)
		if err != nil {
			return done, err
		}
		n, err := w.l.write(b[done : done+k])
		w.l.snapshot.Add(int64(n))
		if done += n; err != nil || done == len(b) {
			return done, err
		}
	}
}

// readAcks reads what the replica sends: acknowledgements, and newlines while it loads. Both are signs of life. Other
// commands are passed over, since a reply would stand in the stream.
func (l *link) readAcks(rest []byte) error {
	buf := append(make([]byte, 0, max(ackBuf, len(rest)+1)), rest...)
	for {
		n, err := l.takeAcks(buf)
		if err != nil {
			return err
		}
		buf = buf[:copy(buf, buf[n:])]
		if len(buf) == cap(buf) {
			return errors.New("request from replica is too long")
		}
		n, err = l.conn.Read(buf[len(buf):cap(buf)])
		if n > 0 {
			l.read.Store(l.p.o.Clock.Now().UnixNano())
			buf = buf[:len(buf)+n]
		}
		if errors.Is(err, io.EOF) {
			return errPeerClosed
		}
		if err != nil {
			return err
		}
	}
}

// takeAcks takes whole requests from the front of buf and returns their length.
func (l *link) takeAcks(buf []byte) (taken int, err error) {
	for taken < len(buf) {
		var args [][]byte
		var n int
		switch b := buf[taken:]; b[0] {
		case '\n', '\r':
			n = 1
		case '*':
			if args, n, err = wal.ReadRecord(b); err != nil {
				return taken, fmt.Errorf("request from replica: %w", err)
			}
		default: // an inline command
			n = bytes.IndexByte(b, '\n') + 1
			args = bytes.Fields(b[:n])
		}
		if n == 0 {
			return taken, nil
		}
		taken += n
		if ack, fack, ok := parseAck(args); ok {
			l.p.acked(l, ack, fack)
		} else if err := l.takeTables(args); err != nil {
			return taken, err
		}
	}
	return taken, nil
}

// movePin lets the log go up to off.
func (p *Primary) movePin(l *link, off wal.Offset) {
	p.mu.Lock()
	pin := l.pin
	last := off >= l.pinUntil && l.state == StateOnline
	if last {
		l.pin = nil
	}
	p.mu.Unlock()
	switch {
	case pin == nil:
	case last:
		pin.Release()
	default:
		pin.Move(off)
	}
}

// release lets go of what the link holds.
func (p *Primary) release(l *link) {
	p.unclaim(l)
	p.mu.Lock()
	pin := l.pin
	l.pin = nil
	p.mu.Unlock()
	if pin != nil {
		pin.Release()
	}
}
