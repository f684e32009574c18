package server

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/holdfast-db/holdfast/server/reply"
)

var errHijacked = errors.New("connection was taken over")

// Hijacked is a connection that has left the network layer.
type Hijacked struct {
	Conn net.Conn
	Rest []byte // input that had been read and not consumed
}

// NetworkConfig configures a Network.
type NetworkConfig struct {
	Listen ListenConfig
	Logger hclog.Logger
	// Loops is the number of event loops; 1 if 0. One serves best unless reading and writing alone saturate a core.
	Loops int
	// Accept makes the handler of a new connection. It runs on the goroutine that will drive it and must not block.
	Accept func(*Conn) connHandler
	// BatchEnd is called after all OnData calls of a turn and before their replies are written; may be nil. With several
	// loops, and for TLS, it is called concurrently. With alone nobody is kept waiting but who waits for the batch to be
	// durable, so it may as well wait for that itself.
	BatchEnd func(alone bool)
	// ProtectedMode tells whether clients from other machines are to be refused; nil: never.
	ProtectedMode func() bool

	MaxClients   int           // 10000 if 0
	IdleTimeout  time.Duration // 0: none
	KeepAlive    time.Duration // of TCP connections; 0: none
	MaxBulk      int64         // proto-max-bulk-len, bytes; 512 MiB if 0
	MaxBuffer    int64         // client-query-buffer-limit, bytes; 1 GiB if 0
	OutputLimits [numClasses]OutputLimit
}

// DefaultOutputLimits are Redis's: none for clients, 256 MiB or 64 MiB for 60 s for replicas, 32 MiB or 8 MiB for 60 s for
// subscribers.
func DefaultOutputLimits() [numClasses]OutputLimit {
	return [numClasses]OutputLimit{
		ClassReplica: {Hard: 256 << 20, Soft: 64 << 20, SoftTime: time.Minute},
		ClassPubSub:  {Hard: 32 << 20, Soft: 8 << 20, SoftTime: time.Minute},
	}
}

// Network accepts connections and drives their handlers. It owns the listeners, the event loops and the goroutines of
// connections that a loop cannot serve. All methods may be called by any goroutine.
type Network struct {
	cfg NetworkConfig
	log hclog.Logger

	loops    []*loop
	nextLoop atomic.Uint32
	loopWG   sync.WaitGroup
	// handedOff counts Continue goroutines, connWG those of the goroutine driver.
	handedOff sync.WaitGroup
	connWG    sync.WaitGroup

	open struct {
		sync.Mutex
		lns []boundListener // in the order of Addrs
	}
	tls    atomic.Pointer[tls.Config]
	resume atomic.Pointer[chan struct{}] // closed by Resume; nil while accepting

	// durable is the offset up to which replies may leave (A1).
	durable atomic.Int64
	// goGates is the lowest offset that a connection of the goroutine driver waits for.
	goGates gateList

	paused      atomic.Bool
	closing     atomic.Bool
	maxClients  atomic.Int64
	idleTimeout atomic.Int64
	keepAlive   atomic.Int64 // of new connections, ns; 0: none
	maxBulk     atomic.Int64
	maxBuffer   atomic.Int64
	limits      atomic.Pointer[[numClasses]OutputLimit]

	nextID   atomic.Uint64
	accepted atomic.Int64
	rejected atomic.Int64
	reads    atomic.Int64 // that brought something
	writes   atomic.Int64 // that were tried
	expands  atomic.Int64 // of the buffers that hold replies back
	shrinks  atomic.Int64
	bytesIn  atomic.Int64
	bytesOut atomic.Int64

	conns struct {
		sync.RWMutex
		m map[uint64]*Conn
	}
	closeOnce sync.Once
	closed    chan struct{}
}

// NewNetwork makes a Network; Start begins to listen.
func NewNetwork(cfg NetworkConfig) *Network {
	if cfg.Logger == nil {
		cfg.Logger = hclog.NewNullLogger()
	}
	if cfg.Loops <= 0 {
		cfg.Loops = 1
	}
	if cfg.MaxClients == 0 {
		cfg.MaxClients = 10000
	}
	if cfg.MaxBulk == 0 {
		cfg.MaxBulk = 512 << 20
	}
	if cfg.MaxBuffer == 0 {
		cfg.MaxBuffer = 1 << 30
	}
	n := &Network{cfg: cfg, log: cfg.Logger.Named("net"), closed: make(chan struct{})}
	n.conns.m = make(map[uint64]*Conn)
	n.goGates.init()
	n.SetMaxClients(cfg.MaxClients)
	n.SetKeepAlive(cfg.KeepAlive)
	n.SetIdleTimeout(cfg.IdleTimeout)
	n.SetInputLimits(cfg.MaxBulk, cfg.MaxBuffer)
	n.SetOutputLimits(cfg.OutputLimits)
	return n
}

