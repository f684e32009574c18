package server

import (
	"errors"
	"io"
	"math"
	"net"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The event loop: one goroutine serves many connections by epoll, as Redis's single thread does. One turn is
//
//	wait → read and execute for each readable connection → BatchEnd → one write for each connection with replies
//
// Where all that a loop serves waits for the log's sync, it waits with it (company): see wal.Log.CommitNow.
//
// A goroutine for each connection costs a scheduler hand-over for each command without pipelining, here a command costs
// its read, its write and a share of one epoll_wait. What may block leaves the loop (connHandler.Continue).
//
// Socket calls are raw system calls: the sockets do not block, so the scheduler need not know. Only the wait for events
// tells it.

const (
	// maxEvents bounds the events of one turn.
	maxEvents = 1024
	// maxAccepts bounds the connections accepted in one turn, so that a storm of them does not starve the others
	// (Redis's MAX_ACCEPTS_PER_CALL is 1000 with a cheaper accept).
	maxAccepts = 128
	// tickEvery is how often a loop with connections looks for idle ones.
	tickEvery = time.Second
	// yieldEvery is how long a loop runs before it lets others run by itself, between two turns. The scheduler would interrupt it
	// after 10 ms, wherever it is: most probably with the executor lock in its hands, for which all others then wait.
	yieldEvery = 5 * time.Millisecond
	// shrinkAfter is for how long a connection must have been silent before its buffers go.
	shrinkAfter = 2 * time.Second

	watchInput = unix.EPOLLIN | unix.EPOLLRDHUP
)

// loopState is what the loop keeps in each of its connections. All but returned belong to the loop's goroutine.
type loopState struct {
	loop     *loop
	watching uint32 // events registered with epoll, 0 = not registered
	handed   bool   // Continue owns the connection
	isDirty  bool
	isGated  bool
	blocked  bool // the socket took no more: wait for EPOLLOUT
	dead     bool
	eof      bool // the peer sends no more
	fresh    bool // accepted, not yet adopted by its loop

	returned atomic.Bool // Continue has returned
	hijacked atomic.Bool
}

// loop is one event loop. Everything without a lock or atomic belongs to its goroutine.
type loop struct {
	net *Network
	ep  int
	efd int // eventfd, wakes the loop

	conns    []*Conn // by descriptor
	live     int
	handedN  int
	accepts  map[int32]*loopListener
	starved  bool // out of descriptors: accepting waits for the next tick
	closing  bool
	forced   bool
	scratch  []byte
	events   []unix.EpollEvent
	dirty    []*Conn
	handing  []*Conn
	gated    []*Conn
	now      time.Time
	nextTick time.Time
	yielded  time.Time // when the goroutine last let others run
	ran      bool      // OnData was called in this turn
	company  company
	big      [][]byte // empty output buffers larger than a connection keeps

	// sleeping is set while the loop is, or is about to be, blocked in epoll_wait. Whoever leaves work for it does so
	// first and then clears the flag; the one who clears it writes the eventfd.
	sleeping atomic.Bool
	// want is the lowest offset that a gate of this loop waits for, MaxInt64 if none.
	want atomic.Int64

	inbox struct {
		sync.Mutex
		conns  []*Conn
		funcs  []func()
		exited bool
	}
	inboxFull  atomic.Bool
	spareConns []*Conn
}

type loopListener struct {
	fd   int
	info listenerInfo
	of   net.Listener
}

func newLoop(n *Network) (*loop, error) {
	ep, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	efd, err := unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC)
	if err != nil {
		unix.Close(ep)
		return nil, os.NewSyscallError("eventfd", err)
	}
	l := &loop{
		net: n, ep: ep, efd: efd,
		accepts: make(map[int32]*loopListener),
		scratch: make([]byte, readChunk),
		events:  make([]unix.EpollEvent, maxEvents),
	}
	l.want.Store(math.MaxInt64)
	if err := l.ctl(unix.EPOLL_CTL_ADD, efd, unix.EPOLLIN); err != nil {
		unix.Close(efd)
		unix.Close(ep)
		return nil, err
	}
	return l, nil
}

func (l *loop) ctl(op, fd int, events uint32) error {
	ev := unix.EpollEvent{Events: events, Fd: int32(fd)}
	return os.NewSyscallError("epoll_ctl", unix.EpollCtl(l.ep, op, fd, &ev))
}

