package wal

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/go-hclog"
)

// Policy says when written bytes are synced.
type Policy uint8

const (
	// Always syncs before anything is durable to a client: every commit.
	Always Policy = iota
	// EverySec syncs once a second.
	EverySec
	// No leaves it to the system.
	No
)

// String names the policy as appendfsync does.
func (p Policy) String() string { return [...]string{"always", "everysec", "no"}[p] }

// Errors.
var (
	ErrClosed  = errors.New("wal: closed")
	ErrTrimmed = errors.New("wal: offset is before the first byte kept")
	ErrFuture  = errors.New("wal: offset is beyond the end of the log")
	ErrFormat  = errors.New("wal: unknown format version")
)

// Options say where the log is and how it is kept. Zero means the default.
type Options struct {
	FS       vfs.FS
	Dir      string
	Policy   Policy
	Logger   hclog.Logger
	Now      func() time.Time
	ReadOnly bool

	// OnDurable is called after each advance of Durable, by the goroutine that has synced. It must not block.
	OnDurable func(Offset)
	// OnFailure is called once when the log has failed for good (A2).
	OnFailure func(error)

	// MaxChunkBytes bounds a chunk, if the appends in it can be cut apart.
	MaxChunkBytes int
	// TailBytes is the size of the one memory ring from which all readers at the live tail are served (M1).
	TailBytes int
	// RetainBytes and RetainAge bound what Retain keeps; 0 = everything.
	RetainBytes int64
	RetainAge   time.Duration

	// MemTableBytes is the size of a memtable. Up to four of them take memory at once, outside of the Go heap: one is filled, two wait
	// for the disk, and one is kept for reuse.
	MemTableBytes int64

	mutant mutant // for tests: leave a rule out
}

// mutant is a rule that a test leaves out, to see that its checks notice.
type mutant uint8

const (
	mutantAckBeforeSync mutant = iota + 1 // W4: announces bytes before they are synced
	mutantIgnoreFailure                   // A2: goes on after a failed write or sync
)

// The defaults. A chunk becomes a block of a table, and with the block before it must stay below the 256 KiB up to which Pebble
// keeps a block's buffer for the next one: with chunks of 1 MiB each block of a flush was garbage, a third of all that a server
// under full load left behind. The ring holds some tens of milliseconds of a full stream, longer than a replica's round trip.
const (
	DefaultMaxChunkBytes = 176 << 10
	DefaultTailBytes     = 4 << 20
)

// Log is one open log.
type Log struct {
	opts  Options
	db    *pebble.DB
	guard *guardFS

	// dbMu keeps db open while it is used: readers hold it, Close takes it.
	dbMu     sync.RWMutex
	dbClosed bool

	// Invariants: first <= durable <= written <= end. Durable moves only after a sync has returned (W4).
	durable    atomic.Int64
	written    atomic.Int64
	end        atomic.Int64
	first      atomic.Int64
	policy     atomic.Uint32
	continuous atomic.Bool  // sync without pause whatever the policy: replicas get the stream (W5)
	hurried    atomic.Int64 // calls of Hurry that have not ended
	running    atomic.Bool  // opened: a failure is told to OnFailure
	retain     struct {
		bytes atomic.Int64
		age   atomic.Int64 // ns
	}

	mu struct {
		sync.Mutex
		commit       sync.Cond // the committer waits here
		sync         sync.Cond // the syncer waits here
		pieces       []*piece  // appended, not yet taken by the committer
		bytes        int       // in pieces
		appends      int       // in pieces
		spare        []*piece  // empty, for the next
		kicked       bool
		ripe         bool   // has gathered for lazyGather
		ripening     bool   // ripener runs
		alarmed      bool   // alarm runs
		syncWant     Offset // somebody waits for this to be durable
		closing      bool
		err          error
		waiters      chan struct{} // closed when durable advances or the log fails; nil if nobody waits
		writeWaiters chan struct{} // closed when the committer has written or the log fails; nil if nobody waits
		lineage      []LineageEntry
	}
	// writing is held by whoever takes appended bytes and writes them: the committer, or who calls CommitNow. It is taken
	// before telling and mu.
	writing sync.Mutex
	taken   []*piece
	now     nowState
	// telling makes announcements one after another, in order; it is taken before mu.
	telling sync.Mutex
	// admin is held by whatever changes the log other than by appending: BeginID, Trim, TruncateTo, Reset.
	admin sync.Mutex

	ripener, alarm *time.Timer
	lastSync       time.Time // of the syncer
	stalls         stallGate
	tail           tailRing
	metrics        metricCounters
	committed      chan struct{} // closed when the committer has ended
	synced         chan struct{} // closed when the syncer has ended
	failed         chan struct{} // closed when the log has failed
	troubled       chan struct{} // told of each error of writing a table, if it has room
	calls          sync.WaitGroup
	closed         sync.Once
	closeErr       error
}

