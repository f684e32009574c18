package reply

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestWriterProtocols(t *testing.T) {
	for _, c := range []struct {
		name         string
		f            func(w *Writer)
		resp2, resp3 string
	}{
		{"simple", func(w *Writer) { w.Simple("PONG") }, "+PONG\r\n", "+PONG\r\n"},
		{"ok", func(w *Writer) { w.OK() }, "+OK\r\n", "+OK\r\n"},
		{"error", func(w *Writer) { w.Error("ERR a\r\nb\r\n") }, "-ERR a  b\r\n", "-ERR a  b\r\n"},
		{"int", func(w *Writer) { w.Int(7); w.Int(-1); w.Int(math.MinInt64) }, ":7\r\n:-1\r\n:-9223372036854775808\r\n", ":7\r\n:-1\r\n:-9223372036854775808\r\n"},
		{"bulk", func(w *Writer) { w.Bulk(nil); w.BulkString("0123456789"); w.BulkInt(-12) }, "$0\r\n\r\n$10\r\n0123456789\r\n$3\r\n-12\r\n", "$0\r\n\r\n$10\r\n0123456789\r\n$3\r\n-12\r\n"},
		{"null", func(w *Writer) { w.Null(); w.NullArray() }, "$-1\r\n*-1\r\n", "_\r\n_\r\n"},
		{"aggregates", func(w *Writer) { w.Array(3); w.Map(7); w.Set(100); w.Push(3) }, "*3\r\n*14\r\n*100\r\n*3\r\n", "*3\r\n%7\r\n~100\r\n>3\r\n"},
		{"double", func(w *Writer) { w.Double(3); w.Double(math.Inf(-1)) }, "$1\r\n3\r\n$4\r\n-inf\r\n", ",3\r\n,-inf\r\n"},
		{"bool", func(w *Writer) { w.Bool(true); w.Bool(false) }, ":1\r\n:0\r\n", "#t\r\n#f\r\n"},
		{"big", func(w *Writer) { w.BigNumber("123") }, "$3\r\n123\r\n", "(123\r\n"},
		{"verbatim", func(w *Writer) { w.Verbatim("txt", "hello") }, "$5\r\nhello\r\n", "=9\r\ntxt:hello\r\n"},
		{"attribute", func(w *Writer) { require.Equal(t, w.Proto() == 3, w.Attribute(1)) }, "", "|1\r\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var w Writer
			c.f(&w)
			require.Equal(t, c.resp2, string(w.Bytes()))
			w.Reset(3)
			c.f(&w)
			require.Equal(t, c.resp3, string(w.Bytes()))
		})
	}
}

func TestWriterCountsErrors(t *testing.T) {
	var w Writer
	w.Error(Syntax)
	w.Error(WrongType)
	require.Equal(t, 2, w.Errors())
	require.Equal(t, WrongType, w.LastError())
	w.Reset(2)
	require.Zero(t, w.Errors())
	require.Empty(t, w.LastError())
}

func TestWriterDeferred(t *testing.T) {
	for _, n := range []int{0, 5, 9, 10, 123, 4567} {
		for _, proto := range []int{2, 3} {
			var got, want Writer
			got.Reset(proto)
			want.Reset(proto)
			got.OK()
			want.OK()
			outer := got.DeferMap()
			want.Map(n)
			for i := range n {
				inner := got.DeferSet()
				for j := range i {
					got.Int(int64(j))
				}
				got.Patch(inner, i)
				want.Set(i)
				for j := range i {
					want.Int(int64(j))
				}
				if i > 300 {
					break
				}
			}
			got.Patch(outer, n)
			require.Equal(t, string(want.Bytes()), string(got.Bytes()))
		}
	}
}

func TestWriterDoesNotAllocate(t *testing.T) {
	var w Writer
	w.Swap(make([]byte, 0, 4096))
	b := []byte("value")
	require.Zero(t, testing.AllocsPerRun(100, func() {
		w.Reset(2)
		w.Bulk(b)
		w.Int(123456)
		w.Double(0.1)
		w.Patch(w.DeferArray(), 1000)
		w.Error(WrongType)
		w.Null()
	}))
}

func TestAppendDouble(t *testing.T) {
	for _, c := range []struct {
		f    float64
		want string
	}{
		{0, "0"}, {math.Copysign(0, -1), "-0"}, {1, "1"}, {-1, "-1"}, {0.1, "0.10000000000000001"}, {0.5, "0.5"},
		{1e16, "10000000000000000"}, {1e17, "1e+17"}, {-1e17, "-1e+17"}, {99999999999999984, "99999999999999984"},
		{1.5e300, "1.5000000000000001e+300"}, {1e-5, "1.0000000000000001e-05"}, {0.0001, "0.0001"}, {3.25, "3.25"},
		{math.Inf(1), "inf"}, {math.Inf(-1), "-inf"}, {math.NaN(), "nan"},
		{math.MaxFloat64, "1.7976931348623157e+308"}, {math.SmallestNonzeroFloat64, "4.9406564584124654e-324"},
		{123456.789, "123456.789"},
	} {
		require.Equal(t, c.want, string(AppendDouble(nil, c.f)))
	}
}

func BenchmarkWriter(b *testing.B) {
	val := make([]byte, 100)
	b.Run("op=bulk/size=100", func(b *testing.B) {
		var w Writer
		for b.Loop() {
			w.Reset(2)
			w.Bulk(val)
		}
	})
	b.Run("op=double", func(b *testing.B) {
		r := rand.New(rand.NewPCG(1, 2))
		var w Writer
		for b.Loop() {
			w.Reset(2)
			w.Double(r.Float64())
		}
	})
}
