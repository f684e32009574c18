package replication

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/holdfast-db/holdfast/wal"
)

// Sink is where a replica puts what it gets.
type Sink interface {
	// Log returns the log. It may be another one after a Loader's Commit.
	Log() *wal.Log
	// Position returns where the stream stands: the current id, and the end of the log.
	Position() (id string, end wal.Offset)
	// ApplyStream applies the whole records at the front of data and appends the same bytes to the log (R1). n is how many
	// bytes it took, with an error, too. data is the caller's again when it returns. *ForeignError: the record behind them cannot be
	// applied, and the next link asks for a full sync.
	ApplyStream(ctx context.Context, data []byte) (n int, err error)
	// AdoptID lets the lineage go on under id from its end on, durably.
	AdoptID(ctx context.Context, id string) error
	// BeginLoad begins to take over a data set beside the old one.
	BeginLoad(ctx context.Context) (Loader, error)
}

// Loader takes over a data set. Either Commit or Abort is its last call.
type Loader interface {
	// RDB reads an RDB file from r, which ends where the file does. *ForeignError: it has what cannot be taken over, and the primary
	// is left alone for a while.
	RDB(ctx context.Context, r io.Reader) error
	// Lineage returns what the file tells of the ids that the history had up to its offset, oldest first; nil if it says nothing.
	Lineage() []wal.LineageEntry
	// Commit replaces data and log: the log begins at off, with this lineage. It happens wholly or not at all.
	Commit(ctx context.Context, off wal.Offset, lineage []wal.LineageEntry) error
	// Abort drops what was read.
	Abort() error
}

// ForeignError says that the primary has what cannot be taken over, and that asking for the same again brings the same: a record
// that Sink.ApplyStream cannot apply, data that Loader.RDB does not know.
type ForeignError struct{ Err error }

func (e *ForeignError) Error() string { return e.Err.Error() }
func (e *ForeignError) Unwrap() error { return e.Err }

// Target is the primary to follow.
type Target struct {
	Host string
	Port int
	// Failover asks the target, a replica of ours so far, to become primary (PSYNC … FAILOVER), once: OnFailover tells the outcome.
	Failover bool
}

// Addr returns host:port.
func (t Target) Addr() string { return net.JoinHostPort(t.Host, strconv.Itoa(t.Port)) }

// ReplicaConfig are the settings that can change at run time. They hold for the next connection, Timeout at once.
type ReplicaConfig struct {
	User, Password string        // masteruser, masterauth; without a password no AUTH is sent
	Port           int           // what to announce: replica-announce-port, or the port
	IP             string        // replica-announce-ip; empty: nothing is announced
	Name           string        // replica-name, under which the primary keeps the log for us; empty: it does not
	Timeout        time.Duration // repl-timeout; 0: 60 s
}

// ReplicaOptions say what a Replica works with. Sink and Dial are required.
type ReplicaOptions struct {
	Sink Sink
	// Dial connects. It is given up by its context.
	Dial   func(ctx context.Context, addr string) (net.Conn, error)
	Clock  Clock         // nil: SystemClock
	Rand   func() string // nil: RandomID
	Logger hclog.Logger
	// Downstream serves our own replicas, if there may be any: it is paused while data and log are replaced, and its links are cut
	// when the id changes.
	Downstream *Primary
	// AcceptFull can refuse a full sync before anything is done; nil accepts all.
	AcceptFull func(id string, off wal.Offset) error
	// OnState is called after each change of state, without locks held.
	OnState func(LinkState)
	// OnFailover is called once for a Target with Failover: nil, and the target is our primary; or why not, and then the Replica
	// has stopped trying. It must not call Start or Stop itself, which wait for their caller.
	OnFailover func(error)
	// Tables: the Sink's Loaders are TableLoaders, and primaries of our kind may send tables.
	Tables bool
	Config ReplicaConfig
}

// LinkState is the state of the link to the primary as ROLE names it.
type LinkState string

// The states.
const (
	None       LinkState = "none"       // not a replica
	Connect    LinkState = "connect"    // about to connect
	Connecting LinkState = "connecting" // connecting
	Handshake  LinkState = "handshake"
	Syncing    LinkState = "sync" // a full sync is under way
	Connected  LinkState = "connected"
)

// ReplicaStatus describes the link to the primary.
type ReplicaStatus struct {
	Target    Target
	State     LinkState
	Read      wal.Offset // read from the primary
	Applied   wal.Offset // applied, and in the log
	LastIO    time.Time  // when the last byte came; zero: none yet
	DownSince time.Time  // since when State is not Connected; zero: it is
	// Of a full sync under way: SyncTotal is -1 while unknown.
	SyncTotal, SyncRead int64
	Err                 error // why the last attempt ended
	FullSyncs, Resumes  int64 // done since the start
	Bytes               int64 // received
}

