package engine

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/holdfast-db/holdfast/server/keyspace"
	"github.com/holdfast-db/holdfast/server/reply"
	"github.com/holdfast-db/holdfast/wal"
)

// benchKeys writes keys of 20 bytes with 100 random bytes, from and up to, without a session.
func benchKeys(b testing.TB, e *Engine, from, to int) {
	r := rand.New(rand.NewPCG(uint64(from), 1))
	set, w, val := e.Table().Lookup([]byte("SET")), &reply.Writer{}, make([]byte, 100)
	cl := e.NewClient()
	for i := from; i < to; {
		e.Lock()
		for range min(256, to-i) {
			for j := range val {
				val[j] = byte(r.Uint32())
			}
			require.Equal(b, StatusDone, e.Run(cl, set, [][]byte{[]byte("SET"), fmt.Appendf(nil, "key:%016d", i), val}, w))
			w.Reset(2)
			i++
		}
		e.Unlock()
	}
}

// BenchmarkCheckpoint is how long it takes to make what has changed into tables, in objects, with nobody else at work.
func BenchmarkCheckpoint(b *testing.B) {
	for _, dirty := range []int{10_000, 200_000} {
		b.Run(fmt.Sprintf("dirty=%d", dirty), func(b *testing.B) {
			e := mustOpen(b, Options{Dir: b.TempDir(), Fsync: wal.EverySec, BallastBytes: -1, Manual: true})
			benchKeys(b, e, 0, 200_000)
			require.NoError(b, e.Checkpoint(context.Background()))
			b.ResetTimer()
			for range b.N {
				b.StopTimer()
				benchKeys(b, e, 0, dirty)
				b.StartTimer()
				require.NoError(b, e.Checkpoint(context.Background()))
			}
			b.ReportMetric(float64(dirty)*float64(b.N)/b.Elapsed().Seconds(), "objects/s")
			require.NoError(b, e.Abandon())
		})
	}
}

// BenchmarkFreeze is what a write costs while a checkpoint runs that has not come to the key yet (frozen), and once it has been
// written (settled): the first copies the value aside (K4).
func BenchmarkFreeze(b *testing.B) {
	const keys = 100_000
	for _, state := range []string{"settled", "frozen"} {
		b.Run("state="+state, func(b *testing.B) {
			e := mustOpen(b, Options{Dir: b.TempDir(), Fsync: wal.No, BallastBytes: -1, Manual: true})
			for range b.N {
				b.StopTimer()
				benchKeys(b, e, 0, keys)
				var h *keyspace.Handover
				if state == "frozen" {
					e.Lock()
					h = e.ks.HandOver()
					e.Unlock()
				}
				b.StartTimer()
				benchKeys(b, e, 0, keys)
				b.StopTimer()
				if h != nil {
					p := &checkpointPass{e: e}
					p.holds.begin(e)
					p.giveBack(h)
					p.holds.end()
				}
			}
			b.ReportMetric(float64(keys)*float64(b.N)/b.Elapsed().Seconds(), "writes/s")
			require.NoError(b, e.Abandon())
		})
	}
}

// BenchmarkRows is how fast values become rows.
func BenchmarkRows(b *testing.B) {
	limits := keyspace.DefaultLimits()
	for _, size := range []int{16, 100, 4096} {
		b.Run(fmt.Sprintf("type=string/value=%d", size), func(b *testing.B) {
			bytes := 0
			enc := &keyspace.RowEncoder{Limits: &limits, NextOID: 1, Put: func(key, val []byte) { bytes += len(key) + len(val) }}
			val, key := make([]byte, size), []byte("key:0000000000000001")
			b.ReportAllocs()
			for b.Loop() {
				enc.String(1, key, val, 0)
			}
			b.SetBytes(int64(bytes / b.N))
		})
	}
}
