package server

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/holdfast-db/holdfast/server/reply"
)

// connHandler is what the network layer drives, one for each connection. The session layer implements it.
//
// At any time a connection has one owner: the loop, or the goroutine in which Continue runs. Only the owner may use
// Guard, Out, Hold and CloseAfterFlush. OnData, Continue and OnClose of one connection never run at the same time.
type connHandler interface {
	// OnData is called when new input is in c.Guard(). It executes what is there, appends replies to c.Out() and must not
	// block. handOff means that the next command may block (a cold key, back-pressure, a blocking command): the loop then
	// stops watching for input and calls Continue elsewhere. Arguments that Next returned stay valid until Continue has
	// returned.
	OnData(c *Conn) (handOff bool)
	// Continue may block; it runs in a goroutine of its own, which owns c meanwhile. It should give up a wait for a client
	// when c.Done() is closed. After it, OnData is called again if input is buffered.
	Continue(c *Conn)
	// OnClose is called once, after the last OnData or Continue. err says why: io.EOF when the peer closed, ErrClosed when
	// we did, else what failed.
	OnClose(c *Conn, err error)
}

// ConnClass selects the output buffer limit of a connection and whether it may idle.
type ConnClass uint8

const (
	ClassNormal ConnClass = iota
	ClassReplica
	ClassPubSub
	numClasses
)

// OutputLimit bounds the replies that wait for a slow reader, as Redis's client-output-buffer-limit: over Hard bytes, or
// over Soft bytes for SoftTime, the connection is closed. Zero means no limit.
type OutputLimit struct {
	Hard, Soft int64
	SoftTime   time.Duration
}

// Reasons for which a connection ends, given to connHandler.OnClose.
var (
	ErrClosed      = errors.New("connection closed by the server")
	ErrOutputLimit = errors.New("output buffer limit exceeded")
	ErrIdle        = errors.New("idle timeout")
)

// hold says that the stream's bytes before end may leave only once offset until is durable.
type hold struct {
	end   int64
	until int64
}

// Conn is one client connection. See connHandler for who may call what.
type Conn struct {
	ID uint64

	net     *Network
	driver  driver
	handler connHandler
	guard   Guard

	// out takes the owner's replies; outHolds are its gates, with ends relative to out's first byte.
	out      reply.Writer
	outHolds []hold
	bigOut   bool // the newest output was larger than keepOutput: the next will be, too

	// pend is what could not leave yet: sent bytes of it have left, up to open they may leave. It belongs to the driver.
	// pendHolds' ends count from pend's first byte.
	// Invariant: bytes leave in the order in which they entered; none passes a hold that is not durable (A1).
	pend      []byte
	sent      int
	open      int
	pendHolds []hold
	softSince time.Time // when pend went over the soft limit; zero if it is not

	closeAfterFlush bool
	closeErr        error
	again           bool // the owner wants OnData to be called once more, though no input has come

	async struct {
		sync.Mutex
		buf    []byte
		until  int64 // all of buf may leave once this offset is durable
		closed bool
	}
	parked atomic.Bool // see SetParked
	kill   atomic.Pointer[closeReason]
	queued atomic.Bool // stands in the driver's inbox
	done   chan struct{}
	once   sync.Once

	class     atomic.Uint32
	noIdle    atomic.Bool
	newLimits atomic.Bool  // the network's input limits have changed
	lastInput atomic.Int64 // unix ms
	inBytes   atomic.Int64 // buffered input
	inCap     atomic.Int64
	outBytes  atomic.Int64 // output that waits in pend
	outCap    atomic.Int64

	created    time.Time
	remoteAddr string
	localAddr  string
	fd         int
	unix       bool
	tls        bool

	ls loopState // of the event loop that serves the connection
}

type closeReason struct{ err error }

// driver is what a Conn asks of the loop or goroutine that serves it.
type driver interface {
	// notify makes the driver look at c's asynchronous output and kill request soon. Any goroutine may call it.
	notify(c *Conn)
	// settle returns once nothing of c's output is on its way out, or c has failed. REQUIRES: in Continue.
	settle(c *Conn)
	// hijack takes c out of the driver, see Conn.Hijack.
	hijack(c *Conn) (Hijacked, error)
}

// Guard returns the connection's input. Owner only.
func (c *Conn) Guard() *Guard { return &c.guard }

