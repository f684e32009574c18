package engine

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/holdfast-db/holdfast/server/keyspace"
	"github.com/holdfast-db/holdfast/snapshot/rdb"
	"github.com/holdfast-db/holdfast/wal"
)

const (
	loadID    = "00112233445566778899aabbccddeeff00112233"
	loadOther = "ffeeddccbbaa99887766554433221100ffeeddcc"
)

func lineageOf(off wal.Offset) []wal.LineageEntry {
	return []wal.LineageEntry{{ID: loadOther, Start: 0, End: off / 2}, {ID: loadID, Start: off / 2, End: -1}}
}

// rdbOf writes what an engine holds as an RDB file.
func rdbOf(t testing.TB, e *Engine, aux ...string) []byte {
	t.Helper()
	var b bytes.Buffer
	f := rdb.NewFileWriter(&b)
	for i := 0; i < len(aux); i += 2 {
		require.NoError(t, f.Aux(aux[i], aux[i+1]))
	}
	cl := e.NewClient()
	for i := range e.ks.NumDBs() {
		cl.DB = i
		e.Lock()
		var keys []string
		e.ks.DB(i).Each(func(o *keyspace.Object) { keys = append(keys, o.Key()) })
		e.Unlock()
		rand.New(rand.NewPCG(uint64(i), 5)).Shuffle(len(keys), func(a, b int) { keys[a], keys[b] = keys[b], keys[a] })
		if len(keys) > 0 {
			require.NoError(t, f.SelectDB(i))
		}
		for _, k := range keys {
			e.Lock()
			o := e.ks.DB(i).Get([]byte(k))
			at := o.ExpireAt()
			if at == 0 {
				at = -1
			}
			require.NoError(t, f.Key([]byte(k), at, o.AppendValue(nil)))
			e.Unlock()
		}
	}
	require.NoError(t, f.Close())
	return b.Bytes()
}

// load takes over a file as a replica does.
func load(e *Engine, file io.Reader, off wal.Offset, lineage []wal.LineageEntry) error {
	ctx := context.Background()
	l, err := e.BeginLoad(ctx)
	if err != nil {
		return err
	}
	if err := l.RDB(ctx, file); err != nil {
		if aerr := l.Abort(); aerr != nil {
			return aerr
		}
		return err
	}
	return l.Commit(ctx, off, lineage)
}

// filled returns an engine with some data of every kind.
func filled(t testing.TB, clk *clock, seed uint64, n int) *Engine {
	e := mustOpen(t, testOptions(vfs.NewMem(), clk))
	work, cl := newWorkload(seed), e.NewClient()
	work.plain = true
	for range n {
		cl.DB = work.r.IntN(3)
		args := work.next()
		if args[0] == "FLUSHDB" || args[0] == "SWAPDB" {
			continue
		}
		do(e, cl, args...)
	}
	for i := range 700 { // big ones, with rows for their elements
		do(e, cl, "HSET", "big:h", fmt.Sprint("f", i), "v")
		do(e, cl, "SADD", "big:t", fmt.Sprint("m", i))
		do(e, cl, "ZADD", "big:z", fmt.Sprint(i), fmt.Sprint("m", i))
		do(e, cl, "RPUSH", "big:l", strings.Repeat("x", i))
	}
	do(e, cl, "SET", "gone", "1", "PX", "1")
	atomic.AddInt64(&clk.ms, 10)
	return e
}

