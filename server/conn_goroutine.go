package server

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"math"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// The goroutine driver serves what an event loop cannot: TLS, and everything on systems without epoll. Each connection
// has two goroutines: serve reads, executes and owns the connection; write sends what is pending, so that a slow reader
// or a gate never holds up the other. A third reads ahead while Continue runs, to notice that the peer has gone.

const (
	handshakeTimeout = 10 * time.Second
	// readAhead bounds the input taken while Continue runs, in bytes. Once it is full a disconnect goes unnoticed until
	// Continue returns.
	readAhead = 64 << 10
	// acceptRetry is the pause after a failed accept (out of descriptors).
	acceptRetry = 100 * time.Millisecond
)

// goConn implements driver for one connection.
type goConn struct {
	c  *Conn
	nc net.Conn

	// mu guards the output of c: pend, sent, open, pendHolds, softSince, and the fields below.
	mu     sync.Mutex
	ending bool // write returns once everything has left
	busy   bool // the owner executes commands: what is asynchronous waits for their replies
	err    error
	left   sync.Cond // with mu: a write has returned

	kick     chan struct{} // one slot: there is something to look at
	wrote    chan struct{} // closed when write has returned
	hijacked atomic.Bool
	stopping atomic.Bool // the network is shutting down
	ahead    *readAheadState
}

// gateList holds connections that wait for the durable offset.
type gateList struct {
	want atomic.Int64 // lowest offset waited for
	mu   sync.Mutex
	list []*goConn
}

func (l *gateList) init() { l.want.Store(math.MaxInt64) }

func (l *gateList) add(g *goConn, until int64) {
	l.mu.Lock()
	l.list = append(l.list, g)
	if until < l.want.Load() {
		l.want.Store(until)
	}
	l.mu.Unlock()
	// It may have become durable between the look that sent us here and now.
	if g.c.net.durable.Load() >= until {
		g.notify(g.c)
	}
}

func (l *gateList) release(off int64) {
	if l.want.Load() > off {
		return
	}
	l.mu.Lock()
	list := l.list
	l.list = nil
	l.want.Store(math.MaxInt64)
	l.mu.Unlock()
	for _, g := range list {
		g.notify(g.c) // those that still wait add themselves again
	}
}

// acceptGo accepts connections for the goroutine driver until the listener is closed.
func (n *Network) acceptGo(ln boundListener) {
	for {
		if ch := n.resume.Load(); ch != nil {
			<-*ch
		}
		nc, err := ln.Accept()
		switch {
		case err == nil:
		case n.closing.Load() || errors.Is(err, net.ErrClosed):
			return
		default:
			n.log.Warn("accept failed", "listener", ln.info.addr, "error", err)
			time.Sleep(acceptRetry)
			continue
		}
		n.connWG.Go(func() { n.serveGo(nc, ln.info) })
	}
}

func (n *Network) serveGo(nc net.Conn, info listenerInfo) {
	loopback := info.unix
	if a, ok := nc.RemoteAddr().(*net.TCPAddr); ok {
		loopback = a.IP.IsLoopback()
	}
	if tc, ok := nc.(*net.TCPConn); ok && n.keepAlive.Load() > 0 {
		d := time.Duration(n.keepAlive.Load())
		// An error means that the peer has gone; the handshake or the first read tells.
		_ = tc.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: d, Interval: max(d/3, time.Second), Count: 3})
	}
	remote, local := nc.RemoteAddr().String(), nc.LocalAddr().String()
	if info.unix {
		remote, local = info.addr+":0", info.addr+":0"
	}
	if text := n.refuse(loopback); text != "" {
		if !info.tls { // without a handshake there is nobody to tell
			_ = nc.SetWriteDeadline(time.Now().Add(time.Second))
			_, _ = io.WriteString(nc, text) // best effort: it is refused either way
		}
		nc.Close()
		return
	}
	if info.tls {
		nc = tls.Server(nc, n.tls.Load())
	}
	g := &goConn{nc: nc, kick: make(chan struct{}, 1), wrote: make(chan struct{})}
	g.left.L = &g.mu
	n.newConn(remote, local, func(c *Conn) {
		c.unix, c.tls = info.unix, info.tls
		c.driver, g.c = g, c
	})
	g.serve()
}

