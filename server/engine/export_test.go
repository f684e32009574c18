package engine

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/holdfast-db/holdfast/server/keyspace"
	"github.com/holdfast-db/holdfast/snapshot/rdb"
	"github.com/holdfast-db/holdfast/wal"
)

// exportTo checkpoints e and exports what it holds under lineageOf its offset.
func exportTo(ctx context.Context, t testing.TB, e *Engine, w io.Writer) error {
	t.Helper()
	require.NoError(t, e.Checkpoint(context.Background()))
	v, err := e.OpenExport()
	require.NoError(t, err)
	defer v.Pin.Release()
	defer func() { require.NoError(t, v.Close()) }()
	return e.ExportRDB(ctx, v.View, w, ExportOptions{ID: loadID, Lineage: lineageOf(v.Meta().C)})
}

// exportable has every type in every size, expiries past and future, and databases that have changed places.
func exportable(t testing.TB, clk *clock, seed uint64) *Engine {
	e := filled(t, clk, seed, 1500)
	cl := e.NewClient()
	for db := range 5 {
		cl.DB = db
		for _, n := range []int{1, 3, 200, 700} {
			for i := range n {
				at := strconv.Itoa(n)
				do(e, cl, "HSET", "h"+at, fmt.Sprint("f", i), strings.Repeat("v", i%150))
				do(e, cl, "SADD", "t"+at, fmt.Sprint("m", i))
				do(e, cl, "SADD", "i"+at, strconv.Itoa(i*i*i-5000))
				do(e, cl, "ZADD", "z"+at, fmt.Sprint(float64(i-100)/3), fmt.Sprint("m", i))
				do(e, cl, "RPUSH", "l"+at, strings.Repeat("x", i%300), strconv.Itoa(i))
			}
		}
		do(e, cl, "ZADD", "zinf", "+inf", "a", "-inf", "b", "-0", "c", "1e-320", "d", "17976931348623157e292", "e")
		do(e, cl, "SET", "int", "-12345")
		do(e, cl, "SET", "empty", "")
		do(e, cl, "SET", "", "the key is empty")
		do(e, cl, "SET", "\x00\xff\r\n", "\x00\xfe\r\n")
		do(e, cl, "SET", "long", strings.Repeat("s", 300000))
		do(e, cl, "HSET", "wide", "one", strings.Repeat("w", 100000), "", "")
		for _, k := range []string{"h700", "z3", "l200", "int"} {
			do(e, cl, "PEXPIREAT", k, "1900000000000")
		}
		do(e, cl, "PEXPIRE", "t700", "5")
		do(e, cl, "PEXPIRE", "long", "5")
	}
	require.Equal(t, "+OK\r\n", do(e, cl, "SWAPDB", "0", "4"))
	require.Equal(t, "+OK\r\n", do(e, cl, "SWAPDB", "2", "9"))
	cl.DB = 3
	require.Equal(t, "+OK\r\n", do(e, cl, "FLUSHDB"))
	do(e, cl, "SET", "after", "the flush")
	atomic.AddInt64(&clk.ms, 10) // some have expired; they are keys until their DEL
	return e
}

// An export has all of the data: an engine that loads it is equal by digest, and gets the fields that a replica asks for.
func TestExportLoads(t *testing.T) {
	ctx := context.Background()
	clk := &clock{ms: 1_700_000_000_000}
	e := exportable(t, clk, testSeed())
	defer e.Close(ctx)
	var file bytes.Buffer
	require.NoError(t, exportTo(ctx, t, e, &file))
	_, end, db := e.Position()

	r := mustOpen(t, replicaOptions(vfs.NewMem(), clk))
	defer r.Close(ctx)
	l, err := r.BeginLoad(ctx)
	require.NoError(t, err)
	require.NoError(t, l.RDB(ctx, bytes.NewReader(file.Bytes())))
	id, off := l.Origin()
	require.Equal(t, []any{loadID, int64(end), db}, []any{id, off, l.SelectedDB()})
	require.Equal(t, lineageOf(end), l.Lineage())
	require.NoError(t, l.Commit(ctx, end, l.Lineage()))
	require.Equal(t, digestOf(e), digestOf(r))

	// What is exported of the loaded data is the same again, but for the fields: also rows that were never objects.
	var again bytes.Buffer
	require.NoError(t, exportTo(ctx, t, r, &again))
	require.Equal(t, keysOf(t, file.Bytes()), keysOf(t, again.Bytes()))
	c := mustOpen(t, replicaOptions(vfs.NewMem(), clk))
	defer c.Close(ctx)
	require.NoError(t, load(c, &again, end, lineageOf(end)))
	require.Equal(t, digestOf(e), digestOf(c))
}

