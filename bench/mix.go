package bench

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"

	"github.com/tidwall/redcon"
)

// workload is what a load asks for: one command again and again, or several in given shares.
type workload struct {
	name string
	// append appends a request, and to want what each of its replies begins with.
	append func(m *mixer, dst, want []byte) ([]byte, []byte)
	needs  need
	drains bool // a request takes away one of the keys' elements: they are written again before each measurement, which ends with them
}

// need is the data that must be there before.
type need uint8

const (
	needNothing need = iota
	needStrings      // all keys
	needHashes       // elements of hashes
	needLists        // lists of elements, which are read
	needQueues       // lists of elements, which are taken away
	needIndex        // all keys, and a sorted set of their names
)

// perCollection is how many elements each of the collections has that single-command mixes write to; listLength the length of those
// that LRANGE_100 reads, and of MSET and MGET the number of keys.
const (
	perCollection = 100
	listLength    = 100
	multiKeys     = 10
	scanMost      = 100 // YCSB's longest scan
)

// mixes are YCSB's workloads in commands of Redis, and single commands. A record of YCSB is a string here. Its scans, which want keys in
// order, read names from a sorted set that inserts maintain; a client would fetch the records next.
var mixes = []workload{
	{name: "set", append: func(m *mixer, d, w []byte) ([]byte, []byte) { return m.set(d, w, m.draw()) }, needs: needStrings},
	{name: "get", append: func(m *mixer, d, w []byte) ([]byte, []byte) { return m.get(d, w, m.draw()) }, needs: needStrings},
	{name: "incr", append: func(m *mixer, d, w []byte) ([]byte, []byte) {
		return m.key(command(d, 2, "INCR"), "cnt:", m.draw()), append(w, ':')
	}, needs: needNothing},
	{name: "lpush", append: func(m *mixer, d, w []byte) ([]byte, []byte) {
		return m.value(m.key(command(d, 3, "LPUSH"), "lst:", m.draw()/perCollection)), append(w, ':')
	}, needs: needNothing},
	{name: "rpop", append: func(m *mixer, d, w []byte) ([]byte, []byte) {
		// The lists in turn, so that none is empty before all are.
		n := m.popped % max(m.dist.keys/perCollection, 1)
		m.popped++
		return m.key(command(d, 2, "RPOP"), "que:", n), append(w, '$')
	}, needs: needQueues, drains: true},
	{name: "sadd", append: func(m *mixer, d, w []byte) ([]byte, []byte) {
		n := m.draw()
		return m.key(m.key(command(d, 3, "SADD"), "set:", n/perCollection), "mem:", n), append(w, ':')
	}, needs: needNothing},
	{name: "hset", append: func(m *mixer, d, w []byte) ([]byte, []byte) {
		n := m.draw()
		return m.value(m.key(m.key(command(d, 4, "HSET"), "hsh:", n/perCollection), "fld:", n)), append(w, ':')
	}, needs: needHashes},
	{name: "hget", append: func(m *mixer, d, w []byte) ([]byte, []byte) {
		n := m.draw()
		return m.key(m.key(command(d, 3, "HGET"), "hsh:", n/perCollection), "fld:", n), append(w, '$')
	}, needs: needHashes},
	{name: "zadd", append: func(m *mixer, d, w []byte) ([]byte, []byte) {
		n := m.draw()
		d = m.key(command(d, 4, "ZADD"), "zst:", n/perCollection)
		return m.key(redcon.AppendBulkInt(d, m.rng.Int64N(1_000_000)), "mem:", n), append(w, ':')
	}, needs: needNothing},
	{name: "lrange_100", append: func(m *mixer, d, w []byte) ([]byte, []byte) {
		d = m.key(command(d, 4, "LRANGE"), "rng:", m.draw()/perCollection)
		return redcon.AppendBulkString(redcon.AppendBulkString(d, "0"), strconv.Itoa(listLength-1)), append(w, '*')
	}, needs: needLists},
	{name: "mset", append: func(m *mixer, d, w []byte) ([]byte, []byte) {
		d = command(d, 1+2*multiKeys, "MSET")
		for range multiKeys {
			d = m.value(m.key(d, "key:", m.draw()))
		}
		return d, append(w, '+')
	}, needs: needStrings},
	{name: "mget", append: func(m *mixer, d, w []byte) ([]byte, []byte) {
		d = command(d, 1+multiKeys, "MGET")
		for range multiKeys {
			d = m.key(d, "key:", m.draw())
		}
		return d, append(w, '*')
	}, needs: needStrings},
	{name: "ycsb-a", append: readsAndUpdates(50), needs: needStrings},
	{name: "ycsb-b", append: readsAndUpdates(95), needs: needStrings},
	{name: "ycsb-c", append: readsAndUpdates(100), needs: needStrings},
	{name: "ycsb-d", append: func(m *mixer, d, w []byte) ([]byte, []byte) {
		if m.rng.IntN(100) < 95 {
			// Latest first: as far behind the newest record as the distribution's draw says, with the most frequent one in front.
			return m.get(d, w, max(0, *m.made-1-m.dist.rankOf(m.rng)))
		}
		*m.made++
		return m.set(d, w, *m.made-1)
	}, needs: needStrings},
	{name: "ycsb-e", append: func(m *mixer, d, w []byte) ([]byte, []byte) {
		if m.rng.IntN(100) < 95 {
			d = redcon.AppendBulkString(command(d, 7, "ZRANGEBYLEX"), indexKey)
			m.name = appendKey(append(m.name[:0], '['), m.draw())
			d = redcon.AppendBulkString(redcon.AppendBulkString(redcon.AppendBulk(d, m.name), "+"), "LIMIT")
			return redcon.AppendBulkInt(redcon.AppendBulkString(d, "0"), 1+m.rng.Int64N(scanMost)), append(w, '*')
		}
		*m.made++
		d, w = m.set(d, w, *m.made-1)
		return m.index(d, *m.made-1), append(w, ':')
	}, needs: needIndex},
	{name: "ycsb-f", append: func(m *mixer, d, w []byte) ([]byte, []byte) {
		n := m.draw()
		d, w = m.get(d, w, n)
		if m.rng.IntN(100) < 50 {
			d, w = m.set(d, w, n)
		}
		return d, w
	}, needs: needStrings},
}

