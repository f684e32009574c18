package rdb

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"
)

// seedPayloads are payloads of every type, small enough to be mutated well.
func seedPayloads() map[Type][][]byte {
	few := []string{"a", "1", "-300", "70000", "9223372036854775807", noise(70), "b"}
	pairs := []string{"a", "1", "bb", "-2.5"}
	ex := append(make([]byte, 8), plainString(encodeListpack("f", "v", "0", "g", "w", "12345"))...)
	meta := append(AppendLen(make([]byte, 8), 1), 5, 1, 'f', 1, 'v')
	return map[Type][][]byte{
		TypeString:         {plainString([]byte("abc")), {0xc0, 5}, {0xc1, 5, 6}, {0xc2, 5, 6, 7, 8}, compressed(bytes.Repeat([]byte("abcd"), 50))},
		TypeList:           {{2, 1, 'a', 0}},
		TypeSet:            {{2, 1, 'a', 0}},
		TypeHash:           {{1, 1, 'a', 0}},
		TypeZSet:           {encodeZSet(map[string]float64{"a": 1.5, "b": math.Inf(1), "c": -1e100})},
		TypeZSet2:          {AppendDouble([]byte{1, 1, 'm'}, 1.5)},
		TypeHashZipmap:     {plainString(encodeZipmap(2, pairs...))},
		TypeListZiplist:    {plainString(encodeZiplist(few...)), compressed(encodeZiplist(few...)), plainString(encodeZiplist(noise(300), "x"))},
		TypeHashZiplist:    {plainString(encodeZiplist(pairs...))},
		TypeZSetZiplist:    {plainString(encodeZiplist(pairs...))},
		TypeSetIntset:      {{12, 2, 0, 0, 0, 2, 0, 0, 0, 1, 0, 2, 0}},
		TypeHashListpack:   {plainString(encodeListpack(pairs...))},
		TypeZSetListpack:   {plainString(encodeListpack(pairs...))},
		TypeSetListpack:    {plainString(encodeListpack(few...)), plainString(encodeListpack(noise(200)))},
		TypeListQuicklist:  {append([]byte{1}, plainString(encodeZiplist(few...))...)},
		TypeListQuicklist2: {append([]byte{2, 1, 1, 'x', 2}, plainString(encodeListpack(few...))...)},
		TypeHashMetadata:   {meta},
		TypeHashListpackEx: {ex},

		TypeHashMetadataRC:   {meta[8:]},
		TypeHashListpackExRC: {ex[8:]},

		TypeModule2: {{0x81, 1, 2, 3, 4, 5, 6, 7, 8, 1, 5, 5, 1, 'x', 4, 1, 2, 3, 4, 5, 6, 7, 8, 3, 1, 2, 3, 4, 0}},
		TypeStreamListpacks: {append(append([]byte{1, 16}, make([]byte, 16)...),
			1, 'x', 0, 0, 0, 1, 1, 'g', 0, 0, 0, 0)},
	}
}

// checkValue holds what is true of every payload: skipping passes what decoding accepts and agrees where it ends, a
// decoder that trusts accepts what one that does not trust does, and the plain encoding of the value decodes to it.
func checkValue(t *testing.T, typ Type, payload []byte) {
	var c collector
	rest, err := DecodeValue(typ, payload, &c)
	skipped, skipErr := SkipValue(typ, payload)
	var trusting collector
	_, trustErr := DecodeTrusted(typ, payload, &trusting)
	if err != nil {
		var unsupported *ErrUnsupportedType
		if !errors.As(err, &unsupported) {
			require.ErrorIs(t, err, ErrCorrupt)
		}
		return
	}
	require.True(t, c.ended)
	require.NoError(t, skipErr)
	require.NoError(t, trustErr)
	require.Equal(t, len(rest), len(skipped))
	same(t, c.v, trusting.v)
	if c.v.ttl != nil {
		return // no plain encoding has it
	}
	own := c.v.encode(t)
	same(t, c.v, decode(t, Type(own[0]), own[1:]))
}

func FuzzDecodeValue(f *testing.F) {
	for typ, payloads := range seedPayloads() {
		for _, p := range payloads {
			f.Add(byte(typ), p)
		}
	}
	f.Fuzz(func(t *testing.T, typ byte, payload []byte) { checkValue(t, Type(typ), payload) })
}

