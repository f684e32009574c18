package wal

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
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

// A log's directory may be moved, or named by another path than before.
func TestMovedLogOpens(t *testing.T) {
	fs := vfs.NewMem()
	l := open(t, fs, Options{})
	require.NoError(t, l.BeginID(idA))
	want := set(1, 100)
	l.Append(want, 0, 0)
	require.NoError(t, l.Sync(context.Background()))
	require.NoError(t, l.Close())
	require.NoError(t, fs.Rename("wal", "elsewhere"))
	l, err := Open(Options{FS: fs, Dir: "elsewhere"})
	require.NoError(t, err)
	require.Equal(t, want, readAll(t, l, 0))
	require.NoError(t, l.Close())
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

// A new log's memtables start small, and Pebble flushes none before half a full one has gathered: the committer must not
// wait for a flush that does not come.
func TestNewLogDoesNotStall(t *testing.T) {
	l := open(t, vfs.NewMem(), Options{})
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	rec := set(1, 1<<20)
	for range 200 {
		l.Append(rec, 0, 0)
		require.NoError(t, l.Sync(ctx))
	}
	require.NoError(t, l.Close())
}

// Bytes that gather while the committer is held up gather in pieces, of which a few are kept for later; what comes out is what
// went in, in order, whatever the lengths (W1).
func TestPieces(t *testing.T) {
	ctx := context.Background()
	l := open(t, vfs.NewMem(), Options{Policy: No})
	want := []byte{}
	for i := range 3 * maxSpare {
		for _, n := range []int{1, pieceBytes / 2, pieceBytes/2 + i, 10, 2 * pieceBytes} {
			rec := set(i, n)
			want = append(want, rec...)
			l.Append(rec, 0, 0)
		}
	}
	l.mu.Lock()
	for _, p := range l.mu.pieces {
		require.True(t, cap(p.buf) == pieceBytes || len(p.segs) == 1, "%d bytes of %d in %d appends", len(p.buf), cap(p.buf), len(p.segs))
	}
	l.mu.Unlock()
	require.NoError(t, l.Sync(ctx))
	r, err := l.NewReader(0)
	require.NoError(t, err)
	got := []byte{}
	for len(got) < len(want) {
		_, data, err := r.Next(ctx)
		require.NoError(t, err)
		got = append(got, data...)
	}
	require.True(t, bytes.Equal(want, got))
	require.NoError(t, r.Close())
	l.mu.Lock()
	require.LessOrEqual(t, len(l.mu.spare), maxSpare)
	for _, p := range l.mu.spare {
		require.Empty(t, p.buf)
		require.Equal(t, pieceBytes, cap(p.buf))
	}
	l.mu.Unlock()
	require.NoError(t, l.Close())
}
