package engine

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/holdfast-db/holdfast/server/keyspace"
)

// timedHashes makes hashes of every form with fields that expire, field i at start + 1000 + i ms, and says how many fields do.
func timedHashes(e *Engine, cl *Client, start int64) map[string]int {
	sizes := map[string]int{"one": 1, "packed": 40, "dict": 200, "big": 3000}
	for key, n := range sizes {
		for i := range n {
			do(e, cl, "HSETEX", key, "PXAT", fmt.Sprint(start+1000+int64(i)), "FIELDS", "1", fmt.Sprint("f", i), strings.Repeat("v", i%70))
		}
	}
	do(e, cl, "HSET", "packed", "stays", "1")
	do(e, cl, "HSET", "big", "stays", "1")
	return sizes
}

// A file of an RDB holds every field with its time, whatever form its hash has, and says by its version who can load it; so does DUMP.
func TestFieldTimesExport(t *testing.T) {
	ctx := context.Background()
	clk := &clock{ms: 1_700_000_000_000}
	e := mustOpen(t, testOptions(vfs.NewMem(), clk))
	cl := e.NewClient()
	sizes := timedHashes(e, cl, clk.ms)
	cl.DB = 1
	do(e, cl, "HSET", "plain", "f", "v")
	cl.DB = 0
	var file bytes.Buffer
	require.NoError(t, exportTo(ctx, t, e, &file))
	require.True(t, strings.HasPrefix(file.String(), "REDIS0012"))

	o := replicaOptions(vfs.NewMem(), clk)
	r := mustOpen(t, o)
	require.NoError(t, load(r, &file, 100, lineageOf(100)))
	require.Equal(t, digestOf(e), digestOf(r))
	require.Equal(t, len(sizes), r.Stats().DBs[0].Timed)
	for key, n := range sizes {
		require.Equal(t, fmt.Sprintf("*1\r\n:%d\r\n", clk.ms+1000+int64(n-1)), do(r, r.NewClient(), "HPEXPIRETIME", key, "FIELDS", "1", fmt.Sprint("f", n-1)))
		dump := do(e, cl, "DUMP", key)
		_, payload, _ := strings.Cut(strings.TrimSuffix(dump, "\r\n"), "\r\n")
		require.Equal(t, "+OK\r\n", do(e, cl, "RESTORE", "copy", "0", payload, "REPLACE"))
		require.Equal(t, payload, strings.TrimSuffix(strings.SplitN(do(e, cl, "DUMP", "copy"), "\r\n", 2)[1], "\r\n"))
	}
	require.NoError(t, r.Close(ctx))
	require.NoError(t, Check(ctx, o, func(string) {}))

	// Without any, the file is one that Redis 5 loads, and the directory one that an older program opens.
	for key := range sizes {
		do(e, cl, "DEL", key)
	}
	do(e, cl, "DEL", "copy")
	file.Reset()
	require.NoError(t, exportTo(ctx, t, e, &file))
	require.True(t, strings.HasPrefix(file.String(), "REDIS0009"))
	require.Equal(t, 1, e.store.Meta().Format)
	require.NoError(t, e.Close(ctx))
}

