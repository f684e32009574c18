package keyspace

import (
	"slices"
	"strconv"
)

// intset is a sorted set of integers: the small form of a set all of whose members are canonical decimal int64.
type intset []int64

func (s intset) has(v int64) bool {
	_, ok := slices.BinarySearch(s, v)
	return ok
}

func (s *intset) add(v int64) bool {
	// Members that come in order are frequent.
	if n := len(*s); n == 0 || (*s)[n-1] < v {
		*s = append(*s, v)
		return true
	}
	i, ok := slices.BinarySearch(*s, v)
	if !ok {
		*s = slices.Insert(*s, i, v)
	}
	return !ok
}

func (s *intset) remove(v int64) bool {
	i, ok := slices.BinarySearch(*s, v)
	if ok {
		*s = slices.Delete(*s, i, i+1)
	}
	return ok
}

// parseInt64 returns the integer of which b is the canonical decimal form.
func parseInt64(b []byte) (int64, bool) {
	if len(b) == 0 || len(b) > 20 || b[0] != '-' && (b[0] < '0' || b[0] > '9') || !isCanonicalInt(b) {
		return 0, false
	}
	d := b
	if b[0] == '-' {
		d = b[1:]
	}
	var u uint64
	for _, c := range d {
		u = u*10 + uint64(c-'0')
	}
	if b[0] == '-' {
		return -int64(u), true // 1<<63 negates to itself
	}
	return int64(u), true
}

// maxIntLen is the length of the longest decimal int64.
const maxIntLen = 20

func formatInt(v int64) []byte { return strconv.AppendInt(make([]byte, 0, maxIntLen), v, 10) }
