package replication

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/holdfast-db/holdfast/wal"
)

// Source is what a primary serves from.
type Source interface {
	// Log returns the log. It may be another one after Pause.
	Log() *wal.Log
	// OpenSnapshot returns the data as they stood at a durable record boundary, and keeps the log from there on (R2, W6).
	OpenSnapshot(ctx context.Context) (*Snapshot, error)
	// AppendOwn puts a record of the server's own into the stream and returns the offset behind it; ok is false, and nothing
	// happens, if the stream is not ours: on a replica.
	AppendOwn(args ...[]byte) (end wal.Offset, ok bool)
}

// Snapshot is the data at C, the source of one full sync.
type Snapshot struct {
	ID string     // the replication id at C
	C  wal.Offset // S1
	// Write writes it as an RDB file. noData: without keys.
	Write func(ctx context.Context, w io.Writer, noData bool) error
	// Tables are the data as files, from a TableSource; nil: Write gives them.
	Tables *Tables
	// Close releases the view, not the pin. It is called once.
	Close func()
	// Pin keeps the log from C on until it is moved or released; nil if nothing trims it.
	Pin Pin
}

// Pin keeps the log from an offset on.
type Pin interface {
	Move(off wal.Offset)
	Release()
}

// Spool holds a snapshot whose length must be known before it is sent. Close removes it.
type Spool interface {
	io.ReadWriteSeeker
	io.Closer
}

// PrimaryConfig are the settings that can change at run time.
type PrimaryConfig struct {
	PingPeriod time.Duration // repl-ping-replica-period; 0: 10 s
	Timeout    time.Duration // repl-timeout; 0: 60 s
	// Spooled: repl-diskless-sync no. Who does not understand `$EOF:` gets a spooled snapshot in any case.
	Spooled bool
	MaxLag  time.Duration // min-replicas-max-lag; 0: 10 s
	// SyncChoice: repl-sync-choice, for a replica that could continue but is far behind.
	SyncChoice SyncChoice
	// SyncBytesPerSecond bounds what full syncs send: repl-sync-max-bytes-per-second; 0: no bound.
	SyncBytesPerSecond int64
}

// PrimaryOptions say what a Primary works with. Source and NewSpool are required.
type PrimaryOptions struct {
	Source   Source
	NewSpool func() (Spool, error)
	Rand     func() string // 40 random hex digits; nil: RandomID
	Clock    Clock         // nil: SystemClock
	Logger   hclog.Logger
	// Following tells whether this server is a replica itself; nil: it is not.
	Following func() bool
	// OnAck is called after a replica has acknowledged more, without locks held. It must not block.
	OnAck func()
	// Slots keeps the log for named replicas; nil: nobody does.
	Slots Slots
	// SnapshotSize estimates the bytes of a snapshot taken now, and tells its offset; nil: not known, and then a replica that can
	// continue always does.
	SnapshotSize func() (bytes int64, at wal.Offset)
	Config       PrimaryConfig
}

// State of a replica as INFO names it.
const (
	StateWait   = "wait_bgsave" // the snapshot is being prepared
	StateBulk   = "send_bulk"   // the snapshot is being sent, or loaded by the replica
	StateOnline = "online"
)

// ReplicaInfo describes an attached replica.
type ReplicaInfo struct {
	IP        string // announced, or the peer's
	Port      int    // announced; 0 if it did not say
	Name      string // REPLCONF replica-name; "" if it did not say
	Addr      string // of the connection
	State     string
	Ack, Fack wal.Offset    // acknowledged as applied, and as on disk (-1: does not say)
	Sent      wal.Offset    // behind the last byte written to its connection; 0 before the stream begins
	Lag       time.Duration // since its last acknowledgement; a whole number of seconds is what INFO shows
	FullSync  bool          // it began with a full sync
	Snapshot  int64         // bytes of the snapshot sent
	Had       int64         // bytes of the snapshot that it had and was not sent
	Total     int64         // bytes of the snapshot; 0 while not known
	RDBOnly   bool
	Old       bool // SYNC: never acknowledges
}

// PrimaryStats are counts since the start.
type PrimaryStats struct {
	SyncFull, SyncPartialOK, SyncPartialErr int64
	Bytes                                   int64 // sent, of snapshots and stream
	SyncChosen                              int64 // of SyncFull: could have continued, but a snapshot was sooner
}

