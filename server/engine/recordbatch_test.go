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

	"github.com/holdfast-db/holdfast/wal"
)

// streamOf writes commands, whose arguments have no spaces, as a primary's stream has them.
func streamOf(lines ...string) (b []byte) {
	for _, l := range lines {
		var args [][]byte
		for _, a := range strings.Fields(l) {
			args = append(args, []byte(a))
		}
		b = wal.AppendCommand(b, args...)
	}
	return b
}

// A look ahead ends where what follows cannot be applied as a record by itself, or is another database's.
func TestLookAhead(t *testing.T) {
	e := mustOpen(t, replicaOptions(vfs.NewMem(), &clock{ms: 1_700_000_000_000}))
	defer e.Close(context.Background())
	many := strings.Split(strings.Repeat("SET a 1,", batchRecords+1), ",")
	for name, c := range map[string]struct {
		data []byte
		want int
	}{
		"all":         {streamOf("SET a 1", "PING", "HSET h f v", "MSET x 1 y 2"), 4},
		"select":      {streamOf("SET a 1", "SELECT 3", "SET a 2"), 2},
		"transaction": {streamOf("SET a 1", "MULTI", "SET a 2", "EXEC"), 1},
		"multi":       {streamOf("MULTI", "SET a 2", "EXEC"), 0},
		"unknown":     {streamOf("SET a 1", "XADD s * a b", "SET a 2"), 1},
		"arity":       {streamOf("SET a 1", "SET a", "SET a 2"), 1},
		"cut":         {streamOf("SET a 1", "SET a 2")[:40], 1},
		"malformed":   {append(streamOf("SET a 1"), "+OK\r\n"...), 1},
		"nothing":     {nil, 0},
		"many":        {streamOf(many[:batchRecords+1]...), batchRecords},
	} {
		t.Run(name, func(t *testing.T) {
			r := &Replayer{e: e, live: true}
			require.Equal(t, c.want > 0, r.lookAhead(c.data, len(c.data)))
			for pos := range c.want {
				p := r.batch.pop()
				require.NotNil(t, p, pos)
				args, n, err := wal.ReadRecord(c.data)
				require.NoError(t, err)
				require.Equal(t, args, p.args)
				require.Equal(t, n, p.size)
				c.data = c.data[n:]
			}
			require.Nil(t, r.batch.pop())
			r.batch.forget()
			for _, held := range [][][]byte{r.batch.args, r.batch.keys, r.batch.elems} {
				for _, b := range held[:cap(held)] {
					require.Nil(t, b, "the stream's buffer is its caller's again")
				}
			}
		})
	}
	// Of data that has more, only what begins in the first bytes is looked at.
	r := &Replayer{e: e, live: true}
	data := streamOf("SET a 1", "SET a 2", "SET a 3")
	require.True(t, r.lookAhead(data, len(data)/3+1))
	require.Len(t, r.batch.recs, 2)
}

// An error in the middle of what was looked ahead leaves what came before it applied, and nothing of what follows.
func TestApplyStreamStopsInBatch(t *testing.T) {
	ctx := context.Background()
	r := mustOpen(t, replicaOptions(vfs.NewMem(), &clock{ms: 1_700_000_000_000}))
	defer r.Close(ctx)
	first := streamOf("SET a 1", "SELECT 2", "SET b 2", "SET c 3")
	_, from, _ := r.Position()
	n, err := r.ApplyStream(ctx, append(first, streamOf("LPUSH b x", "SET d 4")...))
	var at *ReplayError
	require.ErrorAs(t, err, &at)
	require.Equal(t, len(first), n)
	require.Equal(t, from+wal.Offset(n), at.Offset)
	_, end, db := r.Position()
	require.Equal(t, from+wal.Offset(n), end)
	require.Equal(t, 2, db)
	n, err = r.ApplyStream(ctx, streamOf("SET d 5")) // the stream goes on where it stood
	require.NoError(t, err)
	require.NotZero(t, n)
	require.NoError(t, r.log.Sync(ctx))
	got, err := logBytes(r, from)
	require.NoError(t, err)
	require.Equal(t, string(append(first, streamOf("SET d 5")...)), string(got))
	cl := r.NewClient()
	require.Equal(t, "$1\r\n1\r\n", do(r, cl, "GET", "a"))
	cl.DB = 2
	require.Equal(t, "$1\r\n5\r\n", do(r, cl, "GET", "d"))
}

