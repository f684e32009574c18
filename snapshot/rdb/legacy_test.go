package rdb

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"io"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Encoders of what Redis no longer writes, or does not write yet in 7.0: for tests only. All follow the formats'
// descriptions in packed.go and choose integer forms as Redis does.

// asInt returns the integer that e is the canonical text of.
func asInt(e string) (int64, bool) {
	v, err := strconv.ParseInt(e, 10, 64)
	return v, err == nil && strconv.FormatInt(v, 10) == e
}

func fits(v int64, bits uint) bool { return v >= -1<<(bits-1) && v < 1<<(bits-1) }

func little(dst []byte, v int64, n int) []byte {
	for i := range n {
		dst = append(dst, byte(v>>(8*i)))
	}
	return dst
}

func encodeZiplist(entries ...string) []byte {
	b := make([]byte, 10)
	prev, last := 0, 10
	for _, e := range entries {
		start := len(b)
		if prev < 254 {
			b = append(b, byte(prev))
		} else {
			b = binary.LittleEndian.AppendUint32(append(b, 254), uint32(prev))
		}
		v, isInt := asInt(e)
		switch {
		case isInt && v >= 0 && v <= 12:
			b = append(b, 0xf1+byte(v))
		case isInt && fits(v, 8):
			b = little(append(b, 0xfe), v, 1)
		case isInt && fits(v, 16):
			b = little(append(b, 0xc0), v, 2)
		case isInt && fits(v, 24):
			b = little(append(b, 0xf0), v, 3)
		case isInt && fits(v, 32):
			b = little(append(b, 0xd0), v, 4)
		case isInt:
			b = little(append(b, 0xe0), v, 8)
		case len(e) < 1<<6:
			b = append(append(b, byte(len(e))), e...)
		case len(e) < 1<<14:
			b = append(append(b, 0x40|byte(len(e)>>8), byte(len(e))), e...)
		default:
			b = append(binary.BigEndian.AppendUint32(append(b, 0x80), uint32(len(e))), e...)
		}
		prev, last = len(b)-start, start
	}
	b = append(b, 0xff)
	binary.LittleEndian.PutUint32(b, uint32(len(b)))
	binary.LittleEndian.PutUint32(b[4:], uint32(last))
	binary.LittleEndian.PutUint16(b[8:], uint16(min(len(entries), 65535)))
	return b
}

func encodeListpack(entries ...string) []byte {
	b := make([]byte, 6)
	for _, e := range entries {
		start := len(b)
		v, isInt := asInt(e)
		switch {
		case isInt && v >= 0 && v < 128:
			b = append(b, byte(v))
		case isInt && fits(v, 13):
			b = append(b, 0xc0|byte(v>>8)&0x1f, byte(v))
		case isInt && fits(v, 16):
			b = little(append(b, 0xf1), v, 2)
		case isInt && fits(v, 24):
			b = little(append(b, 0xf2), v, 3)
		case isInt && fits(v, 32):
			b = little(append(b, 0xf3), v, 4)
		case isInt:
			b = little(append(b, 0xf4), v, 8)
		case len(e) < 1<<6:
			b = append(append(b, 0x80|byte(len(e))), e...)
		case len(e) < 1<<12:
			b = append(append(b, 0xe0|byte(len(e)>>8), byte(len(e))), e...)
		default:
			b = append(binary.LittleEndian.AppendUint32(append(b, 0xf0), uint32(len(e))), e...)
		}
		n := len(b) - start
		back := []byte{byte(n & 127)}
		limits := []int{127, 16382, 2097150, 268435454}
		for i := 0; i < len(limits) && n > limits[i]; i++ {
			back = append(back, byte(n>>(7*(i+1)))&127)
		}
		slices.Reverse(back)
		for i := 1; i < len(back); i++ {
			back[i] |= 128
		}
		b = append(b, back...)
	}
	b = append(b, 0xff)
	binary.LittleEndian.PutUint32(b, uint32(len(b)))
	binary.LittleEndian.PutUint16(b[4:], uint16(min(len(entries), 65535)))
	return b
}

// encodeZipmap leaves free bytes behind each value, as an overwritten one does.
func encodeZipmap(free int, entries ...string) []byte {
	b := []byte{byte(min(len(entries)/2, 254))}
	size := func(n int) {
		if n < 254 {
			b = append(b, byte(n))
		} else {
			b = binary.LittleEndian.AppendUint32(append(b, 254), uint32(n))
		}
	}
	for i := 0; i < len(entries); i += 2 {
		size(len(entries[i]))
		b = append(b, entries[i]...)
		size(len(entries[i+1]))
		b = append(append(b, byte(free)), entries[i+1]...)
		b = append(b, make([]byte, free)...)
	}
	return append(b, 0xff)
}