// Start binds the listeners and begins to serve. On an error nothing is left running.
func (n *Network) Start(ctx context.Context) (err error) {
	lns, err := n.cfg.Listen.open(ctx)
	if err != nil {
		return err
	}
	if haveLoop {
		for range n.cfg.Loops {
			l, err := newLoop(n)
			if err != nil {
				return n.abortStart(lns, err)
			}
			n.loops = append(n.loops, l)
		}
	}
	n.tls.Store(n.cfg.Listen.TLS)
	for _, ln := range lns {
		if haveLoop && !ln.info.tls {
			if err := n.loops[0].listen(ln.Listener, ln.info); err != nil {
				return n.abortStart(lns, err)
			}
		}
	}
	n.open.Lock()
	n.open.lns = lns
	n.open.Unlock()
	for _, l := range n.loops {
		n.loopWG.Go(l.run)
	}
	for _, ln := range lns {
		if !haveLoop || ln.info.tls {
			n.connWG.Go(func() { n.acceptGo(ln) })
		}
	}
	return nil
}

// abortStart undoes a Start that got as far as making loops.
func (n *Network) abortStart(lns []boundListener, err error) error {
	for _, ln := range lns {
		ln.Close()
	}
	for _, l := range n.loops {
		l.post(func() { l.shutdown(true) })
		l.run()
	}
	n.loops = nil
	n.removeSocketFile()
	return err
}

func (n *Network) removeSocketFile() {
	if path := n.cfg.Listen.UnixSocket; path != "" {
		if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
			n.log.Warn("unix socket not removed", "error", err)
		}
	}
}

// Addrs returns the addresses bound, in the order plain TCP, TLS, unix socket.
func (n *Network) Addrs() []net.Addr {
	n.open.Lock()
	defer n.open.Unlock()
	addrs := make([]net.Addr, len(n.open.lns))
	for i, ln := range n.open.lns {
		addrs[i] = ln.Addr()
	}
	return addrs
}

// SetDurable tells that everything up to off is durable, so that replies held for it may leave (A1). off never goes
// back. It is cheap while nobody waits.
func (n *Network) SetDurable(off int64) {
	n.durable.Store(off)
	for _, l := range n.loops {
		l.setDurable(off)
	}
	n.goGates.release(off)
}

// Pause stops accepting connections (they queue in the kernel), Resume goes on. Existing ones are served.
func (n *Network) Pause()  { n.setPaused(true) }
func (n *Network) Resume() { n.setPaused(false) }

func (n *Network) setPaused(v bool) {
	if n.paused.Swap(v) == v {
		return
	}
	if v {
		ch := make(chan struct{})
		n.resume.Store(&ch)
	} else if ch := n.resume.Swap(nil); ch != nil {
		close(*ch)
	}
	if len(n.loops) > 0 {
		l := n.loops[0]
		l.post(func() { l.setAccepting(!n.paused.Load()) })
	}
}

// Setters for what CONFIG SET changes. New input limits reach each connection at its next command.
func (n *Network) SetMaxClients(v int)            { n.maxClients.Store(int64(v)) }
func (n *Network) SetKeepAlive(d time.Duration)   { n.keepAlive.Store(int64(d)) } // of connections accepted from now on
func (n *Network) SetIdleTimeout(d time.Duration) { n.idleTimeout.Store(int64(d)) }
func (n *Network) SetInputLimits(maxBulk, maxBuffer int64) {
	n.maxBulk.Store(maxBulk)
	n.maxBuffer.Store(maxBuffer)
	n.Each(func(c *Conn) { c.newLimits.Store(true) })
}
func (n *Network) SetOutputLimits(l [numClasses]OutputLimit) { n.limits.Store(&l) }

// OutputLimits returns the limits in force.
func (n *Network) OutputLimits() [numClasses]OutputLimit { return *n.limits.Load() }

func (n *Network) outputLimit(class ConnClass) OutputLimit { return n.limits.Load()[class] }

// NetworkStats are counters since the start, for INFO.
type NetworkStats struct {
	Connected          int
	Accepted, Rejected int64
	BytesIn, BytesOut  int64
	Reads, Writes      int64 // of clients' connections
	Expands, Shrinks   int64 // how often the buffer of a connection's unread replies became larger, and smaller
}

// Stats returns the counters.
func (n *Network) Stats() NetworkStats {
	n.conns.RLock()
	connected := len(n.conns.m)
	n.conns.RUnlock()
	return NetworkStats{connected, n.accepted.Load(), n.rejected.Load(), n.bytesIn.Load(), n.bytesOut.Load(),
		n.reads.Load(), n.writes.Load(), n.expands.Load(), n.shrinks.Load()}
}