// keysOf maps database and key to expiry and type.
func keysOf(t testing.TB, file []byte) map[string]string {
	t.Helper()
	f, err := rdb.NewFileReader(bytes.NewReader(file))
	require.NoError(t, err)
	out := map[string]string{}
	for {
		e, err := f.Next()
		if errors.Is(err, io.EOF) {
			return out
		}
		require.NoError(t, err)
		if e.Aux == nil {
			out[fmt.Sprint(e.DB, " ", string(e.Key))] = fmt.Sprint(e.ExpireMs, " ", e.Type)
		}
	}
}

// A real redis-server has the same data from the file by its DEBUG DIGEST, and the history that the file names. It runs as a
// replica, which keeps keys that have expired.
func TestExportRedisLoads(t *testing.T) {
	path, err := exec.LookPath("redis-server")
	if err != nil {
		t.Skip("redis-server is not installed")
	}
	ctx := context.Background()
	e := exportable(t, &clock{ms: 1_700_000_000_000}, testSeed())
	defer e.Close(ctx)
	dir := t.TempDir()
	file, err := os.Create(filepath.Join(dir, "dump.rdb"))
	require.NoError(t, err)
	require.NoError(t, exportTo(ctx, t, e, file))
	require.NoError(t, file.Close())
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer ln.Close() // its primary, which never answers
	free, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	port := free.Addr().(*net.TCPAddr).Port
	require.NoError(t, free.Close())
	cmd := exec.Command(path, "--port", strconv.Itoa(port), "--bind", "127.0.0.1", "--dir", dir, "--save", "",
		"--enable-debug-command", "yes", "--replicaof", "127.0.0.1 "+strconv.Itoa(ln.Addr().(*net.TCPAddr).Port))
	var log bytes.Buffer
	cmd.Stdout = &log
	require.NoError(t, cmd.Start())
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Log(log.String())
		}
	}()
	c := redis.NewClient(&redis.Options{Addr: fmt.Sprintf("127.0.0.1:%d", port)})
	defer c.Close()
	require.Eventually(t, func() bool { return c.Ping(ctx).Err() == nil }, 20*time.Second, 10*time.Millisecond)
	got, err := c.Do(ctx, "DEBUG", "DIGEST").Text()
	require.NoError(t, err)
	e.mu.Lock()
	want := e.RedisDigest()
	e.mu.Unlock()
	require.Equal(t, hex.EncodeToString(want[:]), got)
	info := c.Info(ctx, "replication").Val()
	_, end, _ := e.Position()
	require.Contains(t, info, "master_replid:"+loadID)
	require.Contains(t, info, fmt.Sprintf("master_repl_offset:%d\r\n", end))
}

