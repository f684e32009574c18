package rdb

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
)

// edgeInts lie on the borders of the integer forms of strings, intsets, ziplists and listpacks.
func edgeInts() []string {
	seen := map[int64]bool{}
	var out []string
	add := func(v int64) {
		if !seen[v] {
			seen[v] = true
			out = append(out, strconv.FormatInt(v, 10))
		}
	}
	for _, bits := range []uint{0, 1, 2, 3, 4, 6, 7, 8, 12, 13, 15, 16, 23, 24, 31, 32, 47, 62} {
		for d := int64(-2); d <= 2; d++ {
			add(1<<bits + d)
			add(-(1 << bits) + d)
		}
	}
	add(math.MaxInt64)
	add(math.MinInt64)
	return out
}

// noise returns n bytes that LZF cannot shorten.
func noise(n int) string {
	r := rand.New(rand.NewPCG(1, uint64(n)))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return string(b)
}

// edgeStrings lie on the borders of the length forms of strings, ziplists and listpacks.
func edgeStrings() []string {
	out := []string{"", " 1", "01", "-0", "1.0", "9223372036854775808", "nan", strings.Repeat("ab", 5000)}
	for _, n := range []int{1, 20, 21, 43, 44, 45, 62, 63, 64, 65, 120, 121, 122, 123, 124, 125, 126, 127, 128, 253, 254, 255, 256,
		4094, 4095, 4096, 4097, 16375, 16376, 16377, 16378, 16379, 16380, 16383, 16384, 16385, 70000} {
		out = append(out, noise(n))
	}
	return out
}

// sample is a key made in Redis by commands, the value that it has, and the types that its DUMP may have.
type sample struct {
	name string
	make [][]any
	want value
	typ  Type
}

func samples() []sample {
	var out []sample
	add := func(typ Type, want value, cmds ...[]any) {
		out = append(out, sample{fmt.Sprintf("%v-%d", typ, len(out)), cmds, want, typ})
	}
	cmd := func(name string, args []string) []any {
		c := []any{name, "k"}
		for _, a := range args {
			c = append(c, a)
		}
		return c
	}
	for _, s := range append(edgeInts(), edgeStrings()...) {
		add(TypeString, stringValue(s), []any{"SET", "k", s})
	}
	add(TypeString, stringValue("12"), []any{"APPEND", "k", "12"}) // encoding raw

	add(TypeListQuicklist2, listValue("a"), []any{"RPUSH", "k", "a"})
	add(TypeListQuicklist2, listValue(edgeInts()...), cmd("RPUSH", edgeInts()))
	add(TypeListQuicklist2, listValue(edgeStrings()...), cmd("RPUSH", edgeStrings()))
	add(TypeListQuicklist2, listValue("a", noise(20000), strings.Repeat("z", 20000), "b"), // plain nodes between packed ones
		[]any{"DEBUG", "QUICKLIST-PACKED-THRESHOLD", "10000"}, cmd("RPUSH", []string{"a", noise(20000), strings.Repeat("z", 20000), "b"}),
		[]any{"DEBUG", "QUICKLIST-PACKED-THRESHOLD", "0"})

	add(TypeSetIntset, setValue("1", "2", "-3"), []any{"SADD", "k", 1, 2, -3})
	add(TypeSetIntset, setValue("1", "70000"), []any{"SADD", "k", 1, 70000})
	add(TypeSetIntset, setValue(edgeInts()...), cmd("SADD", edgeInts()))
	add(TypeSet, setValue(append(edgeInts(), edgeStrings()...)...), cmd("SADD", append(edgeInts(), edgeStrings()...)))

	ints, strs := edgeInts(), edgeStrings()
	small, big := map[string]string{}, map[string]string{}
	smallArgs, bigArgs := []any{"HSET", "k"}, []any{"HSET", "k"}
	for i, f := range append(ints, strs...) {
		v := append(strs, ints...)[i]
		if len(f) <= 64 && len(v) <= 64 && len(small) < 128 {
			small[f] = v
			smallArgs = append(smallArgs, f, v)
		}
		big[f] = v
		bigArgs = append(bigArgs, f, v)
	}
	add(TypeHashListpack, hashValue(small), smallArgs)
	add(TypeHash, hashValue(big), bigArgs)
	add(TypeHashListpack, hashValue(map[string]string{"": ""}), []any{"HSET", "k", "", ""})

	zsmall, zbig := map[string]float64{}, map[string]float64{}
	zsmallArgs, zbigArgs := []any{"ZADD", "k"}, []any{"ZADD", "k"}
	for i, f := range oddScores {
		m := append(ints, strs...)[i*3%len(ints)]
		text := strconv.FormatFloat(f, 'g', -1, 64)
		if len(m) <= 64 {
			zsmall[m] = f
			zsmallArgs = append(zsmallArgs, text, m)
		}
	}
	for i, m := range append(ints, strs...) {
		f := oddScores[i%len(oddScores)]
		zbig[m] = f
		zbigArgs = append(zbigArgs, strconv.FormatFloat(f, 'g', -1, 64), m)
	}
	add(TypeZSetListpack, zsetValue(zsmall), zsmallArgs)
	add(TypeZSet2, zsetValue(zbig), zbigArgs)

	manyArgs := []any{"RPUSH", "k"}
	var many []string
	for i := range 20000 {
		many = append(many, fmt.Sprintf("element:%d", i))
		manyArgs = append(manyArgs, many[i])
	}
	add(TypeListQuicklist2, listValue(many...), manyArgs)
	huge := noise(3<<20) + strings.Repeat("compressible ", 200000)
	add(TypeString, stringValue(huge), []any{"SET", "k", huge})
	return out
}

