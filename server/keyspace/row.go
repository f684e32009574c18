package keyspace

import (
	"encoding/binary"
	"errors"
	"fmt"
	"unsafe"

	"github.com/holdfast-db/holdfast/snapshot/rdb"
)

// A main row's value:
//
//	byte 0    flags: bit 0 has an expiry, bit 1 big, bit 2 string built piecewise (encoding raw), bit 3 a hash with fields that
//	          expire (format 2 of the store)
//	byte 1    type (high nibble) and encoding (low nibble)
//	[8]       expiry, unix ms, little endian, if bit 0
//	[8]       earliest expiry of a field, unix ms, little endian, if bit 3
//	small     RDB type byte and payload, so that DUMP and an RDB stream copy bytes
//	big       8 bytes big endian identity of the element rows, uvarint count of elements; if bit 3 the same again for the rows of
//	          times: the field is their sub-key, 8 bytes big endian unix ms their value
//
// A key has one expiry row, at the earlier of its own expiry and that of its first field.
const (
	rowHasExpire = 1 << 0
	rowBig       = 1 << 1
	rowRaw       = 1 << 2
	rowTimed     = 1 << 3
)

// errRow marks a row that cannot be decoded; the store's checksums make it a bug or a newer format.
var errRow = errors.New("keyspace: malformed row")

// Malformed tells whether an error says that a row cannot be decoded.
func Malformed(err error) bool { return errors.Is(err, errRow) }

// appendRow appends o's main row. REQUIRES: o is live; if it is big, it has its oid.
func appendRow(dst []byte, o *Object) []byte {
	dst = appendRowHead(dst, o)
	if c := o.coll(); c != nil && c.Big() {
		dst = binary.BigEndian.AppendUint64(dst, o.oid())
		dst = binary.AppendUvarint(dst, uint64(c.Len()))
		if o.typ == TypeHash && o.Hash().timed() {
			t := o.Hash().t
			dst = binary.BigEndian.AppendUint64(dst, t.oid)
			dst = binary.AppendUvarint(dst, uint64(t.len()))
		}
		return dst
	}
	return o.AppendValue(dst)
}

// appendRowHead appends what is before the value or the identity.
func appendRowHead(dst []byte, o *Object) []byte {
	var flags byte
	expire := o.ExpireAt()
	if expire != 0 {
		flags |= rowHasExpire
	}
	c := o.coll()
	if c != nil && c.Big() {
		flags |= rowBig
	}
	fields := int64(0)
	if o.typ == TypeHash {
		if fields = o.Hash().EarliestExpire(); fields != 0 {
			flags |= rowTimed
		}
	}
	enc := EncRaw
	if c != nil {
		enc = c.Encoding()
	} else if o.flags&flagRaw != 0 {
		flags |= rowRaw
	}
	dst = append(dst, flags, byte(o.typ)<<4|byte(enc))
	if expire != 0 {
		dst = binary.LittleEndian.AppendUint64(dst, uint64(expire))
	}
	if fields != 0 {
		dst = binary.LittleEndian.AppendUint64(dst, uint64(fields))
	}
	return dst
}

// AppendValue appends the value as RDB type byte and payload: what DUMP wraps and an RDB file holds.
func (o *Object) AppendValue(dst []byte) []byte {
	if o.typ == TypeString {
		dst = append(dst, byte(rdb.TypeString))
		return rdb.AppendString(dst, o.String())
	}
	return o.coll().AppendValue(dst)
}

// RowHeader is what a main row says before its value.
type RowHeader struct {
	Type     Type
	Encoding Encoding
	ExpireAt int64
	Raw      bool
	Big      bool
	OID      uint64
	Count    uint64
	Value    []byte // small: RDB type byte and payload

	FieldsExpireAt int64  // when the first field of a hash expires, 0 = none does
	TimesOID       uint64 // of a big hash with fields that expire: identity and count of the rows of times
	Times          uint64
}

// Due returns the time of the key's expiry row, 0 if it has none.
func (h *RowHeader) Due() int64 { return earlier(h.ExpireAt, h.FieldsExpireAt) }

// ParseRow decodes a main row's value. Value points into row.
func ParseRow(row []byte) (RowHeader, error) {
	var h RowHeader
	if len(row) < 2 || row[0]&^(rowHasExpire|rowBig|rowRaw|rowTimed) != 0 {
		return h, errRow
	}
	h.Type, h.Encoding = Type(row[1]>>4), Encoding(row[1]&15)
	h.Raw, h.Big = row[0]&rowRaw != 0, row[0]&rowBig != 0
	if h.Type == TypeNone || h.Type > TypeHash || h.Encoding >= encodingCount || h.Big && h.Type == TypeString {
		return h, errRow
	}
	rest := row[2:]
	if row[0]&rowHasExpire != 0 {
		if len(rest) < 8 {
			return h, errRow
		}
		h.ExpireAt = int64(binary.LittleEndian.Uint64(rest))
		rest = rest[8:]
	}
	timed := row[0]&rowTimed != 0
	if timed {
		if len(rest) < 8 || h.Type != TypeHash {
			return h, errRow
		}
		if h.FieldsExpireAt = int64(binary.LittleEndian.Uint64(rest)); h.FieldsExpireAt <= 0 {
			return h, errRow
		}
		rest = rest[8:]
	}
	if !h.Big {
		if len(rest) == 0 {
			return h, errRow
		}
		h.Value = rest
		return h, nil
	}
	var ok bool
	if h.OID, h.Count, rest, ok = cutRows(rest); ok && timed {
		h.TimesOID, h.Times, rest, ok = cutRows(rest)
		ok = ok && h.Times > 0 && h.TimesOID != h.OID
	}
	if !ok || len(rest) != 0 {
		return h, errRow
	}
	return h, nil
}

