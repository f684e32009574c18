package wal

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"
)

// Ids that begin often leave neither overlapping tables of chunks nor a heap of tables of metadata.
func TestManyIDs(t *testing.T) {
	ctx := context.Background()
	fs := vfs.NewMem()
	o := Options{MemTableBytes: 64 << 10}
	for life := range 6 {
		l := open(t, fs, o)
		for i := range 10 {
			require.NoError(t, l.BeginID(fmt.Sprintf("%040x", life*100+i)))
			for range 10 {
				l.Append(set(i, 3000), 0, 0)
			}
			require.NoError(t, l.Sync(ctx))
			require.LessOrEqual(t, l.db.Metrics().Levels[0].Sublevels, int32(maxMetaTables+1))
		}
		m := l.Metrics()
		require.Less(t, m.Compacted, int64(200<<10), "only metadata is merged")
		require.NoError(t, l.Close())
	}
	require.NoError(t, Check(ctx, Options{FS: fs, Dir: "wal"}, func(string) {}))
}

// A byte of the log is written twice, and never again: tables are moved, not rewritten, and trimming drops them.
func TestWriteAmplificationAndTrim(t *testing.T) {
	ctx := context.Background()
	fs := vfs.NewMem()
	l := open(t, fs, Options{Policy: No, MemTableBytes: 64 << 10, MaxChunkBytes: 4 << 10})
	rec := set(7, 4000)
	for range 4000 {
		l.Append(rec, 0, 0)
		require.NoError(t, l.Sync(ctx))
	}
	require.NoError(t, l.db.Flush())
	m := l.Metrics()
	t.Logf("log %d KiB, commit log %d, flushed %d, compacted %d, disk %d", m.Bytes>>10, m.WALWritten>>10, m.Flushed>>10, m.Compacted>>10, m.DiskSize>>10)
	require.Zero(t, m.Compacted, "a table was rewritten")
	require.Less(t, float64(m.WALWritten+m.Flushed), 2.1*float64(m.Bytes))

	end := l.End()
	for at := Offset(0); at < end; at += end / 20 {
		require.NoError(t, l.Trim(at))
	}
	keep := end - l.First()
	m = l.Metrics()
	t.Logf("kept %d KiB, disk %d KiB, compacted %d KiB", keep>>10, m.DiskSize>>10, m.Compacted>>10)
	require.Zero(t, m.Compacted, "trimming rewrote a table")
	l.db.TestOnlyWaitForCleaning()
	require.Less(t, l.Metrics().DiskSize, int64(keep)+1<<20, "trimming gives the space back")
	require.NoError(t, l.Close())
	require.NoError(t, Check(ctx, Options{FS: fs, Dir: "wal"}, func(string) {}))
}

func TestRetain(t *testing.T) {
	ctx := context.Background()
	now := time.UnixMilli(1_000_000)
	l := open(t, vfs.NewMem(), Options{Now: func() time.Time { return now }, RetainBytes: 1000})
	var ends []Offset
	for i := range 100 {
		now = now.Add(time.Second)
		ends = append(ends, l.Append(set(i, 80), 0, 0))
		require.NoError(t, l.Sync(ctx))
	}
	require.NoError(t, l.Retain(ends[10])) // W6: the pin
	require.Equal(t, ends[10], l.First())
	require.NoError(t, l.Retain(l.End()))
	require.GreaterOrEqual(t, l.End()-l.First(), Offset(1000))
	require.Less(t, l.End()-l.First(), Offset(1200))
	l.SetRetention(0, 3*time.Second)
	require.NoError(t, l.Retain(l.End()))
	at, err := l.TimeAt(l.First())
	require.NoError(t, err)
	require.Equal(t, 3*time.Second, now.Sub(at))
	_, err = l.TimeAt(l.End())
	require.ErrorIs(t, err, ErrFuture)
	_, err = l.TimeAt(0)
	require.ErrorIs(t, err, ErrTrimmed)
	require.NoError(t, l.Close())
	_, err = l.OffsetAt(now)
	require.ErrorIs(t, err, ErrClosed)
}

// A reader that stands where the log is trimmed learns it, whatever it has read ahead.
func TestReaderTrimmed(t *testing.T) {
	ctx := context.Background()
	l := open(t, vfs.NewMem(), Options{TailBytes: 1024})
	var mid Offset
	for i := range 600 {
		end := l.Append(set(i, 2000), 0, 0)
		if i == 400 {
			mid = end
		}
		require.NoError(t, l.Sync(ctx))
	}
	r, err := l.NewReader(0)
	require.NoError(t, err)
	_, _, err = r.Next(ctx)
	require.NoError(t, err)
	require.NoError(t, l.Trim(mid))
	for err == nil {
		_, _, err = r.Next(ctx)
		require.Less(t, r.Offset(), mid)
	}
	require.ErrorIs(t, err, ErrTrimmed)
	require.NoError(t, r.Close())
	require.NoError(t, l.Close())
}