// A full sync by tables brings every field with its time, in whatever form its hash has, and what follows of them: a replica shows
// no field that has expired on the way, and its primary's deletions find the rest. After a restart of the replica, too.
func TestFieldTimesTables(t *testing.T) {
	ctx := context.Background()
	clk := &clock{ms: 1_700_000_000_000}
	start := clk.ms
	p := mustOpen(t, testOptions(vfs.NewMem(), clk))
	cl := p.NewClient()
	sizes := timedHashes(p, cl, start)
	require.NoError(t, p.Checkpoint(ctx))
	do(p, cl, "HPEXPIREAT", "big", fmt.Sprint(start+9000), "FIELDS", "1", "f7") // into a second generation of tables
	do(p, cl, "HPERSIST", "big", "FIELDS", "1", "f8")
	c := copyTables(t, p)

	ro := replicaOptions(vfs.NewMem(), clk)
	r := mustOpen(t, ro)
	atomic.StoreInt64(&clk.ms, start+1100) // some expire while the tables are under way
	require.NoError(t, c.load(r, -1))
	for round := range 2 {
		require.Equal(t, len(sizes), r.Stats().DBs[0].Timed)
		rcl := r.NewClient()
		for key, n := range sizes {
			want := max(n-101, 0) // field i goes at 1000 + i
			switch key {
			case "packed":
				want++ // "stays"
			case "big":
				want += 3 // that, and two that were spared
			}
			require.Equal(t, want, strings.Count(do(r, rcl, "HKEYS", key), "$"), "%s, round %d", key, round)
		}
		require.Equal(t, fmt.Sprintf("*3\r\n:%d\r\n:-1\r\n:%d\r\n", start+9000, start+1999),
			do(r, rcl, "HPEXPIRETIME", "big", "FIELDS", "3", "f7", "f8", "f999"))
		if round == 0 {
			require.NoError(t, r.Close(ctx))
			require.NoError(t, Check(ctx, ro, func(string) {}))
			r = mustOpen(t, ro)
		}
	}

	for range 3 {
		p.Tick(ctx)
	}
	require.EqualValues(t, 1+40+101+101-2, p.Stats().ExpiredFields)
	require.NoError(t, p.log.Sync(ctx))
	rest, err := logBytes(p, c.m.C)
	require.NoError(t, err)
	_, err = r.ApplyStream(ctx, rest)
	require.NoError(t, err)
	require.Equal(t, digestOf(p), digestOf(r))
	require.NoError(t, r.Close(ctx))
	require.NoError(t, Check(ctx, ro, func(string) {}))
	require.NoError(t, p.Close(ctx))
}

// The janitor deletes fields when their time comes, not before, wherever their hash lies, and the key with the last one. A replica
// hides what has expired and deletes it with its primary. Nothing of it is left in the store.
func TestFieldTimesExpire(t *testing.T) {
	ctx := context.Background()
	p, r, clk := markPair(t, nil)
	start := clk.ms
	cl, rcl, carry := p.NewClient(), r.NewClient(), newPipe(p, r, 1)
	sizes := timedHashes(p, cl, start)
	require.NoError(t, carry.run(ctx))
	rnd := rand.New(rand.NewPCG(1, 2))
	total := 0
	for now := int64(0); now < 4200; now += 1 + rnd.Int64N(400) {
		atomic.StoreInt64(&clk.ms, start+now)
		if rnd.IntN(2) == 0 {
			require.NoError(t, p.Checkpoint(ctx))
			p.UnloadAll()
		}
		left := func(n int) int { return n - int(min(max(now-999, 0), int64(n))) }
		for key, n := range sizes {
			all := left(n)
			if key == "big" || key == "packed" {
				all++
			}
			require.Equal(t, all, strings.Count(do(r, rcl, "HKEYS", key), "$"), "hidden on the replica, %s at %d", key, now)
		}
		for range 3 { // a hash that was cold is in memory after the first
			p.Tick(ctx)
		}
		require.NoError(t, carry.run(ctx))
		total = 0
		for key, n := range sizes {
			all := left(n)
			total += n - all
			if key == "big" || key == "packed" {
				all++
			}
			for _, e := range []*Engine{p, r} {
				require.Equal(t, fmt.Sprintf(":%d\r\n", all), do(e, e.NewClient(), "HLEN", key), "%s at %d", key, now)
			}
		}
		require.Equal(t, digestOf(p), digestOf(r))
	}
	require.EqualValues(t, total, p.Stats().ExpiredFields)
	require.Equal(t, ":2\r\n", do(p, cl, "DBSIZE"))
	for _, e := range []*Engine{p, r} {
		require.NoError(t, e.Checkpoint(ctx))
		require.Equal(t, 0, e.Stats().DBs[0].Timed)
		lo, hi := keyspace.ExpireRange(e.ks.DB(0).Phys())
		it, err := e.rows.Iter(lo, hi)
		require.NoError(t, err)
		require.False(t, it.SeekGE(lo), "an expiry row is left")
		require.NoError(t, it.Close())
	}
}