// TestDumpAgainstRedis decodes what Redis dumps and restores there what we dump.
func TestDumpAgainstRedis(t *testing.T) {
	for _, compression := range []string{"yes", "no"} {
		t.Run("rdbcompression="+compression, func(t *testing.T) {
			c := oracle(t, t.TempDir(), "--rdbcompression", compression)
			for _, s := range samples() {
				t.Run(s.name, func(t *testing.T) {
					do(t, c, "FLUSHALL")
					for _, cmd := range s.make {
						do(t, c, cmd...)
					}
					dump := []byte(do(t, c, "DUMP", "k").(string))
					typ, payload, err := VerifyDump(dump)
					require.NoError(t, err)
					require.Equal(t, s.typ, typ)
					same(t, s.want, decode(t, typ, payload))

					own := AppendDump(nil, s.want.encode(t))
					typ, payload, err = VerifyDump(own)
					require.NoError(t, err)
					same(t, s.want, decode(t, typ, payload))
					do(t, c, "RESTORE", "ours", 0, own)
					require.Equal(t, digestValue(t, c, "k"), digestValue(t, c, "ours"))
				})
			}
		})
	}
}

// TestVerifyDumpAgainstRedis shows that we refuse the payloads that RESTORE refuses, and tell apart the two errors.
func TestVerifyDumpAgainstRedis(t *testing.T) {
	c := oracle(t, t.TempDir())
	ctx := context.Background()
	with := func(version uint16, body ...byte) []byte {
		b := append(bytes.Clone(body), byte(version), byte(version>>8))
		crc := CRC64(0).Update(b)
		for i := range 8 {
			b = append(b, byte(crc>>(8*i)))
		}
		return b
	}
	good := with(9, 0, 1, 'x')
	flipped := bytes.Clone(good)
	flipped[2] ^= 1
	badCRC := bytes.Clone(good)
	badCRC[len(badCRC)-1] ^= 0x80
	zeroCRC := append(bytes.Clone(good[:len(good)-8]), make([]byte, 8)...)
	const versionOrChecksum, badData = "ERR DUMP payload version or checksum are wrong", "ERR Bad data format"
	for _, s := range []struct {
		name    string
		payload []byte
		redis   string
		err     error // of VerifyDump; nil and a redis error: DecodeValue must refuse
	}{
		{"good", good, "", nil},
		{"version 0", with(0, 0, 1, 'x'), "", nil},
		{"version 1", with(1, 0, 1, 'x'), "", nil},
		{"version 10", with(10, 0, 1, 'x'), "", nil},
		{"trailing bytes", with(9, 0, 1, 'x', 'y', 'z'), "", nil},
		{"version of a distant future", with(1000, 0, 1, 'x'), versionOrChecksum, ErrVersion},
		{"version 13", with(13, 0, 1, 'x'), versionOrChecksum, ErrVersion},
		{"flipped bit", flipped, versionOrChecksum, ErrChecksum},
		{"wrong checksum", badCRC, versionOrChecksum, ErrChecksum},
		{"checksum 0", zeroCRC, versionOrChecksum, ErrChecksum},
		{"9 bytes", good[:9], versionOrChecksum, ErrTruncated},
		{"no bytes", nil, versionOrChecksum, ErrTruncated},
		{"no value", with(9), badData, ErrCorrupt},
		{"type only", with(9, 2), badData, nil},
		{"unknown type", with(9, 99, 1, 'x'), badData, nil},
		{"empty list", with(9, 1, 0), badData, nil},
		{"empty set", with(9, 2, 0), badData, nil},
		{"empty hash", with(9, 4, 0), badData, nil},
		{"empty zset", with(9, 5, 0), badData, nil},
		{"empty quicklist", with(10, 18, 0), badData, nil},
		{"empty quicklist node", with(10, 18, 1, 2, 7, 7, 0, 0, 0, 0, 0, 255), badData, nil},
		{"duplicate set member", with(9, 2, 2, 1, 'a', 1, 'a'), badData, nil},
		{"duplicate hash field", with(9, 4, 2, 1, 'a', 1, 'b', 1, 'a', 1, 'b'), badData, nil},
		{"score is not a number", with(9, 5, 1, 1, 'a', 1, 0, 0, 0, 0, 0, 0xf8, 0x7f), badData, nil},
		{"odd hash listpack", with(10, 16, 9, 9, 0, 0, 0, 1, 0, 1, 1, 255), badData, nil},
		{"empty hash listpack", with(10, 16, 7, 7, 0, 0, 0, 0, 0, 255), badData, nil},
		{"listpack count", with(10, 16, 11, 11, 0, 0, 0, 3, 0, 1, 1, 2, 1, 255), badData, nil},
		{"listpack back length", with(10, 16, 11, 11, 0, 0, 0, 2, 0, 1, 1, 2, 2, 255), badData, nil},
		{"listpack", with(10, 16, 11, 11, 0, 0, 0, 2, 0, 1, 1, 2, 1, 255), "", nil},
		{"listpack of unknown count", with(10, 16, 11, 11, 0, 0, 0, 255, 255, 1, 1, 2, 1, 255), "", nil},
		{"duplicate in listpack hash", with(10, 16, 15, 15, 0, 0, 0, 4, 0, 1, 1, 2, 1, 1, 1, 2, 1, 255), badData, nil},
		{"intset", with(9, 11, 12, 2, 0, 0, 0, 2, 0, 0, 0, 1, 0, 2, 0), "", nil},
		{"intset out of order", with(9, 11, 12, 2, 0, 0, 0, 2, 0, 0, 0, 2, 0, 1, 0), badData, nil},
		{"intset with a duplicate", with(9, 11, 12, 2, 0, 0, 0, 2, 0, 0, 0, 2, 0, 2, 0), badData, nil},
		{"intset width", with(9, 11, 12, 3, 0, 0, 0, 2, 0, 0, 0, 1, 0, 2, 0), badData, nil},
		{"empty intset", with(9, 11, 8, 2, 0, 0, 0, 0, 0, 0, 0), badData, nil},
		{"ziplist", with(9, 10, 13, 13, 0, 0, 0, 10, 0, 0, 0, 1, 0, 0, 0xf2, 255), "", nil},
		{"ziplist tail", with(9, 10, 13, 13, 0, 0, 0, 11, 0, 0, 0, 1, 0, 0, 0xf2, 255), badData, nil},
		{"ziplist previous size", with(9, 10, 13, 13, 0, 0, 0, 10, 0, 0, 0, 1, 0, 1, 0xf2, 255), badData, nil},
		{"ziplist count", with(9, 10, 13, 13, 0, 0, 0, 10, 0, 0, 0, 2, 0, 0, 0xf2, 255), badData, nil},
		{"zipmap", with(9, 9, 7, 1, 1, 'a', 1, 0, 'b', 255), "", nil},
		{"zipmap count", with(9, 9, 7, 2, 1, 'a', 1, 0, 'b', 255), badData, nil},
		{"zset listpack score", with(10, 17, 13, 13, 0, 0, 0, 2, 0, 1, 1, 0x82, '1', 'x', 3, 255), "?", nil},
	} {
		t.Run(s.name, func(t *testing.T) {
			err := c.Do(ctx, "RESTORE", "k", 0, s.payload, "REPLACE").Err()
			if s.redis == "?" {
				t.Logf("redis: %v", err)
			} else if s.redis == "" {
				require.NoError(t, err)
			} else {
				require.EqualError(t, err, s.redis)
			}
			typ, payload, err := VerifyDump(s.payload)
			if s.err != nil {
				require.ErrorIs(t, err, s.err)
				require.Equal(t, s.redis == versionOrChecksum, err == ErrVersion || err == ErrChecksum || err == ErrTruncated)
				return
			}
			require.NoError(t, err)
			_, err = DecodeValue(typ, payload, &collector{})
			if s.redis == "" {
				require.NoError(t, err)
			} else if s.redis != "?" {
				require.Error(t, err)
			}
		})
	}
}

