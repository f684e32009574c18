package wal

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/hashicorp/go-hclog"
)

// The log's Pebble never compacts. Keys of chunks only grow, so tables of chunks never overlap, and level 0 holds them all
// side by side as a sorted run; there is nothing to merge. A byte of the log is written twice, once to Pebble's commit log
// and once when a memtable is flushed. (Left to itself, Pebble moved some tables down and rewrote half of the others.)
//
// That needs metadata, whose keys do repeat, to stay out of the tables of chunks: setMeta sees to it.
const (
	// DefaultMemTableBytes is large, so that flushes are few. Replaying it after a crash takes some 100 ms.
	DefaultMemTableBytes = 16 << 20
	// maxMemTables is how many memtables may wait to be flushed before the committer waits for the disk.
	maxMemTables = 2
	// tableSize is the size of a table in bytes: what trimming drops at once.
	tableSize = 64 << 20
	// blockSize: chunks are read in order, and most are larger than any block.
	blockSize = 64 << 10
	// cacheSize is small: a reader goes through the log once, and must not take memory for it.
	cacheSize = 8 << 20

	// commitLogDir is the directory of Pebble's commit log within the log's: one of its own, so that a failed sync of it
	// can be told from one of the tables' directory (see guardFS).
	commitLogDir = "commit"
)

func pebbleOptions(o *Options, l *Log) *pebble.Options {
	p := &pebble.Options{
		FS: l.guard,
		// Relative to the log's directory, so that this can be copied, moved, or named by another path.
		WALDir:       pebble.MakeStoreRelativePath(l.opts.FS, commitLogDir),
		Logger:       pebbleLogger{l},
		MemTableSize: uint64(o.MemTableBytes),
		// Pebble must not stall a commit: it would hold the commit mutex meanwhile, for ever if flushes fail, and Close
		// needs that mutex. stalls makes the committer wait instead.
		MemTableStopWritesThreshold: math.MaxInt32,
		L0StopWritesThreshold:       math.MaxInt32,
		FlushSplitBytes:             tableSize,
		CacheSize:                   cacheSize,
		FormatMajorVersion:          pebble.FormatNewest,
		DisableAutomaticCompactions: true,
		BytesPerSync:                1 << 20,
		DisableTableStats:           true, // nothing asks for them: Trim excises, it leaves no tombstones
		ReadOnly:                    o.ReadOnly,
		EventListener: &pebble.EventListener{
			BackgroundError: func(err error) {
				l.guard.retries.Add(1)
				select {
				case l.troubled <- struct{}{}:
				default:
				}
				l.opts.Logger.Warn("writing tables failed, trying again", "error", err)
			},
			FlushEnd: func(i pebble.FlushInfo) {
				if i.Err == nil {
					l.guard.retries.Store(0)
				}
				l.stalls.flushed() // also after an error: Pebble says so of a flush that had nothing to write
			},
			WALCreated: func(pebble.WALCreateInfo) { l.stalls.rotated() },
		},
	}
	for i := range p.TargetFileSizes {
		p.TargetFileSizes[i] = tableSize
	}
	for i := range p.Levels {
		p.Levels[i].BlockSize = blockSize
		p.Levels[i].Compression = func() *sstable.CompressionProfile { return sstable.NoCompression }
	}
	return p
}

// openPebble is pebble.Open that returns an error where Pebble panics: when the directory cannot be synced.
func openPebble(dir string, o *pebble.Options) (db *pebble.DB, err error) {
	defer func() {
		if p := recover(); p != nil {
			e, ok := p.(error)
			if !ok {
				panic(p)
			}
			err = fmt.Errorf("wal: open: %w", e)
		}
	}()
	return pebble.Open(dir, o)
}

// stallGate makes the committer wait while too many memtables wait to be flushed. How many they are only Pebble knows
// (not every rotation adds one, and a flush takes several): it is asked when one of them may have been added.
type stallGate struct {
	mu      sync.Mutex
	cond    sync.Cond
	changed bool // a memtable may have been added since Pebble was asked
	flushes int
	open    bool // the log has failed or closes: nobody waits any longer
}

func (s *stallGate) init() { s.cond.L = &s.mu }

// rotated and flushed are called from within Pebble, under its locks.
func (s *stallGate) rotated() {
	s.mu.Lock()
	s.changed = true
	s.mu.Unlock()
}

func (s *stallGate) flushed() {
	s.mu.Lock()
	s.flushes++
	s.mu.Unlock()
	s.cond.Broadcast()
}

func (s *stallGate) release() {
	s.mu.Lock()
	s.open = true
	s.mu.Unlock()
	s.cond.Broadcast()
}

// full tells whether wait would have to wait. count returns the number of memtables.
func (s *stallGate) full(count func() int64) bool {
	s.mu.Lock()
	changed := s.changed && !s.open
	s.mu.Unlock()
	return changed && count() > maxMemTables
}

