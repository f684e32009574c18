package wal

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/stretchr/testify/require"
)

const (
	idA = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	idB = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
)

func set(i, size int) []byte {
	return AppendCommand(nil, []byte("SET"), fmt.Appendf(nil, "key:%d", i), []byte(strings.Repeat("x", size)))
}

func open(t testing.TB, fs vfs.FS, o Options) *Log {
	t.Helper()
	o.FS, o.Dir = fs, "wal"
	l, err := Open(o)
	require.NoError(t, err)
	return l
}

func readAll(t testing.TB, l *Log, from Offset) []byte {
	t.Helper()
	r, err := l.NewReader(from)
	require.NoError(t, err)
	defer func() { require.NoError(t, r.Close()) }()
	var out []byte
	for r.Offset() < l.Durable() {
		at, data, err := r.Next(context.Background())
		require.NoError(t, err)
		require.Equal(t, from+Offset(len(out)), at)
		out = append(out, data...)
	}
	return out
}

func TestAppendReopenRead(t *testing.T) {
	ctx := context.Background()
	for _, policy := range []Policy{Always, EverySec, No} {
		t.Run("fsync="+policy.String(), func(t *testing.T) {
			fs := vfs.NewMem()
			l := open(t, fs, Options{Policy: policy, MaxChunkBytes: 1000})
			require.NoError(t, l.BeginID(idA))
			var want []byte
			for i := range 200 {
				rec := set(i, i*7%400)
				want = append(want, rec...)
				require.Equal(t, Offset(len(want)), l.Append(rec, i%3, i%3))
				l.Kick()
			}
			require.NoError(t, l.Sync(ctx))
			require.Equal(t, want, readAll(t, l, 0))
			require.NoError(t, l.Close())
			require.NoError(t, l.Close())

			l = open(t, fs, Options{Policy: policy})
			require.Equal(t, Offset(len(want)), l.End())
			for from := Offset(0); from <= l.End(); from += 37 { // any byte, also inside a chunk
				require.Equal(t, want[from:], readAll(t, l, from))
			}
			_, err := l.NewReader(l.End() + 1)
			require.ErrorIs(t, err, ErrFuture)
			require.NoError(t, l.BeginID(idB))
			require.Equal(t, []LineageEntry{{idA, 0, Offset(len(want))}, {idB, Offset(len(want)), -1}}, l.Lineage())
			require.NoError(t, l.Close())
			require.NoError(t, Check(ctx, Options{FS: fs, Dir: "wal"}, func(s string) { t.Log(s) }))
		})
	}
}

func TestReaderFollowsTheTail(t *testing.T) {
	ctx := context.Background()
	l := open(t, vfs.NewMem(), Options{TailBytes: 1 << 12})
	r, err := l.NewReader(0)
	require.NoError(t, err)
	var want, got []byte
	for i := range 300 {
		rec := set(i, i%200)
		if i == 150 {
			rec = set(i, 9000) // larger than the ring: read back from disk
		}
		want = append(want, rec...)
		l.Append(rec, 0, 0)
		l.Kick()
		if i%3 == 0 {
			for len(got) < len(want) {
				_, data, err := r.Next(ctx)
				require.NoError(t, err)
				got = append(got, data...)
			}
		}
	}
	for len(got) < len(want) {
		_, data, err := r.Next(ctx)
		require.NoError(t, err)
		got = append(got, data...)
	}
	require.Equal(t, want, got)
	wait, cancel := context.WithCancel(ctx)
	cancel()
	_, _, err = r.Next(wait)
	require.ErrorIs(t, err, context.Canceled)
	require.NoError(t, r.Close())
	require.NoError(t, l.Close())
}