// BenchmarkApplyStream is how fast a replica catches up, in bytes of stream: SETs of keys chosen uniformly, checkpoints included.
func BenchmarkApplyStream(b *testing.B) {
	for _, keys := range []int{1000, 500_000} {
		b.Run(fmt.Sprintf("keys=%d/value-bytes=100", keys), func(b *testing.B) {
			ctx := context.Background()
			o := Options{Dir: b.TempDir(), Replica: true, Fsync: wal.EverySec, BallastBytes: -1, NoPreload: true}
			r := mustOpen(b, o)
			value := []byte(strings.Repeat("v", 100))
			set := func(dst []byte, k int) []byte {
				return wal.AppendCommand(dst, []byte("SET"), fmt.Appendf(nil, "key:%016d", k), value)
			}
			apply := func(data []byte) {
				for len(data) > 0 {
					n, err := r.ApplyStream(ctx, data[:min(len(data), streamWindow)])
					require.NoError(b, err)
					data = data[n:]
				}
			}
			var fill, data []byte
			for k := range keys {
				fill = set(fill, k)
			}
			apply(fill)
			const records = 1 << 16
			k := uint64(1)
			for range records {
				k = k*6364136223846793005 + 1442695040888963407
				data = set(data, int((k>>33)%uint64(keys)))
			}
			b.SetBytes(int64(len(data)))
			start := time.Now()
			for b.Loop() {
				apply(data)
			}
			b.ReportMetric(records*float64(b.N)/time.Since(start).Seconds(), "records/s")
			require.NoError(b, r.Abandon())
		})
	}
}

// What is applied at once enters the log in pieces that its chunks can be made of: a larger one becomes a block of a table that
// costs its writer fresh memory.
func TestApplyStreamChunks(t *testing.T) {
	ctx := context.Background()
	o := replicaOptions(vfs.NewMem(), &clock{ms: 1_700_000_000_000})
	o.Fsync = wal.No // the committer gathers
	r := mustOpen(t, o)
	defer r.Close(ctx)
	var data []byte
	for i := range 20_000 {
		data = append(data, streamOf(fmt.Sprintf("SET key:%05d %0100d", i, i))...)
	}
	_, from, _ := r.Position()
	n, err := r.ApplyStream(ctx, data)
	require.NoError(t, err)
	require.Equal(t, len(data), n)
	require.NoError(t, r.log.Sync(ctx))
	rd, err := r.log.NewReader(from)
	require.NoError(t, err)
	defer rd.Close()
	for rd.Offset() < r.log.Durable() {
		_, chunk, err := rd.Next(ctx) // from disk: one chunk
		require.NoError(t, err)
		require.LessOrEqual(t, len(chunk), wal.DefaultMaxChunkBytes)
	}
}

// A replica leaves some time between two checkpoints, unless the log has grown by several times what else starts one. A primary
// does not: its recovery is what its clients wait for.
func TestCheckpointPause(t *testing.T) {
	ctx := context.Background()
	clk := &clock{ms: 1_700_000_000_000}
	o := replicaOptions(vfs.NewMem(), clk)
	o.CheckpointLogBytes = 1000
	r := mustOpen(t, o)
	defer r.Close(ctx)
	asked := func() bool {
		select {
		case <-r.check.wake:
			return true
		default:
			return false
		}
	}
	apply := func(size int) {
		_, err := r.ApplyStream(ctx, streamOf("SET a "+strings.Repeat("x", size)))
		require.NoError(t, err)
	}
	apply(1000)
	require.True(t, asked(), "long after the last one")
	require.NoError(t, r.Checkpoint(ctx))
	apply(1000)
	require.False(t, asked())
	atomic.AddInt64(&clk.ms, checkpointPause.Milliseconds()-1)
	apply(1)
	require.False(t, asked())
	atomic.AddInt64(&clk.ms, 1)
	apply(1)
	require.True(t, asked(), "after the pause")
	require.NoError(t, r.Checkpoint(ctx))
	apply(3800)
	require.False(t, asked())
	apply(200)
	require.True(t, asked(), "the log has become too long")
	require.NoError(t, r.Checkpoint(ctx))
	_, err := r.Promote(ctx)
	require.NoError(t, err)
	do(r, r.NewClient(), "SET", "a", strings.Repeat("x", 1000))
	require.True(t, asked(), "a primary does not wait")
}

// Small records that change many objects start a checkpoint before the log is long: a recovery would read each of them.
func TestCheckpointOfManyObjects(t *testing.T) {
	ctx := context.Background()
	o := replicaOptions(vfs.NewMem(), &clock{ms: 1_700_000_000_000})
	o.CheckpointLogBytes = 4 << 20
	enough := int(o.CheckpointLogBytes / checkpointObjectBytes)
	e := mustOpen(t, o)
	defer e.Close(ctx)
	_, err := e.Promote(ctx)
	require.NoError(t, err)
	c := e.NewClient()
	asked := false
	for i := 0; i < enough && !asked; i += 1 << 10 {
		args := []string{"MSET"}
		for k := range 1 << 10 {
			args = append(args, fmt.Sprint(i+k), "v")
		}
		do(e, c, args...)
		select {
		case <-e.check.wake:
			asked = true
			require.GreaterOrEqual(t, i+1<<10, enough)
		default:
		}
	}
	require.True(t, asked)
	require.Less(t, int64(e.log.End()), o.CheckpointLogBytes)
}