// Open opens the log, creating it if it is not there. The newest chunk is verified, and the log ends where it ends: always
// on a record boundary (W2), because what a crash leaves is whole batches of whole chunks. A damaged log is a
// CorruptionError, one of another format ErrFormat.
func Open(o Options) (*Log, error) {
	o.defaults()
	if err := refuseDamage(o); err != nil {
		return nil, err
	}
	return openUnproved(o)
}

// openUnproved opens the log without asking whether the end of its commit log is where it was. REQUIRES: o has its defaults.
func openUnproved(o Options) (*Log, error) {
	l := &Log{opts: o, committed: make(chan struct{}), synced: make(chan struct{}), failed: make(chan struct{}),
		troubled: make(chan struct{}, 1), lastSync: time.Now()}
	l.mu.commit.L, l.mu.sync.L = &l.mu.Mutex, &l.mu.Mutex
	l.stalls.init()
	l.policy.Store(uint32(o.Policy))
	l.SetRetention(o.RetainBytes, o.RetainAge)
	l.tail.init(o.TailBytes)
	l.guard = &guardFS{FS: o.FS, fail: l.fail, logDir: o.FS.PathJoin(o.Dir, commitLogDir), closing: make(chan struct{})}
	if !o.ReadOnly {
		if err := o.FS.MkdirAll(o.Dir, 0o755); err != nil {
			return nil, err
		}
	}
	db, err := openPebble(o.Dir, pebbleOptions(&l.opts, l))
	if err != nil {
		close(l.guard.closing)
		return nil, l.openError(err)
	}
	l.db = db
	// What the guard kept from Pebble fails the opening all the same.
	err = l.load()
	if err == nil {
		err = l.Err()
	}
	if err != nil {
		close(l.guard.closing)
		return nil, errors.Join(l.openError(err), db.Close())
	}
	l.tail.reset(Offset(l.end.Load()))
	if o.ReadOnly {
		close(l.committed)
		close(l.synced)
		return l, nil
	}
	l.ripener, l.alarm = time.AfterFunc(time.Hour, l.ripen), time.AfterFunc(time.Hour, l.ring)
	l.ripener.Stop()
	l.alarm.Stop()
	l.running.Store(true)
	go l.commitLoop()
	go l.syncLoop()
	return l, nil
}

