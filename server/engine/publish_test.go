package engine

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/holdfast-db/holdfast/server/reply"
	"github.com/holdfast-db/holdfast/wal"
)

func args(words ...string) [][]byte {
	out := make([][]byte, len(words))
	for i, w := range words {
		out[i] = []byte(w)
	}
	return out
}

// listener keeps the messages that an engine tells, with what the data were when it did.
type listener struct {
	e    *Engine
	got  []string
	text []string
}

func (l *listener) hear(m *Message) {
	l.got = append(l.got, fmt.Sprintf("%s=%s shard=%v", m.Channel, m.Payload, m.Shard))
	value := ""
	if o := l.e.ks.DB(0).Get([]byte("k")); o != nil {
		value = string(o.String())
	}
	l.text = append(l.text, value)
}

// A message comes to a replica's subscribers at its place among the writes, once its record has been applied; after a restart it
// is not told again, and the logs are the same (R1).
func TestPublishInStream(t *testing.T) {
	c := &clock{1000}
	p := mustOpen(t, testOptions(vfs.NewMem(), c))
	defer func() { require.NoError(t, p.Close(context.Background())) }()
	fs := vfs.NewMem()
	o := testOptions(fs, c)
	o.Replica = true
	l := &listener{}
	o.OnMessage = l.hear
	r := mustOpen(t, o)
	l.e = r
	ctx := context.Background()
	cl := p.NewClient()

	do(p, cl, "SET", "k", "1")
	p.Lock()
	p.AppendMessage(args("PUBLISH", "a", "first")...)
	p.Unlock()
	do(p, cl, "SET", "k", "2")
	// Within a transaction: one record with the writes around it (W2).
	var w reply.Writer
	queue := []Queued{
		{Spec: p.Table().Lookup([]byte("SET")), Args: args("SET", "k", "3")},
		{Spec: p.Table().Lookup([]byte("PUBLISH")), Args: args("PUBLISH", "b", "within"),
			Session: func(w *reply.Writer) { p.AppendMessage(args("PUBLISH", "b", "within")...); w.Int(0) }},
		{Spec: p.Table().Lookup([]byte("SPUBLISH")), Args: args("SPUBLISH", "s", "shard"),
			Session: func(w *reply.Writer) { p.AppendMessage(args("SPUBLISH", "s", "shard")...); w.Int(0) }},
		{Spec: p.Table().Lookup([]byte("SET")), Args: args("SET", "k", "4")},
	}
	p.Lock()
	require.Equal(t, StatusDone, p.RunMulti(cl, queue, len(queue), &w))
	p.Unlock()
	_, ok := p.AppendOwn(args("publish", "c", "own")...)
	require.True(t, ok)
	do(p, cl, "SET", "k", "5")

	require.NoError(t, newPipe(p, r, testSeed()).run(ctx))
	require.Equal(t, []string{"a=first shard=false", "b=within shard=false", "s=shard shard=true", "c=own shard=false"}, l.got)
	require.Equal(t, []string{"1", "4", "4", "4"}, l.text)
	require.Equal(t, digestOf(p), digestOf(r))
	theirs, err := logBytes(p, 0)
	require.NoError(t, err)
	require.NoError(t, r.log.Sync(ctx))
	ours, err := logBytes(r, 0)
	require.NoError(t, err)
	require.Equal(t, theirs, ours, "R1")
	require.Contains(t, string(ours), "*1\r\n$5\r\nMULTI\r\n*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\n3\r\n*3\r\n$7\r\nPUBLISH\r\n")

	// A replica puts nothing of its own into the stream.
	end := r.log.End()
	r.Lock()
	r.AppendMessage(args("PUBLISH", "a", "local")...)
	r.Unlock()
	require.Equal(t, end, r.log.End())

	// Nor does anybody while the disk refuses writes.
	end = p.log.End()
	refused := "MISCONF"
	p.refuseWrites(&refused)
	p.Lock()
	p.AppendMessage(args("PUBLISH", "a", "refused")...)
	p.Unlock()
	require.Equal(t, end, p.log.End())
	p.refuseWrites(nil)

	want := digestOf(r)
	require.NoError(t, r.Abandon())
	l.got = nil
	r = mustOpen(t, o)
	l.e = r
	require.Empty(t, l.got, "recovery told a message again")
	require.Equal(t, want, digestOf(r))
	require.NoError(t, r.Close(ctx))

	// A primary's recovery passes over them likewise.
	want = digestOf(p)
	require.NoError(t, p.Reload(ctx))
	require.Equal(t, want, digestOf(p))
}

