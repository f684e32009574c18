package rdb

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// nullSink takes everything and keeps nothing.
type nullSink struct{}

func (nullSink) String([]byte) error                  { return nil }
func (nullSink) Begin(Kind, int) error                { return nil }
func (nullSink) Element([]byte) error                 { return nil }
func (nullSink) Field([]byte, []byte) error           { return nil }
func (nullSink) FieldTTL([]byte, []byte, int64) error { return nil }
func (nullSink) Member([]byte, float64) error         { return nil }
func (nullSink) End() error                           { return nil }

func BenchmarkCRC64(b *testing.B) {
	for _, size := range []int{16, 1000, 100000} {
		b.Run(fmt.Sprintf("size=%d", size), func(b *testing.B) {
			p := []byte(noise(size))
			b.SetBytes(int64(size))
			var c CRC64
			for b.Loop() {
				c = c.Update(p)
			}
		})
	}
}

func BenchmarkDecode(b *testing.B) {
	var fields, ints []string
	for i := range 128 {
		fields = append(fields, fmt.Sprintf("field:%d", i), fmt.Sprint(i*1000))
		ints = append(ints, fmt.Sprint(i), fmt.Sprint(-i))
	}
	plain := AppendLen(nil, 128)
	for _, f := range fields {
		plain = AppendString(plain, []byte(f))
	}
	for _, c := range []struct {
		name    string
		typ     Type
		payload []byte
	}{
		{"hash", TypeHash, plain},
		{"hash-listpack", TypeHashListpack, plainString(encodeListpack(fields...))},
		{"hash-ziplist", TypeHashZiplist, plainString(encodeZiplist(fields...))},
		{"zset-listpack", TypeZSetListpack, plainString(encodeListpack(fields...))},
		{"quicklist-2", TypeListQuicklist2, append([]byte{1, 2}, plainString(encodeListpack(ints...))...)},
	} {
		for name, decode := range map[string]func(Type, []byte, Sink) ([]byte, error){"checked": DecodeValue, "trusted": DecodeTrusted} {
			b.Run(fmt.Sprintf("type=%s/elements=128/duplicates=%s", c.name, name), func(b *testing.B) {
				b.SetBytes(int64(len(c.payload)))
				b.ReportAllocs()
				for b.Loop() {
					_, err := decode(c.typ, c.payload, nullSink{})
					require.NoError(b, err)
				}
			})
		}
	}
}

func BenchmarkLZF(b *testing.B) {
	text := []byte(strings.Repeat(`{"name":"some user","id":12345,"tags":["a","b"]},`, 200))
	packed := compressLZF(nil, text)
	b.Run(fmt.Sprintf("op=compress/size=%d", len(text)), func(b *testing.B) {
		b.SetBytes(int64(len(text)))
		var dst []byte
		for b.Loop() {
			dst = compressLZF(dst[:0], text)
		}
	})
	b.Run(fmt.Sprintf("op=decompress/size=%d", len(text)), func(b *testing.B) {
		b.SetBytes(int64(len(text)))
		for b.Loop() {
			_, err := decompressLZF(nil, packed, uint64(len(text)))
			require.NoError(b, err)
		}
	})
}

func BenchmarkFile(b *testing.B) {
	const keys = 10000
	value := AppendStringValue(nil, []byte(noise(100)))
	write := func(w io.Writer) {
		f := NewFileWriter(w)
		require.NoError(b, f.SelectDB(0))
		for i := range keys {
			if err := f.Key(fmt.Appendf(nil, "key:%07d", i), -1, value); err != nil {
				b.Fatal(err)
			}
		}
		require.NoError(b, f.Close())
	}
	var file bytes.Buffer
	write(&file)
	b.Run(fmt.Sprintf("op=write/keys=%d/value=100", keys), func(b *testing.B) {
		b.SetBytes(int64(file.Len()))
		b.ReportAllocs()
		for b.Loop() {
			write(io.Discard)
		}
	})
	b.Run(fmt.Sprintf("op=read/keys=%d/value=100", keys), func(b *testing.B) {
		b.SetBytes(int64(file.Len()))
		b.ReportAllocs()
		for b.Loop() {
			r, err := NewFileReader(bytes.NewReader(file.Bytes()))
			require.NoError(b, err)
			n := 0
			for {
				if _, err = r.Next(); err != nil {
					break
				}
				n++
			}
			if err != io.EOF || n != keys {
				b.Fatal(n, err)
			}
		}
	})
}