func (o *Options) defaults() {
	if o.FS == nil {
		o.FS = vfs.Default
	}
	if o.Logger == nil {
		o.Logger = hclog.NewNullLogger()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.MaxChunkBytes == 0 {
		o.MaxChunkBytes = DefaultMaxChunkBytes
	}
	if o.TailBytes == 0 {
		o.TailBytes = DefaultTailBytes
	}
	if o.MemTableBytes == 0 {
		o.MemTableBytes = DefaultMemTableBytes
	}
	o.Logger = o.Logger.Named("wal")
}

// load reads metadata and the bounds of the log.
func (l *Log) load() error {
	v, err := get(l.db, formatKey)
	if err != nil {
		return readError(-1, err)
	}
	switch {
	case v == nil && l.opts.ReadOnly:
	case v == nil:
		// A crash before this is durable leaves an empty database, and the next open comes here again.
		b := l.db.NewBatch()
		if err := b.Set(formatKey, binary.AppendUvarint(nil, formatVersion), nil); err != nil {
			return err
		}
		if err := l.writeMeta(b); err != nil {
			return err
		}
		if err := l.settleMeta(); err != nil {
			return err
		}
	default:
		if n, k := binary.Uvarint(v); k != len(v) || n != formatVersion {
			return fmt.Errorf("%w: %x", ErrFormat, v)
		}
	}
	if err := l.loadLineage(); err != nil {
		return err
	}
	it, err := l.chunkIter()
	if err != nil {
		return err
	}
	first, end, err := bounds(it)
	if closeErr := it.Close(); err == nil {
		err = closeErr // else it is the same
	}
	if err != nil {
		return err
	}
	if end < 0 { // no chunk
		if first, err = l.loadBegin(); err != nil {
			return err
		}
		end = first
	}
	l.first.Store(int64(first))
	l.end.Store(int64(end))
	l.written.Store(int64(end))
	l.durable.Store(int64(end))
	return nil
}

// bounds returns the start of the first chunk and the end of the last one, which it verifies; end < 0 without chunks.
func bounds(it *pebble.Iterator) (first, end Offset, err error) {
	if !it.First() {
		return 0, -1, readError(0, it.Error())
	}
	first, ok := parseChunkKey(it.Key())
	if !ok {
		return 0, -1, &CorruptionError{0, fmt.Errorf("%w: key %x", ErrChunk, it.Key())}
	}
	if !it.Last() {
		return 0, -1, readError(first, it.Error())
	}
	start, c, err := chunkAt(it)
	return first, start + Offset(len(c.data)), err
}

// chunkAt decodes the chunk on which it stands; its data is valid until it moves.
func chunkAt(it *pebble.Iterator) (start Offset, c chunkInfo, err error) {
	start, ok := parseChunkKey(it.Key())
	if !ok {
		return -1, c, &CorruptionError{-1, fmt.Errorf("%w: key %x", ErrChunk, it.Key())}
	}
	v, err := it.ValueAndErr()
	if err != nil {
		return start, c, readError(start, err)
	}
	if c, err = parseChunk(start, v); err != nil {
		return start, c, &CorruptionError{start, err}
	}
	return start, c, nil
}

// seekChunk puts it on the chunk that holds the byte at o and decodes it.
func seekChunk(it *pebble.Iterator, o Offset) (start Offset, c chunkInfo, err error) {
	if !it.SeekLT(chunkKey(nil, o+1)) {
		if err := it.Error(); err != nil {
			return 0, c, readError(o, err)
		}
		return 0, c, &CorruptionError{o, errNoChunk}
	}
	if start, c, err = chunkAt(it); err == nil && start+Offset(len(c.data)) <= o {
		err = &CorruptionError{o, errNoChunk}
	}
	return start, c, err
}

// seekStart is seekChunk for who expects a chunk to begin at o, as one that reads on does. Forward, Pebble lends what an iterator
// stands on; backward, it copies every chunk that is looked at.
func seekStart(it *pebble.Iterator, o Offset) (start Offset, c chunkInfo, err error) {
	if it.SeekGE(chunkKey(nil, o)) {
		if start, ok := parseChunkKey(it.Key()); ok && start == o {
			return chunkAt(it)
		}
	}
	if err := it.Error(); err != nil {
		return 0, c, readError(o, err)
	}
	return seekChunk(it, o)
}

var errNoChunk = errors.New("no chunk holds this offset")

// Append copies whole records into the log and returns the offset behind them. db is the database selected in the stream
// at their start, dbAfter the one behind them. It never blocks and never fails (A2): if the log has failed, the bytes get
// offsets that will never be durable. One caller at a time.
//
// The committer looks at them at the next Kick, or earlier if they are many.
func (l *Log) Append(records []byte, db, dbAfter int) Offset {
	_ = dbAfter // what follows says its own database: each append carries the one at its start
	l.mu.Lock()
	if l.mu.err == nil {
		had := l.mu.bytes
		l.roomLocked(len(records)).add(records, db)
		l.mu.bytes += len(records)
		l.mu.appends++
		if had < lazyBytes && l.mu.bytes >= lazyBytes {
			l.mu.commit.Signal()
		}
	}
	end := l.end.Add(int64(len(records)))
	l.mu.Unlock()
	return Offset(end)
}

// Kick wakes the committer; CommitNow spares it. Appends of one round of an event loop share one kick, and so one sync.
func (l *Log) Kick() {
	l.mu.Lock()
	if !l.mu.kicked {
		l.mu.kicked = true
		l.mu.commit.Signal()
	}
	l.mu.Unlock()
}

// End returns the offset behind the last appended byte.
func (l *Log) End() Offset { return Offset(l.end.Load()) }

// Written returns the offset up to which bytes have been handed to the system.
func (l *Log) Written() Offset { return Offset(l.written.Load()) }

// Durable returns the offset up to which a sync has returned.
func (l *Log) Durable() Offset { return Offset(l.durable.Load()) }

// First returns the offset of the first byte kept.
func (l *Log) First() Offset { return Offset(l.first.Load()) }

// Pending returns the bytes appended and not yet written.
func (l *Log) Pending() int64 { return l.end.Load() - l.written.Load() }

// Err returns why the log has failed, nil if it has not.
func (l *Log) Err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mu.err
}

// SetPolicy changes the fsync policy.
func (l *Log) SetPolicy(p Policy) {
	l.policy.Store(uint32(p))
	l.wakeBoth()
}

// wakeBoth makes committer and syncer look at what has changed.
func (l *Log) wakeBoth() {
	l.mu.Lock()
	l.mu.kicked = true
	l.mu.commit.Signal()
	l.mu.sync.Signal()
	l.mu.Unlock()
}