// indexKey is the sorted set of all names.
const indexKey = "index"

// readsAndUpdates reads so many percent of the time and updates else.
func readsAndUpdates(reads int) func(*mixer, []byte, []byte) ([]byte, []byte) {
	return func(m *mixer, d, w []byte) ([]byte, []byte) {
		if n := m.draw(); m.rng.IntN(100) < reads {
			return m.get(d, w, n)
		} else {
			return m.set(d, w, n)
		}
	}
}

// mixNamed finds a mix.
func mixNamed(name string) (workload, error) {
	i := slices.IndexFunc(mixes, func(m workload) bool { return m.name == name })
	if i < 0 {
		var names []string
		for _, m := range mixes {
			names = append(names, m.name)
		}
		return workload{}, fmt.Errorf("unknown mix %q; there are %v", name, names)
	}
	return mixes[i], nil
}

// mixer is what requests are made of. For one goroutine.
type mixer struct {
	rng    *rand.Rand
	dist   *Distribution
	size   int    // bytes of a value
	arena  []byte // random bytes, of which a value is any piece
	made   *int64 // records there are; inserts count it up
	popped int64  // elements taken away
	name   []byte
}

// newMixer makes a source of requests over the keys of a distribution.
func newMixer(seed uint64, dist *Distribution, size int, made *int64) *mixer {
	m := &mixer{rng: rand.New(rand.NewPCG(seed, 0)), dist: dist, size: size, made: made}
	m.arena = appendValue(nil, int64(seed>>1), 0, size+1<<16)
	return m
}

func (m *mixer) draw() int64 { return m.dist.Draw(m.rng) }

// command begins a request of n words.
func command(dst []byte, n int, name string) []byte {
	return redcon.AppendBulkString(redcon.AppendArray(dst, n), name)
}

// key appends a name of keyLen bytes.
func (m *mixer) key(dst []byte, kind string, n int64) []byte {
	dst = append(dst, "$20\r\n"...)
	dst = append(dst, kind...)
	dst = appendDigits(dst, n, keyLen-len(kind))
	return append(dst, '\r', '\n')
}

func (m *mixer) value(dst []byte) []byte {
	at := m.rng.IntN(len(m.arena) - m.size)
	return redcon.AppendBulk(dst, m.arena[at:at+m.size])
}

func (m *mixer) get(dst, want []byte, n int64) ([]byte, []byte) {
	return m.key(command(dst, 2, "GET"), "key:", n), append(want, '$')
}

func (m *mixer) set(dst, want []byte, n int64) ([]byte, []byte) {
	return m.value(m.key(command(dst, 3, "SET"), "key:", n)), append(want, '+')
}

// index appends a request that enters a name into the index.
func (m *mixer) index(dst []byte, n int64) []byte {
	dst = redcon.AppendBulkString(command(dst, 4, "ZADD"), indexKey)
	return m.key(redcon.AppendBulkString(dst, "0"), "key:", n)
}

// provide writes the data that mixes need, keys in order, and returns how many requests that takes; request appends the i-th and says what
// its reply begins with.
func (n need) provide(keys int64) (requests int64, request func(m *mixer, dst []byte, i int64) ([]byte, byte)) {
	switch n {
	case needStrings:
		return keys, func(m *mixer, dst []byte, i int64) ([]byte, byte) { dst, _ = m.set(dst, nil, i); return dst, '+' }
	case needHashes:
		return keys, func(m *mixer, dst []byte, i int64) ([]byte, byte) {
			return m.value(m.key(m.key(command(dst, 4, "HSET"), "hsh:", i/perCollection), "fld:", i)), ':'
		}
	case needLists, needQueues:
		kind := "rng:"
		if n == needQueues {
			kind = "que:"
		}
		return keys, func(m *mixer, dst []byte, i int64) ([]byte, byte) {
			return m.value(m.key(command(dst, 3, "RPUSH"), kind, i/perCollection)), ':'
		}
	case needIndex:
		return keys, func(m *mixer, dst []byte, i int64) ([]byte, byte) { return m.index(dst, i), ':' }
	}
	return 0, nil
}
