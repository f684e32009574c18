// Package engine turns the log, the snapshot store and the keyspace into a database: it executes commands, makes them
// durable, writes checkpoints, loads and unloads keys, and recovers. It has no network: the server drives it with
// sessions, the offline tools without any.
//
// Lock order: Engine.mu (the executor) before anything inside wal and snapshot. No file is read or written while mu is
// held, but for the exception that keyspace counts as ColdInLock, while data are replaced (switch.go), and where a primary
// begins another id (replica.go).
//
// Goroutines: the log's committer (package wal), the checkpointer (checkpoint.go), the janitor (janitor.go), after a start the
// one that reads keys into memory (preload.go), and during Loader.RDB the one that ingests (loadrows.go).
package engine

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	randv2 "math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/go-hclog"

	"github.com/holdfast-db/holdfast/server/command"
	"github.com/holdfast-db/holdfast/server/keyspace"
	"github.com/holdfast-db/holdfast/snapshot"
	"github.com/holdfast-db/holdfast/wal"
)

// Options say where the data is and how it is kept. The zero value of a limit means its default.
type Options struct {
	FS     vfs.FS // nil: the real file system
	Dir    string
	Logger hclog.Logger
	Now    func() time.Time
	Seed   uint64 // of random choices (SPOP, unloading); 0: from the system
	Fsync  wal.Policy

	Databases int
	Limits    *keyspace.Limits
	Command   *command.Config

	// MaxMemory is the budget in bytes for what is resident; 0 = everything stays in memory.
	MaxMemory int64
	// Overrun returns by how many bytes the process takes more memory than goes with a budget, negative: less. nil: not known.
	Overrun func(budget int64) int64
	// CheckpointLogBytes is the length of log in bytes that starts a checkpoint: it bounds the time of a recovery. So many changed
	// objects that reading them would take as long start one, too.
	CheckpointLogBytes int64
	// CheckpointInterval starts a checkpoint when anything has changed for so long.
	CheckpointInterval time.Duration
	// DirtyBytes bounds what may be in memory without being in the store: past it writers wait for a checkpoint.
	DirtyBytes int64
	// BallastBytes is the size of a file that is given up when the disk is full, so that what is under way can be
	// finished. Negative: none.
	BallastBytes int64
	CacheBytes   int64 // block cache of the snapshot store

	// RetainBytes and RetainAge bound the log that is kept; 0 = all of it (W6).
	RetainBytes int64
	RetainAge   time.Duration
	// SlotMaxBytes bounds the log that one named replica may hold back from being trimmed; 0 = no bound.
	SlotMaxBytes int64

	// OnDurable is called by the committer when the durable offset has advanced; it must not block.
	OnDurable func(wal.Offset)
	// OnFailure is called once when the log has failed for good (A2).
	OnFailure func(error)
	// OnMessage is called with each message that a primary's stream carries, once its record has been applied, and with each
	// event of a key, once its command is complete, under the executor's lock: it must neither block nor call the engine. What is
	// replayed at a start is not told again.
	OnMessage func(*Message)
	// Replica opens as a replica: no id is begun, the log goes on under the one that it had, and nothing but a stream enters
	// it until Promote.
	Replica bool
	// Role, if not nil, decides on Replica, given what SaveRole has kept; "" if nothing.
	Role func(saved string) (replica bool, err error)
	// NoPreload leaves keys in the store until they are named, instead of reading them all once the engine is open.
	NoPreload bool
	// Manual leaves out the background goroutines: tests drive checkpoints and the janitor themselves.
	Manual bool

	logMemTable int64 // bytes of a memtable of the log; 0: its default

	// For tests: objects for each hold of the lock in a checkpoint, and what runs between two holds.
	batch   int
	between func()
	mutant  string // a rule left out, to see the crash test fail
}

// The defaults. CheckpointLogBytes: 64 MiB, or 256 Ki changed objects, are replayed in about a second. DirtyBytes: twice what one checkpoint's log
// makes dirty, for small values, so that it only bites when checkpoints do not keep up.
const (
	DefaultCheckpointLogBytes = 64 << 20
	DefaultCheckpointInterval = 5 * time.Minute
	DefaultDirtyBytes         = 512 << 20
	DefaultBallastBytes       = 32 << 20
	DefaultCacheBytes         = 64 << 20
)