// Primary serves replicas from a log: each link reads the log for itself, from disk or from the log's one shared tail, so that
// what a link holds in memory is one buffer of fixed size, however slow or far behind its replica is (M1).
type Primary struct {
	o      PrimaryOptions
	log    hclog.Logger
	conf   atomic.Pointer[PrimaryConfig]
	quiet  atomic.Bool // no PINGs
	full   atomic.Int64
	ok     atomic.Int64
	failed atomic.Int64
	bytes  atomic.Int64
	chosen atomic.Int64
	speed  estimator
	ctx    context.Context
	cancel context.CancelCauseFunc
	wg     sync.WaitGroup // the ticker; links count themselves in mu.links

	// names is held while Slots is called. No other lock of this package is taken under it, nor it under one.
	names struct {
		sync.Mutex
		links map[string]*link // who speaks for a name
	}
	mu struct {
		sync.Mutex
		links     []*link // in the order in which they came
		streaming bool    // one of them gets the stream, see streamingLocked
		paused    int
		closed    bool
		waiters   []*waiter
		ahead     map[string]time.Time // replicas that have more than we have, by address, and since when they were told to wait
		getack    wal.Offset           // start of the newest GETACK in the stream; -1: none
		lastPing  time.Time
		pacing    pacing
	}
}

// NewPrimary starts a primary without replicas. The owner calls Close.
func NewPrimary(o PrimaryOptions) *Primary {
	if o.Clock == nil {
		o.Clock = SystemClock{}
	}
	if o.Rand == nil {
		o.Rand = RandomID
	}
	if o.Logger == nil {
		o.Logger = hclog.NewNullLogger()
	}
	p := &Primary{o: o, log: o.Logger}
	p.ctx, p.cancel = context.WithCancelCause(context.Background())
	p.mu.getack = -1
	p.SetConfig(o.Config)
	p.mu.lastPing = o.Clock.Now()
	ticks, stop := o.Clock.NewTicker(cron)
	p.wg.Go(func() {
		defer stop()
		for {
			select {
			case <-ticks:
				p.tick()
			case <-p.ctx.Done():
				return
			}
		}
	})
	return p
}

// SetConfig changes the settings.
func (p *Primary) SetConfig(c PrimaryConfig) {
	if c.PingPeriod <= 0 {
		c.PingPeriod = 10 * time.Second
	}
	if c.Timeout <= 0 {
		c.Timeout = 60 * time.Second
	}
	if c.MaxLag <= 0 {
		c.MaxLag = 10 * time.Second
	}
	p.conf.Store(&c)
}

// SetQuiet stops the PINGs while on: during a FAILOVER the stream must stand still so that the target can reach its end.
func (p *Primary) SetQuiet(on bool) { p.quiet.Store(on) }

var (
	errClosed       = errors.New("replication: closed")
	errPaused       = errors.New("the data set is being replaced")
	errReplaced     = errors.New("the replication id changed")
	errSilent       = errors.New("timeout")
	errSnapshotSent = errors.New("snapshot sent")
	errBehind       = errors.New("it is ahead")
	errPeerClosed   = errors.New("connection closed by peer")
)

// Serve serves a connection that has asked with PSYNC or SYNC and was admitted, until it ends, and closes it. rest is what
// was read from it behind the request. Handshake replies must have been written.
func (p *Primary) Serve(conn net.Conn, rest []byte, q Request) {
	l, err := p.attach(conn, q)
	if err != nil {
		p.log.Info(fmt.Sprintf("Replica %s refused: %v", conn.RemoteAddr(), err))
		text := errLoading
		if errors.Is(err, errClosed) {
			text = "ERR server is shutting down"
		}
		// A courtesy: who closes is closed either way.
		_, _ = conn.Write([]byte("-" + text + "\r\n"))
		_ = conn.Close()
		return
	}
	l.run(rest)
	p.detach(l)
}

func (p *Primary) attach(conn net.Conn, q Request) (*link, error) {
	now := p.o.Clock.Now()
	l := &link{p: p, conn: conn, q: q, first: make(chan struct{}), gone: make(chan struct{})}
	l.host, l.addr = peerAddr(conn, q)
	l.state, l.fack, l.ackTime = StateWait, -1, now
	l.read.Store(now.UnixNano())
	l.wrote.Store(now.UnixNano())
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.mu.closed:
		return nil, errClosed
	case p.mu.paused > 0:
		return nil, errPaused
	}
	l.ctx, l.cancel = context.WithCancelCause(p.ctx)
	p.mu.links = append(p.mu.links, l)
	return l, nil
}

// streamingLocked has the log sync without pause while a replica gets the stream: it gets durable bytes only, and soon (W5). One that
// gets or loads a snapshot wants none yet. REQUIRES: p.mu.
func (p *Primary) streamingLocked() {
	on := slices.ContainsFunc(p.mu.links, func(l *link) bool { return l.state == StateOnline })
	if on != p.mu.streaming {
		p.mu.streaming = on
		p.o.Source.Log().SetContinuousSync(on)
	}
}

func (p *Primary) detach(l *link) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mu.links = slices.DeleteFunc(p.mu.links, func(o *link) bool { return o == l })
	p.streamingLocked()
	close(l.gone)
}

