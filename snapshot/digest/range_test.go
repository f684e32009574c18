package digest

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/holdfast-db/holdfast/snapshot/rdb"
)

func hashKey(t testing.TB, h *KeyHasher, db int, key string, expireMs int64, feed func(rdb.Sink)) Sum128 {
	h.Reset(db, []byte(key), expireMs)
	feed(h)
	require.NoError(t, h.End())
	return h.Sum()
}

func str(v string) func(rdb.Sink) {
	return func(s rdb.Sink) { _ = s.String([]byte(v)) } // KeyHasher never fails
}

func elements(k rdb.Kind, es ...string) func(rdb.Sink) {
	return func(s rdb.Sink) {
		_ = s.Begin(k, 0)
		for i := 0; i < len(es); i++ {
			switch k {
			case rdb.KindHash:
				_ = s.Field([]byte(es[i]), []byte(es[i+1]))
				i++
			case rdb.KindZSet:
				_ = s.Member([]byte(es[i]), float64(len(es[i])))
			default:
				_ = s.Element([]byte(es[i]))
			}
		}
	}
}

// TestKeyHasherTellsApart shows that whatever clients could tell apart has a hash of its own.
func TestKeyHasherTellsApart(t *testing.T) {
	var h KeyHasher
	seen := map[Sum128]string{}
	see := func(name string, s Sum128) {
		if other, dup := seen[s]; dup {
			require.Fail(t, "same hash", "%s and %s", name, other)
		}
		seen[s] = name
	}
	see("base", hashKey(t, &h, 0, "k", 0, str("v")))
	see("db", hashKey(t, &h, 1, "k", 0, str("v")))
	see("key", hashKey(t, &h, 0, "l", 0, str("v")))
	see("expire", hashKey(t, &h, 0, "k", 1000, str("v")))
	see("other expire", hashKey(t, &h, 0, "k", 1001, str("v")))
	see("value", hashKey(t, &h, 0, "k", 0, str("w")))
	see("empty value", hashKey(t, &h, 0, "k", 0, str("")))
	see("border of key and value", hashKey(t, &h, 0, "kv", 0, str("")))
	for _, n := range []int{copyLimit - 1, copyLimit, copyLimit + 1, 100000} {
		see(fmt.Sprint("long value ", n), hashKey(t, &h, 0, "k", 0, str(strings.Repeat("x", n))))
		see(fmt.Sprint("long key ", n), hashKey(t, &h, 0, strings.Repeat("x", n), 0, str("v")))
	}
	for _, k := range []rdb.Kind{rdb.KindList, rdb.KindSet, rdb.KindZSet} {
		name := fmt.Sprint("kind ", k)
		see(name+" v", hashKey(t, &h, 0, "k", 0, elements(k, "v")))
		see(name+" a bc", hashKey(t, &h, 0, "k", 0, elements(k, "a", "bc")))
		see(name+" ab c", hashKey(t, &h, 0, "k", 0, elements(k, "ab", "c")))
		see(name+" abc", hashKey(t, &h, 0, "k", 0, elements(k, "abc")))
		see(name+" a b c", hashKey(t, &h, 0, "k", 0, elements(k, "a", "b", "c")))
	}
	see("list b a", hashKey(t, &h, 0, "k", 0, elements(rdb.KindList, "bc", "a")))
	see("hash", hashKey(t, &h, 0, "k", 0, elements(rdb.KindHash, "a", "b", "c", "d")))
	see("hash swapped", hashKey(t, &h, 0, "k", 0, elements(rdb.KindHash, "a", "d", "c", "b")))
	see("hash border", hashKey(t, &h, 0, "k", 0, elements(rdb.KindHash, "ab", "", "c", "d")))
	for _, f := range []float64{1.5, -1.5, 0, math.Inf(1), math.Inf(-1), math.SmallestNonzeroFloat64} {
		see(fmt.Sprint("score ", f), hashKey(t, &h, 0, "k", 0, func(s rdb.Sink) { _ = s.Begin(rdb.KindZSet, 1); _ = s.Member([]byte("m"), f) }))
	}
	for _, ms := range []int64{1, 2} {
		see(fmt.Sprint("field ttl ", ms), hashKey(t, &h, 0, "k", 0, func(s rdb.Sink) {
			_ = s.Begin(rdb.KindHash, 1)
			_ = s.FieldTTL([]byte("a"), []byte("b"), ms)
		}))
	}
}