// serve is the connection's main goroutine.
func (g *goConn) serve() {
	c := g.c
	if t, ok := g.nc.(*tls.Conn); ok {
		ctx, cancel := context.WithTimeout(context.Background(), handshakeTimeout)
		err := t.HandshakeContext(ctx)
		cancel()
		if err != nil {
			c.net.log.Debug("tls handshake failed", "client", c.remoteAddr, "error", err)
			g.nc.Close()
			c.release(err)
			return
		}
	}
	c.handler = c.net.cfg.Accept(c)
	go g.write()
	err := g.readLoop()
	if !g.hijacked.Load() {
		g.mu.Lock()
		c.queueOut()
		g.ending = true
		if g.err != nil {
			err = g.err
		}
		g.mu.Unlock()
		c.signalDone()
		g.notify(c)
		<-g.wrote
		g.nc.Close()
	} else {
		g.mu.Lock()
		g.ending = true
		g.mu.Unlock()
		g.notify(c)
		<-g.wrote
	}
	if k := c.kill.Load(); k != nil {
		err = k.err
	}
	c.release(err)
}

func (g *goConn) readLoop() error {
	c := g.c
	for {
		if g.stopping.Load() {
			return ErrClosed
		}
		if err := g.read(); err != nil {
			return err
		}
		c.lastInput.Store(time.Now().UnixMilli())
		g.setBusy(true)
		err := g.process()
		g.setBusy(false)
		if err != nil {
			return err
		}
		if c.closeAfterFlush {
			return ErrClosed
		}
	}
}

func (g *goConn) setBusy(v bool) {
	g.mu.Lock()
	g.busy = v
	g.mu.Unlock()
	if !v {
		g.notify(g.c)
	}
}

// read takes the next input, first what was read ahead.
func (g *goConn) read() error {
	c := g.c
	c.applyLimits()
	if g.ahead != nil {
		b, more, err := g.ahead.take()
		if !more {
			g.ahead = nil
		}
		if err != nil {
			return err
		}
		if len(b) > 0 {
			c.net.bytesIn.Add(int64(len(b)))
			c.net.reads.Add(1)
			return c.guard.Feed(b)
		}
	}
	if idle := time.Duration(c.net.idleTimeout.Load()); idle > 0 && c.Class() == ClassNormal && !c.noIdle.Load() {
		_ = g.nc.SetReadDeadline(time.Now().Add(idle)) // fails on closed connections only, and so does the read
	} else {
		_ = g.nc.SetReadDeadline(time.Time{})
	}
	n, err := g.nc.Read(c.guard.space())
	c.net.bytesIn.Add(int64(n))
	c.net.reads.Add(1)
	if n > 0 {
		return c.guard.filled(n)
	}
	var ne net.Error
	if errors.As(err, &ne) && ne.Timeout() && !g.stopping.Load() {
		return ErrIdle
	}
	return err
}

// process lets the handler execute the input, as often as it hands off.
func (g *goConn) process() error {
	c := g.c
	for {
		handOff := c.handler.OnData(c)
		c.net.batchEnd(false)
		c.noteInput()
		if err := g.flush(); err != nil {
			return err
		}
		if !handOff {
			break
		}
		if g.ahead == nil || !g.ahead.resume() && g.ahead.drained() {
			g.ahead = startReadAhead(g.nc, c.signalDone)
		}
		c.handler.Continue(c)
		if g.hijacked.Load() {
			return errHijacked
		}
		if err := g.flush(); err != nil {
			return err
		}
		if c.closeAfterFlush || c.guard.Buffered() == 0 && !c.again {
			break
		}
		c.again = false
	}
	c.guard.settle()
	return nil
}

// flush hands the owner's replies to the writing goroutine.
func (g *goConn) flush() error {
	c := g.c
	g.mu.Lock()
	c.queueOut()
	c.queueAsync()
	err := c.checkLimits(time.Now())
	if err == nil {
		err = g.err
	}
	g.mu.Unlock()
	if err == ErrOutputLimit {
		c.closeWith(err)
	}
	g.notify(c)
	return err
}

// notify implements driver.
func (g *goConn) notify(*Conn) {
	select {
	case g.kick <- struct{}{}:
	default:
	}
	// A writing goroutine that is stuck in a write does not look at the kick; closing frees it.
	if g.c.kill.Load() != nil && !g.hijacked.Load() {
		g.nc.Close()
	}
}