func TestTrimTruncateTime(t *testing.T) {
	ctx := context.Background()
	ms := int64(1000)
	fs := vfs.NewMem()
	o := Options{Now: func() time.Time { return time.UnixMilli(atomic.LoadInt64(&ms)) }}
	l := open(t, fs, o)
	var ends []Offset
	for i := range 20 {
		atomic.StoreInt64(&ms, int64(1000+i*10))
		ends = append(ends, l.Append(set(i, 50), 0, 0))
		require.NoError(t, l.Sync(ctx))
	}
	at, err := l.OffsetAt(time.UnixMilli(1100))
	require.NoError(t, err)
	require.Equal(t, ends[9], at)
	at, err = l.OffsetAt(time.UnixMilli(5000))
	require.NoError(t, err)
	require.Equal(t, l.End(), at)
	when, err := l.TimeAt(ends[4])
	require.NoError(t, err)
	require.Equal(t, int64(1050), when.UnixMilli())

	require.NoError(t, l.Trim(ends[4]+3))
	require.Equal(t, ends[4], l.First())
	_, err = l.NewReader(ends[4] - 1)
	require.ErrorIs(t, err, ErrTrimmed)
	require.Error(t, l.TruncateTo(ends[9]+3)) // inside a record
	require.NoError(t, l.TruncateTo(ends[9]))
	require.Equal(t, ends[9], l.End())
	require.NoError(t, l.Close())
	require.NoError(t, Check(ctx, Options{FS: fs, Dir: "wal"}, func(string) {}))
	l = open(t, fs, o)
	require.Equal(t, []Offset{ends[4], ends[9]}, []Offset{l.First(), l.End()})
	require.NoError(t, l.Trim(l.End())) // the newest chunk stays
	require.Less(t, l.First(), l.End())
	require.NoError(t, l.Close())
}

// crash runs a log over a crashable file system, stops the machine before the k-th write, and looks at what is left.
func crash(policy Policy, k int64, unsynced int, mutant bool) (crashed bool, err error) {
	ctx := context.Background()
	mem := vfs.NewCrashableMem()
	var writes, acked, ackedThen atomic.Int64
	var armed atomic.Bool // Pebble's own creation of a database is not atomic; whoever opens a new directory sees to that
	var clone *vfs.MemFS
	fs := errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind.ReadOrWrite() == errorfs.OpIsWrite && armed.Load() && writes.Add(1) == k+1 {
			ackedThen.Store(acked.Load())
			clone = mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: unsynced, RNG: rand.New(rand.NewPCG(uint64(k), 9))})
		}
		return nil
	}))
	l, err := Open(Options{FS: fs, Dir: "wal", Policy: policy, ackBeforeSync: mutant,
		OnDurable: func(o Offset) { acked.Store(int64(o)) }})
	if err != nil {
		return false, err
	}
	armed.Store(true)
	var want []byte
	boundary := map[Offset]bool{0: true}
	if err := l.BeginID(idA); err != nil {
		return false, err
	}
	for i := range 60 {
		rec := set(i, i*31%500)
		want = append(want, rec...)
		boundary[l.Append(rec, 0, 0)] = true
		l.Kick()
		if policy == Always || i%20 == 19 {
			if err := l.Sync(ctx); err != nil {
				return false, err
			}
		}
	}
	if err := l.Close(); err != nil {
		return false, err
	}
	if clone == nil {
		return false, nil
	}
	if err := Check(ctx, Options{FS: clone, Dir: "wal"}, func(string) {}); err != nil {
		return true, err
	}
	l, err = Open(Options{FS: clone, Dir: "wal"})
	if err != nil {
		return true, err
	}
	defer l.Close()
	if l.End() < Offset(ackedThen.Load()) {
		return true, fmt.Errorf("W4: durable was %d, recovered up to %d", ackedThen.Load(), l.End())
	}
	if !boundary[l.End()] {
		return true, fmt.Errorf("W2: ends at %d", l.End())
	}
	r, err := l.NewReader(0)
	if err != nil {
		return true, err
	}
	defer r.Close()
	for r.Offset() < l.End() {
		at, data, err := r.Next(ctx)
		if err != nil {
			return true, err
		}
		if string(data) != string(want[at:int(at)+len(data)]) {
			return true, fmt.Errorf("other bytes at %d", at)
		}
	}
	return true, nil
}

