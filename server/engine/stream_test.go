package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/holdfast-db/holdfast/server/reply"
	"github.com/holdfast-db/holdfast/wal"
)

func testSeed() uint64 {
	if s, err := strconv.ParseUint(os.Getenv("HOLDFAST_SEED"), 10, 64); err == nil {
		return s
	}
	return 1
}

// pipe carries the log of one engine to another, cut anywhere, as a connection would.
type pipe struct {
	p, r *Engine
	rand *rand.Rand
	buf  []byte     // arrived, not applied
	from wal.Offset // behind buf
}

func newPipe(p, r *Engine, seed uint64) *pipe {
	_, end, _ := r.Position()
	return &pipe{p: p, r: r, rand: rand.New(rand.NewPCG(seed, 9)), from: end}
}

// run carries all that is durable. Pieces end anywhere, the rest of a record is kept, as a replica does.
func (c *pipe) run(ctx context.Context) error {
	if err := c.p.log.Sync(ctx); err != nil {
		return err
	}
	data, err := logBytes(c.p, c.from)
	if err != nil {
		return err
	}
	c.from += wal.Offset(len(data))
	for len(data) > 0 {
		n := 1 + c.rand.IntN(min(len(data), 1+c.rand.IntN(3000)))
		c.buf = append(c.buf, data[:n]...)
		data = data[n:]
		took, err := c.r.ApplyStream(ctx, c.buf)
		if err != nil {
			return err
		}
		// A copy, so that whoever keeps a slice of what was applied is found out.
		c.buf = bytes.Clone(c.buf[took:])
	}
	if len(c.buf) > 0 {
		return fmt.Errorf("W2: %d bytes are left at a record boundary", len(c.buf))
	}
	return nil
}

// logBytes reads the durable log from an offset on.
func logBytes(e *Engine, from wal.Offset) (data []byte, err error) {
	rd, err := e.log.NewReader(from)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rd.Close()) }()
	for rd.Offset() < e.log.Durable() {
		_, d, err := rd.Next(context.Background())
		if err != nil {
			return nil, err
		}
		data = append(data, d...)
	}
	return data, nil
}

// sameHistory compares two engines: bytes, data, and what is selected in the stream.
func sameHistory(t *testing.T, p, r *Engine) {
	t.Helper()
	ctx := context.Background()
	require.NoError(t, p.log.Sync(ctx))
	require.NoError(t, r.log.Sync(ctx))
	from := max(p.log.First(), r.log.First())
	a, err := logBytes(p, from)
	require.NoError(t, err)
	b, err := logBytes(r, from)
	require.NoError(t, err)
	require.True(t, bytes.Equal(a, b), "R1: the logs differ")
	_, pe, pdb := p.Position()
	_, re, rdb := r.Position()
	require.Equal(t, []int64{int64(pe), int64(pdb)}, []int64{int64(re), int64(rdb)})
	require.Equal(t, digestOf(p), digestOf(r), "R1: the data differ")
}

func replicaOptions(fs vfs.FS, c *clock) Options {
	o := testOptions(fs, c)
	o.Replica = true
	return o
}

// follow makes r a replica that stands where p's log begins.
func follow(t *testing.T, p, r *Engine) {
	t.Helper()
	id, _, _ := p.Position()
	require.NoError(t, r.AdoptID(context.Background(), id))
}

