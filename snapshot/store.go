package snapshot

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/go-hclog"

	"github.com/holdfast-db/holdfast/server/keyspace"
	"github.com/holdfast-db/holdfast/wal"
)

// Errors.
var (
	ErrFormat = errors.New("snapshot: unknown format version")
	ErrOrder  = errors.New("snapshot: rows are not in ascending order")
	ErrClosed = errors.New("snapshot: closed")
)

// CorruptionError says what about the store is damaged.
type CorruptionError struct {
	What string
	Err  error
}

func (e *CorruptionError) Error() string {
	if e.Err == nil {
		return "snapshot: corrupt: " + e.What
	}
	return fmt.Sprintf("snapshot: corrupt: %s: %v", e.What, e.Err)
}

func (e *CorruptionError) Unwrap() error { return e.Err }

// formatVersion is the version of the rows and the meta row.
const formatVersion = 1

// Meta is the meta row: where the store stands, and how its databases are laid out.
type Meta struct {
	Format     int
	C          wal.Offset
	SelectedDB int // database selected in the stream at C
	DBs        []DBMeta
	NextPhys   uint32 // newest physical id given
	NextOID    uint64 // identity of the next big collection
	ReplID     string
	Lineage    []byte // of the log at C
	CreatedMs  int64  // unix ms of the checkpoint; 0: none yet
}

// DBMeta is one logical database.
type DBMeta struct {
	Logical       int
	Phys          uint32
	Keys, Expires int64
}

// Options say where the store is. Zero means the default.
type Options struct {
	FS         vfs.FS
	Dir        string
	Logger     hclog.Logger
	CacheBytes int64
	ReadOnly   bool
	// TableBytes bounds a table of an ingest.
	TableBytes int64
	// OnFatal is called when Pebble meets an error that it cannot go on from; nil: the process ends.
	OnFatal func(error)

	// Mutants for tests: rules left out, to see the crash test fail.
	metaApart bool // the meta row enters by an ingest of its own
	noSync    bool // tables are not synced before the ingest
}

// The defaults. Tables of 16 MiB: large enough that few are opened, small enough that a compaction of one level into the
// next moves in steps.
const (
	DefaultCacheBytes = 64 << 20
	DefaultTableBytes = 16 << 20
)

const ingestDir = "ingest"

// Store is an open snapshot store.
type Store struct {
	opts  Options
	db    *pebble.DB
	cache *pebble.Cache
	mu    struct {
		sync.Mutex
		meta   Meta
		busy   bool // an Ingest is open
		closed bool
		seq    int
	}
}

// Open opens the store, creating it at C = 0 if it is not there, and deletes what a cut-off ingest has left.
func Open(o Options) (*Store, error) {
	o.defaults()
	s := &Store{opts: o}
	if !o.ReadOnly {
		if err := o.FS.MkdirAll(o.Dir, 0o755); err != nil {
			return nil, err
		}
		if err := s.cleanIngest(); err != nil {
			return nil, err
		}
	}
	s.cache = pebble.NewCache(o.CacheBytes)
	db, err := pebble.Open(o.Dir, s.pebbleOptions())
	if err != nil {
		s.cache.Unref()
		if pebble.IsCorruptionError(err) {
			return nil, &CorruptionError{"the store's files; restore the directory from a copy", err}
		}
		return nil, err
	}
	s.db = db
	if err := s.loadMeta(); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
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
	if o.OnFatal == nil {
		o.OnFatal = func(error) { os.Exit(1) }
	}
}

func (s *Store) pebbleOptions() *pebble.Options {
	o := &s.opts
	p := &pebble.Options{
		FS:                 o.FS,
		Logger:             &pebbleLogger{o.Logger.Named("snapshot"), o.OnFatal},
		Cache:              s.cache,
		DisableWAL:         true,
		ReadOnly:           o.ReadOnly,
		FormatMajorVersion: pebble.FormatNewest,
		MemTableSize:       1 << 20, // stays empty (S2)
		// Checkpoints overlap all that is there. Letting several of them pile up in level 0 before they are merged means
		// that each merge into the base level, which rewrites it, serves several of them. Point reads stay cheap: a bloom
		// filter stands before each.
		L0CompactionThreshold: 8,
		L0StopWritesThreshold: 1 << 20,
		LBaseMaxBytes:         1 << 30,
		BytesPerSync:          1 << 20,
	}
	for i := range p.TargetFileSizes {
		p.TargetFileSizes[i] = o.TableBytes
	}
	for i := range p.Levels {
		p.Levels[i].BlockSize = 8 << 10
		p.Levels[i].Compression = func() *sstable.CompressionProfile { return sstable.SnappyCompression }
		p.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
		p.Levels[i].FilterType = pebble.TableFilter
	}
	// One compaction at a time: the server needs the cores more.
	p.CompactionConcurrencyRange = func() (int, int) { return 1, 1 }
	return p
}

type pebbleLogger struct {
	log   hclog.Logger
	fatal func(error)
}

func (l *pebbleLogger) Infof(format string, args ...any) {
	if l.log.IsTrace() {
		l.log.Trace("pebble", "message", fmt.Sprintf(format, args...))
	}
}

func (l *pebbleLogger) Errorf(format string, args ...any) {
	l.log.Error("pebble", "message", fmt.Sprintf(format, args...))
}

