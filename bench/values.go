package bench

import (
	"fmt"
	"math/rand/v2"
	"sync/atomic"

	"github.com/tidwall/redcon"
)

// Keys and values are functions of a number, so that any reader can tell what is right without a table of everything.

// keyLen is the length of every key in bytes.
const keyLen = 20

// appendKey appends the 20-byte name of key number n.
func appendKey(dst []byte, n int64) []byte {
	dst = append(dst, "key:"...)
	return appendDigits(dst, n, keyLen-len("key:"))
}

func appendDigits(dst []byte, n int64, width int) []byte {
	at := len(dst)
	for range width {
		dst = append(dst, '0')
	}
	for i := at + width - 1; n > 0 && i >= at; i-- {
		dst[i] = byte('0' + n%10)
		n /= 10
	}
	return dst
}

// appendValue appends the value of a key in its version-th writing: size bytes that do not compress.
func appendValue(dst []byte, key, version int64, size int) []byte {
	x := mix(uint64(key)<<20 ^ uint64(version))
	for range size / 8 {
		x = mix(x)
		dst = append(dst, byte(x), byte(x>>8), byte(x>>16), byte(x>>24), byte(x>>32), byte(x>>40), byte(x>>48), byte(x>>56))
	}
	x = mix(x)
	for i := range size % 8 {
		dst = append(dst, byte(x>>(8*i)))
	}
	return dst
}

// mix is SplitMix64 (Steele, Lea, Flood 2014): every bit of the result depends on every bit of x.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// setter writes keys: those of next, each once in a load, at random in an overwrite.
type setter struct {
	size    int
	version int64
	next    func() int64
	key     []byte
	value   []byte
}

// filler writes the keys first, first+step, first+2·step …
func filler(first, step int64, size int) *setter {
	n := first - step
	return &setter{size: size, next: func() int64 { n += step; return n }}
}

// overwriter writes keys of 0 … keys-1 with equal chance, each time with another value.
func overwriter(seed uint64, conn int, keys int64, size int) *setter {
	rng := rand.New(rand.NewPCG(seed, uint64(conn)))
	s := &setter{size: size}
	s.next = func() int64 { s.version = rng.Int64N(1 << 20); return rng.Int64N(keys) }
	return s
}

// mixedWriter is an overwriter of which only so many percent of the writes hit keys of 0 … keys-1; the others take the next number of made.
func mixedWriter(seed uint64, conn int, keys int64, size, percent int, made *atomic.Int64) *setter {
	s := overwriter(seed, conn, keys, size)
	if percent == 100 {
		return s
	}
	rng, old := rand.New(rand.NewPCG(seed, uint64(conn)|1<<32)), s.next
	s.next = func() int64 {
		if n := old(); rng.IntN(100) < percent {
			return n
		}
		return made.Add(1) - 1
	}
	return s
}

func (s *setter) Append(dst []byte) []byte {
	n := s.next()
	s.key = appendKey(s.key[:0], n)
	s.value = appendValue(s.value[:0], n, s.version, s.size)
	dst = redcon.AppendArray(dst, 3)
	dst = redcon.AppendBulkString(dst, "SET")
	dst = redcon.AppendBulk(dst, s.key)
	return redcon.AppendBulk(dst, s.value)
}

func (s *setter) Check(r Reply) error {
	if r.Kind != '+' {
		return fmt.Errorf("SET answered %s", r)
	}
	return nil
}
