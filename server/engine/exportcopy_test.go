package engine

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/stretchr/testify/require"
)

// copyDirs counts the copies of e's store.
func copyDirs(t testing.TB, e *Engine) int {
	names, err := e.disk.fs.List(e.path(copiesName))
	require.NoError(t, err)
	return len(names)
}

// exported returns the file of an export, and ends it.
func exported(t testing.TB, e *Engine, x *ExportView) []byte {
	var file bytes.Buffer
	require.NoError(t, e.ExportRDB(context.Background(), x.View, &file, ExportOptions{ID: loadID, Lineage: lineageOf(x.Meta().C)}))
	require.NoError(t, x.Close())
	require.NoError(t, x.Close(), "again")
	x.Pin.Release()
	return file.Bytes()
}

// Exports of the same data share a copy, which goes with the last of them; what is checkpointed meanwhile is in none of them, and
// in the next copy.
func TestExportCopyIsShared(t *testing.T) {
	ctx := context.Background()
	clk := &clock{ms: 1_700_000_000_000}
	e := exportable(t, clk, 4)
	defer e.Close(ctx)
	open := func() *ExportView {
		x, err := e.OpenExport()
		require.NoError(t, err)
		require.NotNil(t, x.copy)
		return x
	}
	require.NoError(t, e.Checkpoint(ctx))
	want := exported(t, e, open())
	require.Zero(t, copyDirs(t, e))

	a, b := open(), open()
	at := a.Meta().C
	require.Equal(t, 1, copyDirs(t, e))
	for _, p := range e.Pins() {
		require.Equal(t, at, p.Offset)
	}
	require.Len(t, e.Pins(), 2)
	require.Equal(t, want, exported(t, e, b))
	require.Equal(t, 1, copyDirs(t, e), "it has a user")

	do(e, e.NewClient(), "SET", "later", "v")
	require.NoError(t, e.Checkpoint(ctx))
	c := open()
	require.Greater(t, c.Meta().C, at)
	require.Equal(t, 2, copyDirs(t, e))
	require.Equal(t, want, exported(t, e, a))
	require.Equal(t, 1, copyDirs(t, e))
	require.Len(t, keysOf(t, exported(t, e, c)), len(keysOf(t, want))+1)
	require.Zero(t, copyDirs(t, e))
	require.Empty(t, e.Pins())
}

// An export takes nothing of the cache for clients' cold keys, and what it takes of its own is bounded.
func TestExportLeavesCache(t *testing.T) {
	ctx := context.Background()
	clk := &clock{ms: 1_700_000_000_000}
	o := testOptions(vfs.NewMem(), clk)
	o.CacheBytes = 64 << 20
	e := mustOpen(t, o)
	defer e.Close(ctx)
	cl := e.NewClient()
	for i := range 10000 {
		do(e, cl, "SET", fmt.Sprint("key", i), strings.Repeat("v", 900)+fmt.Sprint(i))
	}
	require.NoError(t, e.Checkpoint(ctx))
	before := e.store.Metrics()
	x, err := e.OpenExport()
	require.NoError(t, err)
	var file bytes.Buffer
	require.NoError(t, e.ExportRDB(ctx, x.View, &file, ExportOptions{ID: loadID, Lineage: lineageOf(x.Meta().C)}))
	require.Greater(t, file.Len(), 2*exportCacheBytes)
	after, own := e.store.Metrics(), x.copy.store.Metrics()
	require.Equal(t, before.CacheSize, after.CacheSize)
	require.NotZero(t, own.CacheMisses)
	require.LessOrEqual(t, own.CacheSize, int64(exportCacheBytes))
	require.NoError(t, x.Close())
	x.Pin.Release()
}