// unlisten removes ln from the loop, when what has connected is accepted.
func (l *loop) unlisten(ln net.Listener) {
	for fd, a := range l.accepts {
		if a.of == ln {
			l.accept(a)
			unix.Close(a.fd)
			delete(l.accepts, fd)
		}
	}
}

// stopListening refuses connections from now on, though descriptors of the socket stay open.
func stopListening(ln net.Listener) error {
	rc, err := ln.(syscall.Conn).SyscallConn()
	if err != nil {
		return err
	}
	var inner error
	if err := rc.Control(func(fd uintptr) { inner = unix.Shutdown(int(fd), unix.SHUT_RDWR) }); err != nil {
		return err
	}
	return os.NewSyscallError("shutdown", inner)
}

// listen adds ln to the loop. The loop owns a descriptor of its own; ln is closed by the caller.
func (l *loop) listen(ln net.Listener, info listenerInfo) error {
	f, ok := ln.(interface{ File() (*os.File, error) })
	if !ok {
		return errors.New("listener has no descriptor")
	}
	file, err := f.File()
	if err != nil {
		return err
	}
	defer file.Close()
	fd, err := unix.FcntlInt(file.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("fcntl", err)
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return os.NewSyscallError("fcntl", err)
	}
	if err := l.ctl(unix.EPOLL_CTL_ADD, fd, unix.EPOLLIN); err != nil {
		unix.Close(fd)
		return err
	}
	l.accepts[int32(fd)] = &loopListener{fd: fd, info: info, of: ln}
	return nil
}

// post makes the loop run fn. It returns false if the loop has ended.
func (l *loop) post(fn func()) bool {
	l.inbox.Lock()
	if l.inbox.exited {
		l.inbox.Unlock()
		return false
	}
	l.inbox.funcs = append(l.inbox.funcs, fn)
	l.inbox.Unlock()
	l.inboxFull.Store(true)
	l.wake()
	return true
}

func (l *loop) postConn(c *Conn) bool {
	l.inbox.Lock()
	if l.inbox.exited {
		l.inbox.Unlock()
		return false
	}
	l.inbox.conns = append(l.inbox.conns, c)
	l.inbox.Unlock()
	l.inboxFull.Store(true)
	l.wake()
	return true
}

// notify implements driver.
func (l *loop) notify(c *Conn) {
	if c.queued.CompareAndSwap(false, true) {
		l.postConn(c)
	}
}

// wake ends the loop's sleep, if it sleeps.
func (l *loop) wake() {
	if l.sleeping.Load() && l.sleeping.CompareAndSwap(true, false) {
		one := [8]byte{0: 1}
		// The lock keeps the descriptor open. The counter cannot overflow at one increment for each sleep, so the write
		// cannot fail.
		l.inbox.Lock()
		if !l.inbox.exited {
			unix.RawSyscall(unix.SYS_WRITE, uintptr(l.efd), uintptr(unsafe.Pointer(&one)), 8)
		}
		l.inbox.Unlock()
	}
}

// setDurable wakes the loop if a gate waits for off.
func (l *loop) setDurable(off int64) {
	if l.want.Load() <= off {
		l.wake()
	}
}

// run is the loop's goroutine.
func (l *loop) run() {
	defer l.exit()
	l.now = time.Now()
	l.nextTick = l.now.Add(tickEvery)
	for {
		n := l.wait()
		l.now = time.Now()
		if l.now.Sub(l.yielded) >= yieldEvery {
			runtime.Gosched()
			l.now = time.Now()
			l.yielded = l.now
		}
		l.eventsOf(n)
		l.drainInbox()
		if l.ran {
			l.endBatch()
		}
		l.flushGated()
		l.flushDirty()
		l.startHanded()
		if !l.now.Before(l.nextTick) {
			l.tick()
		}
		if l.closing && (l.live == 0 || l.forced && l.live == l.handedN) {
			return
		}
	}
}

func (l *loop) eventsOf(n int) {
	for i := range n {
		l.event(&l.events[i])
	}
}

// endBatch hands what the turn has appended to the log.
func (l *loop) endBatch() {
	alone := len(l.net.loops) == 1 && l.company.alone()
	if alone {
		// Whoever has come meanwhile shares the sync; whoever waits for none is answered before it.
		for range companyPolls {
			n := l.poll()
			if n == 0 {
				break
			}
			l.eventsOf(n)
		}
		l.flushDirty()
	}
	l.ran = false
	l.net.batchEnd(alone)
}

