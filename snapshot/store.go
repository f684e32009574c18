package snapshot

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/go-hclog"
)

// Errors of opening and writing.
var (
	ErrFormat   = errors.New("snapshot: unknown format version")
	ErrOrder    = errors.New("snapshot: rows are not in ascending order")
	ErrBusy     = errors.New("snapshot: an ingest is under way")
	ErrReadOnly = errors.New("snapshot: open for reading only")
	ErrClosed   = errors.New("snapshot: closed")
)

// CorruptionError says what about the store is damaged.
type CorruptionError struct {
	What string
	Err  error
}

// Error is one line, with what an operator can do. What Pebble adds in further lines says the same again.
func (e *CorruptionError) Error() string {
	what := e.What
	if e.Err != nil {
		cause, _, _ := strings.Cut(e.Err.Error(), "\n")
		what += ": " + cause
	}
	return "snapshot: corrupt: " + what + " (restore the directory from a copy, or begin with an empty one as a replica of a server that has the data)"
}

func (e *CorruptionError) Unwrap() error { return e.Err }

// Options say where the store is. Zero means the default.
type Options struct {
	FS         vfs.FS // the real one
	Dir        string
	Logger     hclog.Logger // none
	CacheBytes int64        // DefaultCacheBytes
	ReadOnly   bool
	// TableBytes bounds a table of a compaction, a quarter of it one of an ingest; DefaultTableBytes.
	TableBytes int64
	// HoldCompactions opens without any compaction, until SetCompactions: what a crash or a stop has left to merge can wait, those
	// who wait for a start cannot. A merge takes a core and, worse, fills the disk's queue, in which each sync of a start then stands.
	HoldCompactions bool
	// Overlap is how many ingests may lie upon each other before Pebble merges them; DefaultOverlap. The more, the less often a row is
	// rewritten, and the more tables a read may ask.
	Overlap int
	// OnFatal is called when Pebble cannot write its manifest: whether the last ingest has happened is not known until the
	// store is opened again, so it must end the process, or at least not return. Default: the process exits.
	OnFatal func(error)

	// Mutants for tests: rules left out, to see the crash test fail.
	metaApart bool // the meta row enters by an ingest of its own
	noSync    bool // tables are not synced before the ingest

	// What benchmarks compare.
	compression *sstable.CompressionProfile
	ingestBytes int64 // bound of a table of an ingest
}

const (
	// DefaultCacheBytes bounds the memory for blocks of tables, filters among them. Filters take 10 bits a row: this is
	// enough for those of 50 million rows.
	DefaultCacheBytes = 64 << 20
	// DefaultTableBytes is large enough that few tables are open at a time, small enough that a compaction moves in small
	// steps and that trying again after one was cut off costs little.
	DefaultTableBytes = 16 << 20

	// DefaultOverlap is for checkpoints: see "Measured" in doc.go.
	DefaultOverlap = 4

	// ingestShare is how many times smaller than others the tables of an ingest are: see "Measured" in doc.go.
	ingestShare = 4

	// blockBytes is what a read of a cold key reads and decompresses at least.
	blockBytes = 8 << 10
	// filterBits per row: 1 % of the keys that do not exist cost a read of a block all the same.
	filterBits = 10
	// syncBytes has the disk work on a table while it is written, so that the sync at its end does not hold up the log's
	// syncs beside it.
	syncBytes = 1 << 20
)

// ingestDir holds the tables of the ingest under way, within the store's directory: they enter it by hard link.
const ingestDir = "ingest"

// Store is an open snapshot store. Its methods may be called from any number of goroutines, Close from one and last.
type Store struct {
	opts  Options
	db    *pebble.DB
	cache *pebble.Cache
	// compactions is the most that run at once; 0: none begins, see concurrency.
	compactions atomic.Int32
	pause       mergePause // pause.go
	mu          struct {
		sync.Mutex
		meta   Meta // as of the newest ingest (S2)
		err    error
		busy   bool // an Ingest is open
		closed bool
		seq    int // of tables in ingestDir
		views  int // open
		// noViews is closed when the last of them is; nil: nobody waits.
		noViews chan struct{}
	}
}

