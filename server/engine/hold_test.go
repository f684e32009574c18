package engine

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/holdfast-db/holdfast/server/keyspace"
	"github.com/holdfast-db/holdfast/snapshot/rdb"
)

// TestSharedString changes large strings in every way that changes bytes in place, between any two holds of a checkpoint: the
// rows share their bytes, and must be the data at the hand-over all the same (K4).
func TestSharedString(t *testing.T) {
	c := &clock{}
	o := testOptions(vfs.NewMem(), c)
	o.batch = 1
	o.Manual = true
	value := strings.Repeat("a", 100<<10)
	keys := []string{"grown", "patched", "set", "bit", "gone", "renamed", "short"}
	var cl *Client
	var e *Engine
	active, turn := false, 0
	o.between = func() {
		if !active {
			return
		}
		turn++
		at := "7"
		switch key := keys[turn%len(keys)]; key {
		case "grown", "short":
			do(e, cl, "APPEND", key, "tail")
		case "patched":
			do(e, cl, "SETRANGE", key, at, "patch")
		case "set":
			do(e, cl, "SET", key, strings.Repeat("b", 90<<10))
		case "bit":
			do(e, cl, "SETBIT", key, "9", "0")
		case "gone":
			do(e, cl, "DEL", key)
		case "renamed":
			do(e, cl, "RENAME", key, "other")
			do(e, cl, "SETRANGE", "other", at, "patch")
		}
	}
	e = mustOpen(t, o)
	cl = e.NewClient()
	for _, key := range keys {
		do(e, cl, "SET", key, value)
		do(e, cl, "APPEND", key, "a") // leaves room behind the bytes, in which an append would write
	}
	active = true
	require.NoError(t, e.Checkpoint(context.Background()))
	active = false
	require.Greater(t, turn, len(keys))
	for _, key := range keys {
		row, ok, err := e.store.Get(keyspace.AppendMainKey(nil, e.ks.DB(0).Phys(), keyspace.Slot([]byte(key)), keyspace.KeyHash([]byte(key)), []byte(key)))
		require.NoError(t, err)
		require.True(t, ok, key)
		h, err := keyspace.ParseRow(row)
		require.NoError(t, err)
		require.Equal(t, byte(rdb.TypeString), h.Value[0])
		s, rest, ok := rdb.ReadString(h.Value[1:])
		require.True(t, ok)
		require.Empty(t, rest)
		require.True(t, string(s) == value+"a", "%s is not what it was at the hand-over", key)
	}
	require.NoError(t, e.log.Sync(context.Background()))
	want := digestOf(e)
	require.NoError(t, e.Abandon())
	o.between = nil
	e = mustOpen(t, o)
	require.Equal(t, want, digestOf(e)) // S3
	require.NoError(t, e.Abandon())
}

// TestHoldBudget lets the clock advance with each look at it: every pass must end early, and all be written nevertheless.
func TestHoldBudget(t *testing.T) {
	c := &clock{}
	o := testOptions(vfs.NewMem(), c)
	o.Manual = true
	var slow atomic.Bool
	now := o.Now
	var steps atomic.Int64
	o.Now = func() time.Time {
		if slow.Load() {
			return now().Add(time.Duration(steps.Add(1)) * holdBudget)
		}
		return now()
	}
	holds := 0
	o.between = func() { holds++ }
	e := mustOpen(t, o)
	cl := e.NewClient()
	const keys = 1000
	for i := range keys {
		do(e, cl, "SET", "key"+string(rune('a'+i%26))+strings.Repeat("x", i/26), "value")
		do(e, cl, "HSET", "big", strings.Repeat("f", i+1), "value")
	}
	slow.Store(true)
	holds = 0
	require.NoError(t, e.Checkpoint(context.Background()))
	slow.Store(false)
	// Rows, elements and settling, each at most 16 for a hold.
	require.Greater(t, holds, 3*keys/16)
	e.Lock()
	require.False(t, e.ks.AnyDirty())
	e.Unlock()
	want := digestOf(e)
	require.NoError(t, e.Close(context.Background()))
	e = mustOpen(t, o)
	require.Equal(t, want, digestOf(e))
	require.NoError(t, e.Close(context.Background()))
}

// While a checkpoint runs it is told since when, and what has been copied for it so far.
func TestCheckpointIsTold(t *testing.T) {
	ctx := context.Background()
	clk := &clock{ms: 1_700_000_000_000}
	o := testOptions(vfs.NewMem(), clk)
	o.batch = 1
	var e *Engine
	var seen []Stats
	o.between = func() {
		if len(seen) == 0 {
			for i := range 20 {
				do(e, e.NewClient(), "APPEND", fmt.Sprint("k", i), "x")
			}
		}
		seen = append(seen, e.Stats())
	}
	e = mustOpen(t, o)
	for i := range 20 {
		do(e, e.NewClient(), "SET", fmt.Sprint("k", i), "value")
	}
	require.True(t, e.Stats().Checkpoint.Begun.IsZero())
	require.NoError(t, e.Checkpoint(ctx))
	require.NotEmpty(t, seen)
	for _, s := range seen {
		require.Equal(t, clk.now(), s.Checkpoint.Begun)
	}
	require.Positive(t, seen[0].Freezing.Bytes)
	after := e.Stats()
	require.True(t, after.Checkpoint.Begun.IsZero())
	require.Zero(t, after.Freezing)
	require.GreaterOrEqual(t, after.Checkpoint.Frozen.Bytes, seen[0].Freezing.Bytes)
	require.NoError(t, e.Close(ctx))
}
