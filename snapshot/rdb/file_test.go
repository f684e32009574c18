package rdb

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"runtime"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"
)

// smallFile has a record of each sort.
func smallFile() []byte {
	return oldFile("0012", true, []byte{opAux, 1, 'a', 1, 'b'}, []byte{opFunction2, 1, 'c'}, []byte{opModuleAux, 1, 2, 0, 1, 1, 0},
		[]byte{opSelectDB, 1}, []byte{opResizeDB, 5, 1}, []byte{opSlotInfo, 1, 2, 3},
		[]byte{opExpireTimeMs, 1, 2, 3, 4, 5, 0, 0, 0, opIdle, 5}, []byte{byte(TypeString), 1, 'k', 2, 'v', 'w'},
		[]byte{opFreq, 200, byte(TypeList), 1, 'l', 1, 1, 'x'})
}

func TestFileEntries(t *testing.T) {
	got, err := readAll(iotest.DataErrReader(bytes.NewReader(smallFile())))
	require.Equal(t, io.EOF, err)
	none := Entry{ExpireMs: -1, Freq: -1, IdleSec: -1}
	aux, function, str, list := none, none, none, none
	aux.Aux, aux.Value = []byte("a"), []byte("b")
	function.Function = []byte("c")
	str.DB, str.Key, str.ExpireMs, str.IdleSec, str.Value = 1, []byte("k"), 0x0504030201, 5, []byte("\x02vw")
	list.DB, list.Key, list.Freq, list.Type, list.Value = 1, []byte("l"), 200, TypeList, []byte("\x01\x01x")
	require.Equal(t, []Entry{aux, function, str, list}, got)
}

// TestFileDamage shows that no cut and no changed bit of a file reads as a whole one.
func TestFileDamage(t *testing.T) {
	whole := smallFile()
	for cut := range whole {
		_, err := readAll(bytes.NewReader(whole[:cut]))
		require.ErrorIs(t, err, ErrTruncated, "cut %d", cut)
	}
	for bit := range 8 * len(whole) {
		b := bytes.Clone(whole)
		b[bit/8] ^= 1 << (bit % 8)
		r, err := NewFileReader(bytes.NewReader(b))
		if err == nil && r.Version() < 5 {
			continue // the changed bit made it a version that has no checksum
		}
		_, err = readAll(bytes.NewReader(b))
		require.NotEqual(t, io.EOF, err, "bit %d", bit)
	}
	unchecked := bytes.Clone(whole)
	binary.LittleEndian.PutUint64(unchecked[len(unchecked)-8:], 0)
	_, err := readAll(bytes.NewReader(unchecked))
	require.Equal(t, io.EOF, err)
}

func TestFileHeader(t *testing.T) {
	for _, h := range []string{"REDIS0013", "REDIS0000", "REDIS-001", "REDIS000a", "VALKEY080", "+FULLRESYNC"} {
		_, err := NewFileReader(bytes.NewReader([]byte(h)))
		require.ErrorIs(t, err, ErrVersion, h)
	}
	_, err := NewFileReader(bytes.NewReader([]byte("REDIS")))
	require.ErrorIs(t, err, ErrTruncated)
}

type deadReader struct{}

func (deadReader) Read([]byte) (int, error) { return 0, nil }

func TestFileReaderErrors(t *testing.T) {
	_, err := NewFileReader(deadReader{})
	require.Equal(t, io.ErrNoProgress, err)
	cause := errors.New("connection reset")
	_, err = readAll(io.MultiReader(bytes.NewReader(smallFile()[:30]), iotest.ErrReader(cause)))
	require.Equal(t, cause, err)
	_, err = readAll(bytes.NewReader(oldFile("0009", true, []byte{246, 1, 'x'})))
	require.ErrorAs(t, err, new(*ErrUnsupportedType))
}

// TestHostileLengths shows that announced sizes allocate nothing.
func TestHostileLengths(t *testing.T) {
	huge := AppendLen(nil, math.MaxUint64)
	large := AppendLen(nil, 1<<40)
	for _, n := range [][]byte{huge, large} {
		for typ := range types {
			for _, payload := range [][]byte{n, append([]byte{0xc3, 5}, append(bytes.Clone(n), 'a', 'b', 'c', 'd', 'e')...), append([]byte{0xc3}, append(bytes.Clone(n), 5, 'a')...)} {
				var before, after runtime.MemStats
				runtime.ReadMemStats(&before)
				_, err := DecodeValue(typ, payload, &collector{})
				require.Error(t, err)
				_, err = readAll(bytes.NewReader(oldFile("0009", true, append([]byte{byte(typ), 1, 'k'}, payload...))))
				require.Error(t, err)
				runtime.ReadMemStats(&after)
				require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(2<<20), "%v", typ)
			}
		}
	}
}

// TestFileReaderMemory reads a file of many values with a buffer that follows the largest of them, not the file.
func TestFileReaderMemory(t *testing.T) {
	var b bytes.Buffer
	w := NewFileWriter(&b)
	const size, n = 200 << 10, 100
	for i := range n {
		require.NoError(t, w.Key([]byte{byte(i)}, -1, AppendStringValue(nil, make([]byte, size))))
	}
	require.NoError(t, w.Close())
	r, err := NewFileReader(&b)
	require.NoError(t, err)
	for range n {
		_, err := r.Next()
		require.NoError(t, err)
	}
	_, err = r.Next()
	require.Equal(t, io.EOF, err)
	_, err = r.Next()
	require.Equal(t, io.EOF, err)
	require.LessOrEqual(t, cap(r.s.b), 4*size)
}

type failingWriter struct{ after int }

func (w *failingWriter) Write(p []byte) (int, error) {
	if w.after -= len(p); w.after < 0 {
		return 0, io.ErrClosedPipe
	}
	return len(p), nil
}

func TestFileWriterErrorSticks(t *testing.T) {
	for after := range 40 {
		w := NewFileWriter(&failingWriter{after: after})
		_ = w.SelectDB(0) // the error must come back from Close
		_ = w.Key([]byte("key"), 5, AppendStringValue(nil, []byte("value")))
		_ = w.Close()
		size := 9 + 2 + 9 + 5 + 6 + 9
		require.Equal(t, after < size, w.Close() != nil, after)
	}
	w := NewFileWriter(io.Discard)
	require.ErrorIs(t, w.Key([]byte("k"), -1, nil), ErrCorrupt)
	require.ErrorIs(t, w.Close(), ErrCorrupt)
}