// Open opens the store, creating it at C = 0 if it is not there, and deletes what a cut-off ingest has left. It returns
// ErrFormat for a version that this program does not know, *CorruptionError for what is damaged.
func Open(o Options) (*Store, error) {
	o.defaults()
	s := &Store{opts: o}
	s.pause.wait, s.pause.waits = mergeWait, mergeWaits
	if !o.HoldCompactions {
		s.compactions.Store(1)
	}
	if !o.ReadOnly {
		if err := o.FS.MkdirAll(o.Dir, 0o755); err != nil {
			return nil, err
		}
	}
	s.cache = pebble.NewCache(o.CacheBytes)
	db, err := pebble.Open(o.Dir, s.pebbleOptions())
	if err != nil {
		s.cache.Unref()
		if damaged(err) {
			return nil, &CorruptionError{"the store's files", err}
		}
		return nil, fmt.Errorf("snapshot: opening %s: %w", o.Dir, err)
	}
	s.db = db
	// After Pebble has locked the directory: another process may be in the middle of an ingest.
	if !o.ReadOnly {
		err = s.cleanIngest()
	}
	if err == nil {
		err = s.loadMeta()
	}
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// damaged tells whether an error of opening comes from damage to files. Pebble does not mark a file that is missing, or of
// another length than it should be, as corrupt.
func damaged(err error) bool {
	return pebble.IsCorruptionError(err) || errors.Is(err, os.ErrNotExist) || strings.Contains(err.Error(), "object size mismatch")
}

func (o *Options) defaults() {
	if o.FS == nil {
		o.FS = vfs.Default
	}
	if o.Logger == nil {
		o.Logger = hclog.NewNullLogger()
	}
	if o.CacheBytes == 0 {
		o.CacheBytes = DefaultCacheBytes
	}
	if o.TableBytes == 0 {
		o.TableBytes = DefaultTableBytes
	}
	if o.compression == nil {
		o.compression = sstable.SnappyCompression
	}
	if o.Overlap == 0 {
		o.Overlap = DefaultOverlap
	}
	if o.ingestBytes == 0 {
		o.ingestBytes = max(o.TableBytes/ingestShare, 1)
	}
	if o.OnFatal == nil {
		o.OnFatal = func(error) { os.Exit(1) }
	}
}

func (s *Store) pebbleOptions() *pebble.Options {
	o := &s.opts
	p := &pebble.Options{
		FS:                 pausedFS{o.FS, &s.pause},
		Logger:             &pebbleLogger{s, o.Logger.Named("snapshot")},
		Cache:              s.cache,
		DisableWAL:         true,
		ReadOnly:           o.ReadOnly,
		FormatMajorVersion: pebble.FormatValueSeparation, // named: a newer Pebble must not change the format unasked
		MemTableSize:       1 << 20,                      // stays empty (S2)
		// Checkpoints overlap all that is there. Letting several of them pile up in level 0 before they are merged means
		// that each merge into the base level, which rewrites it, serves several of them. Point reads stay cheap: a bloom
		// filter stands before each.
		L0CompactionThreshold: 2 * o.Overlap, // Pebble merges at half of it
		L0StopWritesThreshold: 1 << 20,
		LBaseMaxBytes:         1 << 30,
		BytesPerSync:          syncBytes,
		// By default Pebble ends the process when it meets a damaged block. Here the reader gets a *CorruptionError: the rest
		// of the data can still be served, and Check has to go on.
		EventListener: &pebble.EventListener{DataCorruption: s.corruption},
		// Nobody is ever stalled by compactions: an ingest does not wait for them.
		CompactionConcurrencyRange: s.concurrency,
	}
	for i := range p.TargetFileSizes {
		p.TargetFileSizes[i] = o.TableBytes
	}
	for i := range p.Levels {
		p.Levels[i].BlockSize = blockBytes
		p.Levels[i].Compression = func() *sstable.CompressionProfile { return o.compression }
		p.Levels[i].FilterPolicy = bloom.FilterPolicy(filterBits)
		p.Levels[i].FilterType = pebble.TableFilter
	}
	return p
}

// concurrency is how many compactions Pebble begins: the first whether or not tables have piled up, and the most. Where none is
// wanted the most is 1 all the same, since Pebble divides by it; it begins that one only for a store that is 10 checkpoints or
// 1 GB behind.
func (s *Store) concurrency() (lower, upper int) {
	n := int(s.compactions.Load())
	if paused, _ := s.pause.on(); paused {
		n = 0
	}
	return min(n, 1), max(n, 1)
}

// SetCompactions bounds how many compactions run at once, 1 or more; until it is called it is 1, or none with HoldCompactions.
// More than 1 begin only when the tables to merge have piled up: the server needs the cores, this is for an idle time or a load
// in bulk. It takes effect with the next ingest, or the end of a compaction.
func (s *Store) SetCompactions(n int) { s.compactions.Store(int32(max(n, 1))) }

func (s *Store) corruption(info pebble.DataCorruptionInfo) {
	s.opts.Logger.Named("snapshot").Error("a table is damaged", "table", info.Path, "error", info.Details)
}

// pebbleLogger gives Pebble's lines to hclog.
type pebbleLogger struct {
	s   *Store
	log hclog.Logger
}

func (l *pebbleLogger) Infof(format string, args ...any) {
	if l.log.IsTrace() {
		l.log.Trace("pebble", "message", fmt.Sprintf(format, args...))
	}
}

func (l *pebbleLogger) Errorf(format string, args ...any) {
	l.log.Error("pebble", "message", fmt.Sprintf(format, args...))
}

// Fatalf is called when an edit of the manifest could not be written. Pebble expects it to end the process: where it
// returns, the tables of the edit are deleted, which the manifest on disk may name.
func (l *pebbleLogger) Fatalf(format string, args ...any) {
	err := fmt.Errorf("snapshot: "+format, args...)
	l.log.Error("the store's manifest could not be written", "error", err)
	l.s.mu.Lock()
	l.s.mu.err = err
	l.s.mu.Unlock()
	l.s.opts.OnFatal(err)
	panic(err)
}

// Err returns the error after which the store takes no ingest any more, nil while it does. Reads go on.
func (s *Store) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.err
}

func (s *Store) path(name string) string { return s.opts.FS.PathJoin(s.opts.Dir, ingestDir, name) }

// cleanIngest deletes the tables of an ingest that a crash has cut off, or that could not be deleted after one.
// REQUIRES: no Ingest is open.
func (s *Store) cleanIngest() error {
	fs := s.opts.FS
	dir := fs.PathJoin(s.opts.Dir, ingestDir)
	if err := fs.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	names, err := fs.List(dir)
	if err != nil {
		return err
	}
	for _, n := range names {
		if err := fs.Remove(fs.PathJoin(dir, n)); err != nil {
			return err
		}
	}
	return nil
}

// Copy writes a copy of the store at its present C into dir, which must not exist, sharing tables by hard links where it
// can. A copy is a store like any other.
func (s *Store) Copy(dir string) error { return s.db.Checkpoint(dir) }

// Close closes the store. It is idempotent. REQUIRES: iterators, views and ingests are closed.
func (s *Store) Close() error {
	s.mu.Lock()
	if s.mu.closed {
		s.mu.Unlock()
		return nil
	}
	s.mu.closed = true
	s.mu.Unlock()
	err := s.db.Close()
	s.cache.Unref()
	return err
}