// The stream, cut at random bytes, gives the same log and the same data (R1), with checkpoints, unloading and a budget that
// keeps nearly nothing resident; also after the replica was closed and opened again.
func TestApplyStream(t *testing.T) {
	for _, c := range []struct {
		budget int64
		batch  int // records for each hold; 0: as many as it takes
	}{{0, 3}, {64 << 10, 3}, {0, 0}, {64 << 10, 0}} {
		t.Run(fmt.Sprintf("budget=%d/batch=%d", c.budget, c.batch), func(t *testing.T) {
			seed := testSeed()
			t.Logf("HOLDFAST_SEED=%d", seed)
			ctx := context.Background()
			clk := &clock{ms: 1_700_000_000_000}
			p := mustOpen(t, testOptions(vfs.NewMem(), clk))
			defer p.Close(ctx)
			ro := replicaOptions(vfs.NewMem(), clk)
			ro.MaxMemory, ro.batch = c.budget, c.batch
			r := mustOpen(t, ro)
			follow(t, p, r)
			c := newPipe(p, r, seed)
			work, cl := newWorkload(seed), p.NewClient()
			for i := range 3000 {
				atomic.AddInt64(&clk.ms, 37)
				switch work.r.IntN(40) {
				case 0:
					multi(p, cl, "SET s:1 x", "SADD t:9 a b", "DEL s:1")
				case 1:
					_, ok := p.AppendOwn([]byte("PING"))
					require.True(t, ok)
				case 2:
					cl.DB = work.r.IntN(4)
				case 3:
					require.NoError(t, p.Checkpoint(ctx))
				default:
					do(p, cl, work.next()...)
				}
				if i%17 == 0 {
					require.NoError(t, c.run(ctx))
				}
				if i%50 == 0 {
					require.NoError(t, r.Checkpoint(ctx))
					r.Tick(ctx)
				}
				if i%200 == 0 {
					require.NoError(t, c.run(ctx))
					sameHistory(t, p, r)
				}
				if i%700 == 699 {
					id, at, db := r.Position()
					if i%2 == 0 {
						require.NoError(t, r.Close(ctx))
					} else {
						require.NoError(t, r.log.Sync(ctx))
						require.NoError(t, r.Abandon())
					}
					r = mustOpen(t, ro)
					c.r = r
					id2, at2, db2 := r.Position()
					require.Equal(t, []any{id, at, db}, []any{id2, at2, db2}, "a replica resumes where it stood, under the id that it had")
				}
			}
			require.NoError(t, c.run(ctx))
			sameHistory(t, p, r)
			require.NoError(t, r.Checkpoint(ctx))
			require.NoError(t, r.Close(ctx))
			require.NoError(t, Check(ctx, ro, func(string) {}))
		})
	}
}

// A record that cannot be applied leaves neither log nor memory changed, be it the third command of a transaction.
func TestApplyStreamRefuses(t *testing.T) {
	ctx := context.Background()
	clk := &clock{ms: 1_700_000_000_000}
	r := mustOpen(t, replicaOptions(vfs.NewMem(), clk))
	defer r.Close(ctx)
	stream := func(lines ...string) (b []byte) {
		for _, l := range lines {
			var args [][]byte
			for _, a := range strings.Fields(l) {
				args = append(args, []byte(a))
			}
			b = wal.AppendCommand(b, args...)
		}
		return b
	}
	good := stream("SELECT 2", "SET a 1", "RPUSH l x")
	n, err := r.ApplyStream(ctx, good)
	require.NoError(t, err)
	require.Equal(t, len(good), n)
	digest := digestOf(r)
	for name, bad := range map[string][]byte{
		"unknown":                stream("XADD s * a b"),
		"arity":                  stream("SET a"),
		"wrong type":             stream("RPUSH a x"),
		"database":               stream("SELECT 99"),
		"unknown in transaction": stream("MULTI", "SET a 2", "XADD s * a b", "EXEC"),
		"failing in transaction": stream("MULTI", "SELECT 0", "SET b 2", "SELECT 2", "RPUSH a x", "EXEC"),
		"no array":               []byte("+OK\r\n"),
	} {
		t.Run(name, func(t *testing.T) {
			id, end, db := r.Position()
			first := stream("SET b 1", "DEL b")
			n, err := r.ApplyStream(ctx, append(first, bad...))
			var at *ReplayError
			require.ErrorAs(t, err, &at)
			require.Equal(t, len(first), n, "what comes before it is applied")
			id2, end2, db2 := r.Position()
			require.Equal(t, []any{id, end + wal.Offset(n), db}, []any{id2, end2, db2})
			require.Equal(t, digest, digestOf(r))
		})
	}
	// Half a transaction is not touched.
	half := stream("MULTI", "SET a 3")
	n, err = r.ApplyStream(ctx, half)
	require.NoError(t, err)
	require.Zero(t, n)
	require.Equal(t, digest, digestOf(r))
	canceled, cancel := context.WithCancel(ctx)
	cancel()
	_, err = r.ApplyStream(canceled, good)
	require.ErrorIs(t, err, context.Canceled)
	r.SetReplica(false)
	_, err = r.ApplyStream(ctx, good)
	require.ErrorIs(t, err, ErrNotReplica)
}