// Disconnect ends all links and waits for that: replicas reconnect and learn a new id by +CONTINUE. The caller has changed the
// id before, and must not hold what OpenSnapshot or AppendOwn need.
func (p *Primary) Disconnect() {
	p.mu.Lock()
	links := p.dropLocked(errReplaced)
	p.mu.getack = -1
	p.mu.Unlock()
	waitFor(links)
}

// Pause ends all links, waits until none of them reads the log any more, and refuses new ones until Resume: while the data and the
// log are replaced. Pauses nest.
func (p *Primary) Pause() {
	p.mu.Lock()
	p.mu.paused++
	links := p.dropLocked(errPaused)
	p.mu.getack = -1
	p.mu.Unlock()
	waitFor(links)
}

// Resume ends a Pause.
func (p *Primary) Resume() {
	p.mu.Lock()
	p.mu.paused--
	p.mu.Unlock()
}

// Close ends all links and the ticker, and waits. It is idempotent.
func (p *Primary) Close() {
	p.mu.Lock()
	p.mu.closed = true
	links := p.dropLocked(errClosed)
	p.mu.Unlock()
	waitFor(links)
	p.cancel(errClosed)
	p.wg.Wait()
}

// dropLocked cancels all links and returns them.
func (p *Primary) dropLocked(cause error) []*link {
	for _, l := range p.mu.links {
		l.cancel(cause)
	}
	return slices.Clone(p.mu.links)
}

// waitFor waits until links have ended; those that have come since are none of its business, since replicas reconnect at
// once.
func waitFor(links []*link) {
	for _, l := range links {
		<-l.gone
	}
}

// tick drops who is silent, and keeps the stream of an idle primary moving: replicas take its PINGs as a sign of life.
func (p *Primary) tick() {
	now, c := p.o.Clock.Now(), p.conf.Load()
	var sending []*link
	p.mu.Lock()
	for _, l := range p.mu.links {
		if l.silentLocked(now) > c.Timeout {
			l.cancel(errSilent)
		}
		if l.state == StateBulk {
			sending = append(sending, l)
		}
	}
	due := now.Sub(p.mu.lastPing) >= c.PingPeriod
	if due {
		p.mu.lastPing = now
	}
	ping := due && len(p.mu.links) > 0 && !p.quiet.Load()
	p.mu.Unlock()
	for _, l := range sending {
		l.tellProgress()
	}
	if ping {
		p.o.Source.AppendOwn([]byte("PING"))
	}
}

// Replicas describes the attached replicas in the order in which they came.
func (p *Primary) Replicas() []ReplicaInfo {
	now := p.o.Clock.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	out := make([]ReplicaInfo, 0, len(p.mu.links))
	for _, l := range p.mu.links {
		out = append(out, ReplicaInfo{
			IP: l.host, Port: l.q.Port, Name: l.q.Name, Addr: l.addr, State: l.state, Ack: l.ack, Fack: l.fack, Sent: wal.Offset(l.sent.Load()),
			Lag: now.Sub(l.ackTime), FullSync: l.fullSync, Snapshot: l.snapshot.Load(), Had: l.had.Load(), Total: l.total.Load(), RDBOnly: l.q.RDBOnly, Old: l.q.Old,
		})
	}
	return out
}

// Len returns how many replicas are attached.
func (p *Primary) Len() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.mu.links)
}

// GoodReplicas counts the replicas that are online and whose last acknowledgement is not older than min-replicas-max-lag.
func (p *Primary) GoodReplicas() int {
	now, lag := p.o.Clock.Now(), p.conf.Load().MaxLag
	p.mu.Lock()
	defer p.mu.Unlock()
	n := 0
	for _, l := range p.mu.links {
		// In whole seconds, as Redis's clock counts: 10.9 s is a lag of 10.
		if l.state == StateOnline && now.Sub(l.ackTime).Truncate(time.Second) <= lag {
			n++
		}
	}
	return n
}

// Stats returns counts since the start.
func (p *Primary) Stats() PrimaryStats {
	return PrimaryStats{p.full.Load(), p.ok.Load(), p.failed.Load(), p.bytes.Load(), p.chosen.Load()}
}

// peerAddr returns the replica's host, announced or seen, and its name in log lines: as Redis, host and listening port.
func peerAddr(conn net.Conn, q Request) (host, addr string) {
	host = q.IP
	if host == "" {
		if a := conn.RemoteAddr(); a != nil {
			host = a.String()
			if h, _, err := net.SplitHostPort(host); err == nil {
				host = h
			}
		}
	}
	if q.Port == 0 {
		return host, "client " + host
	}
	return host, net.JoinHostPort(host, strconv.Itoa(q.Port))
}