// Out returns the writer that takes replies. Owner only. Its protocol is the connection's and stays between calls.
func (c *Conn) Out() *reply.Writer { return &c.out }

// Handler returns the handler that was made for this connection.
func (c *Conn) Handler() connHandler { return c.handler }

// Hold lets everything appended to Out up to now leave only once offset until is durable (A1), as told by
// Network.SetDurable. What is appended later waits behind it. Owner only.
func (c *Conn) Hold(until int64) {
	end := int64(c.out.Len())
	if n := len(c.outHolds); n > 0 {
		last := &c.outHolds[n-1]
		if until <= last.until || last.end == end {
			// Order is kept, so a later byte waits for an earlier gate anyway: one gate serves both.
			last.until = max(last.until, until)
			last.end = end
			return
		}
	}
	if end == 0 || until <= c.net.durable.Load() && len(c.outHolds) == 0 {
		return
	}
	c.outHolds = append(c.outHolds, hold{end: end, until: until})
}

// WriteAsync appends b, a whole reply or push message, to the connection's output, behind the replies of commands that have
// been executed. Any goroutine may call it, at any time; b is copied. It never blocks: a reader that is too slow exceeds its output limit and is closed.
func (c *Conn) WriteAsync(b []byte) { c.WriteAsyncAfter(b, 0) }

// WriteAsyncAfter is WriteAsync of what may leave only once offset until is durable (A1).
func (c *Conn) WriteAsyncAfter(b []byte, until int64) {
	c.async.Lock()
	if c.async.closed {
		c.async.Unlock()
		return
	}
	c.async.buf = append(c.async.buf, b...)
	c.async.until = max(c.async.until, until)
	n := int64(len(c.async.buf))
	c.async.Unlock()
	if hard := c.net.outputLimit(c.Class()).Hard; hard > 0 && n+c.outBytes.Load() > hard {
		c.closeWith(ErrOutputLimit)
		return
	}
	c.driver.notify(c)
}

// TakeAsync puts what others have written with WriteAsync up to now behind what is in Out. Owner only.
func (c *Conn) TakeAsync() {
	c.async.Lock()
	defer c.async.Unlock()
	if len(c.async.buf) == 0 {
		return
	}
	c.out.Raw(c.async.buf)
	if c.async.until > 0 {
		c.Hold(c.async.until)
	}
	c.emptyAsync()
}

// emptyAsync forgets asynchronous output that has been moved. REQUIRES: the lock of async.
func (c *Conn) emptyAsync() {
	c.async.buf, c.async.until = c.async.buf[:0], 0
	if cap(c.async.buf) > keepOutput {
		c.async.buf = nil
	}
}

// Yield makes what is in Out leave although the owner has something to wait for: Continue returns right after it, and OnData is
// called again, whether or not there is input. Owner only, in Continue.
func (c *Conn) Yield() { c.again = true }

// SetParked says that Continue waits with nothing in Out, or does so no more. What WriteAsync appends while a command is being
// executed follows its reply: a client that is told of a change must not then get the value from before it. While the owner
// waits, which may be long, there is no reply to come before. Owner only, in Continue.
func (c *Conn) SetParked(v bool) {
	c.parked.Store(v)
	if !v {
		return
	}
	c.async.Lock()
	waiting := len(c.async.buf) > 0
	c.async.Unlock()
	if waiting {
		c.driver.notify(c)
	}
}

// CloseAfterFlush closes the connection once everything appended so far has left. No more input is handled. Owner only.
func (c *Conn) CloseAfterFlush() { c.closeAfterFlush = true }

// Close ends the connection soon, dropping output that has not left. Any goroutine may call it, more than once.
func (c *Conn) Close() { c.closeWith(ErrClosed) }

func (c *Conn) closeWith(err error) {
	if c.kill.CompareAndSwap(nil, &closeReason{err}) {
		c.driver.notify(c)
	}
}

// Done is closed when the peer has gone or the connection is being closed, also while Continue runs.
func (c *Conn) Done() <-chan struct{} { return c.done }

func (c *Conn) signalDone() { c.once.Do(func() { close(c.done) }) }

// SetClass changes which output limit applies. Replica and pub/sub connections have no idle timeout.
func (c *Conn) SetClass(class ConnClass) { c.class.Store(uint32(class)) }