// encodeZSet makes the payload of TypeZSet.
func encodeZSet(scores map[string]float64) []byte {
	b := AppendLen(nil, uint64(len(scores)))
	for _, m := range slices.Sorted(maps.Keys(scores)) {
		b = AppendString(b, []byte(m))
		switch f := scores[m]; {
		case math.IsInf(f, 1):
			b = append(b, 254)
		case math.IsInf(f, -1):
			b = append(b, 255)
		default:
			s := strconv.FormatFloat(f, 'g', 17, 64)
			b = append(append(b, byte(len(s))), s...)
		}
	}
	return b
}

func compressed(s []byte) []byte { return AppendCompressed(nil, s) }

func plainString(s []byte) []byte { return AppendString(nil, s) }

// flat lists the pairs of a hash or zset in the order of their keys.
func (v value) flat() []string {
	var out []string
	for _, k := range slices.Sorted(maps.Keys(v.pairs)) {
		out = append(out, k, v.pairs[k])
	}
	return out
}

type legacySample struct {
	name    string
	typ     Type
	payload []byte
	want    value
}

func legacySamples() []legacySample {
	var out []legacySample
	all := append(edgeInts(), edgeStrings()...)
	hash := hashValue(map[string]string{})
	scores := map[string]float64{}
	for i, e := range all {
		hash.pairs[e] = all[(i*7)%len(all)]
		scores[e] = oddScores[i%len(oddScores)]
	}
	zset := zsetValue(scores)
	for i, wrap := range []func([]byte) []byte{plainString, compressed} {
		add := func(name string, typ Type, payload []byte, want value) {
			out = append(out, legacySample{name + []string{"/plain", "/lzf"}[i], typ, payload, want})
		}
		add("list-ziplist", TypeListZiplist, wrap(encodeZiplist(all...)), listValue(all...))
		add("hash-ziplist", TypeHashZiplist, wrap(encodeZiplist(hash.flat()...)), hash)
		add("zset-ziplist", TypeZSetZiplist, wrap(encodeZiplist(zset.flat()...)), zset)
		add("zipmap", TypeHashZipmap, wrap(encodeZipmap(0, hash.flat()...)), hash)
		add("zipmap with free bytes", TypeHashZipmap, wrap(encodeZipmap(3, hash.flat()...)), hash)
		quick := AppendLen(nil, 3)
		for _, part := range [][]string{all[:10], all[10:50], all[50:]} {
			quick = append(quick, wrap(encodeZiplist(part...))...)
		}
		add("quicklist", TypeListQuicklist, quick, listValue(all...))
		add("zset ascii", TypeZSet, encodeZSet(scores), zset)
		add("hash-listpack", TypeHashListpack, wrap(encodeListpack(hash.flat()...)), hash)
	}
	many := slices.Repeat([]string{"x", "1", "-300"}, 30000) // more than the 16-bit count of the header can say
	out = append(out, legacySample{"long ziplist", TypeListZiplist, compressed(encodeZiplist(many...)), listValue(many...)})
	return out
}

// TestLegacyAgainstRedis decodes encodings of older versions, which Redis 7.0 still loads, and compares its view.
func TestLegacyAgainstRedis(t *testing.T) {
	c := oracle(t, t.TempDir())
	for _, s := range legacySamples() {
		t.Run(s.name, func(t *testing.T) {
			same(t, s.want, decode(t, s.typ, s.payload))
			do(t, c, "RESTORE", "theirs", 0, AppendDump(nil, append([]byte{byte(s.typ)}, s.payload...)), "REPLACE")
			do(t, c, "RESTORE", "ours", 0, AppendDump(nil, s.want.encode(t)), "REPLACE")
			require.Equal(t, digestValue(t, c, "theirs"), digestValue(t, c, "ours"))
		})
	}
}