// A file replaces data and log: the data are the primary's, the log begins at its offset under its lineage, the stream goes on
// from there, and all of it is there after a restart.
func TestLoadRDB(t *testing.T) {
	ctx := context.Background()
	clk := &clock{ms: 1_700_000_000_000}
	p := filled(t, clk, testSeed(), 1500)
	defer p.Close(ctx)
	require.NoError(t, p.log.Sync(ctx))
	file := rdbOf(t, p, "redis-ver", "7.0.15", "repl-stream-db", "2", "repl-id", loadID, "repl-offset", "77",
		LineageAux, fmt.Sprintf(`[{"ID":%q,"Start":0,"End":-1}]`, loadID))
	fs := vfs.NewMem()
	ro := replicaOptions(fs, clk)
	r := mustOpen(t, ro)
	rc := r.NewClient()
	r.SetReplica(false)
	do(r, rc, "SET", "old", "1")
	watcher := r.NewClient()
	r.Lock()
	r.Watch(watcher, []byte("never"))
	r.Unlock()
	r.SetReplica(true)
	require.NoError(t, r.Checkpoint(ctx))
	r.UnloadAll()

	l, err := r.BeginLoad(ctx)
	require.NoError(t, err)
	_, err = r.BeginLoad(ctx)
	require.ErrorIs(t, err, ErrLoading)
	require.NoError(t, l.RDB(ctx, iotest.HalfReader(bytes.NewReader(file))))
	require.Equal(t, "$1\r\n1\r\n", do(r, rc, "GET", "old"), "the old data stay until Commit")
	read, keys := l.Progress()
	require.EqualValues(t, len(file), read)
	require.NotZero(t, keys)
	require.Equal(t, []wal.LineageEntry{{ID: loadID, Start: 0, End: -1}}, l.Lineage())
	id, off := l.Origin()
	require.Equal(t, loadID, id)
	require.EqualValues(t, 77, off)
	// A view of the old data holds Commit up.
	v, pin, err := r.SnapshotView()
	require.NoError(t, err)
	pin.Release()
	closed := make(chan error)
	go func() { closed <- v.Close() }()
	require.NoError(t, l.Commit(ctx, 1000, lineageOf(1000)))
	require.NoError(t, <-closed)
	require.ErrorIs(t, l.Commit(ctx, 1000, lineageOf(1000)), ErrLoaded)
	require.NoError(t, l.Abort())

	check := func() {
		id, end, db := r.Position()
		require.Equal(t, []any{loadID, wal.Offset(1000), 2}, []any{id, end, db})
		require.Equal(t, lineageOf(1000), r.log.Lineage())
		require.Equal(t, digestOf(p), digestOf(r))
		require.Equal(t, "$-1\r\n", do(r, rc, "GET", "old"))
	}
	check()
	require.Equal(t, "*-1\r\n", multi(r, watcher, "GET never"), "watched keys count as changed")
	for i := range 3 {
		pc := p.NewClient()
		pc.DB = i
		rc.DB = i
		require.Equal(t, do(p, pc, "DBSIZE"), do(r, rc, "DBSIZE"))
	}
	rc.DB = 0
	require.NoError(t, r.Abandon())
	require.NoError(t, Check(ctx, ro, func(string) {}))
	r = mustOpen(t, ro)
	check()
	n, err := r.ApplyStream(ctx, wal.AppendCommand(nil, []byte("SET"), []byte("new"), []byte("1")))
	require.NoError(t, err)
	rc.DB = 2
	require.Equal(t, "$1\r\n1\r\n", do(r, rc, "GET", "new"), "the stream goes on in the database that was selected")
	_, end, _ := r.Position()
	require.Equal(t, wal.Offset(1000+n), end)
	require.NoError(t, r.Checkpoint(ctx))
	require.NoError(t, r.Close(ctx))
	require.NoError(t, Check(ctx, ro, func(string) {}))
	names, err := fs.List("data")
	require.NoError(t, err)
	for _, n := range names {
		require.NotContains(t, []string{switchName, newStoreName, oldStoreName}, n)
	}
}

// Many runs: more rows than are sorted at once, values larger than a run.
func TestLoadRuns(t *testing.T) {
	if testing.Short() {
		t.Skip("much data, and nothing beside it that other loads do not have")
	}
	ctx := context.Background()
	var b bytes.Buffer
	f := rdb.NewFileWriter(&b)
	val := append([]byte{byte(rdb.TypeString)}, rdb.AppendString(nil, bytes.Repeat([]byte("v"), 900))...)
	keys := rand.New(rand.NewPCG(testSeed(), 1)).Perm(80000)
	for _, k := range keys {
		require.NoError(t, f.Key(fmt.Appendf(nil, "key:%d", k), -1, val))
	}
	big := append([]byte{byte(rdb.TypeString)}, rdb.AppendString(nil, bytes.Repeat([]byte("b"), runBytes+1))...)
	require.NoError(t, f.Key([]byte("big"), 1_800_000_000_000, big))
	twice := bytes.NewBuffer(bytes.Clone(b.Bytes()))
	require.NoError(t, f.Close())
	e := mustOpen(t, replicaOptions(vfs.NewMem(), &clock{ms: 1_700_000_000_000}))
	defer e.Close(ctx)
	require.NoError(t, load(e, &b, 5000, lineageOf(5000)))
	cl := e.NewClient()
	require.Equal(t, ":80001\r\n", do(e, cl, "DBSIZE"))
	require.Equal(t, fmt.Sprintf(":%d\r\n", runBytes+1), do(e, cl, "STRLEN", "big"))
	require.Equal(t, ":900\r\n", do(e, cl, "STRLEN", "key:7"))
	require.NoError(t, e.Reload(ctx))

	// The first key again at the end, in another run. The checksum 0 means unchecked.
	twice.Write([]byte{val[0]})
	twice.Write(rdb.AppendString(nil, fmt.Appendf(nil, "key:%d", keys[0])))
	twice.Write(val[1:])
	twice.Write(append([]byte{255}, make([]byte, 8)...))
	digest := digestOf(e)
	require.ErrorIs(t, load(e, twice, 9000, lineageOf(9000)), errKeyTwice)
	require.Equal(t, digest, digestOf(e))
	_, end, _ := e.Position()
	require.Equal(t, wal.Offset(5000), end)
}