// wait returns the number of events. It polls before it blocks: under load there is something each time, and the poll
// spares the scheduler's bookkeeping for a blocking call.
func (l *loop) wait() int {
	if n := l.poll(); n > 0 {
		return n
	}
	l.sleeping.Store(true)
	// From here on whoever leaves work sees the flag; what was left before is seen here.
	if l.inboxFull.Load() || l.net.durable.Load() >= l.want.Load() {
		l.sleeping.Store(false)
		return 0
	}
	timeout := -1
	if l.live > 0 || l.starved {
		timeout = int(max(0, time.Until(l.nextTick)+time.Millisecond-1) / time.Millisecond)
	}
	n, err := unix.EpollWait(l.ep, l.events, timeout)
	l.yielded = time.Now()
	l.sleeping.Store(false)
	if err != nil { // EINTR only: the arguments are ours
		return 0
	}
	return n
}

func (l *loop) poll() int {
	n, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(l.ep), uintptr(unsafe.Pointer(&l.events[0])),
		uintptr(len(l.events)), 0, 0, 0)
	if errno != 0 {
		return 0
	}
	return int(n)
}

func (l *loop) event(ev *unix.EpollEvent) {
	fd := int(ev.Fd)
	if fd < len(l.conns) && l.conns[fd] != nil {
		l.connEvent(l.conns[fd], ev.Events)
		return
	}
	if fd == l.efd {
		var b [8]byte
		unix.RawSyscall(unix.SYS_READ, uintptr(l.efd), uintptr(unsafe.Pointer(&b)), 8)
		return
	}
	if ln := l.accepts[ev.Fd]; ln != nil {
		l.accept(ln)
	}
}

func (l *loop) connEvent(c *Conn, events uint32) {
	if events&unix.EPOLLOUT != 0 {
		c.ls.blocked = false
		l.markDirty(c)
	}
	const gone = unix.EPOLLRDHUP | unix.EPOLLHUP | unix.EPOLLERR
	switch {
	case events&(gone|unix.EPOLLIN) == 0:
	case c.ls.handed:
		if events&gone != 0 {
			// Not closed yet: the goroutine may still answer what came before, and a peer may close one direction only.
			c.signalDone()
			l.watch(c, 0)
		} else {
			l.watch(c, c.ls.watching&^unix.EPOLLIN)
		}
	case c.closeAfterFlush:
		if events&(unix.EPOLLHUP|unix.EPOLLERR) != 0 {
			l.close(c, ErrClosed)
		}
	default:
		l.readable(c)
	}
}

// watch sets the events that epoll reports for c; 0 takes it out, since hang-ups would be reported otherwise.
func (l *loop) watch(c *Conn, events uint32) {
	if events == c.ls.watching || c.ls.hijacked.Load() {
		return
	}
	op := unix.EPOLL_CTL_MOD
	switch {
	case c.ls.watching == 0:
		op = unix.EPOLL_CTL_ADD
	case events == 0:
		op = unix.EPOLL_CTL_DEL
	}
	c.ls.watching = events
	if err := l.ctl(op, c.fd, events); err != nil && !c.ls.hijacked.Load() {
		l.close(c, err)
	}
}

// readable reads once and lets the handler execute what has come.
func (l *loop) readable(c *Conn) {
	g := &c.guard
	g.borrow(l.scratch)
	b := g.space()
	n, errno := readFD(c.fd, b)
	if errno != 0 || n == 0 {
		g.settle()
		switch {
		case errno == 0:
			l.endOfInput(c)
		case errno != unix.EAGAIN:
			l.close(c, os.NewSyscallError("read", errno))
		}
		return
	}
	c.lastInput.Store(l.now.UnixMilli())
	l.net.bytesIn.Add(int64(n))
	l.net.reads.Add(1)
	c.applyLimits()
	if err := g.filled(n); err != nil {
		g.settle()
		l.close(c, err)
		return
	}
	l.process(c)
}

// endOfInput handles a peer that closed its sending side. Replies that wait for a gate or for the reader still go out:
// a client that shuts down after its last command gets its answers.
func (l *loop) endOfInput(c *Conn) {
	if len(c.pend) == c.sent && c.out.Len() == 0 {
		l.close(c, io.EOF)
		return
	}
	c.signalDone()
	c.ls.eof = true
	c.closeAfterFlush = true
	l.markDirty(c)
}