// What a replica's reader sees is durable before its reply may leave (A1).
func TestApplyStreamSeen(t *testing.T) {
	ctx := context.Background()
	r := mustOpen(t, replicaOptions(vfs.NewMem(), &clock{ms: 1_700_000_000_000}))
	defer r.Close(ctx)
	data := wal.AppendCommand(nil, []byte("SET"), []byte("a"), []byte("1"))
	_, end, _ := r.Position()
	_, err := r.ApplyStream(ctx, data)
	require.NoError(t, err)
	r.Lock()
	var w reply.Writer
	r.Run(r.NewClient(), r.Table().Lookup([]byte("get")), [][]byte{[]byte("get"), []byte("a")}, &w)
	seen := r.ks.Seen
	r.Unlock()
	require.Equal(t, "$1\r\n1\r\n", string(w.Bytes()))
	require.Equal(t, int64(end)+1, seen)
}

// A replica hides what has expired and keeps it until its primary's DEL comes; nothing of its own enters the log.
func TestReplicaExpiry(t *testing.T) {
	ctx := context.Background()
	clk := &clock{ms: 1_700_000_000_000}
	p := mustOpen(t, testOptions(vfs.NewMem(), clk))
	defer p.Close(ctx)
	ro := replicaOptions(vfs.NewMem(), clk)
	r := mustOpen(t, ro)
	defer r.Close(ctx)
	follow(t, p, r)
	c := newPipe(p, r, 1)
	pc, rc := p.NewClient(), r.NewClient()
	do(p, pc, "SET", "a", "1", "PX", "1000")
	do(p, pc, "SET", "cold", "1", "PX", "1000")
	require.NoError(t, c.run(ctx))
	require.NoError(t, r.Checkpoint(ctx))
	r.UnloadAll()
	require.Equal(t, "$1\r\n1\r\n", do(r, rc, "GET", "a"))
	atomic.AddInt64(&clk.ms, 2000)
	_, end, _ := r.Position()
	require.Equal(t, "$-1\r\n", do(r, rc, "GET", "a"))
	require.Equal(t, ":0\r\n", do(r, rc, "EXISTS", "a", "cold"))
	r.Tick(ctx)
	_, now, _ := r.Position()
	require.Equal(t, end, now, "nothing of the replica's own enters the log")
	require.Equal(t, ":2\r\n", do(r, rc, "DBSIZE"))
	p.Tick(ctx)
	require.NoError(t, c.run(ctx))
	require.Equal(t, ":0\r\n", do(r, rc, "DBSIZE"))
	sameHistory(t, p, r)
}

// Clients of a replica: writes are refused, inside a transaction, too; who was blocked is sent home when the role changes.
func TestReplicaClients(t *testing.T) {
	ctx := context.Background()
	e := mustOpen(t, testOptions(vfs.NewMem(), &clock{ms: 1_700_000_000_000}))
	defer e.Close(ctx)
	blocked := e.NewClient()
	require.Equal(t, "(blocked)", do(e, blocked, "BLPOP", "a", "b", "0"))
	e.SetReplica(true)
	e.SetReplica(true)
	require.True(t, e.IsReplica())
	var w reply.Writer
	_, err := e.Wait(ctx, blocked, &w)
	require.NoError(t, err)
	require.Equal(t, "-"+reply.UnblockedRoleChange+"\r\n", string(w.Bytes()))
	cl := e.NewClient()
	require.Equal(t, "-"+reply.ReadOnly+"\r\n", do(e, cl, "SET", "a", "1"))
	require.Equal(t, "-EXECABORT Transaction discarded because of: "+reply.ReadOnly+"\r\n", multi(e, cl, "GET a", "SET a 1"))
	require.Equal(t, "$-1\r\n", do(e, cl, "GET", "a"))
	_, ok := e.AppendOwn([]byte("PING"))
	require.False(t, ok)
	e.SetReplica(false)
	require.Equal(t, "+OK\r\n", do(e, cl, "SET", "a", "1"))
}