// Each calls fn for each connection, in no order. fn must not call back into the Network's accessors that lock.
func (n *Network) Each(fn func(*Conn)) {
	n.conns.RLock()
	defer n.conns.RUnlock()
	for _, c := range n.conns.m {
		fn(c)
	}
}

// Lookup returns the connection with an ID, nil if there is none.
func (n *Network) Lookup(id uint64) *Conn {
	n.conns.RLock()
	defer n.conns.RUnlock()
	return n.conns.m[id]
}

func (n *Network) batchEnd(alone bool) {
	if n.cfg.BatchEnd != nil {
		n.cfg.BatchEnd(alone)
	}
}

func (n *Network) pickLoop() *loop {
	if len(n.loops) == 1 {
		return n.loops[0]
	}
	return n.loops[int(n.nextLoop.Add(1)-1)%len(n.loops)]
}

// protectedModeText is what Redis tells a client from another machine while nothing protects the server.
const protectedModeText = "-DENIED Redis is running in protected mode because protected mode is enabled and no password is set for the default user. In this mode connections are only accepted from the loopback interface. If you want to connect from external computers to Redis you may adopt one of the following solutions: 1) Just disable protected mode sending the command 'CONFIG SET protected-mode no' from the loopback interface by connecting to Redis from the same host the server is running, however MAKE SURE Redis is not publicly accessible from internet if you do so. Use CONFIG REWRITE to make this change permanent. 2) Alternatively you can just disable the protected mode by editing the Redis configuration file, and setting the protected mode option to 'no', and then restarting the server. 3) If you started the server manually just for testing, restart it with the '--protected-mode no' option. 4) Setup a an authentication password for the default user. NOTE: You only need to do one of the above things in order for the server to start accepting connections from the outside.\r\n"

// refuse returns the reply for a connection that must not be let in, "" for one that may.
func (n *Network) refuse(loopback bool) string {
	n.conns.RLock()
	count := len(n.conns.m)
	n.conns.RUnlock()
	switch {
	case int64(count) >= n.maxClients.Load():
		n.rejected.Add(1)
		return "-" + reply.MaxClientsReached + "\r\n"
	case !loopback && n.cfg.ProtectedMode != nil && n.cfg.ProtectedMode():
		n.rejected.Add(1)
		return protectedModeText
	}
	return ""
}

// newConn makes and registers a connection; setUp sets driver and socket before anybody sees it, the handler comes later.
func (n *Network) newConn(remote, local string, setUp func(*Conn)) *Conn {
	c := &Conn{
		ID: n.nextID.Add(1), net: n, done: make(chan struct{}), created: time.Now(),
		remoteAddr: remote, localAddr: local, fd: -1,
	}
	c.guard.init(n.maxBulk.Load(), n.maxBuffer.Load())
	c.lastInput.Store(c.created.UnixMilli())
	n.accepted.Add(1)
	setUp(c) // who walks the connections finds whole ones
	n.conns.Lock()
	n.conns.m[c.ID] = c
	n.conns.Unlock()
	return c
}

func (n *Network) forget(c *Conn) {
	n.conns.Lock()
	delete(n.conns.m, c.ID)
	n.conns.Unlock()
}

// release is the end of c for everybody but its socket, which the driver has closed.
func (c *Conn) release(err error) {
	c.signalDone()
	c.closeAsync()
	c.net.forget(c)
	if c.handler != nil {
		c.handler.OnClose(c, err)
	}
	c.pend, c.pendHolds, c.outHolds = nil, nil, nil
	c.out.Swap(nil)
}

// Close stops accepting, lets pending replies leave and closes all connections. When ctx is done, what is left is cut
// off. It waits for loops, connections and Continue goroutines, and may be called again.
func (n *Network) Close(ctx context.Context) error {
	var err error
	n.closeOnce.Do(func() {
		n.closing.Store(true)
		n.Resume()
		n.shutdown(false)
		finished := make(chan struct{})
		go func() {
			n.loopWG.Wait()
			n.handedOff.Wait()
			n.connWG.Wait()
			close(finished)
		}()
		select {
		case <-finished:
		case <-ctx.Done():
			err = ctx.Err()
			n.shutdown(true)
			<-finished
		}
		n.removeSocketFile()
		close(n.closed)
	})
	<-n.closed
	return err
}

func (n *Network) shutdown(force bool) {
	n.open.Lock()
	for _, ln := range n.open.lns {
		n.closeListener(ln) // a loop has its own descriptor of the same socket
	}
	n.open.Unlock()
	for _, l := range n.loops {
		l.post(func() { l.shutdown(force) })
	}
	n.Each(func(c *Conn) {
		if g, ok := c.driver.(*goConn); ok {
			g.shutdown(force)
		}
	})
}
