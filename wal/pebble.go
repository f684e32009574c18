package wal

import (
	"errors"
	"fmt"
	"sync"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/hashicorp/go-hclog"
)

// The log's Pebble. Its keys only grow, so that tables never overlap and a compaction is a move of a table to another
// level, not a rewrite: a byte of the log is written twice, once to Pebble's own WAL and once when a memtable is flushed.
const (
	// memTableSize is the size of a memtable in bytes: large, so that flushes are few. Replaying it after a crash takes
	// some 100 ms.
	memTableSize = 64 << 20
	// tableSize is the size of a table in bytes: what trimming drops at once.
	tableSize = 64 << 20
	// blockSize: chunks are read in order, and most are larger than any block.
	blockSize = 64 << 10
	// cacheSize is small: a reader goes through the log once, and must not take memory for it.
	cacheSize = 8 << 20
)

func pebbleOptions(o *Options, fatal *fatalLogger) *pebble.Options {
	p := &pebble.Options{
		FS:                          o.FS,
		Logger:                      fatal,
		MemTableSize:                memTableSize,
		MemTableStopWritesThreshold: 4,
		FlushSplitBytes:             tableSize,
		CacheSize:                   cacheSize,
		FormatMajorVersion:          pebble.FormatNewest,
		L0CompactionFileThreshold:   100,
		LBaseMaxBytes:               1 << 40,
		BytesPerSync:                1 << 20,
		ReadOnly:                    o.ReadOnly,
	}
	for i := range p.TargetFileSizes {
		p.TargetFileSizes[i] = tableSize
	}
	for i := range p.Levels {
		p.Levels[i].BlockSize = blockSize
		// Measured with RESP of random 100-byte values: snappy saves 14 % and costs a fifth of the writer's CPU.
		p.Levels[i].Compression = func() *sstable.CompressionProfile { return sstable.NoCompression }
	}
	p.CompactionConcurrencyRange = func() (int, int) { return 1, 1 }
	return p
}

// fatalLogger is Pebble's logger. Pebble calls Fatalf when a commit has failed, and goes on as if it had not when Fatalf
// returns: so it is kept, and the committer looks at it after each write.
type fatalLogger struct {
	log hclog.Logger
	mu  struct {
		sync.Mutex
		err error
	}
}

func (f *fatalLogger) Infof(format string, args ...any) {
	if f.log.IsTrace() {
		f.log.Trace("pebble", "message", fmt.Sprintf(format, args...))
	}
}

func (f *fatalLogger) Errorf(format string, args ...any) {
	f.log.Error("pebble", "message", fmt.Sprintf(format, args...))
}

func (f *fatalLogger) Fatalf(format string, args ...any) {
	err := fmt.Errorf(format, args...)
	f.mu.Lock()
	if f.mu.err == nil {
		f.mu.err = err
	}
	f.mu.Unlock()
	f.log.Error("pebble met a fatal error", "message", err.Error())
}

func (f *fatalLogger) err() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.mu.err
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
