package rdb

import (
	"fmt"
	"maps"
	"math"
	"reflect"
	"slices"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
)

// value is a decoded value in a form that tests compare. A zset has its scores as text.
type value struct {
	kind  Kind
	str   string
	list  []string          // list in order, set sorted
	pairs map[string]string // hash, zset
	ttl   map[string]int64
}

// collector is a Sink that makes a value.
type collector struct {
	v      value
	hint   int
	ended  bool
	opened bool
}

func (c *collector) String(v []byte) error {
	c.v, c.ended = value{kind: KindString, str: string(v)}, true
	return nil
}

func (c *collector) Begin(k Kind, n int) error {
	if c.opened {
		return fmt.Errorf("second Begin")
	}
	c.opened, c.hint, c.v.kind = true, n, k
	if k == KindHash || k == KindZSet {
		c.v.pairs = map[string]string{}
	}
	return nil
}

func (c *collector) Element(v []byte) error {
	c.v.list = append(c.v.list, string(v))
	return nil
}

func (c *collector) Field(f, v []byte) error {
	c.v.pairs[string(f)] = string(v)
	return nil
}

func (c *collector) FieldTTL(f, v []byte, ms int64) error {
	if c.v.ttl == nil {
		c.v.ttl = map[string]int64{}
	}
	c.v.ttl[string(f)] = ms
	return c.Field(f, v)
}

func (c *collector) Member(m []byte, score float64) error {
	c.v.pairs[string(m)] = strconv.FormatFloat(score, 'g', -1, 64)
	return nil
}

func (c *collector) End() error {
	if c.ended || !c.opened {
		return fmt.Errorf("unexpected End")
	}
	c.ended = true
	if c.v.kind == KindSet {
		slices.Sort(c.v.list)
	}
	return nil
}

// decode requires that payload is one whole value of type t, for decoding and for skipping.
func decode(t testing.TB, typ Type, payload []byte) value {
	t.Helper()
	var c collector
	rest, err := DecodeValue(typ, payload, &c)
	require.NoError(t, err, "%v", typ)
	require.Empty(t, rest)
	require.True(t, c.ended)
	rest, err = SkipValue(typ, payload)
	require.NoError(t, err)
	require.Empty(t, rest)
	if k, _ := typ.Kind(); k != KindString {
		require.Equal(t, k, c.v.kind)
	}
	n := max(len(c.v.list), len(c.v.pairs))
	require.LessOrEqual(t, c.hint, n)
	return c.v
}

// encode is the inverse of decode in the plain types: type byte and payload.
func (v value) encode(t testing.TB) []byte {
	switch v.kind {
	case KindString:
		return AppendStringValue(nil, []byte(v.str))
	case KindList, KindSet:
		typ := TypeList
		if v.kind == KindSet {
			typ = TypeSet
		}
		b := AppendHeader(nil, typ, len(v.list))
		for _, e := range v.list {
			b = AppendString(b, []byte(e))
		}
		return b
	case KindHash:
		b := AppendHeader(nil, TypeHash, len(v.pairs))
		for _, f := range slices.Sorted(maps.Keys(v.pairs)) {
			b = AppendString(AppendString(b, []byte(f)), []byte(v.pairs[f]))
		}
		return b
	case KindZSet:
		b := AppendHeader(nil, TypeZSet2, len(v.pairs))
		for _, m := range slices.Sorted(maps.Keys(v.pairs)) {
			f, err := strconv.ParseFloat(v.pairs[m], 64)
			require.NoError(t, err)
			b = AppendDouble(AppendString(b, []byte(m)), f)
		}
		return b
	}
	require.Fail(t, "no encoding", "%v", v.kind)
	return nil
}

func stringValue(s string) value { return value{kind: KindString, str: s} }

func setValue(e ...string) value {
	slices.Sort(e)
	return value{kind: KindSet, list: e}
}

func listValue(e ...string) value { return value{kind: KindList, list: e} }

func hashValue(p map[string]string) value { return value{kind: KindHash, pairs: p} }

func zsetValue(p map[string]float64) value {
	v := value{kind: KindZSet, pairs: map[string]string{}}
	for m, s := range p {
		v.pairs[m] = strconv.FormatFloat(s, 'g', -1, 64)
	}
	return v
}

// same compares values; what differs may be megabytes, of which the failure shows the start.
func same(t testing.TB, want, got value) {
	t.Helper()
	if !reflect.DeepEqual(want, got) {
		require.Fail(t, "values differ", "want %.500v\ngot  %.500v", want, got)
	}
}

// oddScores are doubles whose text or bits go wrong first. Minus zero is not among them: Redis's listpacks make it zero.
var oddScores = []float64{0, 1, -1, 0.1, 1.0 / 3, 1e17, 1e16, 123456789012345678, 1e21, 1e22, 1e23, 1e-4, 1e-5,
	-1e-5, 100000, 1e100, math.MaxFloat64, -math.MaxFloat64, math.SmallestNonzeroFloat64, math.MaxInt64, math.MinInt64, 1 << 53,
	1<<53 + 2, 3.5, 2.5e-10, math.Inf(1), math.Inf(-1), math.Pi * 1e10, 4096, -4097, 32768, -32769, 1 << 23, 1 << 31, -1 << 31, 5e-324}
