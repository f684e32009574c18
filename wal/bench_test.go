package wal

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"
)

// BenchmarkCommit has clients that append a SET of 100 bytes each, as an executor would let them: one at a time. Under
// always each waits until its own is durable.
func BenchmarkCommit(b *testing.B) {
	for _, policy := range []Policy{Always, EverySec} {
		for _, clients := range []int{1, 16, 64} {
			b.Run(fmt.Sprintf("fsync=%s/clients=%d", policy, clients), func(b *testing.B) {
				ctx := context.Background()
				l, err := Open(Options{Dir: b.TempDir(), Policy: policy})
				require.NoError(b, err)
				rec := set(1, 100)
				b.SetBytes(int64(len(rec)))
				b.ReportAllocs()
				b.ResetTimer()
				var executor sync.Mutex
				var wg sync.WaitGroup
				for c := range clients {
					wg.Go(func() {
						for i := c; i < b.N; i += clients {
							executor.Lock()
							end := l.Append(rec, 0, 0)
							executor.Unlock()
							l.Kick()
							if policy == Always {
								require.NoError(b, l.WaitDurable(ctx, end))
							}
							for l.Pending() > 64<<20 { // the engine's back-pressure
								runtime.Gosched()
							}
						}
					})
				}
				wg.Wait()
				b.StopTimer()
				m := l.Metrics()
				if m.Syncs > 0 {
					b.ReportMetric(float64(m.SyncTime.Microseconds())/float64(m.Syncs), "µs/sync")
				}
				b.ReportMetric(float64(m.Appends)/float64(m.Chunks), "appends/chunk")
				require.NoError(b, l.Close())
			})
		}
	}
}

// BenchmarkRead catches up from disk, through chunks as always and as everysec leave them.
func BenchmarkRead(b *testing.B) {
	ctx := context.Background()
	for _, chunk := range []int{2 << 10, 64 << 10, 1 << 20} {
		b.Run(fmt.Sprintf("chunk-bytes=%d", chunk), func(b *testing.B) {
			l, err := Open(Options{Dir: b.TempDir(), Policy: No, MaxChunkBytes: chunk})
			require.NoError(b, err)
			rec := set(1, 1000)
			for l.End() < 128<<20 {
				l.Append(rec, 0, 0)
			}
			require.NoError(b, l.Sync(ctx))
			b.SetBytes(int64(l.End()))
			b.ResetTimer()
			for b.Loop() {
				r, err := l.NewReader(0)
				require.NoError(b, err)
				for r.Offset() < l.Durable() {
					_, _, err := r.Next(ctx)
					require.NoError(b, err)
				}
				require.NoError(b, r.Close())
			}
			b.StopTimer()
			require.NoError(b, l.Close())
		})
	}
}

// The hot path allocates nothing once its buffers have grown.
func TestAppendAllocatesNothing(t *testing.T) {
	ctx := context.Background()
	l := open(t, vfs.NewMem(), Options{Policy: No})
	rec := set(1, 100)
	round := func() {
		for range 1000 {
			l.Append(rec, 0, 0)
		}
		l.Kick()
	}
	for range 20 {
		round()
		require.NoError(t, l.Sync(ctx))
	}
	// Two buffers take turns, so a round without the committer fits in either.
	require.NoError(t, l.Sync(ctx))
	got := testing.AllocsPerRun(1, func() {
		for range 500 {
			l.Append(rec, 0, 0)
		}
	})
	require.LessOrEqual(t, got, 2.0)
	require.NoError(t, l.Close())
}

// Reading back goes forward, where Pebble lends chunks: it leaves less garbage than looking for each from behind, by the whole stream.
func TestReadingBackLeavesNoGarbage(t *testing.T) {
	const part, passes = 2 << 20, 16
	ctx := context.Background()
	l := open(t, vfs.NewMem(), Options{Policy: No, MaxChunkBytes: 200 << 10})
	rec := set(1, 1000)
	for l.End() < 12*part { // what is read lies before the tail in memory
		l.Append(rec, 0, 0)
	}
	require.NoError(t, l.Sync(ctx))
	read := func() {
		r, err := l.NewReader(0)
		require.NoError(t, err)
		for r.Offset() < part {
			_, _, err := r.Next(ctx)
			require.NoError(t, err)
			ms, _ := r.ChunkTime()
			require.NotZero(t, ms, "from memory")
		}
		require.NoError(t, r.Close())
	}
	backward := func() {
		for at := Offset(0); at < part; {
			it, err := l.chunkIter()
			require.NoError(t, err)
			start, c, err := seekChunk(it, at)
			require.NoError(t, err)
			at = start + Offset(len(c.data))
			require.NoError(t, it.Close())
		}
	}
	allocated := func(f func()) uint64 {
		f() // Pebble's cache has what fits from here on
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for range passes {
			f()
		}
		runtime.ReadMemStats(&after)
		return after.TotalAlloc - before.TotalAlloc
	}
	require.Less(t, allocated(read)+passes*part/2, allocated(backward))
	require.NoError(t, l.Close())
}
