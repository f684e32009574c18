package engine

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/holdfast-db/holdfast/server/reply"
	"github.com/holdfast-db/holdfast/wal"
)

// clock is a time that only tests advance.
type clock struct{ ms int64 }

func (c *clock) now() time.Time { return time.UnixMilli(atomic.LoadInt64(&c.ms)) }

func testOptions(fs vfs.FS, c *clock) Options {
	return Options{FS: fs, Dir: "data", Now: c.now, Seed: 7, Fsync: wal.Always, Manual: true, BallastBytes: -1,
		CheckpointLogBytes: 1 << 40, CacheBytes: 1 << 20}
}

func mustOpen(t testing.TB, o Options) *Engine {
	t.Helper()
	e, err := Open(o)
	require.NoError(t, err)
	return e
}

// do runs one command as a session would, cold keys and all, and returns the reply.
func do(e *Engine, cl *Client, args ...string) string {
	var w reply.Writer
	argv := make([][]byte, len(args))
	for i, a := range args {
		argv[i] = []byte(a)
	}
	spec := e.Table().Lookup(argv[0])
	if spec == nil {
		return "-ERR unknown command " + args[0]
	}
	if !spec.ArityOK(len(argv)) {
		return "-ERR arity"
	}
	ctx := context.Background()
	for {
		e.Lock()
		st := e.Run(cl, spec, argv, &w)
		e.Unlock()
		switch st {
		case StatusDone:
			return string(w.Bytes())
		case StatusCold:
			if err := e.Warm(ctx, cl, spec, argv); err != nil {
				return "-ERR " + err.Error()
			}
		case StatusRoom:
			if e.opts.Manual {
				if err := e.Checkpoint(ctx); err != nil {
					return "-ERR " + err.Error()
				}
				continue
			}
			if err := e.WaitRoom(ctx); err != nil {
				return "-ERR " + err.Error()
			}
		case StatusBlocked:
			return "(blocked)"
		}
	}
}

// multi runs commands, each a line, as one transaction.
func multi(e *Engine, cl *Client, lines ...string) string {
	var w reply.Writer
	var q []Queued
	for _, l := range lines {
		var argv [][]byte
		for _, a := range strings.Fields(l) {
			argv = append(argv, []byte(a))
		}
		q = append(q, Queued{Spec: e.Table().Lookup(argv[0]), Args: argv})
	}
	for {
		e.Lock()
		st := e.RunMulti(cl, q, len(q), &w)
		e.Unlock()
		switch st {
		case StatusDone, StatusAborted:
			return string(w.Bytes())
		case StatusCold:
			if err := e.WarmMulti(context.Background(), cl, q); err != nil {
				return "-ERR " + err.Error()
			}
		case StatusRoom:
			if err := e.Checkpoint(context.Background()); err != nil {
				return "-ERR " + err.Error()
			}
		}
	}
}

// workload yields a stream of commands that exercises every structure, expiry, renames, flushes and big collections.
type workload struct {
	r     *rand.Rand
	plain bool // no field of a hash expires, so that older versions of Redis load what comes of it
}

func newWorkload(seed uint64) *workload { return &workload{r: rand.New(rand.NewPCG(seed, 1))} }

func (w *workload) key(kind string) string { return fmt.Sprintf("%s:%d", kind, w.r.IntN(6)) }

func (w *workload) word() string {
	if w.r.IntN(20) == 0 {
		return strings.Repeat(string(rune('a'+w.r.IntN(26))), 200+w.r.IntN(3000))
	}
	return fmt.Sprint(w.r.IntN(40))
}

