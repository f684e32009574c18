package engine

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/holdfast-db/holdfast/server/keyspace"
	"github.com/holdfast-db/holdfast/snapshot/digest"
	"github.com/holdfast-db/holdfast/wal"
)

// markData is all that is told of the data at a mark: digests and keys by database.
type markData struct {
	at    wal.Offset
	id    string
	parts map[int][]RangeDigest
	keys  map[int]map[string]KeyDigest
}

func markDataOf(t *testing.T, e *Engine, token string) markData {
	t.Helper()
	ctx := context.Background()
	v, err := e.MarkView(ctx, token)
	require.NoError(t, err)
	defer v.Release()
	d := markData{v.Offset, v.ReplID, map[int][]RangeDigest{}, map[int]map[string]KeyDigest{}}
	for _, db := range v.Meta.DBs {
		if db.Keys == 0 {
			continue
		}
		i := db.Logical
		d.parts[i], err = v.Digests(ctx, i, nil, 2)
		require.NoError(t, err)
		var sum, again digest.Range
		for _, p := range d.parts[i] {
			require.Equal(t, p.Keys, p.Range.Keys)
			sum.Merge(p.Range)
		}
		require.Equal(t, uint64(db.Keys), sum.Keys)
		// Whatever the cut, the whole is the same.
		first, err := v.Digests(ctx, i, nil, 1)
		require.NoError(t, err)
		for _, p := range first {
			below, err := v.Digests(ctx, i, []byte{byte(p.Part)}, 2)
			require.NoError(t, err)
			for _, q := range below {
				again.Merge(q.Range)
			}
		}
		require.Equal(t, sum, again)
		d.keys[i] = map[string]KeyDigest{}
		for after := []byte(nil); ; {
			keys, next, err := v.Keys(ctx, i, nil, after, 7)
			require.NoError(t, err)
			for _, k := range keys {
				require.NotContains(t, d.keys[i], string(k.Key))
				d.keys[i][string(k.Key)] = k
			}
			if after = next; after == nil {
				break
			}
		}
		require.Len(t, d.keys[i], int(db.Keys))
	}
	return d
}

// markPair is a primary and a replica that stands where its log begins.
func markPair(t *testing.T, change func(*Options)) (p, r *Engine, c *clock) {
	c = &clock{ms: 1_700_000_000_000}
	p = mustOpen(t, testOptions(vfs.NewMem(), c))
	o := replicaOptions(vfs.NewMem(), c)
	if change != nil {
		change(&o)
	}
	r = mustOpen(t, o)
	t.Cleanup(func() {
		require.NoError(t, p.Close(context.Background()))
		require.NoError(t, r.Close(context.Background()))
	})
	follow(t, p, r)
	return p, r, c
}

// A mark in the midst of writes gives both sides the same data at the same offset, though their rows have other forms and
// the stream goes on behind it.
func TestMarkSameData(t *testing.T) {
	seed := testSeed()
	t.Log("seed", seed)
	ctx := context.Background()
	p, r, c := markPair(t, func(o *Options) {
		l := keyspace.DefaultLimits() // other encodings, other rows
		l.HashMaxListpackEntries, l.SetMaxIntsetEntries, l.ZSetMaxListpackEntries, l.ListMaxListpackSize = 3, 4, 3, 2
		o.Limits = &l
		o.MaxMemory = 256 << 10
	})
	w, cl, carry := newWorkload(seed), p.NewClient(), newPipe(p, r, seed)
	for range 6 {
		for range 400 {
			cl.DB = w.r.IntN(2)
			do(p, cl, w.next()...)
			atomic.AddInt64(&c.ms, 3)
		}
		token, off, err := p.Mark(ctx)
		require.NoError(t, err)
		require.Equal(t, p.log.End(), off)
		before := p.log.End()
		for range 200 { // what comes after the mark must not show
			do(p, cl, w.next()...)
		}
		require.Greater(t, p.log.End(), before)
		require.NoError(t, carry.run(ctx))
		a, b := markDataOf(t, p, token), markDataOf(t, r, token)
		require.Equal(t, off, a.at)
		require.Equal(t, a, b)
		require.NotEmpty(t, a.keys)
	}
	_, pe, _ := p.Position()
	_, re, _ := r.Position()
	require.Equal(t, pe, re)
}

