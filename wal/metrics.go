package wal

import (
	"sync/atomic"
	"time"
)

type metricCounters struct {
	commits, chunks, appends, bytes, syncs, syncNanos, syncMax, trims, stalls atomic.Int64
}

// Metrics are figures since the log was opened.
type Metrics struct {
	Commits  int64 // batches written
	Chunks   int64
	Appends  int64 // holds of the executor lock that wrote
	Bytes    int64 // of the stream
	Syncs    int64
	SyncTime time.Duration // spent in batches that were synced, in all
	SyncMax  time.Duration // the longest of them
	Stalls   int64         // times the committer waited for memtables to be flushed
	Trims    int64
	DiskSize int64 // bytes that the log takes on disk
	// Flushed and Compacted are the bytes that Pebble wrote to tables beside its WAL: where DiskWritten comes from.
	WALWritten, Flushed, Compacted int64
}

// synced counts a sync.
func (m *metricCounters) synced(took time.Duration) {
	m.syncs.Add(1)
	m.syncNanos.Add(int64(took))
	for {
		old := m.syncMax.Load()
		if int64(took) <= old || m.syncMax.CompareAndSwap(old, int64(took)) {
			return
		}
	}
}

// Metrics returns figures of the log.
func (l *Log) Metrics() Metrics {
	out := Metrics{Commits: l.metrics.commits.Load(), Chunks: l.metrics.chunks.Load(), Appends: l.metrics.appends.Load(),
		Bytes: l.metrics.bytes.Load(), Syncs: l.metrics.syncs.Load(), SyncTime: time.Duration(l.metrics.syncNanos.Load()),
		SyncMax: time.Duration(l.metrics.syncMax.Load()), Stalls: l.metrics.stalls.Load(), Trims: l.metrics.trims.Load()}
	done, err := l.use()
	if err != nil {
		return out // closed: what the log itself has counted
	}
	defer done()
	m := l.db.Metrics()
	out.DiskSize, out.WALWritten = int64(m.DiskSpaceUsage()), int64(m.WAL.BytesWritten)
	for i := range m.Levels {
		out.Flushed += int64(m.Levels[i].TableBytesFlushed)
		out.Compacted += int64(m.Levels[i].TableBytesCompacted)
	}
	return out
}
