package command

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/holdfast-db/holdfast/server/keyspace"
	"github.com/holdfast-db/holdfast/server/reply"
)

// collectionRig runs handlers on a keyspace in memory.
type collectionRig struct {
	c     Ctx
	w     reply.Writer
	table *Table
}

func newCollectionRig(seed uint64) *collectionRig {
	limits, conf := keyspace.DefaultLimits(), DefaultConfig()
	r := &collectionRig{table: NewTable()}
	ks := keyspace.New(16, &limits, nil)
	r.c = Ctx{KS: ks, DB: ks.DB(0), W: &r.w, Conf: &conf, Rand: rand.New(rand.NewPCG(seed, 0)), Now: 1_700_000_000_000}
	return r
}

// do runs a command given as words and returns its reply; "" for one that was parked.
func (r *collectionRig) do(line string) string {
	var args [][]byte
	for _, f := range strings.Fields(line) {
		args = append(args, []byte(f))
	}
	return r.run(r.table.Lookup(args[0]), args)
}

func (r *collectionRig) run(s *Spec, args [][]byte) string {
	r.w.Reset(r.w.Proto())
	r.c.Reset(s, args)
	s.Handler(&r.c)
	return string(r.w.Bytes())
}

func (r *collectionRig) effects() []string {
	out := []string{}
	r.c.Effects(func(args [][]byte) {
		var words []string
		for _, a := range args {
			words = append(words, string(a))
		}
		out = append(out, strings.Join(words, " "))
	})
	return out
}

// What goes to the log is deterministic (D1): these are the effects that redis-server 7.0.15 sends to a replica, except
// that SPOP with a count names its members in one SREM.
func TestCollectionEffects(t *testing.T) {
	for _, c := range []struct{ setup, command, effect string }{
		{"rpush l 1 2 3", "blpop l 0", "LPOP l"},
		{"rpush l 1 2 3", "brpop none l 0", "RPOP l"},
		{"rpush l 1 2 3", "blmove l m left right 0", "LMOVE l m left right"},
		{"rpush l 1 2 3", "brpoplpush l m 0", "RPOPLPUSH l m"},
		{"rpush l 1 2 3", "blmpop 0 1 l left count 2", "LPOP l 2"},
		{"rpush l 1 2 3", "lmpop 2 none l right count 100", "RPOP l 3"},
		{"rpush l 1 2 3", "lmove l l left right", "lmove l l left right"},
		{"rpush l 1 2 3", "lpop l 2", "lpop l 2"},
		{"rpush l 1 2 3", "lpop l 0", ""},
		{"rpush l 1 2 3", "ltrim l 0 -1", ""},
		{"rpush l 1 2 3", "lrem l 0 4", ""},
		{"rpush l 1 2 3", "blpop none 0", ""},
		{"zadd z 1 a 2 b 3 c", "bzpopmin z 0", "ZPOPMIN z"},
		{"zadd z 1 a 2 b 3 c", "bzpopmax none z 0", "ZPOPMAX z"},
		{"zadd z 1 a 2 b 3 c", "bzmpop 0 1 z min", "ZPOPMIN z 1"},
		{"zadd z 1 a 2 b 3 c", "zmpop 1 z max count 9", "ZPOPMAX z 3"},
		{"zadd z 1 a 2 b 3 c", "zadd z gt 0 a", ""},
		{"zadd z 1 a 2 b 3 c", "zadd z 1 a", ""},
		{"zadd z 1 a 2 b 3 c", "zincrby z 0 a", ""},
		{"zadd z 1 a 2 b 3 c", "zincrby z 1 a", "zincrby z 1 a"},
		{"sadd s a", "sadd s a", ""},
		{"sadd s a", "spop s", "SREM s a"},
		{"sadd s a b", "spop s 2", "DEL s"},
		{"sadd s a b", "srem s c", ""},
		{"sadd s a b", "sinterstore s none", "sinterstore s none"},
		{"sadd s a b", "sinterstore none2 none", ""},
		{"hset h f 1", "hincrbyfloat h f 0.1", "HSET h f 1.1"},
		{"hset h f 1", "hset h f 1", "hset h f 1"},
		{"hset h f 1", "hdel h g", ""},
	} {
		t.Run(c.command, func(t *testing.T) {
			r := newCollectionRig(1)
			r.do(c.setup)
			r.do(c.command)
			want := []string{}
			if c.effect != "" {
				want = append(want, c.effect)
			}
			require.Equal(t, want, r.effects())
		})
	}
}