func (l *loop) process(c *Conn) {
	l.ran = true
	l.company.serve()
	if n := len(l.big); c.bigOut && n > 0 && c.out.Len() == 0 {
		c.out.Swap(l.big[n-1])
		l.big = l.big[:n-1]
	}
	handOff := c.handler.OnData(c)
	switch {
	case handOff:
		if c.guard.keep() {
			l.scratch = make([]byte, readChunk)
		}
		c.queueOut()
		c.ls.handed = true
		l.handedN++
		l.handing = append(l.handing, c)
		l.markDirty(c)
	default:
		c.guard.settle()
		if c.out.Len() > keepOutput {
			// It leaves while it is in the processor's cache, and its buffer serves the next connection of this turn.
			l.flush(c)
		} else if c.out.Len() > 0 || c.closeAfterFlush {
			l.markDirty(c)
		}
	}
	c.noteInput()
}

const (
	// maxBig and maxBigBytes bound the large output buffers that a loop keeps: one or two serve all connections as long
	// as readers take what is written.
	maxBig      = 4
	maxBigBytes = 2 << 20
)

// keepBig takes an empty buffer for the next connection that has much to say.
func (l *loop) keepBig(b []byte) {
	if len(l.big) < maxBig && cap(b) <= maxBigBytes {
		l.big = append(l.big, b[:0])
	}
}

func (l *loop) markDirty(c *Conn) {
	if !c.ls.isDirty {
		c.ls.isDirty = true
		l.dirty = append(l.dirty, c)
	}
}

func (l *loop) drainInbox() {
	if !l.inboxFull.Load() {
		return
	}
	l.inbox.Lock()
	l.inboxFull.Store(false)
	conns, funcs := l.inbox.conns, l.inbox.funcs
	l.inbox.conns, l.inbox.funcs = l.spareConns[:0], nil
	l.inbox.Unlock()
	for _, fn := range funcs {
		fn()
	}
	for i, c := range conns {
		conns[i] = nil
		l.visit(c)
	}
	l.spareConns = conns[:0]
}

// visit does for c what another goroutine asked for.
func (l *loop) visit(c *Conn) {
	c.queued.Store(false)
	if c.ls.dead {
		return
	}
	if c.ls.fresh {
		c.ls.fresh = false
		l.adopt(c)
		if c.ls.dead {
			return
		}
	}
	if c.ls.returned.CompareAndSwap(true, false) {
		c.ls.handed = false
		l.handedN--
		if c.ls.hijacked.Load() {
			l.finish(c, errHijacked)
			return
		}
		c.queueOut()
		l.markDirty(c)
		if c.closeErr != nil {
			l.finish(c, c.closeErr)
			return
		}
		if l.closing {
			c.closeAfterFlush = true
		}
		if !c.closeAfterFlush {
			// Input may have come meanwhile; and what is buffered goes to the handler before anything new is read.
			l.watch(c, c.ls.watching&unix.EPOLLOUT|watchInput)
			if c.ls.dead {
				return
			}
			if c.guard.Buffered() > 0 || c.again {
				c.again = false
				l.process(c)
			} else {
				c.guard.settle()
				c.noteInput()
			}
		}
	}
	if k := c.kill.Load(); k != nil {
		l.close(c, k.err)
		return
	}
	switch {
	case !c.ls.handed:
		c.queueOut()
		c.queueAsync()
	case c.parked.Load():
		c.queueAsync()
	}
	l.markDirty(c)
}

func (l *loop) flushGated() {
	if len(l.gated) == 0 || l.net.durable.Load() < l.want.Load() {
		return
	}
	l.want.Store(math.MaxInt64)
	list := l.gated
	l.gated = l.gated[:0]
	for _, c := range list {
		// flush appends to l.gated again what still waits, at or before the place being read.
		c.ls.isGated = false
		if !c.ls.dead {
			l.flush(c)
		}
	}
	clear(list[len(l.gated):])
}

func (l *loop) flushDirty() {
	// Flushing can close a connection but makes none dirty.
	for i, c := range l.dirty {
		l.dirty[i] = nil
		c.ls.isDirty = false
		if !c.ls.dead {
			l.flush(c)
		}
	}
	l.dirty = l.dirty[:0]
}