// Class returns the connection's class.
func (c *Conn) Class() ConnClass { return ConnClass(c.class.Load()) }

// SetNoIdle exempts the connection from the idle timeout (MONITOR) or subjects it to it again.
func (c *Conn) SetNoIdle(v bool) { c.noIdle.Store(v) }

// RemoteAddr returns the peer as "ip:port", for a unix socket "path:0", as CLIENT LIST shows it.
func (c *Conn) RemoteAddr() string { return c.remoteAddr }

// LocalAddr returns our end in the same form.
func (c *Conn) LocalAddr() string { return c.localAddr }

// FD returns the socket's descriptor number, for CLIENT LIST only.
func (c *Conn) FD() int { return c.fd }

// IsUnix tells whether the client came by the unix socket.
func (c *Conn) IsUnix() bool { return c.unix }

// IsTLS tells whether the client came by the TLS port.
func (c *Conn) IsTLS() bool { return c.tls }

// Created returns when the connection was accepted.
func (c *Conn) Created() time.Time { return c.created }

// LastInteraction returns when input last arrived. Any goroutine may call it, as well as the four methods below.
func (c *Conn) LastInteraction() time.Time { return time.UnixMilli(c.lastInput.Load()) }

// QueryBuffer returns how many bytes of input wait to be executed, and how large the buffer for them is. Both are those
// of the end of the connection's last turn.
func (c *Conn) QueryBuffer() (used, size int64) { return c.inBytes.Load(), c.inCap.Load() }

// OutputPending returns how many bytes of output wait for the reader or for a gate, and the memory held for them.
func (c *Conn) OutputPending() (used, size int64) { return c.outBytes.Load(), c.outCap.Load() }

// OutputOver tells the owner whether the output that it has produced already exceeds the hard limit, so that it can stop
// executing: the connection is closed at the end of its turn.
func (c *Conn) OutputOver() bool {
	hard := c.net.outputLimit(c.Class()).Hard
	return hard > 0 && c.outBytes.Load()+int64(c.out.Len()) > hard
}

// Settle waits in Continue until the replies of the commands before have left, or the connection has failed: a peer may have read
// a reply, and have sent its next command, before the write that carried the reply has returned.
func (c *Conn) Settle() { c.driver.settle(c) }

// Hijack takes the connection out of the network layer for good: PSYNC turns it into a replication link. It may be
// called in Continue only, and fails if output is pending. OnClose is called right after Continue; the caller owns the
// net.Conn from then on. Done says nothing any more.
func (c *Conn) Hijack() (Hijacked, error) {
	if c.out.Len() > 0 || c.outBytes.Load() > 0 {
		return Hijacked{}, errors.New("connection has pending output")
	}
	return c.driver.hijack(c)
}

// queueOut moves the owner's replies and asynchronous output behind what is pending. Called by the driver when it owns
// the output.
func (c *Conn) queueOut() {
	if c.out.Len() == 0 {
		c.outHolds = c.outHolds[:0]
		return
	}
	c.bigOut = c.out.Len() > keepOutput
	base := int64(len(c.pend))
	if c.sent == len(c.pend) {
		c.pend = c.out.Swap(c.pend[:0])
		base, c.sent, c.open = 0, 0, 0
		c.pendHolds = c.pendHolds[:0]
	} else {
		c.pend = append(c.pend, c.out.Bytes()...)
		c.out.Truncate(0)
	}
	for _, h := range c.outHolds {
		h.end += base
		c.holdPending(h)
	}
	c.outHolds = c.outHolds[:0]
}

// holdPending gates pend up to h.end.
func (c *Conn) holdPending(h hold) {
	if n := len(c.pendHolds); n > 0 && h.until <= c.pendHolds[n-1].until {
		c.pendHolds[n-1].end = h.end
		return
	}
	c.pendHolds = append(c.pendHolds, h)
}

// queueAsync moves asynchronous output behind what is pending. REQUIRES: pend ends at the end of a reply, which queueOut
// and this keep.
func (c *Conn) queueAsync() {
	c.async.Lock()
	if len(c.async.buf) > 0 {
		if c.sent == len(c.pend) {
			c.pend, c.sent, c.open, c.pendHolds = c.pend[:0], 0, 0, c.pendHolds[:0]
		}
		c.pend = append(c.pend, c.async.buf...)
		if c.async.until > c.net.durable.Load() {
			c.holdPending(hold{end: int64(len(c.pend)), until: c.async.until})
		}
		c.emptyAsync()
	}
	c.async.Unlock()
}