// An engine that holds nothing, and an export that is to hold nothing, make a file without keys.
func TestExportEmpty(t *testing.T) {
	ctx := context.Background()
	clk := &clock{ms: 1_700_000_000_000}
	e := mustOpen(t, testOptions(vfs.NewMem(), clk))
	defer e.Close(ctx)
	var file bytes.Buffer
	require.NoError(t, exportTo(ctx, t, e, &file))
	require.Empty(t, keysOf(t, file.Bytes()))
	do(e, e.NewClient(), "SET", "a", "b")
	require.NoError(t, e.Checkpoint(ctx))
	v, pin, err := e.SnapshotView()
	require.NoError(t, err)
	defer pin.Release()
	defer func() { require.NoError(t, v.Close()) }()
	file.Reset()
	o := ExportOptions{ID: loadID, Lineage: lineageOf(v.Meta().C)}
	require.NoError(t, e.ExportRDB(ctx, v, &file, o))
	require.Len(t, keysOf(t, file.Bytes()), 1)
	file.Reset()
	o.NoData = true
	require.NoError(t, e.ExportRDB(ctx, v, &file, o))
	require.Empty(t, keysOf(t, file.Bytes()))

	// The history must be that of the data.
	at := v.Meta().C
	for name, bad := range map[string]ExportOptions{
		"none":     {ID: loadID},
		"other id": {ID: loadOther, Lineage: lineageOf(at)},
		"behind":   {ID: loadID, Lineage: []wal.LineageEntry{{ID: loadID, Start: at + 1, End: -1}}},
		"ended":    {ID: loadID, Lineage: []wal.LineageEntry{{ID: loadID, Start: 0, End: at}}},
		"gap":      {ID: loadID, Lineage: []wal.LineageEntry{{ID: loadOther, Start: 0, End: 1}, {ID: loadID, Start: 2, End: -1}}},
	} {
		file.Reset()
		require.ErrorContains(t, e.ExportRDB(ctx, v, &file, bad), "W3", name)
		require.Zero(t, file.Len(), name)
	}
}

// notWhole says that no reader takes the file for a whole one.
func notWhole(t testing.TB, file []byte) {
	t.Helper()
	f, err := rdb.NewFileReader(bytes.NewReader(file))
	for err == nil {
		_, err = f.Next()
	}
	require.NotErrorIs(t, err, io.EOF)
}

