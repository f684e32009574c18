package server

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/holdfast-db/holdfast/wal"
)

func writeLog(t *testing.T, l *wal.Log, from, to int) {
	t.Helper()
	for i := from; i < to; i++ {
		l.Append(wal.AppendCommand(nil, []byte("SET"), []byte(fmt.Sprint("k", i)), bytes.Repeat([]byte{'v'}, 50)), 0, 0)
	}
	require.NoError(t, l.Sync(context.Background()))
}

// liveWriter writes through what it is given and, at each write, tells so.
type liveWriter struct {
	bytes.Buffer
	wrote func(total string)
}

func (w *liveWriter) Write(p []byte) (int, error) {
	n, err := w.Buffer.Write(p)
	w.wrote(w.String())
	return n, err
}

// The log of a running writer is printed, and followed from the last printed record on, each record once.
func TestDumpLiveLog(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(dir, "wal"), 0o755))
	l, err := wal.Open(wal.Options{Dir: filepath.Join(dir, "wal")})
	require.NoError(t, err)
	defer func() { require.NoError(t, l.Close()) }()
	writeLog(t, l, 0, 10)
	half := l.End()

	var out bytes.Buffer
	require.NoError(t, DumpLog(context.Background(), &out, LogDump{Dir: dir, Format: "text"}))
	require.Equal(t, 10, strings.Count(out.String(), "\n"))

	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	written := 10
	w := &liveWriter{}
	w.wrote = func(total string) {
		switch n := strings.Count(total, "\n"); {
		case n >= 30:
			cancel()
		case n == written: // all that there is has been printed
			writeLog(t, l, written, written+10)
			written += 10
		}
	}
	require.NoError(t, DumpLog(ctx, w, LogDump{Dir: dir, Format: "text", Follow: time.Millisecond}))
	lines := strings.Split(strings.TrimSpace(w.String()), "\n")
	require.Len(t, lines, 30)
	for i, line := range lines {
		require.Contains(t, line, fmt.Sprintf(`"SET" "k%d" `, i))
	}
	require.True(t, strings.HasPrefix(lines[10], fmt.Sprint(int64(half), " ")), lines[10])
}

// While a writer runs without a pause and its tables are flushed, what is seen of its log is dense and never gets shorter
// (W1).
func TestOpenLiveUnderLoad(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	fs := vfs.NewMem()
	l, err := wal.Open(wal.Options{FS: fs, Dir: "wal", Policy: wal.No})
	require.NoError(t, err)
	done := make(chan error, 1)
	started := make(chan struct{})
	go func() {
		rec := wal.AppendCommand(nil, []byte("SET"), []byte("k"), bytes.Repeat([]byte{'v'}, 1000))
		for i := 0; ; i++ {
			l.Append(rec, 0, 0)
			if i%50 != 0 {
				continue
			}
			if err := l.Sync(ctx); err != nil {
				done <- err
				return
			}
			if i == 5000 {
				close(started)
			}
		}
	}()
	<-started
	var last wal.Offset
	for range 5 {
		durable := l.Durable()
		live, err := wal.OpenLive(ctx, wal.Options{FS: fs, Dir: "wal"})
		require.NoError(t, err)
		require.GreaterOrEqual(t, live.End(), max(last, durable))
		last = live.End()
		next := live.First()
		require.NoError(t, eachChunk(live, next, func(at wal.Offset, data []byte, _ int64, _ int) error {
			require.Equal(t, next, at)
			next += wal.Offset(len(data))
			return nil
		}))
		require.Equal(t, last, next)
		require.NoError(t, live.Close())
	}
	cancel()
	require.ErrorIs(t, <-done, context.Canceled)
	require.NoError(t, l.Close())
}

// A directory without a log is an error, after a bounded number of tries.
func TestOpenLiveMissing(t *testing.T) {
	_, err := wal.OpenLive(context.Background(), wal.Options{FS: vfs.NewMem(), Dir: "nowhere"})
	require.Error(t, err)
}