// Whatever is wrong with a file is told by name, and nothing has been replaced.
func TestLoadRefuses(t *testing.T) {
	ctx := context.Background()
	clk := &clock{ms: 1_700_000_000_000}
	fs := vfs.NewMem()
	ro := replicaOptions(fs, clk)
	r := mustOpen(t, ro)
	defer func() { require.NoError(t, r.Close(ctx)) }()
	p := filled(t, clk, 2, 200)
	defer p.Close(ctx)
	good := rdbOf(t, p)
	require.NoError(t, load(r, bytes.NewReader(good), 100, lineageOf(100)))
	digest := digestOf(r)
	unchecked := append([]byte{255}, make([]byte, 8)...)
	head := func(extra ...byte) []byte {
		return append(append([]byte("REDIS0009\x00\x01k\x01v"), extra...), unchecked...)
	}
	for name, c := range map[string]struct {
		file []byte
		want string
	}{
		"stream":       {head(append([]byte{byte(rdb.TypeStreamListpacks)}, "\x01s\x00\x00\x00\x00\x00"...)...), "stream"},
		"module":       {head(append([]byte{byte(rdb.TypeModule2)}, "\x01m\x01\x00"...)...), "module"},
		"function":     {head(append([]byte{245}, "\x05hello"...)...), "function library"},
		"database":     {head(append([]byte{254, 40, 0}, "\x01a\x01b"...)...), "database 40"},
		"truncated":    {good[:len(good)/2], "truncated"},
		"checksum":     {append(bytes.Clone(good[:len(good)-1]), good[len(good)-1]^1), "checksum"},
		"trailing":     {append(bytes.Clone(good), "PING"...), "4 bytes behind"},
		"twice":        {head(append([]byte{0}, "\x01k\x01w"...)...), "twice"},
		"no rdb":       {[]byte("-ERR something else entirely\r\n"), "version"},
		"selected":     {head(append([]byte{250}, "\x0erepl-stream-db\x0299"...)...), "database 99"},
		"lineage":      {head(append([]byte{250}, "\x10holdfast-lineage\x01x"...)...), LineageAux},
		"field expiry": {head(append([]byte{byte(rdb.TypeHashMetadata)}, "\x01h\x88\x77\x66\x55\x44\x33\x22\x11\x01\x01\x01f\x01v"...)...), "field expiry"},
	} {
		t.Run(name, func(t *testing.T) {
			err := load(r, bytes.NewReader(c.file), 9000, lineageOf(9000))
			require.ErrorContains(t, err, c.want)
			require.Equal(t, digest, digestOf(r))
			_, end, _ := r.Position()
			require.Equal(t, wal.Offset(100), end)
			names, err := fs.List("data")
			require.NoError(t, err)
			require.NotContains(t, names, newStoreName)
		})
	}
	for name, c := range map[string]struct {
		off     wal.Offset
		lineage []wal.LineageEntry
	}{
		"no lineage":  {9000, nil},
		"bad id":      {9000, []wal.LineageEntry{{ID: "x", Start: 0, End: -1}}},
		"no current":  {9000, []wal.LineageEntry{{ID: loadID, Start: 0, End: 9000}}},
		"not reached": {9000, []wal.LineageEntry{{ID: loadID, Start: 9001, End: -1}}},
		"negative":    {-1, lineageOf(9000)},
	} {
		t.Run(name, func(t *testing.T) {
			require.Error(t, load(r, bytes.NewReader(good), c.off, c.lineage))
			require.Equal(t, digest, digestOf(r))
		})
	}
	// A view that stays open: Commit gives up with its context, and everything goes on.
	v, pin, err := r.SnapshotView()
	require.NoError(t, err)
	pin.Release()
	l, err := r.BeginLoad(ctx)
	require.NoError(t, err)
	require.NoError(t, l.RDB(ctx, bytes.NewReader(good)))
	short, cancel := context.WithCancel(ctx)
	cancel()
	require.ErrorIs(t, l.Commit(short, 9000, lineageOf(9000)), context.Canceled)
	require.NoError(t, v.Close())
	v, pin, err = r.SnapshotView()
	require.NoError(t, err, "views are taken again")
	pin.Release()
	require.NoError(t, v.Close())
	require.NoError(t, load(r, bytes.NewReader(good), 50, lineageOf(50)), "offsets may go back")
}