// flush writes what may leave, once.
func (l *loop) flush(c *Conn) {
	if !c.ls.handed {
		c.queueOut()
	}
	b, wait := c.ready(l.net.durable.Load())
	if wait != 0 {
		if !c.ls.isGated {
			c.ls.isGated = true
			l.gated = append(l.gated, c)
			l.company.wait()
		}
		if wait < l.want.Load() {
			l.want.Store(wait)
		}
	}
	if len(b) > 0 && !c.ls.blocked {
		n, errno := writeFD(c.fd, b)
		if errno != 0 && errno != unix.EAGAIN {
			l.close(c, os.NewSyscallError("write", errno))
			return
		}
		c.ls.blocked = n < len(b)
		c.wrote(n)
		l.net.bytesOut.Add(int64(n))
		l.net.writes.Add(1)
	}
	if err := c.checkLimits(l.now); err != nil {
		l.close(c, err)
		return
	}
	if !c.ls.handed && c.closeAfterFlush && len(c.pend) == c.sent {
		err := ErrClosed
		if c.ls.eof {
			err = io.EOF
		}
		l.close(c, err)
		return
	}
	events := c.ls.watching &^ unix.EPOLLOUT
	if !c.ls.handed && c.closeAfterFlush {
		events = 0
	}
	if c.ls.blocked {
		events |= unix.EPOLLOUT
	}
	// A connection that was taken out (its peer hung up while it was handed off) comes back in visit.
	if events != c.ls.watching && (c.ls.watching != 0 || !c.ls.handed) {
		l.watch(c, events)
	}
}

// startHanded starts the goroutines of connections that were handed off in this turn, after their earlier replies left.
func (l *loop) startHanded() {
	for i, c := range l.handing {
		l.handing[i] = nil
		l.net.handedOff.Add(1)
		go l.runHanded(c)
	}
	l.handing = l.handing[:0]
}

func (l *loop) runHanded(c *Conn) {
	defer l.net.handedOff.Done()
	c.handler.Continue(c)
	c.ls.returned.Store(true)
	if !l.postConn(c) {
		// The loop was forced to end while we ran: nobody else knows the connection any more.
		unix.Close(c.fd)
		c.release(ErrClosed)
	}
}

// close ends c. While Continue owns it, only the peer and Done learn of it; the rest follows when Continue returns.
func (l *loop) close(c *Conn, err error) {
	if c.ls.dead || c.closeErr != nil {
		return
	}
	if c.ls.handed {
		c.closeErr = err
		c.signalDone()
		c.closeAsync()
		l.watch(c, 0)
		unix.Shutdown(c.fd, unix.SHUT_RDWR)
		return
	}
	l.finish(c, err)
}

// finish releases c. REQUIRES: Continue does not own it.
func (l *loop) finish(c *Conn, err error) {
	c.ls.dead = true
	if c.fd < len(l.conns) && l.conns[c.fd] == c {
		l.conns[c.fd] = nil
		l.live--
	}
	unix.Close(c.fd)
	c.release(err)
}

// settle implements driver: the loop writes, and notes what has left, before it hands a connection off.
func (l *loop) settle(*Conn) {}