// What differs is seen, and nothing else: value, expiry, a key of another name, one element of a big collection.
func TestMarkSeesDifferences(t *testing.T) {
	ctx := context.Background()
	p, r, _ := markPair(t, nil)
	cl, carry := p.NewClient(), newPipe(p, r, 1)
	for i := range 700 {
		do(p, cl, "SET", fmt.Sprint("k", i), "v")
		do(p, cl, "HSET", "big", fmt.Sprint("f", i), "v")
		do(p, cl, "RPUSH", "list", fmt.Sprint("element ", i))
		do(p, cl, "ZADD", "zset", fmt.Sprint(i), fmt.Sprint("member ", i))
	}
	require.NoError(t, carry.run(ctx))
	// The replica's log gets as many bytes, but others: it diverges at equal offsets.
	for _, x := range [][2][]string{
		{{"SET", "k1", "v"}, {"SET", "k1", "w"}},
		{{"SET", "only-here", "v"}, {"SET", "onlythere", "v"}},
		{{"HSET", "big", "f9", "v"}, {"HSET", "big", "f9", "x"}},
		{{"LSET", "list", "5", "a"}, {"LSET", "list", "5", "b"}},
		{{"ZADD", "zset", "17", "member 17"}, {"ZADD", "zset", "18", "member 17"}},
		{{"PEXPIREAT", "k3", "1800000000000"}, {"PEXPIREAT", "k3", "1800000000001"}},
		{{"RPUSH", "typed", "a"}, {"LPUSH", "typed", "a"}}, // no difference
	} {
		var streams [2][]byte
		for i := range streams {
			var args [][]byte
			for _, a := range x[i] {
				args = append(args, []byte(a))
			}
			streams[i] = wal.AppendCommand(nil, args...)
		}
		require.NotContains(t, do(p, cl, x[0]...), "-ERR")
		n, err := r.ApplyStream(ctx, streams[1])
		require.NoError(t, err)
		require.Equal(t, len(streams[1]), n)
	}
	// From here on they get the same again.
	token, off, err := p.Mark(ctx)
	require.NoError(t, err)
	_, carry.from, _ = r.Position()
	require.Less(t, carry.from, off)
	skip := p.log.End() - wal.Offset(len(wal.AppendCommand(nil, []byte("PING"), []byte(markPrefix+token))))
	tail, err := logBytes(p, skip)
	require.NoError(t, err)
	_, err = r.ApplyStream(ctx, tail)
	require.NoError(t, err)

	a, b := markDataOf(t, p, token), markDataOf(t, r, token)
	var differ []string
	for k, v := range a.keys[0] {
		if o, ok := b.keys[0][k]; !ok || o.Value != v.Value || o.ExpireMs != v.ExpireMs || o.Type != v.Type {
			differ = append(differ, k)
		}
	}
	require.ElementsMatch(t, []string{"k1", "only-here", "big", "list", "zset", "k3"}, differ)
	require.Equal(t, a.keys[0]["k3"].Value, b.keys[0]["k3"].Value, "an expiry is not part of the value")
	require.Contains(t, b.keys[0], "onlythere")
	require.Equal(t, len(a.keys[0]), len(b.keys[0]))
	require.NotEqual(t, a.parts, b.parts)
}

// Marks go when nobody asks and when there are too many; who reads one is told and is the last to hold its view.
func TestMarkEnds(t *testing.T) {
	ctx := context.Background()
	p, r, c := markPair(t, nil)
	do(p, p.NewClient(), "SET", "a", "b")
	_, _, err := r.Mark(ctx)
	require.ErrorIs(t, err, ErrMarkReplica)

	token, _, err := p.Mark(ctx)
	require.NoError(t, err)
	atomic.AddInt64(&c.ms, markTime.Milliseconds())
	p.Tick(ctx)
	v, err := p.MarkView(ctx, token) // asked for: it stays
	require.NoError(t, err)
	atomic.AddInt64(&c.ms, 2*markTime.Milliseconds())
	p.Tick(ctx)
	_, _, err = v.Keys(ctx, 0, nil, nil, 1)
	require.NoError(t, err, "one that is being read stays")
	v.Release()
	p.Tick(ctx)
	ended, cancel := context.WithCancel(ctx)
	cancel()
	_, err = p.MarkView(ended, token)
	require.ErrorIs(t, err, ErrNoMark)

	var tokens []string
	for range marksKept + 2 {
		token, _, err := p.Mark(ctx)
		require.NoError(t, err)
		tokens = append(tokens, token)
	}
	_, err = p.MarkView(ended, tokens[1])
	require.ErrorIs(t, err, ErrNoMark)
	v, err = p.MarkView(ctx, tokens[2])
	require.NoError(t, err)
	p.Unmark(tokens[2])
	p.Unmark(tokens[2])
	require.ErrorIs(t, v.ended(ctx), ErrNoMark)
	v.Release()
	require.NoError(t, p.store.WaitViews(ctxOfViews(t, p, marksKept-1)))
}

// ctxOfViews returns a context for waiting until no view is open, once all marks are dropped and n were there.
func ctxOfViews(t *testing.T, e *Engine, n int) context.Context {
	t.Helper()
	e.marks.mu.Lock()
	require.Len(t, e.marks.all, n)
	e.marks.mu.Unlock()
	e.marks.end()
	return context.Background()
}

// R1: a server that becomes a replica while its mark waits for a checkpoint puts nothing into its log; and that is no failure of
// a checkpoint.
func TestMarkMeetsReplicaRole(t *testing.T) {
	ctx := context.Background()
	p, _, _ := markPair(t, nil)
	do(p, p.NewClient(), "SET", "a", "b")
	p.check.one.Lock() // a checkpoint runs
	failed := make(chan error)
	go func() {
		_, _, err := p.Mark(ctx)
		failed <- err
	}()
	for waiting := false; !waiting; { // until Mark has passed its first look at the role
		p.marks.mu.Lock()
		waiting = len(p.marks.all) == 1
		p.marks.mu.Unlock()
	}
	end := p.log.End()
	p.SetReplica(true)
	p.check.one.Unlock()
	require.ErrorIs(t, <-failed, ErrMarkReplica)
	require.Equal(t, end, p.log.End())
	i := p.LastCheckpoint()
	require.NoError(t, i.Err)
	require.Zero(t, i.Failed)
}

// A mark whose moment has passed is not taken at another offset.
func TestMarkPassed(t *testing.T) {
	p, r, _ := markPair(t, nil)
	ctx, cancel := context.WithCancel(context.Background())
	token, _, err := p.Mark(ctx)
	require.NoError(t, err)
	carry := newPipe(p, r, 1)
	r.check.one.Lock() // a checkpoint runs
	cancel()
	data, err := logBytes(p, carry.from)
	require.NoError(t, err)
	e := r
	e.streamMu.Lock()
	e.markHere(ctx, token) // returns, since nobody waits any more
	e.streamMu.Unlock()
	e.Lock()
	e.buf = append(e.buf, data...) // the stream goes on
	e.Unlock()
	r.check.one.Unlock()
	_, err = r.MarkView(context.Background(), token)
	require.ErrorIs(t, err, errMarkPassed)
}