// TestGolden pins small vectors byte by byte, so that encoders and decoders cannot err in the same way.
func TestGolden(t *testing.T) {
	for _, g := range []struct {
		name string
		typ  Type
		hex  string // payload
		want value
	}{
		{"int8", TypeString, "c0 85", stringValue("-123")},
		{"int16", TypeString, "c1 39 30", stringValue("12345")},
		{"int32", TypeString, "c2 00 00 00 80", stringValue("-2147483648")},
		{"14 bit length", TypeString, "40 03 61 62 63", stringValue("abc")},
		{"32 bit length", TypeString, "80 00 00 00 01 61", stringValue("a")},
		{"64 bit length", TypeString, "81 00 00 00 00 00 00 00 01 61", stringValue("a")},
		{"lzf run", TypeString, "c3 05 14 00 61 e0 0a 00", stringValue(strings.Repeat("a", 20))},
		{"zset ascii", TypeZSet, "03 01 61 03 31 2e 35 01 62 fe 01 63 ff", zsetValue(map[string]float64{"a": 1.5, "b": math.Inf(1), "c": math.Inf(-1)})},
		{"zset double", TypeZSet2, "01 01 61 00 00 00 00 00 00 f8 3f", zsetValue(map[string]float64{"a": 1.5})},
		{"zipmap", TypeHashZipmap, "18 02 03 66 6f 6f 03 00 62 61 72 05 68 65 6c 6c 6f 05 00 77 6f 72 6c 64 ff",
			hashValue(map[string]string{"foo": "bar", "hello": "world"})},
		{"ziplist", TypeListZiplist, "0f 0f 00 00 00 0c 00 00 00 02 00 00 f3 02 f6 ff", listValue("2", "5")},
		{"quicklist", TypeListQuicklist, "01 0e 0e 00 00 00 0a 00 00 00 01 00 00 01 61 ff", listValue("a")},
		{"quicklist 2 plain and packed", TypeListQuicklist2, "02 01 03 61 62 63 02 09 09 00 00 00 01 00 07 01 ff", listValue("abc", "7")},
		{"intset 16", TypeSetIntset, "0c 02 00 00 00 02 00 00 00 fe ff 03 00", setValue("-2", "3")},
		{"intset 64", TypeSetIntset, "10 08 00 00 00 01 00 00 00 00 00 00 00 00 00 00 80", setValue("-9223372036854775808")},
		{"set listpack", TypeSetListpack, "0c 0c 00 00 00 02 00 81 61 02 7f 01 ff", setValue("a", "127")},
		{"listpack 13 bit", TypeSetListpack, "0d 0d 00 00 00 02 00 df ff 02 c0 80 02 ff", setValue("-1", "128")},
		{"hash metadata", TypeHashMetadata, "e8 03 00 00 00 00 00 00 02 00 01 61 01 62 05 01 63 01 64",
			value{kind: KindHash, pairs: map[string]string{"a": "b", "c": "d"}, ttl: map[string]int64{"c": 1004}}},
		{"hash metadata of a release candidate", TypeHashMetadataRC, "02 00 01 61 01 62 43 ec 01 63 01 64",
			value{kind: KindHash, pairs: map[string]string{"a": "b", "c": "d"}, ttl: map[string]int64{"c": 1004}}},
		{"hash listpack ex of a release candidate", TypeHashListpackExRC, "18 18 00 00 00 06 00 81 63 02 81 64 02 c4 d2 02 81 61 02 81 62 02 00 01 ff",
			value{kind: KindHash, pairs: map[string]string{"a": "b", "c": "d"}, ttl: map[string]int64{"c": 1234}}},
		{"hash listpack ex", TypeHashListpackEx, "d2 04 00 00 00 00 00 00 18 18 00 00 00 06 00 81 63 02 81 64 02 c4 d2 02 81 61 02 81 62 02 00 01 ff",
			value{kind: KindHash, pairs: map[string]string{"a": "b", "c": "d"}, ttl: map[string]int64{"c": 1234}}},
	} {
		t.Run(g.name, func(t *testing.T) {
			payload, err := hex.DecodeString(strings.ReplaceAll(g.hex, " ", ""))
			require.NoError(t, err)
			same(t, g.want, decode(t, g.typ, payload))
			for cut := range payload { // any shorter payload is an error, not a shorter value
				_, err := DecodeValue(g.typ, payload[:cut], &collector{})
				require.ErrorIs(t, err, ErrCorrupt)
				_, err = SkipValue(g.typ, payload[:cut])
				require.ErrorIs(t, err, ErrTruncated)
			}
		})
	}
}