// hijack implements driver. It runs in Continue's goroutine, which owns c; the loop leaves the descriptor alone once
// hijacked is set, but for closing it, so the caller gets a duplicate.
func (l *loop) hijack(c *Conn) (Hijacked, error) {
	fd, err := unix.FcntlInt(uintptr(c.fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return Hijacked{}, os.NewSyscallError("fcntl", err)
	}
	f := os.NewFile(uintptr(fd), "hijacked")
	nc, err := net.FileConn(f)
	f.Close()
	if err != nil {
		return Hijacked{}, err
	}
	if !c.ls.hijacked.CompareAndSwap(false, true) {
		nc.Close()
		return Hijacked{}, errHijacked
	}
	// The loop may have taken it out already; that is the one error possible.
	_ = l.ctl(unix.EPOLL_CTL_DEL, c.fd, 0)
	return Hijacked{Conn: nc, Rest: c.guard.takeRest()}, nil
}

// tick looks after silent connections.
func (l *loop) tick() {
	l.nextTick = l.now.Add(tickEvery)
	l.big = nil
	if l.starved {
		l.starved = false
		l.setAccepting(!l.net.paused.Load())
	}
	idle := time.Duration(l.net.idleTimeout.Load())
	for _, c := range l.conns {
		if c == nil || c.ls.handed {
			continue
		}
		silent := l.now.Sub(c.LastInteraction())
		if idle > 0 && silent > idle && c.Class() == ClassNormal && !c.noIdle.Load() {
			l.close(c, ErrIdle)
			continue
		}
		if err := c.checkLimits(l.now); err != nil {
			l.close(c, err)
			continue
		}
		if silent > shrinkAfter {
			c.shrink()
		}
	}
}

func (l *loop) setAccepting(on bool) {
	events := uint32(0)
	if on {
		events = unix.EPOLLIN
	}
	for _, ln := range l.accepts {
		// The descriptor is registered as long as it is in accepts, so this cannot fail.
		_ = l.ctl(unix.EPOLL_CTL_MOD, ln.fd, events)
	}
}

func (l *loop) accept(ln *loopListener) {
	for range maxAccepts {
		fd, sa, err := unix.Accept4(ln.fd, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		switch err {
		case nil:
		case unix.EAGAIN:
			return
		case unix.EINTR, unix.ECONNABORTED:
			continue
		default:
			// Out of descriptors or memory. The listener stays readable, so it is left alone until the next tick.
			l.net.log.Warn("accept failed", "listener", ln.info.addr, "error", err)
			l.starved = true
			l.setAccepting(false)
			return
		}
		l.admit(fd, sa, ln.info)
	}
}

// admit checks a new socket against the rules and gives it to a loop.
func (l *loop) admit(fd int, sa unix.Sockaddr, info listenerInfo) {
	remote, loopback := sockaddrString(sa, info)
	local := info.addr
	if lsa, err := unix.Getsockname(fd); err == nil {
		local, _ = sockaddrString(lsa, info)
	}
	if text := l.net.refuse(loopback); text != "" {
		// Best effort, as in Redis: the socket's buffer is empty, so it fits.
		writeFD(fd, []byte(text))
		unix.Close(fd)
		return
	}
	if !info.unix {
		l.net.tuneTCP(fd)
	}
	to := l.net.pickLoop()
	c := l.net.newConn(remote, local, func(c *Conn) {
		c.fd, c.unix = fd, info.unix
		c.driver = to
		c.ls.loop = to
		c.ls.fresh = to != l
	})
	if to == l {
		l.adopt(c)
		return
	}
	if !to.postConn(c) {
		unix.Close(fd)
		l.net.forget(c)
	}
}

// adopt begins to serve c.
func (l *loop) adopt(c *Conn) {
	for len(l.conns) <= c.fd {
		l.conns = append(l.conns, nil)
	}
	l.conns[c.fd] = c
	l.live++
	if l.live == 1 {
		l.nextTick = l.now.Add(tickEvery)
	}
	c.lastInput.Store(l.now.UnixMilli())
	c.handler = l.net.cfg.Accept(c)
	if l.closing {
		l.close(c, ErrClosed)
		return
	}
	l.watch(c, watchInput)
}

// shutdown stops accepting and lets connections end once their replies have left; force ends them now.
func (l *loop) shutdown(force bool) {
	l.closing = true
	l.forced = l.forced || force
	for fd, ln := range l.accepts {
		unix.Close(ln.fd)
		delete(l.accepts, fd)
	}
	for _, c := range l.conns {
		switch {
		case c == nil:
		case force:
			l.close(c, ErrClosed)
		case c.ls.handed:
			c.signalDone()
		default:
			c.closeAfterFlush = true
			l.markDirty(c)
		}
	}
}

func (l *loop) exit() {
	l.inbox.Lock()
	l.inbox.exited = true
	rest := l.inbox.conns
	l.inbox.conns, l.inbox.funcs = nil, nil
	l.inbox.Unlock()
	for _, c := range rest {
		if !c.ls.dead && (c.ls.returned.Load() || c.ls.fresh) {
			l.finish(c, ErrClosed)
		}
	}
	unix.Close(l.efd)
	unix.Close(l.ep)
}

func readFD(fd int, b []byte) (int, syscall.Errno) {
	for {
		n, _, errno := unix.RawSyscall(unix.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)))
		switch errno {
		case 0:
			return int(n), 0
		case unix.EINTR:
			continue
		}
		return 0, errno
	}
}

// writeFD uses send, since a write to a closed socket would raise SIGPIPE.
func writeFD(fd int, b []byte) (int, syscall.Errno) {
	for {
		n, _, errno := unix.RawSyscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)),
			unix.MSG_NOSIGNAL|unix.MSG_DONTWAIT, 0, 0)
		switch errno {
		case 0:
			return int(n), 0
		case unix.EINTR:
			continue
		}
		return 0, errno
	}
}