// W3: ids end where bytes of others begin. A replica that is promoted goes on under a new id, and the old primary, which comes
// back with nothing but its durable bytes, resumes under it.
func TestLineage(t *testing.T) {
	ctx := context.Background()
	clk := &clock{ms: 1_700_000_000_000}
	po := testOptions(vfs.NewMem(), clk)
	p := mustOpen(t, po)
	r := mustOpen(t, replicaOptions(vfs.NewMem(), clk))
	follow(t, p, r)
	c := newPipe(p, r, 1)
	pc := p.NewClient()
	pc.DB = 5
	do(p, pc, "SET", "a", "1")
	require.NoError(t, c.run(ctx))
	idP, at, db := r.Position()
	require.Equal(t, 5, db)
	require.NoError(t, r.AdoptID(ctx, idP), "the id that it has")

	idR, err := r.Promote(ctx)
	require.NoError(t, err)
	require.False(t, r.IsReplica())
	l := r.log.Lineage()
	require.Equal(t, []wal.LineageEntry{{ID: idP, Start: 0, End: at}, {ID: idR, Start: at, End: -1}}, l[len(l)-2:])
	rc := r.NewClient()
	rc.DB = 5
	do(r, rc, "SET", "b", "2")
	require.NoError(t, r.log.Sync(ctx))
	data, err := logBytes(r, at)
	require.NoError(t, err)
	require.True(t, bytes.HasPrefix(data, appendSelect(nil, 5)), "who follows under the new id may not know the database: %q", data)

	// The old primary returns, as a replica now: a new start of it begins an id under which nothing is written.
	require.NoError(t, p.Close(ctx))
	p = mustOpen(t, po)
	defer p.Close(ctx)
	p.SetReplica(true)
	_, end, db := p.Position()
	require.Equal(t, at, end)
	require.Equal(t, 5, db)
	require.NoError(t, p.AdoptID(ctx, idR))
	require.NoError(t, newPipe(r, p, 2).run(ctx))
	sameHistory(t, r, p)
	id, _, _ := p.Position()
	require.Equal(t, idR, id)
	var ids []string
	for _, x := range p.log.Lineage() {
		ids = append(ids, x.ID)
	}
	require.Contains(t, ids, idP)
	require.NoError(t, r.Close(ctx))

	// Promoted without ever having followed: a new id all the same, and writes do not mix with it.
	before := p.ReplID()
	after, err := p.Promote(ctx)
	require.NoError(t, err)
	require.NotEqual(t, before, after)
	_, err = p.Promote(ctx)
	require.NoError(t, err)
}

// A pin keeps the log (W6), a view what it needs.
func TestPins(t *testing.T) {
	ctx := context.Background()
	o := testOptions(vfs.NewMem(), &clock{ms: 1_700_000_000_000})
	o.RetainBytes = 1
	e := mustOpen(t, o)
	defer e.Close(ctx)
	cl := e.NewClient()
	grow := func() {
		for i := range 50 {
			do(e, cl, "SET", fmt.Sprint("k", i), strings.Repeat("v", 100))
			require.NoError(t, e.log.Sync(ctx))
		}
		require.NoError(t, e.Checkpoint(ctx))
	}
	grow()
	v, pin, err := e.SnapshotView()
	require.NoError(t, err)
	c := v.Meta().C
	require.Equal(t, c, pin.Offset())
	far := e.Pin(c+1000, "replica")
	grow()
	require.LessOrEqual(t, e.log.First(), c)
	require.Equal(t, []PinInfo{{c, "snapshot"}, {c + 1000, "replica"}}, e.Pins())
	require.Equal(t, c, v.Meta().C)
	require.NoError(t, v.Close())
	pin.Release()
	pin.Release()
	grow()
	require.LessOrEqual(t, e.log.First(), c+1000)
	require.Greater(t, e.log.First(), c)
	far.Move(e.log.Durable())
	far.Move(0)
	far.Release()
	grow()
	require.Greater(t, e.log.First(), c+1000)
}