// wait waits for flushes if there is need, and tells whether it had to. count returns the number of memtables.
func (s *stallGate) wait(count func() int64) (stalled bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.changed && !s.open {
		s.changed = false
		seen := s.flushes
		s.mu.Unlock()
		n := count()
		s.mu.Lock()
		if n <= maxMemTables {
			continue
		}
		s.changed, stalled = true, true
		for s.flushes == seen && !s.open {
			s.cond.Wait()
		}
	}
	return stalled
}

// pebbleLogger is Pebble's logger. Pebble calls Fatalf when it cannot go on, and goes on as if nothing had happened when
// Fatalf returns: so the log fails there and then, before anything that depends on it is announced.
type pebbleLogger struct{ l *Log }

var _ interface {
	Infof(string, ...any)
	Errorf(string, ...any)
	Fatalf(string, ...any)
} = pebbleLogger{}

func (p pebbleLogger) Infof(format string, args ...any) {
	if log := p.l.opts.Logger; log.GetLevel() == hclog.Trace {
		log.Trace("pebble", "message", fmt.Sprintf(format, args...))
	}
}

func (p pebbleLogger) Errorf(format string, args ...any) {
	p.l.opts.Logger.Error("pebble", "message", fmt.Sprintf(format, args...))
}

func (p pebbleLogger) Fatalf(format string, args ...any) {
	p.l.fail(fmt.Errorf("wal: "+format, args...))
}

// get returns a copy of a key's value, nil if there is none.
func get(db *pebble.DB, key []byte) ([]byte, error) {
	v, closer, err := db.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	v = append([]byte{}, v...)
	return v, closer.Close()
}

// maxMetaTables is how many tables of metadata may lie above one another before they are merged. They are tiny, but each
// costs every read a look at its bounds.
const maxMetaTables = 8

// writeMeta writes b, which it takes, durably: in a memtable of its own, so that no table holds both metadata and chunks
// and so none of two tables of chunks overlaps. A crash amid this leaves one such table, which only costs reads a little.
// REQUIRES: use; admin.
func (l *Log) writeMeta(b *pebble.Batch) error {
	err := l.Err()
	if err == nil {
		err = l.flushTables()
	}
	if err != nil {
		return errors.Join(err, b.Close())
	}
	if err := l.db.Apply(b, pebble.Sync); err != nil {
		l.fail(err)
		return err
	}
	if err := l.Err(); err != nil { // told by the guard
		return err
	}
	return b.Close()
}

// settleMeta moves what writeMeta wrote into tables. It only puts in order: an error leaves everything as durable as it was.
// REQUIRES: use; admin.
func (l *Log) settleMeta() error {
	if err := l.flushTables(); err != nil {
		return err
	}
	if m := l.db.Metrics(); m.Levels[0].Sublevels > maxMetaTables {
		return l.db.Compact(context.Background(), metaLow, metaHigh, false)
	}
	return nil
}

// flushTables writes the memtables to tables. Unlike DB.Flush it gives up when the log fails or closes. REQUIRES: use.
func (l *Log) flushTables() error {
	flushed, err := l.db.AsyncFlush()
	if err != nil {
		return err
	}
	select {
	case <-flushed:
		return l.Err()
	case <-l.failed:
		return l.Err()
	case <-l.guard.closing:
		return ErrClosed
	}
}

// leaveTables moves what the commit log has into tables before the log is closed, so that the next start need not read it again.
// All is durable already: where tables cannot be written, that start does it. REQUIRES: nobody appends; before guard.closing.
func (l *Log) leaveTables() {
	if l.guard.retries.Load() > 0 {
		return
	}
	flushed, err := l.db.AsyncFlush()
	if err != nil {
		l.opts.Logger.Warn("writing tables failed, the next start does it", "error", err)
		return
	}
	select {
	case <-flushed:
	case <-l.troubled: // has been logged
	case <-l.failed:
	}
}

// use keeps the database open until done is called; ErrClosed when the log is closed.
func (l *Log) use() (done func(), err error) {
	l.dbMu.RLock()
	if l.dbClosed {
		l.dbMu.RUnlock()
		return nil, ErrClosed
	}
	return l.dbMu.RUnlock, nil
}

// chunkIter returns an iterator over all chunks.
func (l *Log) chunkIter() (*pebble.Iterator, error) {
	return l.db.NewIter(&pebble.IterOptions{LowerBound: chunkLow, UpperBound: chunkHigh})
}

// readError makes a typed error of one that reading at o met.
func readError(o Offset, err error) error {
	if err != nil && pebble.IsCorruptionError(err) {
		return &CorruptionError{o, err}
	}
	return err
}