// ready returns the bytes that may leave now, given the durable offset, and the offset that the rest waits for (0 if it
// does not wait for any).
func (c *Conn) ready(durable int64) (b []byte, wait int64) {
	n := 0
	for n < len(c.pendHolds) && c.pendHolds[n].until <= durable {
		c.open = int(c.pendHolds[n].end)
		n++
	}
	if n > 0 {
		c.pendHolds = c.pendHolds[:copy(c.pendHolds, c.pendHolds[n:])]
	}
	if len(c.pendHolds) == 0 {
		c.open = len(c.pend)
	} else {
		wait = c.pendHolds[0].until
	}
	return c.pend[c.sent:max(c.sent, c.open)], wait
}

// wrote notes that n bytes of pend have left.
func (c *Conn) wrote(n int) {
	c.sent += n
	if c.sent == len(c.pend) {
		c.pend, c.sent, c.open = c.pend[:0], 0, 0
		if cap(c.pend) > keepOutput {
			if c.ls.loop != nil {
				c.ls.loop.keepBig(c.pend)
			}
			c.pend = nil
		}
	} else if c.sent > keepOutput && c.sent > len(c.pend)/2 {
		// Moving at most as much as was sent since the last move keeps the copying linear.
		n := copy(c.pend, c.pend[c.sent:])
		c.pend = c.pend[:n]
		for i := range c.pendHolds {
			c.pendHolds[i].end -= int64(c.sent)
		}
		c.open -= c.sent
		c.sent = 0
	}
}

// checkLimits closes c if what is pending exceeds its class's limits.
func (c *Conn) checkLimits(now time.Time) error {
	n := int64(len(c.pend) - c.sent)
	c.noteOutput(n)
	if n == 0 {
		c.softSince = time.Time{}
		return nil
	}
	lim := c.net.outputLimit(c.Class())
	if lim.Hard > 0 && n > lim.Hard {
		return ErrOutputLimit
	}
	if lim.Soft == 0 || n <= lim.Soft {
		c.softSince = time.Time{}
		return nil
	}
	if c.softSince.IsZero() {
		c.softSince = now
	} else if now.Sub(c.softSince) > lim.SoftTime {
		return ErrOutputLimit
	}
	return nil
}

// noteOutput publishes the size of the pending output. Plain loads are cheap where stores of atomics are not.
func (c *Conn) noteOutput(n int64) {
	if c.outBytes.Load() != n {
		c.outBytes.Store(n)
	}
	if size, was := int64(cap(c.pend)), c.outCap.Load(); was != size {
		if size > was {
			c.net.expands.Add(1)
		} else {
			c.net.shrinks.Add(1)
		}
		c.outCap.Store(size)
	}
}

// applyLimits takes over input limits that were changed. Called by the driver before it reads.
func (c *Conn) applyLimits() {
	if c.newLimits.Load() {
		c.newLimits.Store(false)
		c.guard.SetLimits(c.net.maxBulk.Load(), c.net.maxBuffer.Load())
	}
}

// noteInput publishes the size of the buffered input.
func (c *Conn) noteInput() {
	if n := int64(c.guard.Buffered()); c.inBytes.Load() != n {
		c.inBytes.Store(n)
	}
	if n := int64(c.guard.Cap()); c.inCap.Load() != n {
		c.inCap.Store(n)
	}
}

// keepOutput is the largest buffer that a connection keeps while nothing is pending, in bytes. Pipelines of small
// replies fit; what larger ones needed goes to the loop's next connection that needs as much.
const keepOutput = 64 << 10

// shrink gives back the memory of a connection that has not been used for a while.
func (c *Conn) shrink() {
	if len(c.pend) == c.sent {
		c.pend, c.sent, c.open = nil, 0, 0
	}
	if c.out.Len() == 0 {
		c.out.Swap(nil)
	}
	c.noteOutput(int64(len(c.pend) - c.sent))
}

// closeAsync makes further WriteAsync calls no-ops.
func (c *Conn) closeAsync() {
	c.async.Lock()
	c.async.closed, c.async.buf = true, nil
	c.async.Unlock()
}