// Replica follows a primary. Start and Stop change the role at any time; all between two calls happens in its own goroutines.
type Replica struct {
	o    ReplicaOptions
	log  hclog.Logger
	conf atomic.Pointer[ReplicaConfig]

	role   sync.Mutex // Start and Stop, one at a time
	cancel context.CancelFunc
	done   chan struct{}

	mu struct {
		sync.Mutex
		st     ReplicaStatus
		up     *upstream
		synced string // the id of the last full sync, by which a position at offset 0 can be asked for
		// foreign is where our log ended when the record behind it could not be applied; -1: no such record is known.
		foreign wal.Offset
	}
}

// NewReplica returns a Replica that follows nobody.
func NewReplica(o ReplicaOptions) *Replica {
	if o.Clock == nil {
		o.Clock = SystemClock{}
	}
	if o.Rand == nil {
		o.Rand = RandomID
	}
	if o.Logger == nil {
		o.Logger = hclog.NewNullLogger()
	}
	r := &Replica{o: o, log: o.Logger}
	r.mu.st.State, r.mu.foreign = None, -1
	r.SetConfig(o.Config)
	return r
}

// SetConfig changes the settings.
func (r *Replica) SetConfig(c ReplicaConfig) {
	if c.Timeout <= 0 {
		c.Timeout = 60 * time.Second
	}
	r.conf.Store(&c)
}

// Start follows t, and no longer whom it followed before. It returns at once after the old link has ended. The caller has
// made the sink one of a replica, and must not hold what its methods need.
func (r *Replica) Start(t Target) {
	r.role.Lock()
	defer r.role.Unlock()
	r.stopLocked()
	ctx, cancel := context.WithCancel(context.Background())
	r.cancel, r.done = cancel, make(chan struct{})
	r.mu.Lock()
	r.mu.st = ReplicaStatus{Target: t, State: Connect, DownSince: r.o.Clock.Now(), FullSyncs: r.mu.st.FullSyncs, Resumes: r.mu.st.Resumes, Bytes: r.mu.st.Bytes}
	r.mu.Unlock()
	r.tell(Connect)
	ticks, stop := r.o.Clock.NewTicker(cron)
	go func() {
		defer close(r.done)
		defer stop()
		r.run(ctx, t, ticks)
	}()
}

// Stop follows nobody. When it returns, nothing touches the sink any more: what was read and does not make a whole record
// is forgotten, a full sync under way is dropped and the old data are what they were. It is idempotent.
func (r *Replica) Stop() {
	r.role.Lock()
	defer r.role.Unlock()
	if r.stopLocked() {
		r.setState(None)
	}
}

func (r *Replica) stopLocked() bool {
	if r.cancel == nil {
		return false
	}
	r.cancel()
	<-r.done
	r.cancel = nil
	return true
}

// Status describes the link.
func (r *Replica) Status() ReplicaStatus {
	r.mu.Lock()
	defer r.mu.Unlock()
	st := r.mu.st
	if u := r.mu.up; u != nil {
		st.Read, st.Applied = wal.Offset(u.got.Load()), wal.Offset(u.applied.Load())
		st.SyncTotal, st.SyncRead = u.syncTotal.Load(), u.syncRead.Load()
		st.Bytes += u.bytes.Load()
		if t := u.lastIO.Load(); t != 0 {
			st.LastIO = time.Unix(0, t)
		}
	}
	return st
}

// State returns the state of the link.
func (r *Replica) State() LinkState {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.mu.st.State
}

func (r *Replica) setState(s LinkState) {
	r.mu.Lock()
	old := r.mu.st.State
	r.mu.st.State = s
	switch {
	case s == Connected:
		r.mu.st.DownSince = time.Time{}
	case old == Connected:
		r.mu.st.DownSince = r.o.Clock.Now()
	}
	r.mu.Unlock()
	if s != old {
		r.tell(s)
	}
}

func (r *Replica) tell(s LinkState) {
	if r.o.OnState != nil {
		r.o.OnState(s)
	}
}