// Rows that say other things than their neighbours end an export with an error, and leave no file that looks whole.
func TestExportDamagedRows(t *testing.T) {
	ctx := context.Background()
	clk := &clock{ms: 1_700_000_000_000}
	main := func(phys uint32, key string) []byte {
		return keyspace.AppendMainKey(nil, phys, keyspace.Slot([]byte(key)), keyspace.KeyHash([]byte(key)), []byte(key))
	}
	for name, c := range map[string]struct {
		key  string // whose main row is changed
		main func(row []byte) []byte
		elem func(sub, val []byte) []byte // changes the first element row
		want string
	}{
		"flags":            {key: "s", main: func(r []byte) []byte { r[0] |= 0x80; return r }, want: "malformed"},
		"type":             {key: "s", main: func(r []byte) []byte { r[2] = byte(rdb.TypeList); return r }, want: errSmallValue.Error()},
		"long string":      {key: "s", main: func(r []byte) []byte { return append(r, 'x') }, want: errSmallValue.Error()},
		"short string":     {key: "s", main: func(r []byte) []byte { return r[:len(r)-1] }, want: errSmallValue.Error()},
		"no value":         {key: "s", main: func(r []byte) []byte { return r[:2] }, want: "malformed"},
		"long hash":        {key: "h1", main: func(r []byte) []byte { return append(r, 'x') }, want: errSmallValue.Error()},
		"short hash":       {key: "h1", main: func(r []byte) []byte { return r[:len(r)-1] }, want: rdb.ErrCorrupt.Error()},
		"hash as zset":     {key: "h1", main: func(r []byte) []byte { r[2] = byte(rdb.TypeZSet2); return r }, want: errSmallValue.Error()},
		"no expiry":        {key: "e", main: func(r []byte) []byte { r[0] = 0; return append(r[:2], r[10:]...) }, want: "with an expiry"},
		"new key":          {key: "new", main: func([]byte) []byte { return []byte{0, 0x10, 0, 1, 'v'} }, want: "the store says"},
		"count high":       {key: "z", main: func(r []byte) []byte { return binary.AppendUvarint(r[:10], 701) }, want: "its row says 701"},
		"count low":        {key: "h", main: func(r []byte) []byte { return binary.AppendUvarint(r[:10], 1) }, want: "its row says 1"},
		"count none":       {key: "h", main: func(r []byte) []byte { return binary.AppendUvarint(r[:10], 0) }, want: "without elements"},
		"other collection": {key: "h", main: func(r []byte) []byte { r[9] ^= 0x7f; return r }, want: "0 elements"},
		"score":            {key: "z", elem: func(_, val []byte) []byte { return val[:7] }, want: "malformed"},
		"set member":       {key: "t", elem: func(_, val []byte) []byte { return append(val, 1) }, want: "malformed"},
		"list node":        {key: "l", elem: func(_, val []byte) []byte { return val[:len(val)-1] }, want: "malformed"},
		"list node none":   {key: "l", elem: func(_, val []byte) []byte { return nil }, want: "malformed"},
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			e := mustOpen(t, testOptions(vfs.NewMem(), clk))
			defer e.Abandon()
			cl := e.NewClient()
			do(e, cl, "SET", "s", "value")
			do(e, cl, "SET", "e", "value", "PX", "100000")
			do(e, cl, "HSET", "h1", "f", "v")
			for i := range 700 {
				do(e, cl, "HSET", "h", fmt.Sprint("f", i), "v")
				do(e, cl, "SADD", "t", fmt.Sprint("m", i))
				do(e, cl, "ZADD", "z", fmt.Sprint(i), fmt.Sprint("m", i))
				do(e, cl, "RPUSH", "l", strings.Repeat("x", i))
			}
			var file bytes.Buffer
			require.NoError(t, exportTo(ctx, t, e, &file))
			require.Len(t, keysOf(t, file.Bytes()), 7)

			m := e.Store().Meta()
			row := main(m.DBs[0].Phys, c.key)
			val, ok, err := e.Store().Get(row)
			require.NoError(t, err)
			if ok && c.elem != nil {
				h, err := keyspace.ParseRow(val)
				require.NoError(t, err)
				lo, hi := keyspace.ElemObjectRange(m.DBs[0].Phys, h.OID)
				it, err := e.Store().NewIter(lo, hi)
				require.NoError(t, err)
				require.True(t, it.First())
				row = bytes.Clone(it.Key())
				val = c.elem(row[13:], bytes.Clone(it.Value()))
				require.NoError(t, it.Close())
			} else {
				val = c.main(bytes.Clone(val))
			}
			ing, err := e.Store().NewIngest()
			require.NoError(t, err)
			require.NoError(t, ing.Set(row, val))
			require.NoError(t, ing.Commit(ctx, m))
			v, pin, err := e.SnapshotView()
			require.NoError(t, err)
			pin.Release()
			defer func() { require.NoError(t, v.Close()) }()
			file.Reset()
			err = e.ExportRDB(ctx, v, &file, ExportOptions{ID: loadID, Lineage: lineageOf(v.Meta().C)})
			require.ErrorContains(t, err, c.want)
			notWhole(t, file.Bytes())
		})
	}
}

// limited fails once it has taken so many bytes, or does something at that place.
type limited struct {
	bytes.Buffer
	left int
	then func() error
}

func (l *limited) Write(p []byte) (int, error) {
	if l.left -= len(p); l.left < 0 {
		if err := l.then(); err != nil {
			return 0, err
		}
	}
	return l.Buffer.Write(p)
}

// A context that ends, or a writer that fails, wherever it happens, ends an export with its error.
func TestExportEnds(t *testing.T) {
	clk := &clock{ms: 1_700_000_000_000}
	e := exportable(t, clk, testSeed())
	defer e.Close(context.Background())
	cl := e.NewClient()
	for i := range 30000 {
		do(e, cl, "HSET", "huge", fmt.Sprint("field:", i), "value")
	}
	var whole bytes.Buffer
	require.NoError(t, exportTo(context.Background(), t, e, &whole))
	errWriter := errors.New("connection reset")
	for at := 0; at < whole.Len(); at += whole.Len()/12 + 1 {
		w := &limited{left: at, then: func() error { return errWriter }}
		require.ErrorIs(t, exportTo(context.Background(), t, e, w), errWriter, at)
		notWhole(t, w.Bytes())
	}
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	w := &limited{left: 1 << 40}
	require.ErrorIs(t, exportTo(ended, t, e, w), context.Canceled)
	notWhole(t, w.Bytes())
	// In the middle, within whatever is being written there: little more is written.
	ended, cancel = context.WithCancel(context.Background())
	w = &limited{left: whole.Len() / 3, then: func() error { cancel(); return nil }}
	require.ErrorIs(t, exportTo(ended, t, e, w), context.Canceled)
	notWhole(t, w.Bytes())
	require.Less(t, w.Len(), whole.Len())
}