// TestNewerThanOracle covers the encodings of 7.2 and 7.4, which the installed redis-server cannot load.
func TestNewerThanOracle(t *testing.T) {
	all := append(edgeInts(), edgeStrings()...)
	same(t, setValue(slices.Clone(all)...), decode(t, TypeSetListpack, compressed(encodeListpack(all...))))

	const base = 1700000000000
	want := hashValue(map[string]string{})
	want.ttl = map[string]int64{}
	meta := AppendLen(binary.LittleEndian.AppendUint64(nil, base), uint64(len(all)))
	var triples []string
	for i, f := range all {
		v, ttl := all[len(all)-1-i], int64(0)
		want.pairs[f] = v
		if i%3 != 0 {
			ttl = 1 + int64(i)*1000
			want.ttl[f] = base + ttl - 1
		}
		meta = AppendString(AppendString(AppendLen(meta, uint64(ttl)), []byte(f)), []byte(v))
		triples = append(triples, f, v, strconv.FormatInt(want.ttl[f], 10))
	}
	same(t, want, decode(t, TypeHashMetadata, meta))
	ex := binary.LittleEndian.AppendUint64(nil, base)
	same(t, want, decode(t, TypeHashListpackEx, append(ex, compressed(encodeListpack(triples...))...)))

	for _, bad := range [][]byte{
		append(ex, plainString(encodeListpack("f", "v"))...),
		append(ex, plainString(encodeListpack("f", "v", "-1"))...),
		append(ex, plainString(encodeListpack("f", "v", "soon"))...),
		append(ex, plainString(encodeListpack("f", "v", "0", "f", "v", "0"))...),
		append(ex, plainString(encodeListpack())...),
	} {
		_, err := DecodeValue(TypeHashListpackEx, bad, &collector{})
		require.ErrorIs(t, err, ErrCorrupt)
	}
	overflow := AppendLen(binary.LittleEndian.AppendUint64(nil, math.MaxInt64), 1)
	overflow = AppendString(AppendString(AppendLen(overflow, 2), []byte("f")), []byte("v"))
	_, err := DecodeValue(TypeHashMetadata, overflow, &collector{})
	require.ErrorIs(t, err, ErrCorrupt)
	for _, typ := range []Type{TypeModule, 8, 26, 200} {
		_, err := DecodeValue(typ, []byte{1, 1, 'x'}, &collector{})
		require.ErrorAs(t, err, new(*ErrUnsupportedType))
		_, err = SkipValue(typ, []byte{1, 1, 'x'})
		require.ErrorAs(t, err, new(*ErrUnsupportedType))
	}
}

// oldFile makes a file of an older version: opcode by opcode, since FileWriter writes but one version.
func oldFile(version string, checksum bool, records ...[]byte) []byte {
	b := []byte("REDIS" + version)
	for _, r := range records {
		b = append(b, r...)
	}
	b = append(b, opEOF)
	if checksum {
		b = binary.LittleEndian.AppendUint64(b, uint64(CRC64(0).Update(b)))
	}
	return b
}

// TestOldFiles reads whole files as Redis 2.4 (version 3, no checksum), 2.8 (6) and 3.2 (7) have written them, and has the
// oracle load them too.
func TestOldFiles(t *testing.T) {
	const seconds = 2000000000
	record := func(s legacySample) []byte {
		return append(AppendString([]byte{byte(s.typ)}, []byte(s.name)), s.payload...)
	}
	samples := legacySamples()
	var body [][]byte
	body = append(body, []byte{opSelectDB, 2})
	for i, s := range samples {
		if s.typ == TypeHashListpack {
			continue
		}
		if i%2 == 0 {
			body = append(body, binary.LittleEndian.AppendUint32([]byte{opExpireTime}, seconds))
		}
		body = append(body, record(s))
	}
	aux := AppendString(AppendString([]byte{opAux}, []byte("redis-ver")), []byte("3.2.13"))
	resize := []byte{opResizeDB, 0x40, 100, 0x40, 50}
	for _, f := range []struct {
		version string
		bytes   []byte
	}{
		{"0003", oldFile("0003", false, body...)},
		{"0006", oldFile("0006", true, body...)},
		{"0007", oldFile("0007", true, append([][]byte{aux, body[0], resize}, body[1:]...)...)},
	} {
		t.Run(f.version, func(t *testing.T) {
			r, err := NewFileReader(bytes.NewReader(f.bytes))
			require.NoError(t, err)
			n := 0
			for i := 0; ; {
				e, err := r.Next()
				if err == io.EOF {
					break
				}
				require.NoError(t, err)
				if e.Aux != nil {
					continue
				}
				for samples[i].typ == TypeHashListpack {
					i++
				}
				s := samples[i]
				require.Equal(t, s.name, string(e.Key))
				require.Equal(t, 2, e.DB)
				expire := int64(-1)
				if i%2 == 0 {
					expire = seconds * 1000
				}
				require.Equal(t, expire, e.ExpireMs)
				same(t, s.want, decode(t, e.Type, e.Value))
				i++
				n++
			}
			dir := t.TempDir()
			require.NoError(t, os.WriteFile(filepath.Join(dir, "old.rdb"), f.bytes, 0o600))
			c := oracle(t, dir, "--dbfilename", "old.rdb")
			require.Contains(t, do(t, c, "INFO", "keyspace"), "db2:keys="+strconv.Itoa(n))
		})
	}
}
