package keyspace

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestSlot(t *testing.T) {
	for key, want := range map[string]uint16{
		"foo": 12182, "123456789": 12739, "": 0,
		"{user1000}.following": Slot([]byte("user1000")), "foo{}{bar}": Slot([]byte("foo{}{bar}")),
		"foo{{bar}}zap": Slot([]byte("{bar")), "foo{bar}{zap}": Slot([]byte("bar")),
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