// write sends what may leave until the connection ends.
func (g *goConn) write() {
	defer func() {
		close(g.wrote)
		g.left.Broadcast()
	}()
	c := g.c
	for range g.kick {
		for {
			g.mu.Lock()
			if c.kill.Load() != nil {
				g.mu.Unlock()
				g.nc.Close()
				c.signalDone()
				return
			}
			if !g.busy || c.parked.Load() {
				c.queueAsync()
			}
			b, wait := c.ready(c.net.durable.Load())
			done := g.ending && (c.sent == len(c.pend) || g.hijacked.Load())
			g.mu.Unlock()
			if done {
				return
			}
			if len(b) == 0 {
				if wait != 0 {
					c.net.goGates.add(g, wait)
				}
				break
			}
			// Nobody else touches these bytes: others only append, and wrote alone moves them.
			n, err := g.nc.Write(b)
			c.net.bytesOut.Add(int64(n))
			c.net.writes.Add(1)
			g.mu.Lock()
			c.wrote(n)
			c.noteOutput(int64(len(c.pend) - c.sent))
			if err != nil {
				g.err = err
			}
			g.left.Broadcast()
			g.mu.Unlock()
			if err != nil {
				g.nc.Close()
				c.signalDone()
				return
			}
		}
	}
}

// settle implements driver. What a gate holds is not on its way.
func (g *goConn) settle(c *Conn) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for g.err == nil && c.kill.Load() == nil {
		if b, _ := c.ready(c.net.durable.Load()); len(b) == 0 {
			return
		}
		g.left.Wait()
	}
}

// shutdown ends the connection: at once, or when its replies have left.
func (g *goConn) shutdown(force bool) {
	if force {
		g.c.Close()
		return
	}
	g.stopping.Store(true)
	g.c.signalDone()
	// Frees a read; fails only if the connection is closed.
	_ = g.nc.SetReadDeadline(time.Unix(1, 0))
}

// hijack implements driver.
func (g *goConn) hijack(c *Conn) (Hijacked, error) {
	if !g.hijacked.CompareAndSwap(false, true) {
		return Hijacked{}, errHijacked
	}
	h := Hijacked{Conn: g.nc, Rest: c.guard.takeRest()}
	if g.ahead != nil {
		h.Conn = &aheadConn{Conn: g.nc, ahead: g.ahead}
	}
	return h, nil
}

// readAheadState is input read while Continue runs. The reading goroutine can be in a Read that nothing but input ends, so
// it goes on serving take until that Read has returned.
type readAheadState struct {
	ready chan struct{} // one slot: something below has changed
	mu    sync.Mutex
	buf   []byte
	err   error
	stop  bool // no further read after the one that is under way
	ended bool // the goroutine reads no more
}

// startReadAhead reads from nc until its buffer is full, the connection fails (gone is called) or take stops it.
func startReadAhead(nc net.Conn, gone func()) *readAheadState {
	a := &readAheadState{ready: make(chan struct{}, 1)}
	go func() {
		tmp := make([]byte, minSpace)
		for {
			n, err := nc.Read(tmp)
			a.mu.Lock()
			a.buf = append(a.buf, tmp[:n]...)
			a.err = err
			a.ended = err != nil || a.stop || len(a.buf) >= readAhead
			ended := a.ended
			a.mu.Unlock()
			select {
			case a.ready <- struct{}{}:
			default:
			}
			if err != nil {
				gone()
			}
			if ended {
				return
			}
		}
	}()
	return a
}

// resume lets the goroutine go on reading ahead; false if it has ended.
func (a *readAheadState) resume() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.stop = false
	return !a.ended
}

// drained tells whether nothing is left to take.
func (a *readAheadState) drained() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.ended && len(a.buf) == 0 && a.err == nil
}

// take waits for input or the end. more is false once a will yield nothing else.
func (a *readAheadState) take() (b []byte, more bool, err error) {
	for {
		a.mu.Lock()
		a.stop = true
		if len(a.buf) > 0 || a.ended {
			b, a.buf = a.buf, nil
			more = !a.ended
			if len(b) == 0 {
				err = a.err
			} else if a.ended && a.err != nil {
				more = true // the error comes with the next call
			}
			a.mu.Unlock()
			return b, more, err
		}
		a.mu.Unlock()
		<-a.ready
	}
}

// aheadConn is a hijacked connection of which some input may have been read.
type aheadConn struct {
	net.Conn
	ahead *readAheadState
	rest  []byte
}

func (c *aheadConn) Read(p []byte) (int, error) {
	if len(c.rest) == 0 && c.ahead != nil {
		b, more, err := c.ahead.take()
		if !more {
			c.ahead = nil
		}
		if err != nil {
			return 0, err
		}
		c.rest = b
	}
	if len(c.rest) > 0 {
		n := copy(p, c.rest)
		c.rest = c.rest[n:]
		return n, nil
	}
	return c.Conn.Read(p)
}
