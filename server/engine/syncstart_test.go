package engine

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/holdfast-db/holdfast/wal"
)

// Whichever is sooner: the replay from where the store stands, the checkpoint that runs and the replay from there, or one of its own.
func TestSyncStart(t *testing.T) {
	const mb = 1 << 20
	const replay = 50 * mb // a second
	const sec = time.Second
	for _, tc := range []struct {
		name string
		s    syncStart
		want wal.Offset
	}{
		{"little lies behind", syncStart{end: 100 * mb, stored: 99 * mb, own: 0}, 99 * mb},
		{"replay is sooner", syncStart{end: 100 * mb, stored: 75 * mb, own: sec}, 75 * mb},
		{"a checkpoint is sooner", syncStart{end: 100 * mb, stored: 25 * mb, own: sec / 2}, 99 * mb},
		{"a checkpoint is not clearly sooner", syncStart{end: 100 * mb, stored: 25 * mb, own: sec}, 25 * mb},
		{"replay is sooner than two checkpoints", syncStart{end: 100 * mb, stored: 50 * mb, running: 60 * mb, left: sec, own: sec}, 50 * mb},
		{"the one that runs is sooner", syncStart{end: 100 * mb, stored: 10 * mb, running: 80 * mb, left: sec / 2, own: sec}, 80 * mb},
		{"the one that runs is as good as its own", syncStart{end: 100 * mb, stored: 10 * mb, running: 100 * mb, left: sec / 2}, 99 * mb},
		{"behind the one that runs", syncStart{end: 100 * mb, stored: 10 * mb, running: 20 * mb, left: sec / 2, own: sec / 2}, 99 * mb},
		{"nothing in the store", syncStart{end: 2 * mb, own: sec}, mb},
		{"nothing in the store, and little behind", syncStart{end: 100, own: sec}, 1},
		{"nothing in the store, but soon", syncStart{end: 100 * mb, running: 90 * mb, own: sec}, 90 * mb},
	} {
		require.Equal(t, tc.want, tc.s.choose(replay), tc.name)
	}
}

// What the choice depends on is what the engine knows while a checkpoint runs; and who can do without that one does not wait for it.
func TestSyncStartBesideCheckpoint(t *testing.T) {
	ctx := context.Background()
	o := testOptions(vfs.NewMem(), &clock{ms: 1_700_000_000_000})
	o.batch = 1
	var e *Engine
	looked := 0
	var look func()
	o.between = func() {
		if look != nil {
			fn := look
			look = nil
			fn()
			looked++
		}
	}
	e = mustOpen(t, o)
	cl := e.NewClient()
	do(e, cl, "SET", "a", "1")
	require.NoError(t, e.Checkpoint(ctx))
	_, first, _ := e.Position()
	for i := range 3 {
		do(e, cl, "SET", fmt.Sprint("k", i), "1")
	}
	_, second, _ := e.Position()
	steps := 0
	var s syncStart
	look = func() { // behind the hand-over comes the first hold for rows
		steps++
		look = func() {
			do(e, cl, "SET", "b", "2")
			s = e.syncStart()
			// On the checkpoint's own goroutine: to wait for it would be for ever.
			require.NoError(t, e.CheckpointFrom(ctx, first))
			require.NoError(t, e.FreshenForSync(ctx, 1e6))
		}
	}
	require.NoError(t, e.Checkpoint(ctx))
	require.Equal(t, 2, looked)
	_, end, _ := e.Position()
	require.Equal(t, syncStart{end: end, stored: first, running: second, left: 6 * objectTime, own: objectTime}, s)
	s = e.syncStart()
	require.Equal(t, syncStart{end: end, stored: second, own: objectTime}, s)
	require.NoError(t, e.Close(ctx))
}

// Compactions of the store are held from the first full sync's beginning until the last one's replica has caught up, or failure.
func TestSyncHoldsCompactions(t *testing.T) {
	ctx := context.Background()
	e := mustOpen(t, testOptions(vfs.NewMem(), &clock{ms: 1_700_000_000_000}))
	cl := e.NewClient()
	do(e, cl, "SET", "a", "1")
	require.False(t, e.store.Metrics().Paused)
	failed := errors.New("disk")
	_, err := e.OpenTables(ctx, func(context.Context) error {
		require.True(t, e.store.Metrics().Paused)
		return failed
	})
	require.ErrorIs(t, err, failed)
	require.False(t, e.store.Metrics().Paused)
	one, err := e.OpenTables(ctx, e.Checkpoint)
	require.NoError(t, err)
	two, err := e.OpenTables(ctx, e.Checkpoint)
	require.NoError(t, err)
	one.Close()
	two.Close()
	one.Pin.Release()
	one.Pin.Release()
	require.True(t, e.store.Metrics().Paused)
	two.Pin.Release()
	require.False(t, e.store.Metrics().Paused)
	require.NoError(t, e.Close(ctx))
}

