package engine

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/holdfast-db/holdfast/server/command"
	"github.com/holdfast-db/holdfast/server/reply"
	"github.com/holdfast-db/holdfast/wal"
)

// hearing opens an engine that tells of all events and keeps what it has told, each with the offset that must be durable first.
func hearing(t *testing.T, o Options) (e *Engine, told *[]string, after *[]wal.Offset) {
	told, after = new([]string), new([]wal.Offset)
	o.OnMessage = func(m *Message) {
		*told = append(*told, fmt.Sprintf("%s %s", m.Channel, m.Payload))
		*after = append(*after, m.After)
	}
	e = mustOpen(t, o)
	ev, ok := command.ParseEvents("EAnm")
	require.True(t, ok)
	e.Lock()
	e.SetEvents(ev)
	e.Unlock()
	return e, told, after
}

// What a message tells is durable before it leaves: it waits for the end of the record, or, in a transaction, for a place within
// it (A1, W2). Messages are no part of the log.
func TestEventsWaitForTheirRecord(t *testing.T) {
	c := &clock{1000}
	e, told, after := hearing(t, testOptions(vfs.NewMem(), c))
	plain := mustOpen(t, testOptions(vfs.NewMem(), c))
	cl, pcl := e.NewClient(), plain.NewClient()

	e.Lock()
	start := e.log.End()
	var w reply.Writer
	require.Equal(t, StatusDone, e.Run(cl, e.Table().Lookup([]byte("SET")), args("SET", "k", "v"), &w))
	require.Equal(t, StatusDone, e.Run(cl, e.Table().Lookup([]byte("SET")), args("SET", "k", "w"), &w))
	e.Unlock()
	end := e.log.End()
	require.Equal(t, []string{"__keyevent@0__:new k", "__keyevent@0__:set k", "__keyevent@0__:set k"}, *told)
	first := (*after)[0]
	require.Greater(t, first, start)
	require.Equal(t, []wal.Offset{first, first, end}, *after)
	require.Less(t, first, end)

	*told, *after = nil, nil
	queue := []Queued{
		{Spec: e.Table().Lookup([]byte("LPUSH")), Args: args("LPUSH", "l", "a")},
		{Spec: e.Table().Lookup([]byte("DEL")), Args: args("DEL", "l", "k")},
	}
	e.Lock()
	require.Equal(t, StatusDone, e.RunMulti(cl, queue, len(queue), &w))
	e.Unlock()
	require.Equal(t, []string{"__keyevent@0__:new l", "__keyevent@0__:lpush l", "__keyevent@0__:del l", "__keyevent@0__:del k"}, *told)
	for _, a := range *after {
		require.Greater(t, a, end)
		require.LessOrEqual(t, a, e.log.End())
	}

	do(plain, pcl, "SET", "k", "v")
	do(plain, pcl, "SET", "k", "w")
	plain.Lock()
	require.Equal(t, StatusDone, plain.RunMulti(pcl, queue, len(queue), &w))
	plain.Unlock()
	require.NoError(t, e.log.Sync(context.Background()))
	require.NoError(t, plain.log.Sync(context.Background()))
	with, err := logBytes(e, 0)
	require.NoError(t, err)
	without, err := logBytes(plain, 0)
	require.NoError(t, err)
	require.Equal(t, string(without), string(with))
	require.NoError(t, e.Close(context.Background()))
	require.NoError(t, plain.Close(context.Background()))
}

// A replica tells of what the stream does to keys, at the place of each record among published messages; nobody tells of what is
// replayed at a start.
func TestEventsInStream(t *testing.T) {
	c := &clock{1000}
	ctx := context.Background()
	p := mustOpen(t, testOptions(vfs.NewMem(), c))
	o := testOptions(vfs.NewMem(), c)
	o.Replica = true
	r, told, after := hearing(t, o)
	cl := p.NewClient()

	do(p, cl, "SET", "k", "1", "PX", "10")
	atomic.AddInt64(&c.ms, 20)
	do(p, cl, "GET", "k")
	queue := []Queued{
		{Spec: p.Table().Lookup([]byte("SADD")), Args: args("SADD", "s", "a")},
		{Spec: p.Table().Lookup([]byte("PUBLISH")), Args: args("PUBLISH", "b", "within"),
			Session: func(w *reply.Writer) { p.AppendMessage(args("PUBLISH", "b", "within")...); w.Int(0) }},
		{Spec: p.Table().Lookup([]byte("SPOP")), Args: args("SPOP", "s")},
	}
	var w reply.Writer
	p.Lock()
	require.Equal(t, StatusDone, p.RunMulti(cl, queue, len(queue), &w))
	p.Unlock()
	require.NoError(t, newPipe(p, r, testSeed()).run(ctx))
	require.Equal(t, []string{"__keyevent@0__:new k", "__keyevent@0__:set k", "__keyevent@0__:expire k", "__keyevent@0__:del k",
		"__keyevent@0__:new s", "__keyevent@0__:sadd s", "b within", "__keyevent@0__:srem s", "__keyevent@0__:del s"}, *told)
	require.Equal(t, r.log.End(), (*after)[len(*after)-1])
	require.NoError(t, r.Close(ctx))
	require.NoError(t, p.Close(ctx))

	*told = nil
	require.NoError(t, mustOpen(t, o).Close(ctx))
	require.Empty(t, *told)
}

// A blocking command that has to wait because a key has expired tells of that, and its deletion is in the log (S3).
func TestBlockingCommandExpiresKey(t *testing.T) {
	c := &clock{1000}
	ctx := context.Background()
	o := testOptions(vfs.NewMem(), c)
	e, told, _ := hearing(t, o)
	cl := e.NewClient()
	do(e, cl, "RPUSH", "l", "a")
	do(e, cl, "PEXPIREAT", "l", "1010")
	atomic.StoreInt64(&c.ms, 1020)
	*told = nil
	var w reply.Writer
	e.Lock()
	require.Equal(t, StatusBlocked, e.Run(cl, e.Table().Lookup([]byte("BLPOP")), args("BLPOP", "l", "0"), &w))
	e.Unlock()
	require.Equal(t, []string{"__keyevent@0__:expired l"}, *told)
	require.NoError(t, e.log.Sync(ctx))
	b, err := logBytes(e, 0)
	require.NoError(t, err)
	require.Contains(t, string(b), "*2\r\n$3\r\nDEL\r\n$1\r\nl\r\n")
	e.CloseClient(cl)
	require.NoError(t, e.Close(ctx))
}
