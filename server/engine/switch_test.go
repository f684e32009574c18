package engine

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"path"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/stretchr/testify/require"

	"github.com/holdfast-db/holdfast/wal"
)

// ofSwitch tells the operations of replacing data that are not Pebble's, which panics when a directory cannot be synced:
// marks, renames, syncs of the data directory, making and deleting stores.
func ofSwitch(op errorfs.Op) bool {
	switch base := path.Base(op.Path); {
	case strings.HasPrefix(base, switchName):
		return op.Kind.ReadOrWrite() == errorfs.OpIsWrite || isSync(op)
	case op.Path == "data":
		return isSync(op) || op.Kind == errorfs.OpOpenDir
	case base == storeName, base == newStoreName, base == oldStoreName:
		return op.Kind == errorfs.OpRename || op.Kind == errorfs.OpRemoveAll || op.Kind == errorfs.OpMkdirAll
	}
	return false
}

// An error at the k-th step of replacing data, for every k: before the mark is there nothing has happened and the same
// engine goes on with the old data; after it writes and streams are refused, and the next start finishes what was begun.
func TestSwitchErrors(t *testing.T) {
	ctx := context.Background()
	clk := &clock{ms: 1_700_000_000_000}
	p := filled(t, clk, 4, 100)
	defer p.Close(ctx)
	file, want := rdbOf(t, p), digestOf(p)
	undone, finished := 0, 0
	for k := int64(0); ; k++ {
		f := &fault{mem: vfs.NewMem(), k: k, hits: ofSwitch}
		o := replicaOptions(f.fs(), clk)
		failures := 0
		o.OnFailure = func(error) { failures++ }
		e := mustOpen(t, o)
		cl := e.NewClient()
		_, err := e.ApplyStream(ctx, wal.AppendCommand(nil, []byte("SET"), []byte("old"), []byte("1")))
		require.NoError(t, err)
		require.NoError(t, e.Checkpoint(ctx))
		old := digestOf(e)
		f.armed.Store(true)
		err = load(e, bytes.NewReader(file), 900, lineageOf(900))
		f.armed.Store(false)
		if !f.struck.Load() {
			require.NoError(t, err)
			require.NoError(t, e.Close(ctx))
			require.NotZero(t, undone)
			require.NotZero(t, finished)
			t.Logf("%d steps: %d leave the old data, %d are finished by a start", k, undone, finished)
			return
		}
		switch {
		case err == nil: // deleting what is left over: told in the log
			require.Equal(t, want, digestOf(e))
		case failures == 0:
			undone++
			require.Equal(t, old, digestOf(e))
			require.Equal(t, "$1\r\n1\r\n", do(e, cl, "GET", "old"))
			require.NoError(t, load(e, bytes.NewReader(file), 900, lineageOf(900)), "and it can be tried again")
			require.Equal(t, want, digestOf(e))
		default:
			finished++
			require.Equal(t, 1, failures)
			require.Contains(t, e.WriteError(), "MISCONF")
			_, err := e.ApplyStream(ctx, wal.AppendCommand(nil, []byte("PING")))
			require.Error(t, err)
			_, _, err = e.SnapshotView()
			require.Error(t, err)
			e.Stats()
		}
		require.NoError(t, e.Abandon())
		e = mustOpen(t, o)
		require.Equal(t, want, digestOf(e), "step %d", k)
		id, end, _ := e.Position()
		require.Equal(t, []any{loadID, wal.Offset(900)}, []any{id, end})
		require.NoError(t, e.Close(ctx))
		require.NoError(t, Check(ctx, o, func(string) {}))
	}
}

// Data are replaced again and again while clients read cold keys, views are taken, and everything runs that runs in a server:
// nobody ever sees a mixture, or waits for ever.
func TestSwitchConcurrently(t *testing.T) {
	ctx := context.Background()
	clk := &clock{ms: 1_700_000_000_000}
	var files [2][]byte
	for i := range files {
		p := mustOpen(t, testOptions(vfs.NewMem(), clk))
		cl := p.NewClient()
		for k := range 2000 {
			do(p, cl, "SET", fmt.Sprint("k", k), fmt.Sprint("v", i))
		}
		do(p, cl, "RPUSH", "l", fmt.Sprint("v", i))
		files[i] = rdbOf(t, p)
		require.NoError(t, p.Close(ctx))
	}
	o := replicaOptions(vfs.NewMem(), clk)
	o.Manual, o.MaxMemory, o.CheckpointInterval = false, 64<<10, time.Millisecond
	e := mustOpen(t, o)
	require.NoError(t, load(e, bytes.NewReader(files[0]), 10, lineageOf(10)))
	stop := make(chan struct{})
	bad := make(chan string, 10)
	var wg sync.WaitGroup
	for i := range 3 {
		wg.Go(func() {
			cl, r := e.NewClient(), rand.New(rand.NewPCG(uint64(i), 1))
			for {
				select {
				case <-stop:
					return
				default:
				}
				a := fmt.Sprint("k", r.IntN(2000))
				got := do(e, cl, "MGET", a, fmt.Sprint("k", r.IntN(2000)), "k1")
				if n := strings.Count(got, "v0"); n != 0 && n != 3 {
					bad <- got
					return
				}
				if i == 0 {
					if v, pin, err := e.SnapshotView(); err == nil {
						pin.Release()
						if err := v.Close(); err != nil {
							bad <- err.Error()
							return
						}
					}
					e.Stats()
				}
			}
		})
	}
	for i := range 20 {
		off := wal.Offset(1000 + i)
		require.NoError(t, load(e, bytes.NewReader(files[i%2]), off, lineageOf(off)))
		_, err := e.ApplyStream(ctx, wal.AppendCommand(nil, []byte("SET"), []byte("other"), []byte("x")))
		require.NoError(t, err)
	}
	close(stop)
	wg.Wait()
	require.Empty(t, bad)
	require.NoError(t, e.Close(ctx))
	require.NoError(t, Check(ctx, o, func(string) {}))
}