// Engine is one open data directory.
type Engine struct {
	opts     Options
	log      *wal.Log
	store    *snapshot.Store
	rows     rowStore
	table    *command.Table
	logger   hclog.Logger
	now      func() time.Time
	lock     io.Closer
	creating bool // the directory is new
	runID    string

	// streamMu: see replica.go. It comes before the checkpointer's lock and mu.
	streamMu sync.Mutex
	stream   Replayer    // of ApplyStream; under streamMu
	replica  atomic.Bool // changed under streamMu and mu
	pins     pinSet
	marks    markSet // mark.go
	slots    slotSet
	copies   syncCopies   // synccopy.go
	exports  exportCopies // exportcopy.go
	copySeq  atomic.Int64 // of directories of copies
	loading  atomic.Bool  // a Loader is open

	// mu is the executor lock. All fields down to the blank line are under it.
	mu       sync.Mutex
	ks       *keyspace.Keyspace
	ctx      command.Ctx
	conf     command.Config
	events   command.Events // of keys, that are told
	channel  []byte         // of a message about one; used again
	lockedAt time.Time
	maxHold  holdMax
	buf      []byte // effects of this hold
	bufDB    int    // database of the stream at the start of buf
	streamDB int    // database of the stream at the end of buf; -1: no matter which, the next write selects
	logEnd   wal.Offset
	selects  [][]byte
	inTxn    bool
	txnDepth int
	txnCount int
	txn      []byte
	rand     *randv2.Rand
	watched  map[string]map[*Client]bool
	observer KeyObserver // observe.go
	by       *Client     // whose command runs
	waiting  map[string][]*waiter
	ready    []readyKey
	serving  bool
	evicted  int64
	pressure pressure
	stats    counters

	limits struct {
		MaxMemory          atomic.Int64
		CheckpointLogBytes atomic.Int64
		DirtyBytes         atomic.Int64
		CheckpointInterval atomic.Int64
	}
	budgetCut atomic.Int64 // bytes of MaxMemory that are not used up, see fitBudget
	wanted    atomic.Int32 // sessions that wait for mu
	oneCore   bool         // waiting for a lock by spinning would keep its holder from running
	policy    atomic.Int32
	refuse    atomic.Pointer[string]
	gate      struct { // gate.go
		refusal  atomic.Pointer[string]
		on       atomic.Bool
		released atomic.Int64
	}
	checkpointAt wal.Offset // start of the newest checkpoint's log; under mu
	handedAt     time.Time  // when that checkpoint began; under mu
	activeExpire atomic.Bool
	ripeSince    time.Time     // when the log passed a quarter of CheckpointLogBytes; of the janitor
	loadTook     atomic.Int64  // nanoseconds of the newest Loader's load
	preloading   atomic.Bool   // keys are being read into memory after the start, or are going to be
	preloadReads atomic.Bool   // the same without the time for which the preload lets the stream go first
	coldTurns    chan struct{} // has one for each client that reads cold keys meanwhile
	streamWork   workTime      // of ApplyStream

	check checkpointer
	disk  diskGuard

	closeOnce sync.Once
	closeErr  error
	// background ends with the engine; what it starts later runs under it.
	background context.Context
	stop       context.CancelFunc
	// whileOpen ends when Close begins: of work that the last checkpoint should not share processors with.
	whileOpen  context.Context
	beginClose context.CancelFunc
	wg         sync.WaitGroup
}

// formatName and formatText mark a data directory and the version of its layout.
const (
	formatName   = "FORMAT"
	creatingName = "CREATING"
	formatText   = "holdfast 1\n"
)

// ErrLocked says that another process has the directory open.
var ErrLocked = errors.New("engine: data directory is in use by another process")

