package keyspace

import (
	"encoding/binary"
	"unsafe"
)

// RowEncoder makes the rows of keys that come into a store from elsewhere, as a checkpoint would write them, without a
// keyspace to hold the keys.
type RowEncoder struct {
	Limits *Limits
	// NextOID is the identity of the next big collection.
	NextOID uint64
	// Put takes a row; key and val are valid during the call. Rows come in no particular order.
	Put func(key, val []byte)
	buf []byte
}

// String puts the rows of a string. expireMs is unix milliseconds, 0 = none.
func (e *RowEncoder) String(phys uint32, key, val []byte, expireMs int64) {
	o := Object{typ: TypeString, p: unsafe.Pointer(unsafe.SliceData(val)), n: uint32(len(val))}
	e.rows(&o, phys, key, expireMs)
}

// Collection puts the rows of a *List, *Hash, *Set or *ZSet that was made for this and is not used afterwards.
func (e *RowEncoder) Collection(phys uint32, key []byte, v any, expireMs int64) {
	var o Object
	o.setColl(v)
	e.rows(&o, phys, key, expireMs)
	c := o.coll()
	if !c.Big() {
		return
	}
	c.handover()
	e.elements(phys, o.ext.oid, c)
	if t, oid := o.bigTimes(); t != nil {
		e.elements(phys, oid, t)
	}
}

func (e *RowEncoder) elements(phys uint32, oid uint64, c handedRows) {
	subs := c.handedSubs()
	sortStrings(subs)
	for i, sub := range subs {
		if i > 0 && sub == subs[i-1] {
			continue
		}
		if val, ok := c.handedRow(sub); ok {
			e.buf = AppendElemKey(e.buf[:0], phys, oid, unsafe.Slice(unsafe.StringData(sub), len(sub)))
			e.Put(e.buf, val)
		}
	}
}

// rows puts the main row and the expiry row.
func (e *RowEncoder) rows(o *Object, phys uint32, key []byte, expireMs int64) {
	o.slot, o.hash = Slot(key), KeyHash(key)
	big := false
	if c := o.coll(); c != nil {
		big = c.Big()
	}
	if expireMs != 0 || big {
		o.ext = &ext{expireAt: expireMs}
	}
	if big {
		o.ext.oid = e.NextOID
		e.NextOID++
		if t, _ := o.bigTimes(); t != nil {
			t.oid = e.NextOID
			e.NextOID++
		}
	}
	e.buf = AppendMainKey(e.buf[:0], phys, o.slot, o.hash, key)
	n := len(e.buf)
	e.buf = appendRow(e.buf, o)
	e.Put(e.buf[:n], e.buf[n:])
	if at := o.due(); at != 0 {
		e.buf = AppendExpireKey(e.buf[:0], phys, at, o.slot, o.hash, key)
		e.Put(e.buf, nil)
	}
}

// RowPrefix takes apart what rows are sorted by first: the tag, the physical database, and the eight bytes that follow.
func RowPrefix(row []byte) (tag byte, phys uint32, head uint64) {
	var b [13]byte
	copy(b[:], row)
	return b[0], binary.BigEndian.Uint32(b[1:]), binary.BigEndian.Uint64(b[5:])
}