// run keeps a link to t until ctx ends. A link that was up is made again at once, but not twice within a second: a primary
// that takes us and drops us would be asked without pause.
func (r *Replica) run(ctx context.Context, t Target, ticks <-chan time.Time) {
	retry := make(chan struct{}, 1) // a second has passed
	var bg sync.WaitGroup
	bg.Go(func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticks:
				r.tick()
				select {
				case retry <- struct{}{}:
				default:
				}
			}
		}
	})
	defer bg.Wait()
	for verb := "Connecting"; ; verb = "Reconnecting" {
		r.log.Info(fmt.Sprintf("%s to MASTER %s:%d", verb, t.Host, t.Port))
		wasUp, err := r.attempt(ctx, t)
		if ctx.Err() != nil {
			if t.Failover && r.o.OnFailover != nil {
				r.o.OnFailover(ctx.Err())
			}
			return
		}
		r.mu.Lock()
		r.mu.st.Err = err
		r.mu.Unlock()
		r.setState(Connect)
		if wasUp {
			r.log.Warn("Connection with master lost: " + oneLine(err))
		} else {
			r.log.Warn("MASTER <-> REPLICA sync failed: " + oneLine(err))
		}
		if t.Failover && !wasUp && r.mu.st.Target.Failover {
			if r.o.OnFailover != nil {
				r.o.OnFailover(fmt.Errorf("failover target rejected psync request: %w", err))
			}
			return
		}
		t.Failover = false
		pause := 1
		if foreign := (*ForeignError)(nil); !wasUp && errors.As(err, &foreign) {
			pause = foreignPause
		}
		if wasUp {
			select {
			case <-retry:
				continue // a second has passed since the last attempt
			default:
			}
		} else {
			select {
			case <-retry:
			default:
			}
		}
		for range pause {
			select {
			case <-retry:
			case <-ctx.Done():
				return
			}
		}
	}
}

// foreignPause is for how many seconds a primary whose snapshot cannot be taken over is left alone: each attempt costs it one.
const foreignPause = 10

// oneLine is what an error says, errors.Join's lines put together.
func oneLine(err error) string { return strings.ReplaceAll(err.Error(), "\n", "; ") }

// tick is each second's work: it ends a link on which nothing has come for repl-timeout, and has it say that we live.
func (r *Replica) tick() {
	r.mu.Lock()
	u := r.mu.up
	r.mu.Unlock()
	if u == nil {
		return
	}
	if since := u.waiting.Load(); since != 0 && r.o.Clock.Now().Sub(time.Unix(0, since)) > r.conf.Load().Timeout {
		u.cancel(errTimeout)
		return
	}
	u.signal(-1)
}

// Errors that end a link.
var (
	errTimeout  = errors.New("MASTER timeout: no data nor PING received")
	errLater    = errors.New("master is not ready")
	errProtocol = errors.New("protocol error")
	errRefused  = errors.New("full sync refused")
)

// attempt makes one link and keeps it to its end. wasUp: the stream had begun.
func (r *Replica) attempt(ctx context.Context, t Target) (wasUp bool, err error) {
	u := r.newUpstream(ctx)
	r.mu.Lock()
	r.mu.up = u
	r.mu.Unlock()
	defer func() {
		u.close()
		r.mu.Lock()
		r.mu.up = nil
		r.mu.st.Read, r.mu.st.Applied = wal.Offset(u.got.Load()), wal.Offset(u.applied.Load())
		r.mu.st.Bytes += u.bytes.Load()
		if t := u.lastIO.Load(); t != 0 {
			r.mu.st.LastIO = time.Unix(0, t)
		}
		r.mu.Unlock()
		if cause := context.Cause(u.ctx); cause != nil && !errors.Is(cause, errEnded) {
			err = cause
		}
	}()
	r.setState(Connecting)
	if err := u.dial(t); err != nil {
		return false, err
	}
	r.log.Info("MASTER <-> REPLICA sync started")
	r.setState(Handshake)
	res, err := u.handshake(t)
	if err != nil {
		return false, err
	}
	if res.full {
		r.setState(Syncing)
		if t.Failover {
			r.failedOver(t) // it is the primary now, whatever it knows of our history
		}
		if err := u.load(res); err != nil {
			return false, err
		}
		r.setForeign(-1)
	} else if err := u.resume(res); err != nil {
		return false, err
	}
	r.setState(Connected)
	r.failedOver(t)
	err = u.stream()
	if foreign := (*ForeignError)(nil); errors.As(err, &foreign) {
		_, end := r.o.Sink.Position()
		r.setForeign(end)
	}
	return true, err
}

func (r *Replica) setForeign(at wal.Offset) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mu.foreign = at
}

// foreignAt tells whether what follows off is known to be a record that cannot be applied.
func (r *Replica) foreignAt(off wal.Offset) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.mu.foreign == off
}

// failedOver tells once that the target of a FAILOVER has become our primary.
func (r *Replica) failedOver(t Target) {
	r.mu.Lock()
	tell := t.Failover && r.mu.st.Target.Failover
	r.mu.st.Target.Failover = false
	r.mu.Unlock()
	if tell && r.o.OnFailover != nil {
		r.o.OnFailover(nil)
	}
}