func (l *pebbleLogger) Fatalf(format string, args ...any) {
	err := fmt.Errorf(format, args...)
	l.log.Error("pebble met a fatal error", "message", err.Error())
	l.fatal(err)
}

func (s *Store) path(name string) string { return s.opts.FS.PathJoin(s.opts.Dir, ingestDir, name) }

// cleanIngest deletes the tables of an ingest that a crash has cut off.
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

var metaKey = []byte{keyspace.TagMeta}

func (s *Store) loadMeta() error {
	v, ok, err := s.Get(metaKey)
	if err != nil {
		return err
	}
	m := Meta{Format: formatVersion, NextOID: 1}
	if ok {
		if m, err = decodeMeta(v); err != nil {
			return err
		}
	}
	s.mu.meta = m
	return nil
}

func decodeMeta(v []byte) (m Meta, err error) {
	if err := json.Unmarshal(v, &m); err != nil {
		return Meta{}, &CorruptionError{"meta row", err}
	}
	if m.Format != formatVersion {
		return Meta{}, fmt.Errorf("%w: %d, this program reads %d", ErrFormat, m.Format, formatVersion)
	}
	return m, nil
}

// Meta returns the meta row as of the newest ingest. The caller must not change its slices.
func (s *Store) Meta() Meta {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.meta
}

// Get returns a copy of a row's value.
func (s *Store) Get(rowKey []byte) (val []byte, ok bool, err error) { return get(s.db, rowKey) }

func get(db pebble.Reader, rowKey []byte) ([]byte, bool, error) {
	v, c, err := db.Get(rowKey)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, readError(err)
	}
	val := append(make([]byte, 0, len(v)), v...)
	return val, true, c.Close()
}

func readError(err error) error {
	if err != nil && pebble.IsCorruptionError(err) {
		return &CorruptionError{"a table; restore the directory from a copy", err}
	}
	return err
}

// Iter walks rows of a store or view in [lo, hi). Key and Value are valid until the next step.
type Iter struct{ it *pebble.Iterator }

// NewIter returns an iterator over [lower, upper) that stands before the first row.
func (s *Store) NewIter(lower, upper []byte) (*Iter, error) { return newIter(s.db, lower, upper) }

func newIter(r pebble.Reader, lower, upper []byte) (*Iter, error) {
	it, err := r.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
	if err != nil {
		return nil, readError(err)
	}
	return &Iter{it}, nil
}

// First goes to the first row and tells whether there is one; the same for SeekGE and Next.
func (i *Iter) First() bool { return i.it.First() }

// SeekGE goes to the first row at or after key.
func (i *Iter) SeekGE(key []byte) bool { return i.it.SeekGE(key) }

// Next goes to the next row.
func (i *Iter) Next() bool { return i.it.Next() }

// Key returns the row's key.
func (i *Iter) Key() []byte { return i.it.Key() }

// Value returns the row's value.
func (i *Iter) Value() []byte { return i.it.Value() }

// Err returns why the walk has ended early, nil if it has not.
func (i *Iter) Err() error { return readError(i.it.Error()) }

// Close releases the iterator.
func (i *Iter) Close() error { return readError(i.it.Close()) }

// View is a consistent read of the store at one C. Later ingests do not show in it.
type View struct {
	snap *pebble.Snapshot
	meta Meta
}

// View takes a view.
func (s *Store) View() (*View, error) {
	snap := s.db.NewSnapshot()
	v, ok, err := get(snap, metaKey)
	m := Meta{Format: formatVersion, NextOID: 1}
	if err == nil && ok {
		m, err = decodeMeta(v)
	}
	if err != nil {
		return nil, errors.Join(err, snap.Close())
	}
	return &View{snap, m}, nil
}

// Meta returns the meta row of the view.
func (v *View) Meta() Meta { return v.meta }

// Get returns a copy of a row's value.
func (v *View) Get(rowKey []byte) ([]byte, bool, error) { return get(v.snap, rowKey) }

// NewIter is Store.NewIter at the view's C.
func (v *View) NewIter(lower, upper []byte) (*Iter, error) { return newIter(v.snap, lower, upper) }

// Close releases the view.
func (v *View) Close() error { return v.snap.Close() }

// Copy writes a copy of the store into dir, which must not exist, sharing files by hard links where it can.
func (s *Store) Copy(dir string) error { return s.db.Checkpoint(dir) }

// Metrics are figures of the store.
type Metrics struct {
	DiskSize    int64 // bytes
	Tables      int64
	Ingested    int64 // bytes since open
	Compacted   int64 // bytes written by compactions since open
	Compactions int64
	L0Tables    int64
	CacheHits   int64
	CacheMisses int64
	CacheSize   int64
}

// Metrics returns figures of the store.
func (s *Store) Metrics() Metrics {
	m := s.db.Metrics()
	out := Metrics{DiskSize: int64(m.DiskSpaceUsage()), Compactions: m.Compact.Count, L0Tables: m.Levels[0].TablesCount,
		CacheHits: m.BlockCache.Hits, CacheMisses: m.BlockCache.Misses, CacheSize: m.BlockCache.Size}
	for i := range m.Levels {
		l := &m.Levels[i]
		out.Tables += l.TablesCount
		out.Ingested += int64(l.TableBytesIngested)
		out.Compacted += int64(l.TableBytesCompacted)
	}
	return out
}

// Close closes the store. It is idempotent.
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