// SPOP with a count: reply, what is left and effects agree, in each of the ways to choose.
func TestSPopCountEffects(t *testing.T) {
	for _, c := range []struct{ size, count int }{{10, 1}, {1000, 3}, {1000, 600}, {5000, 4999}, {5000, 2500}} {
		t.Run(fmt.Sprintf("size=%d/count=%d", c.size, c.count), func(t *testing.T) {
			r := newCollectionRig(7)
			for i := range c.size {
				r.do(fmt.Sprintf("sadd s m%d", i))
			}
			out := r.do(fmt.Sprintf("spop s %d", c.count))
			require.True(t, strings.HasPrefix(out, fmt.Sprintf("*%d\r\n", c.count)))
			gone := map[string]bool{}
			for _, e := range r.effects() {
				words := strings.Fields(e)
				require.Equal(t, "SREM", words[0])
				require.LessOrEqual(t, len(words)-2, spopBatch)
				for _, m := range words[2:] {
					gone[m] = true
					require.Contains(t, out, "\r\n"+m+"\r\n")
				}
			}
			require.Len(t, gone, c.count)
			require.Equal(t, c.size-c.count, r.c.DB.Get([]byte("s")).Set().Len())
		})
	}
}

// A parked command asks for its keys and its time; in MULTI it is answered at once.
func TestCollectionBlocking(t *testing.T) {
	for _, c := range []struct {
		command string
		keys    string
		ms      int64
		inMulti string
	}{
		{"blpop a b 1.5", "a b", 1500, "*-1\r\n"},
		{"brpop a 0", "a", 0, "*-1\r\n"},
		{"blmove a b left left 0.0001", "a", 1, "$-1\r\n"},
		{"brpoplpush a b 2", "a", 2000, "$-1\r\n"},
		{"blmpop 3 2 a b left count 2", "a b", 3000, "*-1\r\n"},
		{"bzpopmin a b 1", "a b", 1000, "*-1\r\n"},
		{"bzmpop 1 1 a max", "a", 1000, "*-1\r\n"},
	} {
		t.Run(c.command, func(t *testing.T) {
			r := newCollectionRig(1)
			require.Empty(t, r.do(c.command))
			b := r.c.BlockWanted()
			require.True(t, b.Wanted)
			require.Equal(t, c.ms, b.TimeoutMs)
			var keys []string
			for _, k := range b.Keys {
				keys = append(keys, string(k))
			}
			require.Equal(t, c.keys, strings.Join(keys, " "))
			require.Empty(t, r.effects())

			r.c.SetNoBlock(true)
			require.Equal(t, c.inMulti, r.do(c.command))
			require.False(t, r.c.BlockWanted().Wanted)
		})
	}
}