func FuzzVerifyDump(f *testing.F) {
	for typ, payloads := range seedPayloads() {
		for _, p := range payloads {
			f.Add(AppendDump(nil, append([]byte{byte(typ)}, p...)), uint16(9))
		}
	}
	f.Fuzz(func(t *testing.T, b []byte, at uint16) {
		if typ, value, err := VerifyDump(b); err == nil {
			require.Equal(t, b[0], byte(typ))
			require.Equal(t, b[1:len(b)-dumpTrailer], value)
			checkValue(t, typ, value)
		}
		// The same as a value: what we append is accepted, and no changed bit goes unseen.
		if len(b) == 0 {
			return
		}
		own := AppendDump([]byte("prefix"), b)[len("prefix"):]
		typ, value, err := VerifyDump(own)
		require.NoError(t, err)
		require.Equal(t, b, append([]byte{byte(typ)}, value...))
		own[int(at>>3)%len(own)] ^= 1 << (at & 7)
		_, _, err = VerifyDump(own)
		require.True(t, errors.Is(err, ErrChecksum) || errors.Is(err, ErrVersion), "%v", err)
	})
}

// readAll returns all entries of a file, copied, and how it ended.
func readAll(r io.Reader) (out []Entry, err error) {
	f, err := NewFileReader(r)
	if err != nil {
		return nil, err
	}
	for {
		e, err := f.Next()
		if err != nil {
			return out, err
		}
		e.Key, e.Value, e.Aux, e.Function = bytes.Clone(e.Key), bytes.Clone(e.Value), bytes.Clone(e.Aux), bytes.Clone(e.Function)
		out = append(out, e)
	}
}

func FuzzFileReader(f *testing.F) {
	records := [][]byte{{opAux, 1, 'a', 1, 'b'}, {opFunction2, 1, 'c'}, {opModuleAux, 1, 2, 0, 1, 1, 0}, {opSelectDB, 1}, {opResizeDB, 5, 1},
		{opSlotInfo, 1, 2, 3}}
	for typ, payloads := range seedPayloads() {
		for _, p := range payloads {
			key := append([]byte{byte(typ), 3, 'k', 'e', 'y'}, p...)
			f.Add(oldFile("0009", true, key))
			records = append(records, []byte{opExpireTimeMs, 1, 2, 3, 4, 5, 0, 0, 0, opIdle, 5, opFreq, 7}, key)
		}
	}
	f.Add(oldFile("0012", true, records...))
	f.Add(oldFile("0003", false, records...))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 9 && binary.LittleEndian.Uint64(b[len(b)-8:]) != 0 { // a mutated file rarely has the right checksum
			b = bytes.Clone(b)
			binary.LittleEndian.PutUint64(b[len(b)-8:], uint64(CRC64(0).Update(b[:len(b)-8])))
		}
		entries, err := readAll(bytes.NewReader(b))
		again, err2 := readAll(iotest.OneByteReader(bytes.NewReader(b)))
		require.Equal(t, entries, again)
		require.Equal(t, err, err2)
		var unsupported *ErrUnsupportedType
		if !errors.As(err, &unsupported) && !errors.Is(err, ErrVersion) && err != io.EOF {
			require.ErrorIs(t, err, ErrCorrupt)
		}

		// What was read, written by us, reads the same.
		var out bytes.Buffer
		w := NewFileWriter(&out)
		var keys []Entry
		for _, e := range entries {
			if e.Aux != nil || e.Function != nil {
				continue
			}
			checkValue(t, e.Type, e.Value)
			e.ExpireMs, e.Freq, e.IdleSec = max(e.ExpireMs, -1), -1, -1
			require.NoError(t, w.SelectDB(e.DB))
			require.NoError(t, w.Key(e.Key, e.ExpireMs, append([]byte{byte(e.Type)}, e.Value...)))
			keys = append(keys, e)
		}
		require.NoError(t, w.Close())
		got, err := readAll(&out)
		require.Equal(t, io.EOF, err)
		require.Equal(t, keys, got)
	})
}
