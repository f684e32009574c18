package engine

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/holdfast-db/holdfast/snapshot/rdb"
	"github.com/holdfast-db/holdfast/wal"
)

// benchFile is an RDB file of n keys of 20 bytes with 100 random bytes each, in an order that has nothing to do with that of rows.
func benchFile(b testing.TB, n int) []byte {
	var out bytes.Buffer
	out.Grow(n * 124)
	r, f, val := rand.New(rand.NewPCG(3, 1)), rdb.NewFileWriter(&out), make([]byte, 0, 128)
	require.NoError(b, f.SelectDB(0))
	for i := range n {
		val = rdb.AppendLen(append(val[:0], byte(rdb.TypeString)), 100)
		for range 12 {
			val = binary.LittleEndian.AppendUint64(val, r.Uint64())
		}
		val = binary.LittleEndian.AppendUint32(val, r.Uint32())
		require.NoError(b, f.Key(fmt.Appendf(nil, "key:%016d", i), -1, val))
	}
	require.NoError(b, f.Close())
	return out.Bytes()
}

func cpuTime(b testing.TB) time.Duration {
	var u syscall.Rusage
	require.NoError(b, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkLoad is what it takes to take over a file: until all of it is read, and until data and log are replaced; cpu-ns is
// processor time for each key.
func BenchmarkLoad(b *testing.B) {
	const keys = 2_000_000
	file := benchFile(b, keys)
	var read, commit, cpu time.Duration
	for b.Loop() {
		e := mustOpen(b, Options{Dir: b.TempDir(), Fsync: wal.EverySec, BallastBytes: -1, Manual: true})
		start, spent := time.Now(), cpuTime(b)
		l, err := e.BeginLoad(context.Background())
		require.NoError(b, err)
		require.NoError(b, l.RDB(context.Background(), bytes.NewReader(file)))
		read += time.Since(start)
		require.NoError(b, l.Commit(context.Background(), 100, lineageOf(100)))
		cpu += cpuTime(b) - spent
		commit += time.Since(start)
		require.EqualValues(b, keys, e.ks.DB(0).Len())
		require.NoError(b, e.Abandon())
	}
	n := float64(b.N)
	b.ReportMetric(read.Seconds()/n, "s-read")
	b.ReportMetric(commit.Seconds()/n, "s-all")
	b.ReportMetric(float64(cpu.Nanoseconds())/n/keys, "cpu-ns/key")
}
