package wal

import (
	"sync/atomic"
	"time"
)

type metricCounters struct {
	commits, chunks, appends, bytes, syncs, syncNanos, trims atomic.Int64
}

// Metrics are figures since the log was opened.
type Metrics struct {
	Commits  int64 // batches written
	Chunks   int64
	Appends  int64 // holds of the executor lock that wrote
	Bytes    int64 // of the stream
	Syncs    int64
	SyncTime time.Duration // spent in batches that were synced, in all
	Trims    int64
	DiskSize int64 // bytes that the log takes on disk
	// Flushed and Compacted are the bytes that Pebble wrote to tables beside its WAL: where DiskWritten comes from.
	WALWritten, Flushed, Compacted int64
}

// Metrics returns figures of the log.
func (l *Log) Metrics() Metrics {
	m := l.db.Metrics()
	out := Metrics{Commits: l.metrics.commits.Load(), Chunks: l.metrics.chunks.Load(), Appends: l.metrics.appends.Load(),
		Bytes: l.metrics.bytes.Load(), Syncs: l.metrics.syncs.Load(), SyncTime: time.Duration(l.metrics.syncNanos.Load()),
		Trims: l.metrics.trims.Load(), DiskSize: int64(m.DiskSpaceUsage()), WALWritten: int64(m.WAL.BytesWritten)}
	for i := range m.Levels {
		out.Flushed += int64(m.Levels[i].TableBytesFlushed)
		out.Compacted += int64(m.Levels[i].TableBytesCompacted)
	}
	return out
}