// Where no copy can be made the store itself is exported, the same bytes, and nothing of a copy stays.
func TestExportWithoutCopy(t *testing.T) {
	ctx := context.Background()
	clk := &clock{ms: 1_700_000_000_000}
	broken := false
	o := testOptions(errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
		if broken && op.Kind.ReadOrWrite() == errorfs.OpIsWrite && strings.Contains(op.Path, "/"+copiesName+"/") {
			return errorfs.ErrInjected
		}
		return nil
	})), clk)
	e := mustOpen(t, o)
	defer e.Close(ctx)
	cl := e.NewClient()
	for i := range 100 {
		do(e, cl, "SET", fmt.Sprint("key", i), "v")
	}
	var want bytes.Buffer
	require.NoError(t, exportTo(ctx, t, e, &want))
	broken = true
	x, err := e.OpenExport()
	require.NoError(t, err)
	require.Nil(t, x.copy)
	require.Len(t, e.Pins(), 1)
	require.Equal(t, x.Meta().C, e.Pins()[0].Offset)
	require.Equal(t, want.Bytes(), exported(t, e, x))
	broken = false
	require.Empty(t, e.Pins())
	require.Nil(t, e.exports.cur)
	x, err = e.OpenExport()
	require.NoError(t, err)
	require.NotNil(t, x.copy)
	require.Equal(t, want.Bytes(), exported(t, e, x))
}

// While an export is under way the store's merges give way, but for no longer than exportPause. The view is not one of a full sync's, whose
// pin has a pause of its own.
func TestExportPausesMerges(t *testing.T) {
	ctx := context.Background()
	clk := &clock{ms: 1_700_000_000_000}
	e := mustOpen(t, testOptions(vfs.NewMem(), clk))
	defer e.Close(ctx)
	cl := e.NewClient()
	for i := range 5000 {
		do(e, cl, "SET", fmt.Sprint("key", i), strings.Repeat("v", 500))
	}
	export := func(w io.Writer) error {
		require.NoError(t, e.Checkpoint(ctx))
		v, pin, err := e.SnapshotView()
		require.NoError(t, err)
		defer pin.Release()
		defer v.Close()
		return e.ExportRDB(ctx, v, w, ExportOptions{ID: loadID, Lineage: lineageOf(v.Meta().C)})
	}
	var paused []bool
	require.False(t, e.store.Metrics().Paused)
	require.NoError(t, export(writerFunc(func(b []byte) (int, error) {
		paused = append(paused, e.store.Metrics().Paused)
		atomic.AddInt64(&clk.ms, exportPause.Milliseconds()/3)
		return len(b), nil
	})))
	require.Greater(t, len(paused), 5)
	require.True(t, paused[0])
	require.False(t, paused[len(paused)-1], "it has taken too long")
	require.ErrorIs(t, export(writerFunc(func([]byte) (int, error) {
		require.True(t, e.store.Metrics().Paused)
		return 0, errorfs.ErrInjected
	})), errorfs.ErrInjected)
	require.False(t, e.store.Metrics().Paused)
}

// The pause lasts until the replica has the stream, so that a merge does not begin while it loads and catches up: an open export has it,
// its pin keeps it.
func TestExportPausesMergesUntilItsPinGoes(t *testing.T) {
	ctx := context.Background()
	e := mustOpen(t, testOptions(vfs.NewMem(), &clock{}))
	defer e.Close(ctx)
	do(e, e.NewClient(), "SET", "key", "value")
	require.NoError(t, e.Checkpoint(ctx))
	x, err := e.OpenExport()
	require.NoError(t, err)
	require.True(t, e.store.Metrics().Paused)
	var file bytes.Buffer
	require.NoError(t, e.ExportRDB(ctx, x.View, &file, ExportOptions{ID: loadID, Lineage: lineageOf(x.Meta().C), Paced: true}))
	require.NoError(t, x.Close())
	require.True(t, e.store.Metrics().Paused)
	x.Pin.Release()
	require.False(t, e.store.Metrics().Paused)
	x.Pin.Release()
}

// A replica that takes long to load does not keep the store from merging.
func TestLimitPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, c := range []struct {
			after time.Duration
			ended int
		}{{0, 1}, {exportPause - 1, 1}, {exportPause, 1}} {
			ended := 0
			end := limitPause(sync.OnceFunc(func() { ended++ }))
			time.Sleep(c.after) // the bubble's time
			synctest.Wait()
			if c.after < exportPause {
				require.Zero(t, ended)
			}
			end()
			require.Equal(t, c.ended, ended)
			time.Sleep(2 * exportPause)
			require.Equal(t, c.ended, ended)
		}
		ended := false
		limitPause(func() { ended = true })
		time.Sleep(exportPause)
		synctest.Wait()
		require.True(t, ended)
	})
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }
