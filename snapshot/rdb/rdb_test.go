package rdb

import (
	"bytes"
	"io"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestCRC64(t *testing.T) {
	require.Equal(t, CRC64(0xe9c6d914c4b8d9ca), CRC64(0).Update([]byte("123456789")))
	require.Equal(t, CRC64(0xe9c6d914c4b8d9ca), CRC64(0).Update([]byte("1234")).Update([]byte("56789")))
}

func TestLZFRoundTrip(t *testing.T) {
	for _, s := range []string{"", "a", "abcabcabcabcabcabc", string(bytes.Repeat([]byte("x"), 9000))} {
		out, err := decompressLZF(nil, compressLZF(nil, []byte(s)), uint64(len(s)))
		require.NoError(t, err)
		require.Equal(t, s, string(out))
	}
}

func TestFileRoundTrip(t *testing.T) {
	var b bytes.Buffer
	w := NewFileWriter(&b)
	require.NoError(t, w.Aux("redis-ver", "7.0.15"))
	require.NoError(t, w.SelectDB(3))
	require.NoError(t, w.Key([]byte("k"), 77, AppendStringValue(nil, bytes.Repeat([]byte("v"), 200000))))
	require.NoError(t, w.Close())
	b.WriteString("after")
	r, err := NewFileReader(&b)
	require.NoError(t, err)
	e, err := r.Next()
	require.NoError(t, err)
	require.Equal(t, "redis-ver", string(e.Aux))
	e, err = r.Next()
	require.NoError(t, err)
	require.Equal(t, "k", string(e.Key))
	require.Equal(t, int64(77), e.ExpireMs)
	require.Equal(t, 3, e.DB)
	_, err = r.Next()
	require.Equal(t, io.EOF, err)
	require.True(t, bytes.HasPrefix([]byte("after"), r.Buffered()))
}