// A full sync that begins in the midst of a checkpoint, at any of its steps, with the store as it stands: the store's own C is
// what is sent, the log from there is kept whatever is checkpointed and trimmed meanwhile (W6), and what the replica makes of both
// is the primary's data (R2).
func TestSyncAtEveryStepOfCheckpoint(t *testing.T) {
	ctx := context.Background()
	began := map[wal.Offset]int{}
	for k := 0; ; k++ {
		step, hit := 0, false
		var e *Engine
		var cl *Client
		var tables *SyncTables
		o := testOptions(vfs.NewMem(), &clock{ms: 1_700_000_000_000})
		o.batch = 1
		armed := false
		o.between = func() {
			if !armed || hit {
				return
			}
			if step++; step <= k {
				return
			}
			hit = true
			var err error
			// As good as no time for replaying: whatever the store has will do.
			tables, err = e.OpenTables(ctx, func(ctx context.Context) error { return e.FreshenForSync(ctx, 1e15) })
			require.NoError(t, err)
			do(e, cl, "SET", "k1", "during")
			do(e, cl, "DEL", "k2", "h")
		}
		e = mustOpen(t, o)
		e.SetRetention(1, 0)
		cl = e.NewClient()
		for i := range 4 {
			do(e, cl, "SET", fmt.Sprint("k", i), "first")
		}
		do(e, cl, "HSET", "h", "f", "1")
		require.NoError(t, e.Checkpoint(ctx))
		_, first, _ := e.Position()
		// More than what is replayed without asking.
		do(e, cl, "SET", "large", strings.Repeat("x", syncTail+1))
		do(e, cl, "SET", "k0", "second")
		do(e, cl, "RPUSH", "l", "a", "b")
		do(e, cl, "DEL", "k3")
		armed = true
		require.NoError(t, e.Checkpoint(ctx))
		armed = false
		if !hit {
			require.NoError(t, e.Close(ctx))
			require.Greater(t, k, 5)
			break
		}
		began[tables.C()-first]++
		do(e, cl, "SET", "k4", "after")
		require.NoError(t, e.Checkpoint(ctx))
		do(e, cl, "RPUSH", "l", "c")
		require.LessOrEqual(t, e.log.First(), tables.C())

		r := mustOpen(t, testOptions(vfs.NewMem(), &clock{ms: 1_700_000_000_000}))
		r.SetReplica(true)
		require.NoError(t, read(t, e, tables).load(r, -1))
		tables.Done()
		tables.Close()
		require.NoError(t, e.log.Sync(ctx))
		rd, err := e.log.NewReader(tables.C())
		require.NoError(t, err)
		var stream []byte
		for tables.C()+wal.Offset(len(stream)) < e.log.End() {
			_, data, err := rd.Next(ctx)
			require.NoError(t, err)
			stream = append(stream, data...)
		}
		require.NoError(t, rd.Close())
		tables.Pin.Release()
		n, err := r.ApplyStream(ctx, stream)
		require.NoError(t, err)
		require.Equal(t, len(stream), n)
		require.Equal(t, e.Digest(), r.Digest(), "step %d", k)
		require.NoError(t, r.Close(ctx))
		require.NoError(t, e.Close(ctx))
	}
	// Before the commit point the store as it was, behind it the new one.
	require.Len(t, began, 2)
	require.NotZero(t, began[0])
}

// What a checkpoint still takes is told by the one before, and by itself once it has taken some rows.
func TestLeftOf(t *testing.T) {
	const each = time.Millisecond
	for _, x := range []struct {
		objects, visited int64
		since, want      time.Duration
	}{
		{0, 0, time.Second, 0},
		{1000, 0, 0, 2 * time.Second}, // it may be a busier moment than that of the one before
		{1000, 10, 900 * time.Millisecond, 1100 * time.Millisecond},
		{1000, 10, 5 * time.Second, time.Second},  // overdue, but not at its end
		{1000, 100, 5 * time.Second, 53823529411}, // ten times slower
		{1000, 1000, 850 * time.Millisecond, 150 * time.Millisecond},
		{1000, 1000, 10 * time.Second, 1764705882},
	} {
		require.Equal(t, x.want, leftOf(x.objects, x.visited, each, x.since), "%+v", x)
	}
}