// cutRows reads the identity and the count of element rows.
func cutRows(p []byte) (oid, count uint64, rest []byte, ok bool) {
	if len(p) < 9 {
		return 0, 0, nil, false
	}
	oid = binary.BigEndian.Uint64(p)
	count, k := binary.Uvarint(p[8:])
	if k <= 0 || oid == 0 {
		return 0, 0, nil, false
	}
	return oid, count, p[8+k:], true
}

// readObject reads a key from the store: nil if it is not there. The object is detached: install puts it in place.
func readObject(rows Rows, limits *Limits, phys uint32, slot uint16, hash uint64, key []byte) (*Object, error) {
	if rows == nil {
		return nil, nil
	}
	val, ok, err := rows.Get(AppendMainKey(nil, phys, slot, hash, key))
	if err != nil || !ok {
		return nil, err
	}
	o, err := decodeObject(rows, limits, phys, string(key), val)
	if err != nil {
		return nil, fmt.Errorf("row of slot %d, hash %x: %w", slot, hash, err)
	}
	o.slot, o.hash = slot, hash
	return o, nil
}

func decodeObject(rows Rows, limits *Limits, phys uint32, key string, row []byte) (*Object, error) {
	h, err := ParseRow(row)
	if err != nil {
		return nil, err
	}
	o := headerObject(key, &h)
	o.flags = flagInStore
	if h.Raw {
		o.flags |= flagRaw
	}
	if at := h.Due(); at != 0 {
		o.extend().storedExpire = at
	}
	switch {
	case h.Type == TypeString:
		if rdb.Type(h.Value[0]) != rdb.TypeString {
			return nil, errRow
		}
		s, rest, ok := rdb.ReadString(h.Value[1:])
		if !ok || len(rest) != 0 {
			return nil, errRow
		}
		o.setBytes(cloneBytes(s))
	case !h.Big:
		c, err := DecodeSmall(h.Type, h.Encoding, limits, h.Value)
		if err != nil {
			return nil, err
		}
		o.setColl(c)
	default:
		o.extend().oid = h.OID
		c := newCollection(h.Type, limits, true, h.Encoding)
		if err := loadRows(rows, phys, h.OID, c.loadRow); err != nil {
			return nil, err
		}
		if uint64(c.Len()) != h.Count {
			return nil, fmt.Errorf("%w: %d elements where the header says %d", errRow, c.Len(), h.Count)
		}
		o.setColl(c)
		if h.TimesOID == 0 {
			break
		}
		hash := o.Hash()
		hash.t = newFieldTimes(true)
		hash.t.oid = h.TimesOID
		err := loadRows(rows, phys, h.TimesOID, func(sub, val []byte) error {
			if _, ok := hash.Get(sub); !ok {
				return errRow
			}
			return hash.t.loadRow(sub, val)
		})
		if err != nil {
			return nil, err
		}
		if uint64(hash.t.len()) != h.Times {
			return nil, fmt.Errorf("%w: %d times where the header says %d", errRow, hash.t.len(), h.Times)
		}
	}
	if o.typ == TypeHash && o.Hash().EarliestExpire() != h.FieldsExpireAt {
		return nil, fmt.Errorf("%w: the first field expires at %d where the header says %d", errRow, o.Hash().EarliestExpire(), h.FieldsExpireAt)
	}
	return o, nil
}

// loadRows calls load for each row of a big collection, in order.
func loadRows(rows Rows, phys uint32, oid uint64, load func(sub, val []byte) error) error {
	lo, hi := ElemObjectRange(phys, oid)
	it, err := rows.Iter(lo, hi)
	if err != nil {
		return err
	}
	for ok := it.SeekGE(lo); ok; ok = it.Next() {
		_, _, sub, good := ParseElemKey(it.Key())
		if !good {
			it.Close()
			return errRow
		}
		if err := load(sub, it.Value()); err != nil {
			it.Close()
			return err
		}
	}
	err = it.Err()
	if cerr := it.Close(); err == nil {
		err = cerr
	}
	return err
}

// headerObject makes an object that has no value: key, type and expiry.
func headerObject(key string, h *RowHeader) *Object {
	o := &Object{key: key, typ: h.Type, p: unsafe.Pointer(nil)}
	if h.ExpireAt != 0 {
		o.ext = &ext{expireAt: h.ExpireAt}
	}
	return o
}

// CheckRows decodes every main row of a physical database with its elements, encodes it again, and compares (K2).
func CheckRows(rows Rows, limits *Limits, phys uint32) (n int, err error) {
	lo, hi := MainRange(phys)
	it, err := rows.Iter(lo, hi)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	for ok := it.SeekGE(lo); ok; ok = it.Next() {
		_, slot, hash, key, good := ParseMainKey(it.Key())
		if !good || Slot(key) != slot || KeyHash(key) != hash {
			return n, fmt.Errorf("%w: key %x", errRow, it.Key())
		}
		o, err := decodeObject(rows, limits, phys, string(key), it.Value())
		if err != nil {
			return n, fmt.Errorf("key %x: %w", it.Key(), err)
		}
		if again := appendRow(nil, o); string(again) != string(it.Value()) {
			return n, fmt.Errorf("%w: key %x encodes to other bytes", errRow, it.Key())
		}
		n++
	}
	return n, it.Err()
}
