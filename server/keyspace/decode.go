package keyspace

import (
	"encoding/binary"
	"fmt"
	"math"
	"unsafe"

	"github.com/holdfast-db/holdfast/snapshot/rdb"
)

// viewString views bytes as a string without copying, for a comparison that does not keep it.
func viewString(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// DecodeSmall decodes what AppendValue wrote: RDB type byte and payload of the plain types. enc restores the encoding,
// which follows from the history of a collection, not from its elements; a packed one keeps the order in which its
// elements stand in value. It copies what it keeps of value.
func DecodeSmall(t Type, enc Encoding, l *Limits, value []byte) (collection, error) {
	want, encs := rdb.TypeList, [2]Encoding{EncQuicklist, EncQuicklist}
	switch t {
	case TypeList:
	case TypeSet:
		want, encs = rdb.TypeSet, [2]Encoding{EncIntset, EncHashtable}
	case TypeHash:
		want, encs = rdb.TypeHash, [2]Encoding{EncListpack, EncHashtable}
		if len(value) > 0 && rdb.Type(value[0]) == rdb.TypeHashMetadata {
			return decodeTimedHash(enc, l, value)
		}
	case TypeZSet:
		want, encs = rdb.TypeZSet2, [2]Encoding{EncListpack, EncSkiplist}
	default:
		return nil, fmt.Errorf("%w: a %s is no collection", errRow, t)
	}
	if len(value) == 0 || rdb.Type(value[0]) != want || enc != encs[0] && enc != encs[1] {
		return nil, fmt.Errorf("%w: type or encoding of a %s", errRow, t)
	}
	n, rest, ok := rdb.ReadLen(value[1:])
	if !ok || n == 0 || n > uint64(len(rest)) {
		return nil, errRow
	}
	c := newCollection(t, l, false, enc)
	for ; n > 0; n-- {
		var e []byte
		if e, rest, ok = rdb.ReadString(rest); !ok {
			return nil, errRow
		}
		switch c := c.(type) {
		case *List:
			c.PushRight(e)
		case *Set:
			ok = c.decode(e)
		case *Hash:
			var v []byte
			if v, rest, ok = rdb.ReadString(rest); ok {
				ok = c.decode(e, v)
			}
		case *ZSet:
			if ok = len(rest) >= scoreLen; ok {
				score := math.Float64frombits(binary.LittleEndian.Uint64(rest))
				rest = rest[scoreLen:]
				ok = c.decode(e, score)
			}
		}
		if !ok {
			return nil, fmt.Errorf("%w: element of a %s", errRow, t)
		}
	}
	if len(rest) != 0 {
		return nil, fmt.Errorf("%w: %d bytes behind a %s", errRow, len(rest), t)
	}
	return c, nil
}

// decodeTimedHash is DecodeSmall of a hash with fields that expire.
func decodeTimedHash(enc Encoding, l *Limits, value []byte) (collection, error) {
	bad := func() (collection, error) { return nil, fmt.Errorf("%w: a hash with fields that expire", errRow) }
	if enc != EncListpackEx && enc != EncHashtable || len(value) < 9 {
		return bad()
	}
	first := binary.LittleEndian.Uint64(value[1:])
	n, rest, ok := rdb.ReadLen(value[9:])
	if !ok || n == 0 || n > uint64(len(rest)) || first == 0 || first > math.MaxInt64 {
		return bad()
	}
	h := newCollection(TypeHash, l, false, enc).(*Hash)
	for ; n > 0; n-- {
		var ttl uint64
		var f, v []byte
		if ttl, rest, ok = rdb.ReadLen(rest); !ok || ttl > math.MaxInt64-first {
			return bad()
		}
		if f, rest, ok = rdb.ReadString(rest); ok {
			if v, rest, ok = rdb.ReadString(rest); ok {
				ok = h.decode(f, v)
			}
		}
		if !ok {
			return bad()
		}
		if ttl != 0 {
			h.SetExpire(f, int64(first+ttl-1))
		}
	}
	if len(rest) != 0 || h.EarliestExpire() != int64(first) {
		return bad()
	}
	return h, nil
}

// decode adds a field, whatever the limits say now.
func (h *Hash) decode(f, v []byte) bool {
	if h.d != nil {
		return h.Set(f, v)
	}
	if _, _, _, _, dup := h.locate(f); dup {
		return false
	}
	h.p = appendPacked(appendPacked(h.p, f), v)
	h.n++
	return true
}

func (s *Set) decode(m []byte) bool {
	if s.d != nil {
		return s.Add(m)
	}
	v, ok := parseInt64(m)
	return ok && s.ints.add(v)
}

func (z *ZSet) decode(m []byte, score float64) bool {
	if math.IsNaN(score) {
		return false
	}
	if z.d != nil {
		created, _ := z.Set(m, score)
		return created
	}
	if _, _, _, _, dup := z.locate(m); dup {
		return false
	}
	z.insertPacked(m, score)
	z.n++
	return true
}
