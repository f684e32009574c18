package keyspace

import (
	"bytes"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// What CLUSTER KEYSLOT of redis-server 7.0.15 says.
func TestSlot(t *testing.T) {
	for key, want := range map[string]uint16{
		"foo": 12182, "123456789": 12739, "": 0, "bar": 5061, "é": 10180,
		"{user1000}.following": 3443, "user1000": 3443, "a{b}c": 3300,
		"foo{}{bar}": 8363, "foo{{bar}}zap": 4015, "{bar": 4015, "foo{bar}{zap}": 5061,
		"{}": 15257, "{a": 10276, "a}": 5921, "}{b}": 3300,
	} {
		require.Equal(t, want, Slot([]byte(key)), key)
	}
}

func TestRowKeysRoundTrip(t *testing.T) {
	key := []byte("k\x00\xff")
	db, slot, hash, k, ok := ParseMainKey(AppendMainKey(nil, 7, 9, 11, key))
	require.True(t, ok)
	require.Equal(t, []any{uint32(7), uint16(9), uint64(11), key}, []any{db, slot, hash, k})
	db, oid, sub, ok := ParseElemKey(AppendElemKey(nil, 7, 13, key))
	require.True(t, ok)
	require.Equal(t, []any{uint32(7), uint64(13), key}, []any{db, oid, sub})
	db, at, slot, hash, k, ok := ParseExpireKey(AppendExpireKey(nil, 7, 99, 9, 11, key))
	require.True(t, ok)
	require.Equal(t, []any{uint32(7), int64(99), uint16(9), uint64(11), key}, []any{db, at, slot, hash, k})
}

// The order of bytes is the order of (db, slot, hash, key), of (db, object, sub) and of (db, time); the meta row comes
// before everything; Position does not contradict it.
func TestRowKeyOrder(t *testing.T) {
	var sorted [][]byte
	add := func(k []byte) { sorted = append(sorted, k) }
	add([]byte{TagMeta})
	dbs := []uint32{0, 1, 255, 256, 1<<32 - 1}
	for _, db := range dbs {
		last := uint64(0)
		for _, slot := range []uint16{0, 1, 255, 256, 16383} {
			for _, hash := range []uint64{0, 1 << 14, 1<<64 - 1} {
				for _, key := range []string{"", "\x00", "a", "a\x00", "\xff"} {
					add(AppendMainKey(nil, db, slot, hash, []byte(key)))
				}
				require.GreaterOrEqual(t, Position(slot, hash), last)
				last = Position(slot, hash)
			}
		}
	}
	for _, db := range dbs {
		for _, oid := range []uint64{1, 255, 256, 1 << 63} {
			for _, sub := range []string{"", "a", "\xff\xff"} {
				add(AppendElemKey(nil, db, oid, []byte(sub)))
			}
		}
	}
	for _, db := range dbs {
		for _, at := range []int64{0, 1, 255, 256, 1<<63 - 1} {
			add(AppendExpireKey(nil, db, at, 5, 6, []byte("k")))
		}
	}
	require.True(t, slices.IsSortedFunc(sorted, bytes.Compare))
	seen := map[string]bool{}
	for _, k := range sorted {
		require.False(t, seen[string(k)])
		seen[string(k)] = true
	}
}

// A range holds all rows of its database and object, and no other.
func TestRowRanges(t *testing.T) {
	in := func(k, lo, hi []byte) bool { return bytes.Compare(k, lo) >= 0 && bytes.Compare(k, hi) < 0 }
	for _, db := range []uint32{0, 7, 255, 1<<32 - 1} {
		for _, other := range []uint32{0, 6, 7, 8, 255, 256, 1<<32 - 1} {
			for _, k := range []string{"", "\x00", "\xff\xff\xff\xff\xff\xff\xff\xff\xff"} {
				lo, hi := MainRange(db)
				require.Equal(t, db == other, in(AppendMainKey(nil, other, 16383, 1<<64-1, []byte(k)), lo, hi))
				require.False(t, in(AppendElemKey(nil, other, 1, []byte(k)), lo, hi))
				lo, hi = ElemRange(db)
				require.Equal(t, db == other, in(AppendElemKey(nil, other, 1<<64-1, []byte(k)), lo, hi))
				require.False(t, in(AppendExpireKey(nil, other, 1, 1, 1, []byte(k)), lo, hi))
				lo, hi = ExpireRange(db)
				require.Equal(t, db == other, in(AppendExpireKey(nil, other, 1<<63-1, 16383, 1<<64-1, []byte(k)), lo, hi))
				for _, oid := range []uint64{1, 2, 255, 256, 1<<64 - 1} {
					lo, hi = ElemObjectRange(db, oid)
					require.Equal(t, db == other, in(AppendElemKey(nil, other, oid, []byte(k)), lo, hi), "db %d, object %d", db, oid)
					require.False(t, in(AppendElemKey(nil, db, oid-1, []byte(k)), lo, hi))
				}
			}
		}
	}
}

// Whatever bytes stand where a row's key should be, they parse to what encodes to the same bytes, or not at all.
func FuzzRowKey(f *testing.F) {
	f.Add(AppendMainKey(nil, 1, 2, 3, []byte("k")))
	f.Add(AppendElemKey(nil, 1, 2, []byte("s")))
	f.Add(AppendExpireKey(nil, 1, 2, 3, 4, []byte("k")))
	f.Add([]byte{})
	f.Add([]byte("k"))
	f.Fuzz(func(t *testing.T, row []byte) {
		n := 0
		if db, slot, hash, key, ok := ParseMainKey(row); ok {
			require.Equal(t, row, AppendMainKey(nil, db, slot, hash, key))
			n++
		}
		if db, oid, sub, ok := ParseElemKey(row); ok {
			require.Equal(t, row, AppendElemKey(nil, db, oid, sub))
			n++
		}
		if db, at, slot, hash, key, ok := ParseExpireKey(row); ok {
			require.Equal(t, row, AppendExpireKey(nil, db, at, slot, hash, key))
			n++
		}
		require.LessOrEqual(t, n, 1)
	})
}