func TestReset(t *testing.T) {
	ctx := context.Background()
	fs := vfs.NewMem()
	l := open(t, fs, Options{})
	require.NoError(t, l.BeginID(idA))
	l.Append(set(1, 100), 0, 0)
	require.NoError(t, l.Sync(ctx))
	r, err := l.NewReader(0)
	require.NoError(t, err)
	lineage := []LineageEntry{{idB, 0, 700}, {idA, 700, -1}}
	require.Error(t, l.Reset(100, lineage)) // its current id would begin later
	require.NoError(t, l.Reset(1000, lineage))
	_, _, err = r.Next(ctx)
	require.ErrorIs(t, err, ErrTrimmed)
	require.NoError(t, r.Close())
	require.NoError(t, l.Close())
	l = open(t, fs, Options{})
	require.Equal(t, []Offset{1000, 1000}, []Offset{l.First(), l.End()})
	require.Equal(t, lineage, l.Lineage())
	rec := set(2, 100)
	require.Equal(t, 1000+Offset(len(rec)), l.Append(rec, 0, 0))
	require.NoError(t, l.Sync(ctx))
	require.Equal(t, rec, readAll(t, l, 1000))
	require.NoError(t, l.Close())
	require.NoError(t, Check(ctx, Options{FS: fs, Dir: "wal"}, func(string) {}))
}

func TestTruncateLineage(t *testing.T) {
	ctx := context.Background()
	fs := vfs.NewMem()
	l := open(t, fs, Options{})
	require.NoError(t, l.BeginID(idA))
	a := l.Append(set(1, 10), 0, 0)
	require.NoError(t, l.Sync(ctx))
	b := l.Append(set(2, 10), 0, 0)
	require.NoError(t, l.BeginID(idB))
	l.Append(set(3, 10), 0, 0)
	require.NoError(t, l.TruncateTo(b))
	require.Equal(t, []LineageEntry{{idA, 0, b}, {idB, b, -1}}, l.Lineage())
	require.NoError(t, l.TruncateTo(a))
	require.Equal(t, []LineageEntry{{idA, 0, -1}}, l.Lineage())
	require.ErrorIs(t, l.TruncateTo(b), ErrFuture)
	require.ErrorIs(t, l.TruncateTo(5), ErrRecord)
	require.NoError(t, l.TruncateTo(0))
	rec := set(9, 9)
	l.Append(rec, 0, 0)
	require.NoError(t, l.Sync(ctx))
	require.Equal(t, rec, readAll(t, l, 0))
	require.NoError(t, l.Close())
	require.NoError(t, Check(ctx, Options{FS: fs, Dir: "wal"}, func(string) {}))
}

// Check finds what is planted, and says where.
func TestCheckFinds(t *testing.T) {
	ctx := context.Background()
	chunk := func(start Offset, data string) []byte {
		v := append(make([]byte, chunkHeaderLen), data...)
		putChunkHeader(v, start, 1, 0, false)
		return v
	}
	rec := string(set(1, 10))
	n := Offset(len(rec))
	for _, c := range []struct {
		name  string
		plant func(l *Log) error
		at    Offset
		says  string
	}{
		{"gap", func(l *Log) error { return l.db.Set(chunkKey(nil, n+1), chunk(n+1, rec), nil) }, n, "W1"},
		{"half a record", func(l *Log) error { return l.db.Set(chunkKey(nil, n), chunk(n, rec[:9]), nil) }, n, "W2"},
		{"open MULTI", func(l *Log) error { return l.db.Set(chunkKey(nil, n), chunk(n, "*1\r\n$5\r\nMULTI\r\n"), nil) }, n, "W2"},
		{"other bytes", func(l *Log) error {
			v := chunk(0, rec)
			v[len(v)-4] ^= 1
			return l.db.Set(chunkKey(nil, 0), v, nil)
		}, 0, "checksum"},
		{"other place", func(l *Log) error { return l.db.Set(chunkKey(nil, n), chunk(0, rec), nil) }, n, "checksum"},
		{"id from the future", func(l *Log) error {
			return l.apply(nil, []LineageEntry{{idA, 0, 5000}, {idB, 5000, -1}})
		}, 5000, "W3"},
		{"ids with a gap", func(l *Log) error { return l.apply(nil, []LineageEntry{{idA, 0, 5}, {idB, 6, -1}}) }, 0, "W3"},
	} {
		t.Run(strings.ReplaceAll(c.name, " ", "-"), func(t *testing.T) {
			fs := vfs.NewMem()
			l := open(t, fs, Options{})
			require.NoError(t, l.BeginID(idA))
			l.Append([]byte(rec), 0, 0)
			require.NoError(t, l.Sync(ctx))
			require.NoError(t, c.plant(l))
			require.NoError(t, l.Close())
			err := Check(ctx, Options{FS: fs, Dir: "wal"}, func(string) {})
			var ce *CorruptionError
			require.ErrorAs(t, err, &ce)
			require.Equal(t, c.at, ce.Offset)
			require.ErrorContains(t, err, c.says)
		})
	}
	fs := vfs.NewMem()
	l := open(t, fs, Options{})
	require.NoError(t, l.db.Set(formatKey, []byte{9}, nil))
	require.NoError(t, l.Close())
	_, err := Open(Options{FS: fs, Dir: "wal"})
	require.ErrorIs(t, err, ErrFormat)
	require.NotEmpty(t, fmt.Sprint(err))
}