func TestCrashAtEveryWrite(t *testing.T) {
	for _, policy := range []Policy{Always, EverySec, No} {
		for _, unsynced := range []int{0, 50} {
			t.Run(fmt.Sprintf("fsync=%s/unsynced=%d", policy, unsynced), func(t *testing.T) {
				t.Parallel()
				for k := int64(0); ; k++ {
					crashed, err := crash(policy, k, unsynced, false)
					require.NoError(t, err, "crash before write %d", k)
					if !crashed {
						return
					}
				}
			})
		}
	}
}

// The crash test is believed because it fails when durability is announced before the sync.
func TestCrashMutantAckBeforeSync(t *testing.T) {
	for k := int64(0); ; k++ {
		crashed, err := crash(Always, k, 0, true)
		if err != nil {
			t.Logf("found at write %d: %v", k, err)
			return
		}
		require.True(t, crashed, "the mutant was never found")
	}
}

// A write or sync that fails ends the log: nothing is acknowledged any more, and nothing hangs (A2).
func TestFailureIsFinal(t *testing.T) {
	ctx := context.Background()
	for k := int64(1); k < 40; k++ {
		var writes atomic.Int64
		var armed atomic.Bool
		mem := vfs.NewMem()
		fs := errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
			if armed.Load() && (op.Kind == errorfs.OpFileSync || op.Kind == errorfs.OpFileSyncData || op.Kind == errorfs.OpFileWrite) && writes.Add(1) == k {
				return errorfs.ErrInjected
			}
			return nil
		}))
		var failed atomic.Int64
		l, err := Open(Options{FS: fs, Dir: "wal", OnFailure: func(error) { failed.Add(1) }})
		require.NoError(t, err)
		armed.Store(true)
		var acked Offset
		for i := range 30 {
			end := l.Append(set(i, 100), 0, 0)
			l.Kick()
			if err := l.WaitDurable(ctx, end); err != nil {
				require.Error(t, l.Err())
				require.Error(t, l.Sync(ctx))
				break
			}
			acked = end
		}
		require.LessOrEqual(t, failed.Load(), int64(1))
		if failed.Load() == 1 {
			require.Equal(t, acked, l.Durable())
		}
		armed.Store(false)
		_ = l.Close() // reports the failure again
	}
}

func FuzzReadRecord(f *testing.F) {
	f.Add([]byte("*1\r\n$4\r\nPING\r\n"))
	f.Add([]byte("*2\r\n$1\r\na\r\n$0\r\n\r\n"))
	f.Add([]byte("*1\r\n$9223372036854775807\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		args, n, err := ReadRecord(b)
		if err != nil || n == 0 {
			return
		}
		if got := AppendCommand(nil, args...); string(got) != string(b[:n]) {
			t.Fatalf("%q reads as %q", b[:n], got)
		}
	})
}

func FuzzParseChunk(f *testing.F) {
	v := append(make([]byte, chunkHeaderLen), "*1\r\n$4\r\nPING\r\n"...)
	putChunkHeader(v, 7, 1, 0)
	f.Add(v)
	f.Fuzz(func(t *testing.T, b []byte) {
		if c, err := parseChunk(7, b); err == nil {
			_ = checkRecords(c.data)
		}
	})
}

func BenchmarkCommit(b *testing.B) {
	for _, policy := range []Policy{Always, EverySec} {
		for _, clients := range []int{1, 64} {
			b.Run(fmt.Sprintf("fsync=%s/clients=%d", policy, clients), func(b *testing.B) {
				l, err := Open(Options{Dir: b.TempDir(), Policy: policy})
				require.NoError(b, err)
				rec := set(1, 100)
				b.SetBytes(int64(len(rec)))
				for i := 0; i < b.N; i += clients {
					for range clients {
						l.Append(rec, 0, 0)
					}
					l.Kick()
					if policy == Always {
						require.NoError(b, l.WaitDurable(context.Background(), l.End()))
					}
				}
				require.NoError(b, l.Close())
			})
		}
	}
}