// TestFileToRedis has Redis load a file that we wrote.
func TestFileToRedis(t *testing.T) {
	dir := t.TempDir()
	var b bytes.Buffer
	w := NewFileWriter(&b)
	require.NoError(t, w.Aux("redis-ver", "7.0.15"))
	require.NoError(t, w.Aux("unknown-field", "ignored"))
	const future = 33000000000000
	want := samples()
	for _, db := range []int{0, 3} {
		require.NoError(t, w.SelectDB(db))
		require.NoError(t, w.ResizeDB(uint64(len(want)), 1))
		for i, s := range want {
			expire := int64(-1)
			if i%3 == 0 {
				expire = future + int64(i)
			}
			require.NoError(t, w.Key([]byte(s.name), expire, s.want.encode(t)))
		}
	}
	require.NoError(t, w.Close())
	require.NoError(t, os.WriteFile(filepath.Join(dir, "ours.rdb"), b.Bytes(), 0o600))

	c := oracle(t, dir, "--dbfilename", "ours.rdb")
	for _, db := range []int{0, 3} {
		c := redis.NewClient(&redis.Options{Addr: c.Options().Addr, DB: db, Protocol: 2, DisableIdentity: true})
		defer func() { require.NoError(t, c.Close()) }()
		require.Equal(t, int64(len(want)), do(t, c, "DBSIZE"))
		for i, s := range want {
			expire := int64(-1)
			if i%3 == 0 {
				expire = future + int64(i)
			}
			require.Equal(t, expire, do(t, c, "PEXPIRETIME", s.name))
			typ, payload, err := VerifyDump([]byte(do(t, c, "DUMP", s.name).(string)))
			require.NoError(t, err)
			same(t, s.want, decode(t, typ, payload))
		}
	}
}