// SetContinuousSync makes the committer sync without pause under any policy, because somebody wants durable bytes (W5). Where the
// policy does not ask for it, bytes gather for some milliseconds before each sync, unless somebody waits for them: see Hurry.
func (l *Log) SetContinuousSync(on bool) {
	l.continuous.Store(on)
	l.wakeBoth()
}

// Hurry says that somebody waits for what a continuous sync makes durable, until end: then nothing gathers for longer than a sync
// takes. end is idempotent.
func (l *Log) Hurry() (end func()) {
	if l.hurried.Add(1) == 1 && l.continuous.Load() {
		l.wakeBoth() // what gathers already
	}
	return sync.OnceFunc(func() { l.hurried.Add(-1) })
}

// Hurried tells whether a Hurry has not ended.
func (l *Log) Hurried() bool { return l.hurried.Load() > 0 }

// WaitDurable waits until durable >= o. It does not ask for a sync that the policy would not do: Sync does.
func (l *Log) WaitDurable(ctx context.Context, o Offset) error {
	for {
		if l.Durable() >= o {
			return nil
		}
		l.mu.Lock()
		if l.mu.err != nil {
			err := l.mu.err
			l.mu.Unlock()
			return err
		}
		if l.Durable() >= o {
			l.mu.Unlock()
			return nil
		}
		if l.mu.waiters == nil {
			l.mu.waiters = make(chan struct{})
		}
		ch := l.mu.waiters
		l.mu.Unlock()
		select {
		case <-ch:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// WaitWritten waits until bytes up to o have been handed to the system. Who appends much at once waits with it before the
// buffer grows beyond what the committer keeps for the next round. It returns the error of a log that has failed, or of ctx.
func (l *Log) WaitWritten(ctx context.Context, o Offset) error {
	l.Kick()
	for l.Written() < o {
		l.mu.Lock()
		if l.mu.err != nil {
			err := l.mu.err
			l.mu.Unlock()
			return err
		}
		if l.Written() >= o {
			l.mu.Unlock()
			return nil
		}
		if l.mu.writeWaiters == nil {
			l.mu.writeWaiters = make(chan struct{})
		}
		ch := l.mu.writeWaiters
		l.mu.Unlock()
		select {
		case <-ch:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// wakeWriteWaitersLocked lets everybody in WaitWritten look again. REQUIRES: mu.
func (l *Log) wakeWriteWaitersLocked() {
	if l.mu.writeWaiters != nil {
		close(l.mu.writeWaiters)
		l.mu.writeWaiters = nil
	}
}

// Sync makes everything appended so far durable, whatever the policy. It returns the error of a log that has failed, or
// of ctx; the sync goes on then.
func (l *Log) Sync(ctx context.Context) error {
	end := l.End()
	l.mu.Lock()
	l.mu.syncWant = max(l.mu.syncWant, end)
	l.mu.Unlock()
	l.wakeBoth()
	return l.WaitDurable(ctx, end)
}

// wakeWaitersLocked lets everybody who waits look again. REQUIRES: mu.
func (l *Log) wakeWaitersLocked() {
	if l.mu.waiters != nil {
		close(l.mu.waiters)
		l.mu.waiters = nil
	}
}

// Close syncs what was appended and closes. It is idempotent and waits. Of a log that has failed it returns the failure.
func (l *Log) Close() error {
	l.closed.Do(func() {
		l.mu.Lock()
		l.mu.closing = true
		l.mu.commit.Signal()
		l.mu.sync.Signal()
		l.mu.Unlock()
		l.stalls.release()
		<-l.committed
		<-l.synced
		if !l.opts.ReadOnly {
			l.ripener.Stop()
			l.alarm.Stop()
			if l.Err() == nil && l.written.Load() > l.durable.Load() {
				if err := l.syncWritten(); err != nil {
					l.fail(err)
				}
			}
			if l.Err() == nil {
				l.leaveTables()
			}
		}
		l.writing.Lock() // a CommitNow that began before
		defer l.writing.Unlock()
		err := l.Err()
		l.mu.Lock()
		if l.mu.err == nil {
			l.mu.err = ErrClosed
		}
		l.wakeWaitersLocked()
		l.mu.Unlock()
		l.tail.fail(ErrClosed)
		close(l.guard.closing)
		l.dbMu.Lock()
		l.dbClosed = true
		l.dbMu.Unlock()
		l.closeErr = errors.Join(err, l.db.Close())
		l.calls.Wait()
	})
	return l.closeErr
}