// Open recovers the data directory and begins a new replication id at the durable end (W3), unless it opens a replica.
func Open(o Options) (*Engine, error) {
	o.defaults()
	e := &Engine{opts: o, coldTurns: make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2)), table: command.NewTable(), logger: o.Logger.Named("engine"), now: o.Now, conf: *o.Command,
		watched: map[string]map[*Client]bool{}, waiting: map[string][]*waiter{}, streamDB: -1}
	e.rand = randv2.New(randv2.NewPCG(o.Seed, 0x9e3779b97f4a7c15))
	e.oneCore = runtime.GOMAXPROCS(0) == 1
	e.runID = e.newID()
	e.policy.Store(int32(o.Fsync))
	e.limits.MaxMemory.Store(o.MaxMemory)
	e.limits.CheckpointLogBytes.Store(o.CheckpointLogBytes)
	e.limits.DirtyBytes.Store(o.DirtyBytes)
	e.limits.CheckpointInterval.Store(int64(o.CheckpointInterval))
	e.slots.maxBytes.Store(o.SlotMaxBytes)
	e.activeExpire.Store(true)
	e.disk.init(e)
	if err := e.openDir(); err != nil {
		return nil, err
	}
	if err := e.readRole(); err != nil {
		return nil, errors.Join(err, e.lock.Close())
	}
	o.Replica = e.opts.Replica
	e.replica.Store(o.Replica)
	if err := e.openStores(); err != nil {
		return nil, errors.Join(err, e.lock.Close())
	}
	if err := e.recover(wal.Offset(-1)); err != nil {
		return nil, errors.Join(err, e.log.Close(), e.store.Close(), e.lock.Close())
	}
	// A replica resumes under the id that it had. Without any it can ask for nothing but a full sync.
	if !o.Replica || e.ReplID() == "" {
		if err := e.log.BeginID(e.newID()); err != nil {
			return nil, errors.Join(err, e.log.Close(), e.store.Close(), e.lock.Close())
		}
	}
	if err := e.finishCreation(); err != nil {
		return nil, errors.Join(err, e.log.Close(), e.store.Close(), e.lock.Close())
	}
	e.store.SetCompactions(1)
	e.disk.start()
	ctx, cancel := context.WithCancel(context.Background())
	e.background, e.stop = ctx, cancel
	e.whileOpen, e.beginClose = context.WithCancel(ctx)
	e.check.init(e)
	if !o.Manual {
		e.wg.Add(2)
		go e.check.run(ctx)
		go e.janitor(ctx)
		e.startPreload()
	}
	return e, nil
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
	if o.Databases == 0 {
		o.Databases = 16
	}
	if o.Limits == nil {
		l := keyspace.DefaultLimits()
		o.Limits = &l
	}
	if o.Command == nil {
		c := command.DefaultConfig()
		o.Command = &c
	}
	setDefault(&o.CheckpointLogBytes, DefaultCheckpointLogBytes)
	setDefault(&o.CheckpointInterval, DefaultCheckpointInterval)
	setDefault(&o.DirtyBytes, DefaultDirtyBytes)
	setDefault(&o.BallastBytes, DefaultBallastBytes)
	setDefault(&o.CacheBytes, DefaultCacheBytes)
	if o.MaxMemory > 0 {
		// The block cache comes on top of the budget: keep it in proportion.
		o.CacheBytes = max(min(o.CacheBytes, o.MaxMemory/8), 8<<20)
		// So do the log's memtables, up to four of them.
		o.logMemTable = max(min(wal.DefaultMemTableBytes, o.MaxMemory/32), 4<<20)
	}
	if o.Seed == 0 {
		o.Seed = randv2.Uint64()
	}
}

func setDefault[T ~int64](v *T, def T) {
	if *v == 0 {
		*v = def
	}
}

// newID returns 40 random hex digits. With a seed given the ids are reproducible.
func (e *Engine) newID() string {
	var b [20]byte
	if _, err := rand.Read(b[:]); err != nil {
		panic(err) // crypto/rand does not fail on any supported system
	}
	return hex.EncodeToString(b[:])
}

func (e *Engine) path(name string) string { return e.opts.FS.PathJoin(e.opts.Dir, name) }

// openDir creates the directory if need be, locks it and looks at its format.
func (e *Engine) openDir() error {
	fs := e.opts.FS
	if err := fs.MkdirAll(e.opts.Dir, 0o755); err != nil {
		return fmt.Errorf("data directory %s: %w", e.opts.Dir, err)
	}
	lock, err := fs.Lock(e.path("LOCK"))
	if err != nil {
		return fmt.Errorf("%w: %s (%v)", ErrLocked, e.opts.Dir, err)
	}
	e.lock = lock
	if err := e.checkFormat(); err != nil {
		return errors.Join(err, lock.Close())
	}
	return nil
}

func (e *Engine) checkFormat() error {
	fs := e.opts.FS
	text, err := readFile(fs, e.path(formatName))
	switch {
	case err == nil && text == formatText:
		return nil
	case err == nil:
		return fmt.Errorf("data directory %s has the unknown format %q; this program reads %q: use the version that wrote it",
			e.opts.Dir, strings.TrimSpace(text), strings.TrimSpace(formatText))
	case !errors.Is(err, os.ErrNotExist):
		return fmt.Errorf("data directory %s: %w", e.opts.Dir, err)
	}
	// A new directory. Pebble does not create a database atomically, so CREATING marks one that is not finished, and FORMAT
	// comes last: a crash in between leaves CREATING without FORMAT, and creation starts over.
	if _, err := fs.Stat(e.path(creatingName)); err == nil {
		for _, name := range []string{"wal", "snapshot"} {
			if err := fs.RemoveAll(e.path(name)); err != nil {
				return fmt.Errorf("data directory %s: %w", e.opts.Dir, err)
			}
		}
	}
	for _, name := range []string{"wal", "snapshot"} {
		if _, err := fs.Stat(e.path(name)); err == nil {
			return fmt.Errorf("data directory %s has no %s file but a %s directory: not a data directory of this program",
				e.opts.Dir, formatName, name)
		}
	}
	e.creating = true
	if err := syncDir(fs, fs.PathDir(e.opts.Dir)); err != nil {
		return fmt.Errorf("data directory %s: %w", e.opts.Dir, err)
	}
	return e.writeMark(creatingName, "")
}