func (w *workload) next() []string {
	r := w.r
	kinds := 42
	if w.plain {
		kinds = 34
	}
	switch r.IntN(kinds) {
	case 0, 1, 2:
		return []string{"SET", w.key("s"), w.word()}
	case 3:
		return []string{"SET", w.key("s"), w.word(), "PX", fmt.Sprint(1 + r.IntN(100000))}
	case 4:
		return []string{"INCR", w.key("n")}
	case 5:
		return []string{"APPEND", w.key("s"), w.word()}
	case 6:
		return []string{"SETRANGE", w.key("s"), fmt.Sprint(r.IntN(50)), "xyz"}
	case 7:
		return []string{"DEL", w.key([]string{"s", "n", "h", "l", "t", "z"}[r.IntN(6)])}
	case 8, 9:
		return []string{"HSET", w.key("h"), w.word(), w.word(), fmt.Sprint("f", r.IntN(600)), w.word()}
	case 10:
		return []string{"HDEL", w.key("h"), fmt.Sprint("f", r.IntN(600)), fmt.Sprint(r.IntN(40))}
	case 11, 12:
		return []string{"RPUSH", w.key("l"), w.word(), w.word(), w.word()}
	case 13:
		return []string{"LPUSH", w.key("l"), w.word()}
	case 14:
		return []string{"LPOP", w.key("l"), "2"}
	case 15:
		return []string{"RPOP", w.key("l")}
	case 16:
		return []string{"LSET", w.key("l"), fmt.Sprint(r.IntN(4)), w.word()}
	case 17, 18:
		args := []string{"SADD", w.key("t")}
		for range 1 + r.IntN(60) {
			args = append(args, fmt.Sprint("m", r.IntN(2000)))
		}
		return args
	case 19:
		return []string{"SREM", w.key("t"), fmt.Sprint("m", r.IntN(2000)), fmt.Sprint("m", r.IntN(2000))}
	case 20:
		return []string{"SPOP", w.key("t")}
	case 21, 22:
		args := []string{"ZADD", w.key("z")}
		for range 1 + r.IntN(40) {
			args = append(args, fmt.Sprint(r.IntN(100)), fmt.Sprint("m", r.IntN(2000)))
		}
		return args
	case 23:
		return []string{"ZREM", w.key("z"), fmt.Sprint("m", r.IntN(2000))}
	case 24:
		return []string{"ZPOPMIN", w.key("z"), "3"}
	case 25:
		k := []string{"s", "h", "l", "t", "z"}[r.IntN(5)]
		return []string{"RENAME", w.key(k), w.key(k)}
	case 26:
		k := []string{"s", "h", "l", "t", "z"}[r.IntN(5)]
		return []string{"COPY", w.key(k), w.key(k), "REPLACE"}
	case 27:
		return []string{"PEXPIRE", w.key([]string{"s", "h", "l", "t", "z"}[r.IntN(5)]), fmt.Sprint(1 + r.IntN(100000))}
	case 28:
		return []string{"PERSIST", w.key("s")}
	case 29:
		return []string{"LINSERT", w.key("l"), "BEFORE", fmt.Sprint(r.IntN(40)), w.word()}
	case 30:
		return []string{"LREM", w.key("l"), "1", fmt.Sprint(r.IntN(40))}
	case 31:
		if r.IntN(8) == 0 {
			return []string{"FLUSHDB"}
		}
		return []string{"SUNIONSTORE", w.key("t"), w.key("t"), w.key("t")}
	case 34, 35:
		return []string{[]string{"HPEXPIRE", "HEXPIRE"}[r.IntN(2)], w.key("h"), fmt.Sprint(r.IntN(3000)), "FIELDS", "2", fmt.Sprint("f", r.IntN(600)), fmt.Sprint(r.IntN(40))}
	case 36:
		return []string{"HPEXPIREAT", w.key("h"), fmt.Sprint(1_700_000_000_000 + r.IntN(200_000)), []string{"NX", "XX", "GT", "LT"}[r.IntN(4)], "FIELDS", "1", fmt.Sprint("f", r.IntN(600))}
	case 37:
		return []string{"HPERSIST", w.key("h"), "FIELDS", "2", fmt.Sprint("f", r.IntN(600)), fmt.Sprint(r.IntN(40))}
	case 38:
		args := []string{"HSETEX", w.key("h"), "PX", fmt.Sprint(r.IntN(9000)), "FIELDS", "40"}
		if r.IntN(4) == 0 {
			args = []string{"HSETEX", w.key("h"), "KEEPTTL", "FIELDS", "40"}
		}
		for range 40 {
			args = append(args, fmt.Sprint("f", r.IntN(600)), w.word())
		}
		return args
	case 39:
		return []string{"HGETEX", w.key("h"), []string{"EX", "PX"}[r.IntN(2)], fmt.Sprint(r.IntN(500)), "FIELDS", "2", fmt.Sprint("f", r.IntN(600)), fmt.Sprint(r.IntN(40))}
	case 40:
		return []string{[]string{"HINCRBY", "HINCRBYFLOAT", "HSETNX"}[r.IntN(3)], w.key("h"), fmt.Sprint("n", r.IntN(20)), "3"}
	case 41:
		switch f := fmt.Sprint("f", r.IntN(600)); r.IntN(4) {
		case 0:
			return []string{"HGET", w.key("h"), f}
		case 1:
			return []string{"HGETALL", w.key("h")}
		case 2:
			return []string{"HPEXPIRETIME", w.key("h"), "FIELDS", "2", f, fmt.Sprint("n", r.IntN(20))}
		default:
			return []string{"HGETDEL", w.key("h"), "FIELDS", "2", f, fmt.Sprint("n", r.IntN(20))}
		}
	case 32:
		return []string{"MOVE", w.key([]string{"s", "h", "l", "t", "z"}[r.IntN(5)]), fmt.Sprint(r.IntN(2))}
	default:
		if r.IntN(10) == 0 {
			return []string{"SWAPDB", "0", "1"}
		}
		return []string{"LTRIM", w.key("l"), "1", "-2"}
	}
}

func digestOf(e *Engine) [20]byte {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.Digest()
}