// All ways to choose are close to uniform: a chi-square far beyond any reasonable quantile fails.
func TestSampleUniform(t *testing.T) {
	const seed, size, rounds = 42, 30, 20000
	t.Log("seed", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	names := make([][]byte, size)
	for i := range names {
		names[i] = []byte(strconv.Itoa(i))
	}
	p := population[int]{
		size: size,
		all: func(yield func([]byte, int) bool) {
			for i, n := range names {
				if !yield(n, i) {
					return
				}
			}
		},
		draw: func() ([]byte, int) { i := r.IntN(size); return names[i], i },
	}
	for _, count := range []int64{-10, 1, 9, 15, 29, 30, 100} {
		var hits [size]float64
		for range rounds {
			seen := map[int]bool{}
			n := 0
			sample(r, p, count, func(_ []byte, i int) {
				hits[i]++
				seen[i] = true
				n++
			})
			require.Equal(t, sampleLen(count, size), n)
			if count > 0 {
				require.Len(t, seen, n, "distinct")
			}
		}
		want := float64(rounds*sampleLen(count, size)) / size
		chi := 0.0
		for _, h := range hits {
			chi += (h - want) * (h - want) / want
		}
		require.Less(t, chi, 80.0, "count %d: %v", count, hits)
	}
}

func TestParseScoreEnd(t *testing.T) {
	for s, want := range map[string]float64{"": 0, "(": 0, "1": 1, "(1.5": 1.5, " 2": 2, "\t-inf": math.Inf(-1), "1e400": math.Inf(1), "0x10": 16} {
		f, ex, ok := parseScoreEnd([]byte(s))
		require.True(t, ok, s)
		require.Equal(t, want, f, s)
		require.Equal(t, strings.HasPrefix(s, "("), ex)
	}
	for _, s := range []string{" ", "a", "1 ", "nan", "((1", "1(", "( "} {
		_, _, ok := parseScoreEnd([]byte(s))
		require.False(t, ok, s)
	}
}

func TestClampRange(t *testing.T) {
	elements := []int{0, 1, 2, 3, 4}
	for start := int64(-8); start < 8; start++ {
		for stop := int64(-8); stop < 8; stop++ {
			var want []int
			for i := range elements {
				at := func(x int64) int64 {
					if x < 0 {
						return x + int64(len(elements))
					}
					return x
				}
				if int64(i) >= at(start) && int64(i) <= at(stop) {
					want = append(want, i)
				}
			}
			from, to := clampRange(start, stop, len(elements))
			require.True(t, slices.Equal(want, elements[from:to+1]), "%d %d", start, stop)
		}
	}
}

// hotPaths are the commands that must not allocate beside what the structure stores.
func hotPaths(r *collectionRig) map[string][][]byte {
	for i := range 1000 {
		r.do(fmt.Sprintf("sadd set element:%012d", i))
		r.do(fmt.Sprintf("hset hash element:%012d value", i))
		r.do(fmt.Sprintf("zadd zset %d element:%012d", i, i))
		r.do(fmt.Sprintf("rpush list element:%012d", i))
	}
	words := func(s ...string) (out [][]byte) {
		for _, w := range s {
			out = append(out, []byte(w))
		}
		return out
	}
	return map[string][][]byte{
		"SADD":       words("SADD", "set", "element:000000000500"),
		"HSET":       words("HSET", "hash", "element:000000000500", "other"),
		"ZADD":       words("ZADD", "zset", "500", "element:000000000500"),
		"HGET":       words("HGET", "hash", "element:000000000500"),
		"ZSCORE":     words("ZSCORE", "zset", "element:000000000500"),
		"SISMEMBER":  words("SISMEMBER", "set", "element:000000000500"),
		"LRANGE_100": words("LRANGE", "list", "0", "99"),
	}
}

func TestHotPathsDoNotAllocate(t *testing.T) {
	r := newCollectionRig(1)
	for name, args := range hotPaths(r) {
		spec := r.table.Lookup(args[0])
		if n := testing.AllocsPerRun(200, func() {
			r.w.Reset(2)
			r.c.Reset(spec, args)
			spec.Handler(&r.c)
			r.c.KS.AfterCommand()
		}); n > 0 {
			t.Errorf("%s allocates %v times", name, n)
		}
	}
}

func BenchmarkCollections(b *testing.B) {
	r := newCollectionRig(1)
	for name, args := range hotPaths(r) {
		spec := r.table.Lookup(args[0])
		b.Run("op="+name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				r.w.Reset(2)
				r.c.Reset(spec, args)
				spec.Handler(&r.c)
				r.c.KS.AfterCommand()
			}
		})
	}
	push := [][]byte{[]byte("LPUSH"), []byte("ends"), []byte("xxxxxxxxxxxx")}
	pop := [][]byte{[]byte("RPOP"), []byte("ends")}
	r.do("rpush ends first") // the key stays: this measures the ends, not the table
	b.Run("op=LPUSH+RPOP", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			for _, args := range [][][]byte{push, pop} {
				spec := r.table.Lookup(args[0])
				r.w.Reset(2)
				r.c.Reset(spec, args)
				spec.Handler(&r.c)
				r.c.KS.AfterCommand()
			}
		}
	})
}