// Memory does not follow the size of what is exported (M1): neither of the whole nor of one collection.
func TestExportMemory(t *testing.T) {
	ctx := context.Background()
	e := mustOpen(t, testOptions(vfs.NewMem(), &clock{ms: 1_700_000_000_000}))
	defer e.Close(ctx)
	cl := e.NewClient()
	val := strings.Repeat("v", 1000)
	for i := range 12000 {
		do(e, cl, "HSET", "hash", fmt.Sprint(i), val)
		do(e, cl, "RPUSH", "list", val)
		do(e, cl, "SET", fmt.Sprint(i), val)
	}
	require.NoError(t, e.Checkpoint(ctx))
	e.UnloadAll()
	heap := func() int64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	w := &watched{heap: heap, each: 4 << 20}
	require.NoError(t, exportTo(ctx, t, e, io.Discard)) // the cache has filled
	before := heap()
	require.NoError(t, exportTo(ctx, t, e, w))
	require.Greater(t, w.size, int64(30<<20))
	require.Less(t, w.most-before, int64(6<<20), "of %d bytes", w.size)
}

// watched is a writer that asks for the heap each so many bytes.
type watched struct {
	heap       func() int64
	each       int64
	size, most int64
}

func (w *watched) Write(p []byte) (int, error) {
	before := w.size / w.each
	if w.size += int64(len(p)); w.size/w.each != before {
		w.most = max(w.most, w.heap())
	}
	return len(p), nil
}

// The field of the lineage is what a Loader reads.
func TestExportLineageAux(t *testing.T) {
	ctx := context.Background()
	e := mustOpen(t, testOptions(vfs.NewMem(), &clock{ms: 1_700_000_000_000}))
	defer e.Close(ctx)
	do(e, e.NewClient(), "SET", "a", "b")
	var file bytes.Buffer
	require.NoError(t, exportTo(ctx, t, e, &file))
	f, err := rdb.NewFileReader(&file)
	require.NoError(t, err)
	aux := map[string]string{}
	for {
		entry, err := f.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
		if entry.Aux != nil {
			aux[string(entry.Aux)] = string(entry.Value)
		}
	}
	_, end, _ := e.Position()
	var lineage []wal.LineageEntry
	require.NoError(t, json.Unmarshal([]byte(aux[LineageAux]), &lineage))
	require.Equal(t, lineageOf(end), lineage)
	require.Equal(t, []string{loadID, fmt.Sprint(int64(end)), "0", "1700000000"},
		[]string{aux["repl-id"], aux["repl-offset"], aux["repl-stream-db"], aux["ctime"]})
}

// BenchmarkExportRDB is how fast a store becomes a file.
func BenchmarkExportRDB(b *testing.B) {
	const keys = 500000
	ctx := context.Background()
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
	require.NoError(b, load(e, &file, 10, lineageOf(10)))
	b.Run(fmt.Sprintf("keys=%d/value-bytes=%d", keys, len(val)), func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			v, err := e.OpenExport()
			require.NoError(b, err)
			w := &watched{each: 1 << 62}
			require.NoError(b, e.ExportRDB(ctx, v.View, w, ExportOptions{ID: loadID, Lineage: lineageOf(10)}))
			b.SetBytes(w.size)
			require.NoError(b, v.Close())
			v.Pin.Release()
		}
		b.ReportMetric(keys*float64(b.N)/b.Elapsed().Seconds(), "keys/s")
	})
	require.NoError(b, e.Abandon())
}