// finishCreation makes a new directory one that is kept.
func (e *Engine) finishCreation() error {
	if !e.creating {
		return nil
	}
	if err := e.writeMark(formatName, formatText); err != nil {
		return err
	}
	return errors.Join(e.opts.FS.Remove(e.path(creatingName)), syncDir(e.opts.FS, e.opts.Dir))
}

// writeMark writes a small file whole or not at all, durably.
func (e *Engine) writeMark(name, text string) error {
	fs := e.opts.FS
	tmp := e.path(name + ".tmp")
	f, err := fs.Create(tmp, vfs.WriteCategoryUnspecified)
	if err != nil {
		return fmt.Errorf("data directory %s: %w", e.opts.Dir, err)
	}
	_, err = f.Write([]byte(text))
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = fs.Rename(tmp, e.path(name))
	}
	if err == nil {
		err = syncDir(fs, e.opts.Dir)
	}
	if err != nil {
		return fmt.Errorf("data directory %s: %w", e.opts.Dir, err)
	}
	return nil
}

// maxMark bounds in bytes what is read of a mark file: a lineage of a hundred thousand ids.
const maxMark = 16 << 20

func readFile(fs vfs.FS, name string) (string, error) {
	f, err := fs.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxMark))
	return string(b), err
}

func syncDir(fs vfs.FS, dir string) error {
	d, err := fs.OpenDir(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func (e *Engine) openStores() error {
	fs := e.disk.fs
	cut, err := e.readSwitch()
	if err != nil {
		return err
	}
	if err := e.settleStores(cut); err != nil {
		return fmt.Errorf("data directory %s: %w", e.opts.Dir, err)
	}
	if err := fs.RemoveAll(e.path(copiesName)); err != nil {
		return fmt.Errorf("data directory %s: %w", e.opts.Dir, err)
	}
	log, err := wal.Open(wal.Options{FS: fs, Dir: e.path("wal"), Policy: e.opts.Fsync, Logger: e.opts.Logger,
		Now: e.now, RetainBytes: e.opts.RetainBytes, RetainAge: e.opts.RetainAge, MemTableBytes: e.opts.logMemTable,
		OnDurable: e.opts.OnDurable, OnFailure: e.logFailed})
	if err != nil {
		return fmt.Errorf("log in %s: %w", e.path("wal"), err)
	}
	store, err := e.openStore(e.path(storeName))
	if err != nil {
		return errors.Join(err, log.Close())
	}
	e.log, e.store = log, store
	e.rows = rowStore{newStoreGate(store)}
	if cut != nil {
		if err := e.finishSwitch(cut); err != nil {
			return errors.Join(err, log.Close(), store.Close())
		}
	}
	if err := e.loadSlots(); err != nil {
		return errors.Join(err, log.Close(), store.Close())
	}
	return nil
}

// logFailed is called by the log once, when a write or fsync has failed: nothing is acknowledged from here on (A2).
func (e *Engine) logFailed(err error) {
	msg := "MISCONF Errors writing to the AOF file: " + err.Error()
	e.logger.Error("log failed, writes are refused until a restart", "error", err)
	e.refuseWrites(&msg)
	if e.opts.OnFailure != nil {
		e.opts.OnFailure(err)
	}
}

// Close writes a last checkpoint and closes. It is idempotent and waits.
func (e *Engine) Close(ctx context.Context) error {
	e.closeOnce.Do(func() {
		e.beginClose()
		e.streamMu.Lock() // what comes from a primary ends first, and nothing begins
		defer e.streamMu.Unlock()
		var err error
		if e.log.Err() == nil {
			if err = e.log.Sync(ctx); err == nil && !e.opts.Manual {
				err = e.Checkpoint(ctx)
			}
		}
		e.endCopies()
		e.closeErr = errors.Join(err, e.saveSlots(true), e.release())
	})
	return e.closeErr
}

// Abandon closes without a checkpoint or a sync: what a test calls before it looks at what a crash has left.
func (e *Engine) Abandon() error {
	e.closeOnce.Do(func() { e.closeErr = e.release() })
	return e.closeErr
}

func (e *Engine) release() error {
	e.stop()
	e.wg.Wait()
	e.marks.end()
	return errors.Join(e.log.Close(), e.store.Close(), e.lock.Close())
}

// RunID returns the id of this run of the process, new at each start.
func (e *Engine) RunID() string { return e.runID }

// Log returns the log, for readers of it.
func (e *Engine) Log() *wal.Log { return e.log }

// Store returns the snapshot store, for readers of it. A Loader's Commit replaces it: REQUIRES: no Commit meanwhile.
func (e *Engine) Store() *snapshot.Store { return e.store }

// Table returns the command table.
func (e *Engine) Table() *command.Table { return e.table }

// Path names a file of the data directory.
func (e *Engine) Path(name string) string { return filepath.Join(e.opts.Dir, name) }