// Of a transaction that cannot be applied nothing is told, and of a malformed message neither.
func TestPublishNotApplied(t *testing.T) {
	o := testOptions(vfs.NewMem(), &clock{1000})
	o.Replica = true
	l := &listener{}
	o.OnMessage = l.hear
	r := mustOpen(t, o)
	l.e = r
	defer func() { require.NoError(t, r.Close(context.Background())) }()
	for _, bad := range [][][]string{
		{{"MULTI"}, {"PUBLISH", "a", "x"}, {"NOSUCH"}, {"EXEC"}},
		{{"MULTI"}, {"PUBLISH", "a", "x"}, {"LPUSH", "k", "x"}, {"INCR", "k"}, {"EXEC"}},
		{{"PUBLISH", "a"}},
		{{"SPUBLISH", "a", "b", "c"}},
	} {
		var data []byte
		for _, cmd := range bad {
			data = wal.AppendCommand(data, args(cmd...)...)
		}
		end := r.log.End()
		n, err := r.ApplyStream(context.Background(), data)
		require.Error(t, err, bad)
		require.Zero(t, n)
		require.Equal(t, end, r.log.End())
	}
	require.Empty(t, l.got)
	// Its record is taken afterwards.
	n, err := r.ApplyStream(context.Background(), wal.AppendCommand(nil, args("PUBLISH", "a", "y")...))
	require.NoError(t, err)
	require.NotZero(t, n)
	require.Equal(t, []string{"a=y shard=false"}, l.got)
}

// What is told waits for all that was executed before, for nothing else, and for nothing where the policy does not ask for it
// (A1).
func TestTold(t *testing.T) {
	e := mustOpen(t, testOptions(vfs.NewMem(), &clock{1000}))
	defer func() { require.NoError(t, e.Close(context.Background())) }()
	ctx := context.Background()
	cl := e.NewClient()
	require.NoError(t, e.log.Sync(ctx))
	require.Zero(t, e.ToldOutside())
	var w reply.Writer
	set := e.Table().Lookup([]byte("SET"))
	e.Lock()
	require.Zero(t, e.Told())
	e.Run(cl, set, args("SET", "k", "1"), &w)
	inHold := e.Told()
	e.AppendMessage(args("PUBLISH", "a", "x")...)
	next := e.ks.NextOff
	require.Equal(t, int64(e.logEnd)+int64(len(e.buf))+1, next, "the next write is stamped with the message's offset")
	e.Unlock()
	require.Greater(t, e.log.End(), inHold)
	message := wal.AppendCommand(nil, args("PUBLISH", "a", "x")...)
	require.Equal(t, e.log.End()-wal.Offset(len(message)), inHold)
	require.NoError(t, e.log.Sync(ctx))
	require.Zero(t, e.ToldOutside())

	// Within a transaction the offset lies in its record, of which all or nothing is durable (W2).
	var within []wal.Offset
	tell := func(*reply.Writer) { within = append(within, e.Told()) }
	queue := []Queued{{Session: tell, Spec: set}, {Spec: set, Args: args("SET", "k", "2")}, {Session: tell, Spec: set},
		{Spec: set, Args: args("SET", "k", "3")}, {Session: tell, Spec: set}}
	start := e.log.End()
	e.Lock()
	require.Equal(t, StatusDone, e.RunMulti(cl, queue, len(queue), &w))
	require.NotZero(t, e.Told())
	e.Unlock()
	require.True(t, slices.IsSorted(within), within)
	require.Zero(t, within[0])
	require.Greater(t, within[1], start)
	require.Less(t, within[2], e.log.End())
	e.SetFsync(wal.EverySec)
	require.Zero(t, e.ToldOutside())
	e.SetFsync(wal.Always)
	require.NoError(t, e.log.Sync(ctx))
}
