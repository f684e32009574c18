package wal

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/tidwall/redcon"
)

func TestReadRecord(t *testing.T) {
	for _, c := range []struct {
		in   string
		args []string // nil: malformed
	}{
		{"*1\r\n$4\r\nPING\r\n", []string{"PING"}},
		{"*2\r\n$3\r\nGET\r\n$0\r\n\r\n", []string{"GET", ""}},
		{"*1\r\n$3\r\n\r\n$\r\n", []string{"\r\n$"}},
		{"PING\r\n", nil},
		{"*0\r\n", nil},
		{"*-1\r\n", nil},
		{"*01\r\n$4\r\nPING\r\n", nil},
		{"*+1\r\n$4\r\nPING\r\n", nil},
		{"*1\r\n$04\r\nPING\r\n", nil},
		{"*1\r\n$-1\r\n", nil},
		{"*1\r\n:4\r\n", nil},
		{"*1\r\n$4\r\nPINGxx", nil},
		{"*1\n$4\r\nPING\r\n", nil},
		{"*1048577\r\n", nil},
		{"*1\r\n$9223372036854775807\r\n", nil},
		{"*99999999999999999999999999\r\n", nil},
		{"*\r\n", nil},
	} {
		args, n, err := ReadRecord([]byte(c.in + "*1"))
		if c.args == nil {
			require.ErrorIs(t, err, ErrRecord, "%q", c.in)
			continue
		}
		require.NoError(t, err, "%q", c.in)
		require.Equal(t, len(c.in), n)
		got := []string{}
		for _, a := range args {
			got = append(got, string(a))
		}
		require.Equal(t, c.args, got)
		for cut := range len(c.in) { // whatever is missing: not an error, and nothing read
			_, n, err := ReadRecord([]byte(c.in[:cut]))
			require.NoError(t, err)
			require.Zero(t, n)
		}
	}
}

func TestCheckRecords(t *testing.T) {
	multi, exec, ping := "*1\r\n$5\r\nMULTI\r\n", "*1\r\n$4\r\nexec\r\n", "*1\r\n$4\r\nPING\r\n"
	require.NoError(t, checkRecords([]byte(ping+multi+ping+ping+exec+ping)))
	for _, bad := range []string{multi, multi + ping, exec, multi + multi + exec, multi + exec + exec, ping + ping[:5]} {
		require.ErrorIs(t, checkRecords([]byte(bad)), ErrRecord, "%q", bad)
	}
}

// What is read is written the same again, and redcon reads the same from it.
func FuzzReadRecord(f *testing.F) {
	f.Add([]byte("*1\r\n$4\r\nPING\r\n"))
	f.Add([]byte("*2\r\n$1\r\na\r\n$0\r\n\r\n"))
	f.Add([]byte("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$10\r\n0123456789\r\n"))
	f.Add([]byte("*1\r\n$9223372036854775807\r\n"))
	f.Add([]byte("*1\r\n$04\r\nPING\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		args, n, err := ReadRecord(b)
		if err != nil || n == 0 {
			require.Zero(t, n)
			return
		}
		require.Equal(t, b[:n], AppendCommand(nil, args...))
		complete, theirs, _, left, err := redcon.ReadNextCommand(bytes.Clone(b[:n]), nil)
		require.NoError(t, err)
		require.True(t, complete)
		require.Empty(t, left)
		require.Equal(t, len(args), len(theirs))
		for i := range args {
			require.Equal(t, string(args[i]), string(theirs[i]))
		}
	})
}

func FuzzParseChunk(f *testing.F) {
	v := append(make([]byte, chunkHeaderLen), "*1\r\n$4\r\nPING\r\n"...)
	putChunkHeader(v, 7, 1, 3, true)
	f.Add(v, int64(7))
	f.Add(v[:chunkHeaderLen], int64(0))
	f.Fuzz(func(t *testing.T, b []byte, start int64) {
		c, err := parseChunk(Offset(start), bytes.Clone(b))
		if err != nil {
			require.ErrorIs(t, err, ErrChunk)
			return
		}
		again := append(make([]byte, chunkHeaderLen), c.data...)
		putChunkHeader(again, Offset(start), c.unixMs, c.db, c.settled)
		require.Equal(t, b, again)
		_ = checkRecords(c.data) // must not panic
	})
}

func BenchmarkReadRecord(b *testing.B) {
	for _, size := range []int{10, 100, 1000} {
		b.Run(fmt.Sprintf("value-bytes=%d", size), func(b *testing.B) {
			rec := AppendCommand(nil, []byte("SET"), []byte("key:123456"), []byte(strings.Repeat("x", size)))
			b.SetBytes(int64(len(rec)))
			b.ReportAllocs()
			var args [][]byte
			for b.Loop() {
				var n int
				if args, n, _ = AppendArgs(args[:0], rec); n != len(rec) {
					b.Fatal(n)
				}
			}
		})
	}
}
