package keyspace

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/holdfast-db/holdfast/snapshot/rdb"
)

// PlainType is the type under which an RDB file holds a collection element by element, in the form that every Redis from 5.0 on
// loads. ok is false for strings, which have no elements.
func (t Type) PlainType() (p rdb.Type, ok bool) {
	switch t {
	case TypeList:
		return rdb.TypeList, true
	case TypeSet:
		return rdb.TypeSet, true
	case TypeHash:
		return rdb.TypeHash, true
	case TypeZSet:
		return rdb.TypeZSet2, true
	}
	return 0, false
}

// AppendRowElements appends what one element row of a big collection holds, as an RDB file has it behind the header of
// PlainType, and returns how many elements that is: those of a whole node for a list, else one. It needs no object.
func AppendRowElements(dst []byte, t Type, sub, val []byte) (out []byte, n int, err error) {
	bad := func() ([]byte, int, error) { return dst, 0, fmt.Errorf("%w: element of a %s", errRow, t) }
	switch t {
	case TypeHash:
		return rdb.AppendString(rdb.AppendString(dst, sub), val), 1, nil
	case TypeSet:
		if len(val) != 0 {
			return bad()
		}
		return rdb.AppendString(dst, sub), 1, nil
	case TypeZSet:
		if len(val) != scoreLen {
			return bad()
		}
		return binary.LittleEndian.AppendUint64(rdb.AppendString(dst, sub), binary.BigEndian.Uint64(val)), 1, nil
	case TypeList:
		n, ok := countEntries(val)
		if !ok || len(sub) != 8 {
			return bad()
		}
		for off := 0; off < len(val); {
			var e []byte
			e, off = entryAt(val, off)
			dst = rdb.AppendString(dst, e)
		}
		return dst, n, nil
	}
	return bad()
}

// VisitRowElements feeds what one element row of a big collection holds to sink, between whose Begin and End the rows are, and
// returns how many elements that is.
func VisitRowElements(t Type, sub, val []byte, sink rdb.Sink) (n int, err error) {
	bad := fmt.Errorf("%w: element of a %s", errRow, t)
	switch t {
	case TypeHash:
		return 1, sink.Field(sub, val)
	case TypeSet:
		if len(val) != 0 {
			return 0, bad
		}
		return 1, sink.Element(sub)
	case TypeZSet:
		if len(val) != scoreLen {
			return 0, bad
		}
		return 1, sink.Member(sub, math.Float64frombits(binary.BigEndian.Uint64(val)))
	case TypeList:
		n, ok := countEntries(val)
		if !ok || len(sub) != 8 {
			return 0, bad
		}
		for off := 0; off < len(val); {
			var e []byte
			e, off = entryAt(val, off)
			if err := sink.Element(e); err != nil {
				return 0, err
			}
		}
		return n, nil
	}
	return 0, bad
}
