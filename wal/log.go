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

	// OnDurable is called by the committer after each advance of Durable. It must not block.
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

	// ackBeforeSync is a mutant for tests: it announces bytes as durable before they are synced.
	ackBeforeSync bool
}

// The defaults. A chunk of 1 MiB is a disk's worth of a sequential write; the ring holds some tens of milliseconds of a
// full stream, longer than a replica's round trip.
const (
	DefaultMaxChunkBytes = 1 << 20
	DefaultTailBytes     = 4 << 20
)

// Log is one open log.
type Log struct {
	opts  Options
	db    *pebble.DB
	fatal *fatalLogger

	// Invariants: first <= durable <= written <= end. Durable moves only after a sync has returned (W4).
	durable atomic.Int64
	written atomic.Int64
	end     atomic.Int64
	first   atomic.Int64
	policy  atomic.Uint32
	always  atomic.Bool // sync without pause whatever the policy: replicas are attached (W5)

	mu struct {
		sync.Mutex
		cond      sync.Cond
		buf       []byte // appended, not yet taken by the committer
		segs      []segment
		spare     []byte
		spareSegs []segment
		kicked    bool
		asleep    bool
		syncWant  Offset // somebody waits for this to be durable
		closing   bool
		err       error
		waiters   chan struct{} // closed when durable advances or the log fails; nil if nobody waits
		lineage   []LineageEntry
	}
	tail    tailRing
	metrics metricCounters
	done    chan struct{}
	closed  sync.Once
	closeE  error
}

// segment is one Append within the buffer.
type segment struct {
	end int // in the buffer
	db  int // database selected at its start
}

// Open opens the log, creating it if it is not there. The newest chunk is verified; the log ends where it ends.
func Open(o Options) (*Log, error) {
	o.defaults()
	l := &Log{opts: o, fatal: &fatalLogger{log: o.Logger.Named("wal")}, done: make(chan struct{})}
	l.mu.cond.L = &l.mu.Mutex
	l.policy.Store(uint32(o.Policy))
	if !o.ReadOnly {
		if err := o.FS.MkdirAll(o.Dir, 0o755); err != nil {
			return nil, err
		}
	}
	db, err := pebble.Open(o.Dir, pebbleOptions(&o, l.fatal))
	if err != nil {
		if pebble.IsCorruptionError(err) {
			return nil, &CorruptionError{Offset: -1, Err: err}
		}
		return nil, err
	}
	l.db = db
	if err := l.load(); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	l.tail.init(o.TailBytes, Offset(l.end.Load()))
	if o.ReadOnly {
		close(l.done)
	} else {
		go l.commitLoop()
	}
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
}

// load reads metadata and the bounds of the log.
func (l *Log) load() error {
	v, err := get(l.db, formatKey)
	if err != nil {
		return err
	}
	switch {
	case v == nil && l.opts.ReadOnly:
	case v == nil:
		// A crash before this is durable leaves an empty database, and the next open comes here again.
		if err := l.db.Set(formatKey, binary.AppendUvarint(nil, 1), pebble.Sync); err != nil {
			return err
		}
	default:
		if n, k := binary.Uvarint(v); k != len(v) || n != 1 {
			return fmt.Errorf("%w: %x", ErrFormat, v)
		}
	}
	if err := l.loadLineage(); err != nil {
		return err
	}
	it, err := l.db.NewIter(&pebble.IterOptions{LowerBound: chunkLow, UpperBound: chunkHigh})
	if err != nil {
		return err
	}
	defer it.Close()
	var first, end Offset
	if it.First() {
		var ok bool
		if first, ok = parseChunkKey(it.Key()); !ok {
			return &CorruptionError{0, fmt.Errorf("%w: key %x", ErrChunk, it.Key())}
		}
		it.Last()
		last, ok := parseChunkKey(it.Key())
		if !ok {
			return &CorruptionError{last, fmt.Errorf("%w: key %x", ErrChunk, it.Key())}
		}
		c, err := parseChunk(last, it.Value())
		if err != nil {
			return &CorruptionError{last, err}
		}
		end = last + Offset(len(c.data))
	} else if it.Error() == nil && len(l.mu.lineage) > 0 {
		// Everything was trimmed: the lineage knows where the log stands.
		first = l.mu.lineage[len(l.mu.lineage)-1].Start
		end = first
	}
	if err := it.Error(); err != nil {
		if pebble.IsCorruptionError(err) {
			return &CorruptionError{first, err}
		}
		return err
	}
	l.first.Store(int64(first))
	l.end.Store(int64(end))
	l.written.Store(int64(end))
	l.durable.Store(int64(end))
	return nil
}

// Append copies whole records into the log and returns the offset behind them. db is the database selected in the stream
// at their start. It never blocks and never fails (A2): if the log has failed, the bytes get offsets that will never be
// durable. One caller at a time. Kick makes the committer look.
func (l *Log) Append(records []byte, db, dbAfter int) Offset {
	_ = dbAfter // what follows says its own database: each append carries the one at its start
	l.mu.Lock()
	l.mu.buf = append(l.mu.buf, records...)
	l.mu.segs = append(l.mu.segs, segment{len(l.mu.buf), db})
	end := l.end.Add(int64(len(records)))
	l.mu.Unlock()
	return Offset(end)
}

// Kick wakes the committer. Appends of one round of an event loop share one kick, and so one sync.
func (l *Log) Kick() {
	l.mu.Lock()
	l.mu.kicked = true
	if l.mu.asleep {
		l.mu.asleep = false
		l.mu.cond.Signal()
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
	l.Kick()
}

// SetContinuousSync makes the committer sync without pause under any policy, because somebody wants durable bytes (W5).
func (l *Log) SetContinuousSync(on bool) {
	l.always.Store(on)
	l.Kick()
}

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

// Sync makes everything appended so far durable, whatever the policy.
func (l *Log) Sync(ctx context.Context) error {
	end := l.End()
	l.mu.Lock()
	l.mu.syncWant = max(l.mu.syncWant, end)
	l.mu.Unlock()
	l.Kick()
	return l.WaitDurable(ctx, end)
}

// wakeWaitersLocked lets everybody who waits look again. REQUIRES: mu.
func (l *Log) wakeWaitersLocked() {
	if l.mu.waiters != nil {
		close(l.mu.waiters)
		l.mu.waiters = nil
	}
}

// Close syncs what was appended and closes. It is idempotent and waits.
func (l *Log) Close() error {
	l.closed.Do(func() {
		if !l.opts.ReadOnly {
			l.mu.Lock()
			l.mu.closing = true
			l.mu.Unlock()
			l.Kick()
		}
		<-l.done
		err := l.Err()
		l.mu.Lock()
		if l.mu.err == nil {
			l.mu.err = ErrClosed
		}
		l.wakeWaitersLocked()
		l.mu.Unlock()
		l.tail.close()
		l.closeE = errors.Join(err, l.db.Close())
	})
	return l.closeE
}