// TestFileFromRedis reads a file that Redis saved, with everything in it that is not a plain key.
func TestFileFromRedis(t *testing.T) {
	for _, options := range [][]string{{"--rdbcompression", "yes"}, {"--rdbcompression", "no", "--rdbchecksum", "no"},
		{"--maxmemory", "1gb", "--maxmemory-policy", "allkeys-lru"}, {"--maxmemory", "1gb", "--maxmemory-policy", "allkeys-lfu"}} {
		t.Run(strings.Join(options, " "), func(t *testing.T) {
			dir := t.TempDir()
			c := oracle(t, dir, options...)
			const future = 33000000000000
			do(t, c, "FUNCTION", "LOAD", "#!lua name=lib\nredis.register_function('f', function() return 1 end)")
			do(t, c, "XADD", "stream", "1-1", "f", "v")
			do(t, c, "XADD", "stream", "2-1", "f", "v", "g", "w")
			do(t, c, "XGROUP", "CREATE", "stream", "group", "0")
			do(t, c, "XREADGROUP", "GROUP", "group", "consumer", "COUNT", 1, "STREAMS", "stream", ">")
			want := map[string]sample{}
			for i, s := range samples() {
				for _, cmd := range s.make {
					do(t, c, cmd...)
				}
				if i%3 == 0 {
					do(t, c, "PEXPIREAT", "k", future+i)
				}
				do(t, c, "RENAME", "k", s.name)
				want[s.name] = s
			}
			do(t, c, "MOVE", samples()[0].name, 5)
			do(t, c, "SAVE")
			b, err := os.ReadFile(filepath.Join(dir, "dump.rdb"))
			require.NoError(t, err)

			r, err := NewFileReader(bytes.NewReader(b))
			require.NoError(t, err)
			require.Equal(t, 10, r.Version())
			aux, functions, streams, n := map[string]string{}, 0, 0, 0
			for {
				e, err := r.Next()
				if err == io.EOF {
					break
				}
				require.NoError(t, err)
				switch {
				case e.Aux != nil:
					aux[string(e.Aux)] = string(e.Value)
					continue
				case e.Function != nil:
					require.Contains(t, string(e.Function), "register_function")
					functions++
					continue
				case string(e.Key) == "stream":
					require.Equal(t, TypeStreamListpacks2, e.Type)
					_, err := DecodeValue(e.Type, e.Value, &collector{})
					require.ErrorAs(t, err, new(*ErrUnsupportedType))
					streams++
					continue
				}
				s, ok := want[string(e.Key)]
				require.True(t, ok, "%q", e.Key)
				require.Equal(t, s.typ, e.Type)
				same(t, s.want, decode(t, e.Type, e.Value))
				i, err := strconv.Atoi(s.name[strings.LastIndex(s.name, "-")+1:])
				require.NoError(t, err)
				if i%3 == 0 {
					require.Equal(t, int64(future+i), e.ExpireMs)
				} else {
					require.Equal(t, int64(-1), e.ExpireMs)
				}
				if i == 0 {
					require.Equal(t, 5, e.DB)
				} else {
					require.Equal(t, 0, e.DB)
				}
				require.Equal(t, strings.HasSuffix(t.Name(), "lru"), e.IdleSec >= 0)
				require.Equal(t, strings.HasSuffix(t.Name(), "lfu"), e.Freq >= 0)
				n++
			}
			require.Equal(t, len(want), n)
			require.Equal(t, 1, functions)
			require.Equal(t, 1, streams)
			require.Equal(t, "7.0.15", aux["redis-ver"])
			require.Equal(t, "64", aux["redis-bits"])
			require.Empty(t, r.Buffered())
		})
	}
}