func TestKeyHasherIgnores(t *testing.T) {
	var h, fresh KeyHasher
	require.Equal(t, hashKey(t, &h, 0, "k", -1, str("v")), hashKey(t, &fresh, 0, "k", 0, str("v")))
	for _, k := range []rdb.Kind{rdb.KindSet, rdb.KindZSet} {
		require.Equal(t, hashKey(t, &h, 0, "k", 0, elements(k, "a", "bb", "ccc")), hashKey(t, &h, 0, "k", 0, elements(k, "ccc", "a", "bb")))
	}
	require.Equal(t, hashKey(t, &h, 0, "k", 0, elements(rdb.KindHash, "a", "b", "c", "d")),
		hashKey(t, &h, 0, "k", 0, elements(rdb.KindHash, "c", "d", "a", "b")))
	zero := func(f float64) Sum128 {
		return hashKey(t, &h, 0, "k", 0, func(s rdb.Sink) { _ = s.Begin(rdb.KindZSet, 1); _ = s.Member([]byte("m"), f) })
	}
	require.Equal(t, zero(0), zero(math.Copysign(0, -1)))
	// An input hashed in place has the hash of one that was copied.
	p, q := []byte(strings.Repeat("p", 600)), []byte(strings.Repeat("q", 600))
	require.Equal(t, h.hash([]byte("head"), p, q), h.hash(append([]byte("head"), p...), q, nil))
}

// TestKeyHasherStable pins the layout: servers of different versions compare these numbers.
func TestKeyHasherStable(t *testing.T) {
	var (
		h KeyHasher
		r Range
	)
	r.Add(hashKey(t, &h, 0, "string", 0, str("value")))
	r.Add(hashKey(t, &h, 1, "list", 1234567890123, elements(rdb.KindList, "a", "b")))
	r.Add(hashKey(t, &h, 2, "set", 0, elements(rdb.KindSet, "a", "b")))
	r.Add(hashKey(t, &h, 3, "hash", 0, elements(rdb.KindHash, "f", "v")))
	r.Add(hashKey(t, &h, 4, "zset", 0, elements(rdb.KindZSet, "a", "bb")))
	require.Equal(t, "70296578887240f6f945c72df38f4dd0", r.Sum.String())
	b, err := r.Sum.AppendBinary(nil)
	require.NoError(t, err)
	require.Equal(t, r.Sum.String(), fmt.Sprintf("%x", b))
}

func TestRange(t *testing.T) {
	const seed = 11
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, seed))
	var h KeyHasher
	keys := make([]Sum128, 1000)
	for i := range keys {
		keys[i] = hashKey(t, &h, i%3, fmt.Sprint("key", i), 0, str("v"))
	}
	var whole, parts Range
	for _, k := range keys {
		whole.Add(k)
	}
	part := make([]Range, 7)
	for _, i := range r.Perm(len(keys)) {
		part[r.IntN(len(part))].Add(keys[i])
	}
	for _, p := range part {
		parts.Merge(p)
	}
	require.Equal(t, whole, parts)
	for n, i := range r.Perm(len(keys)) {
		require.Equal(t, uint64(len(keys)-n), whole.Keys)
		require.NotEqual(t, Range{}, whole)
		whole.Remove(keys[i])
	}
	require.Equal(t, Range{}, whole)
}

func BenchmarkKeyHasher(b *testing.B) {
	for _, size := range []int{16, 100, 1000, 100000} {
		b.Run(fmt.Sprintf("type=string/size=%d", size), func(b *testing.B) {
			var h KeyHasher
			var r Range
			key, v := []byte("user:1234567:name"), []byte(strings.Repeat("x", size))
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				h.Reset(0, key, 0)
				_ = h.String(v)
				r.Add(h.Sum())
			}
		})
	}
	b.Run("type=hash/fields=100", func(b *testing.B) {
		var h KeyHasher
		var r Range
		var fields [][]byte
		for i := range 100 {
			fields = append(fields, fmt.Appendf(nil, "field:%d", i))
		}
		b.ReportAllocs()
		for b.Loop() {
			h.Reset(0, []byte("key"), 0)
			_ = h.Begin(rdb.KindHash, len(fields))
			for _, f := range fields {
				_ = h.Field(f, f)
			}
			r.Add(h.Sum())
		}
	})
}

func BenchmarkRedis(b *testing.B) {
	for _, size := range []int{16, 1000} {
		b.Run(fmt.Sprintf("type=string/size=%d", size), func(b *testing.B) {
			var total Redis
			key, v := []byte("user:1234567:name"), []byte(strings.Repeat("x", size))
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				var d RedisValue
				d.D.Mix(key)
				_ = d.String(v)
				total.Xor(d.D[:])
			}
		})
	}
}