// Readers, the stream, checkpoints and the janitor at once, for the race detector.
func TestApplyStreamConcurrently(t *testing.T) {
	ctx := context.Background()
	clk := &clock{ms: 1_700_000_000_000}
	p := mustOpen(t, testOptions(vfs.NewMem(), clk))
	defer p.Close(ctx)
	ro := replicaOptions(vfs.NewMem(), clk)
	ro.Manual, ro.MaxMemory, ro.CheckpointLogBytes, ro.DirtyBytes = false, 128<<10, 16<<10, 32<<10
	r := mustOpen(t, ro)
	defer r.Close(ctx)
	follow(t, p, r)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for i := range 2 {
		wg.Go(func() {
			cl, work := r.NewClient(), newWorkload(uint64(i))
			for {
				select {
				case <-stop:
					return
				default:
					do(r, cl, "GET", work.key("s"))
					do(r, cl, "HGETALL", work.key("h"))
				}
			}
		})
	}
	c := newPipe(p, r, 3)
	work, cl := newWorkload(3), p.NewClient()
	for i := range 1500 {
		do(p, cl, work.next()...)
		if i%30 == 0 {
			require.NoError(t, c.run(ctx))
		}
	}
	require.NoError(t, c.run(ctx))
	close(stop)
	wg.Wait()
	sameHistory(t, p, r)
}

// A window is looked through in pieces, a SELECT of an earlier one counting in those behind it: no record has to read a cold key under
// the lock, and the data are those of a server that had all keys in memory.
func TestApplyStreamColdWindow(t *testing.T) {
	ctx := context.Background()
	c := &clock{ms: 1_700_000_000_000}
	var stream []byte
	add := func(args ...string) {
		stream = fmt.Appendf(stream, "*%d\r\n", len(args))
		for _, a := range args {
			stream = fmt.Appendf(stream, "$%d\r\n%s\r\n", len(a), a)
		}
	}
	long := strings.Repeat("x", 100)
	add("SELECT", "0")
	for i := range 3000 {
		add("APPEND", fmt.Sprint("s", i*7%3000), long)
	}
	add("SELECT", "3")
	for i := range 1500 {
		add("SADD", fmt.Sprint("set", i*7%50), fmt.Sprint(long, i))
	}
	require.Greater(t, len(stream), 3*streamScan)
	require.Less(t, len(stream), streamWindow)

	var digests [2][20]byte
	for i, warm := range []bool{true, false} {
		fs := vfs.NewMem()
		e := mustOpen(t, testOptions(fs, c))
		fillForPreload(e)
		require.NoError(t, e.Checkpoint(ctx))
		require.NoError(t, e.Close(ctx))
		e = mustOpen(t, testOptions(fs, c))
		if warm {
			e.preloadNow()
			require.Zero(t, e.DB(0).Cold())
		} else {
			require.Positive(t, e.DB(0).Cold())
			require.Positive(t, e.DB(3).Cold())
		}
		e.SetReplica(true)
		before := e.Stats().ColdInLock
		n, err := e.ApplyStream(ctx, stream)
		require.NoError(t, err)
		require.Equal(t, len(stream), n)
		require.Equal(t, before, e.Stats().ColdInLock)
		digests[i] = e.Digest()
		require.NoError(t, e.Close(ctx))
	}
	require.Equal(t, digests[0], digests[1])
}

// Who asks for a store at an offset shares the checkpoint that is there, or under way.
func TestCheckpointFrom(t *testing.T) {
	ctx := context.Background()
	e := mustOpen(t, testOptions(vfs.NewMem(), &clock{ms: 1_700_000_000_000}))
	cl := e.NewClient()
	do(e, cl, "SET", "a", "1")
	_, end, _ := e.Position()
	require.NoError(t, e.CheckpointFrom(ctx, end))
	require.EqualValues(t, 1, e.LastCheckpoint().Count)
	require.Equal(t, end, e.LastCheckpoint().Offset)
	require.NoError(t, e.CheckpointFrom(ctx, end))
	require.EqualValues(t, 1, e.LastCheckpoint().Count)
	do(e, cl, "SET", "b", "1")
	require.NoError(t, e.CheckpointFrom(ctx, end))
	require.EqualValues(t, 1, e.LastCheckpoint().Count)
	require.NoError(t, e.CheckpointFrom(ctx, end+1))
	require.EqualValues(t, 2, e.LastCheckpoint().Count)
	require.NoError(t, e.Close(ctx))
}