// stricterAbout are the errors for what Redis takes: a value that goes on into the trailer, text that strtod takes in
// part, a length whose encoding bits Redis overlooks, an empty string that it decompresses, bytes behind a zipmap's end, and
// a listpack's back length that goes on into the entry.
var stricterAbout = []string{ErrTruncated.Error(), "score is no number", "string encoding where a length belongs", "lzf of nothing",
	"zipmap header", "listpack back length"}

// TestMutatedDumpsAgainstRedis changes bytes of valid payloads, at random but with a fixed seed, and compares the verdicts.
// What we accept, Redis must accept, with the same content; what only Redis accepts must be in stricterAbout.
func TestMutatedDumpsAgainstRedis(t *testing.T) {
	const seed, perPayload = 5, 100
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, seed))
	c := oracle(t, t.TempDir())
	ctx := context.Background()
	var both, stricter int
	seeds := seedPayloads()
	for _, typ := range slices.Sorted(maps.Keys(seeds)) {
		if k, _ := typ.Kind(); k > KindHash || typ >= TypeSetListpack {
			continue // not for us, or not for 7.0
		}
		for _, payload := range seeds[typ] {
			for range perPayload {
				p := bytes.Clone(payload)
				for range 1 + r.IntN(2) {
					i := r.IntN(len(p))
					switch r.IntN(3) {
					case 0:
						p[i] = byte(r.Uint32())
					case 1:
						p[i] ^= 1 << r.IntN(8)
					case 2:
						p[i] += byte(r.IntN(3)) - 1
					}
				}
				var own collector
				_, err := DecodeValue(typ, p, &own)
				theirs := c.Do(ctx, "RESTORE", "theirs", 0, AppendDump(nil, append([]byte{byte(typ)}, p...)), "REPLACE").Err()
				switch {
				case err == nil && theirs == nil:
					both++
					do(t, c, "RESTORE", "ours", 0, AppendDump(nil, own.v.encode(t)), "REPLACE")
					require.Equal(t, digestValue(t, c, "theirs"), digestValue(t, c, "ours"), "%v %x", typ, p)
				case err == nil:
					require.NoError(t, theirs, "%v %x", typ, p)
				case theirs == nil:
					stricter++
					require.True(t, slices.ContainsFunc(stricterAbout, func(e string) bool { return strings.HasSuffix(err.Error(), e) }),
						"%v %x: %v", typ, p, err)
				}
			}
		}
	}
	t.Logf("accepted by both %d, by Redis only %d", both, stricter)
	require.NotZero(t, both)
}