// Files that a real redis-server wrote, with values of every kind in its encodings: DEBUG DIGEST is the same.
func TestLoadRedisFile(t *testing.T) {
	path, err := exec.LookPath("redis-server")
	if err != nil {
		t.Skip("redis-server is not installed")
	}
	ctx := context.Background()
	for _, conf := range []string{"rdbcompression yes", "rdbcompression no", "rdbchecksum no", "list-max-listpack-size 2"} {
		t.Run(strings.ReplaceAll(conf, " ", "="), func(t *testing.T) {
			dir := t.TempDir()
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			require.NoError(t, err)
			port := ln.Addr().(*net.TCPAddr).Port
			require.NoError(t, ln.Close())
			args := append([]string{"--port", strconv.Itoa(port), "--dir", dir, "--save", "", "--enable-debug-command", "yes"},
				strings.Fields("--"+conf)...)
			cmd := exec.Command(path, args...)
			require.NoError(t, cmd.Start())
			defer func() {
				_ = cmd.Process.Kill()
				_ = cmd.Wait()
			}()
			c := redis.NewClient(&redis.Options{Addr: fmt.Sprintf("127.0.0.1:%d", port)})
			defer c.Close()
			require.Eventually(t, func() bool { return c.Ping(ctx).Err() == nil }, 10*time.Second, 10*time.Millisecond)
			work := newWorkload(testSeed())
			for range 3000 {
				args := work.next()
				if args[0] == "FLUSHDB" || args[0] == "SWAPDB" {
					continue
				}
				c.Do(ctx, toAny(args)...) // WRONGTYPE and the like are part of the workload
			}
			for i := range 900 {
				c.HSet(ctx, "big:h", fmt.Sprint("f", i), strings.Repeat("v", i%70))
				c.SAdd(ctx, "big:t", fmt.Sprint("m", i))
				c.SAdd(ctx, "big:i", i*i)
				c.ZAdd(ctx, "big:z", redis.Z{Score: float64(i) / 3, Member: fmt.Sprint("m", i)})
				c.RPush(ctx, "big:l", strings.Repeat("x", i*3), i)
			}
			c.SAdd(ctx, "ints", 1, -70000, 1<<40)
			c.Set(ctx, "int", "123456", 0)
			c.Set(ctx, "lzf", strings.Repeat("abc", 3000), time.Hour)
			c.Set(ctx, "binary", string([]byte{0, 255, '\r', '\n'}), 0)
			want, err := c.Do(ctx, "DEBUG", "DIGEST").Text()
			require.NoError(t, err)
			size := c.DBSize(ctx).Val()
			require.NoError(t, c.Save(ctx).Err())
			file, err := os.Open(filepath.Join(dir, "dump.rdb"))
			require.NoError(t, err)
			defer file.Close()
			r := mustOpen(t, replicaOptions(vfs.NewMem(), &clock{ms: time.Now().UnixMilli()}))
			defer r.Close(ctx)
			require.NoError(t, load(r, file, 1, []wal.LineageEntry{{ID: loadID, Start: 0, End: -1}}))
			require.Equal(t, fmt.Sprintf(":%d\r\n", size), do(r, r.NewClient(), "DBSIZE"))
			r.mu.Lock()
			got := r.RedisDigest()
			r.mu.Unlock()
			require.Equal(t, want, hex.EncodeToString(got[:]))

			require.NoError(t, c.XAdd(ctx, &redis.XAddArgs{Stream: "s", Values: []string{"a", "b"}}).Err())
			require.NoError(t, c.Save(ctx).Err())
			second, err := os.Open(filepath.Join(dir, "dump.rdb"))
			require.NoError(t, err)
			defer second.Close()
			err = load(r, second, 2, []wal.LineageEntry{{ID: loadID, Start: 0, End: -1}})
			require.ErrorIs(t, err, ErrForeignData)
			require.ErrorContains(t, err, "stream")
		})
	}
}

func toAny(args []string) (out []any) {
	for _, a := range args {
		out = append(out, a)
	}
	return out
}

// BenchmarkLoadRDB is how fast a file becomes a store, in keys.
func BenchmarkLoadRDB(b *testing.B) {
	const keys = 500000
	var file bytes.Buffer
	f := rdb.NewFileWriter(&file)
	r := rand.New(rand.NewPCG(1, 1))
	val := make([]byte, 100)
	for i := range keys {
		for j := range val {
			val[j] = byte(r.Uint32())
		}
		require.NoError(b, f.Key(fmt.Appendf(nil, "key:%012d", i), -1, append([]byte{0}, rdb.AppendString(nil, val)...)))
	}
	require.NoError(b, f.Close())
	e := mustOpen(b, Options{Dir: b.TempDir(), Replica: true, BallastBytes: -1, NoPreload: true})
	b.Run(fmt.Sprintf("keys=%d/value-bytes=%d", keys, len(val)), func(b *testing.B) {
		b.SetBytes(int64(file.Len()))
		for b.Loop() {
			require.NoError(b, load(e, bytes.NewReader(file.Bytes()), 10, lineageOf(10)))
		}
		b.ReportMetric(keys*float64(b.N)/b.Elapsed().Seconds(), "keys/s")
	})
	require.NoError(b, e.Abandon())
}
