package keyspace

import (
	"bytes"
	"encoding/binary"

	"github.com/cespare/xxhash/v2"
)

// Keys of the snapshot store's rows. All numbers are big endian, so that byte order is numeric order.
//
//	'a'                                the meta row
//	'k' db(4) slot(2) hash(8) key      a key's main row: header and value, or header and element count
//	'o' db(4) object(8) sub            a row of a big collection: hash field, its time, set member, zset member, list node
//	'x' db(4) at(8) slot(2) hash(8) key   expiry index, no value; at: when the key expires, or a field of it, whichever comes first
//
// db is a physical id: FLUSHDB and SWAPDB map a logical database to another one, so that emptying a database is three
// range deletes. Element rows sort behind the main rows, since a checkpoint learns of big collections from those.
const (
	TagMain   = 'k'
	TagMeta   = 'a' // before all others, so that its table overlaps none of an ingest's
	TagElem   = 'o'
	TagExpire = 'x'
)

// slotTables are for CRC16/XMODEM, polynomial 0x1021, as Redis Cluster's key slots use it: the first for one byte, the
// n-th for a byte that n-1 others follow, so that four bytes are taken in one step.
var slotTables = func() (t [4][256]uint16) {
	for i := range 256 {
		c := uint16(i) << 8
		for range 8 {
			if c&0x8000 != 0 {
				c = c<<1 ^ 0x1021
			} else {
				c <<= 1
			}
		}
		t[0][i] = c
	}
	for n := 1; n < len(t); n++ {
		for i := range 256 {
			c := t[n-1][i]
			t[n][i] = c<<8 ^ t[0][c>>8]
		}
	}
	return t
}()

// Slot returns the key's hash slot as Redis Cluster defines it: CRC16 modulo 16384, of what stands between the first '{'
// and the next '}' if that is not empty.
func Slot(key []byte) uint16 {
	if i := bytes.IndexByte(key, '{'); i >= 0 {
		if j := bytes.IndexByte(key[i+1:], '}'); j > 0 {
			key = key[i+1 : i+1+j]
		}
	}
	var c uint16
	for ; len(key) >= 4; key = key[4:] {
		c ^= uint16(key[0])<<8 | uint16(key[1])
		c = slotTables[3][c>>8] ^ slotTables[2][c&0xff] ^ slotTables[1][key[2]] ^ slotTables[0][key[3]]
	}
	for _, b := range key {
		c = c<<8 ^ slotTables[0][byte(c>>8)^b]
	}
	return c & 16383
}

// KeyHash returns the 64-bit hash by which rows and buckets are ordered within a slot: xxHash64.
func KeyHash(key []byte) uint64 { return xxhash.Sum64(key) }

// Position is the place of a key in the order of rows, and a SCAN cursor: the slot and the top 50 bits of the hash.
func Position(slot uint16, hash uint64) uint64 { return uint64(slot)<<50 | hash>>14 }

// AppendMainKey appends the key of a main row.
func AppendMainKey(dst []byte, db uint32, slot uint16, hash uint64, key []byte) []byte {
	dst = append(dst, TagMain)
	dst = binary.BigEndian.AppendUint32(dst, db)
	dst = binary.BigEndian.AppendUint16(dst, slot)
	dst = binary.BigEndian.AppendUint64(dst, hash)
	return append(dst, key...)
}

// ParseMainKey takes a main row's key apart; key points into row.
func ParseMainKey(row []byte) (db uint32, slot uint16, hash uint64, key []byte, ok bool) {
	if len(row) < 15 || row[0] != TagMain {
		return 0, 0, 0, nil, false
	}
	return binary.BigEndian.Uint32(row[1:]), binary.BigEndian.Uint16(row[5:]), binary.BigEndian.Uint64(row[7:]), row[15:], true
}

// AppendElemKey appends the key of an element row.
func AppendElemKey(dst []byte, db uint32, oid uint64, sub []byte) []byte {
	dst = append(dst, TagElem)
	dst = binary.BigEndian.AppendUint32(dst, db)
	dst = binary.BigEndian.AppendUint64(dst, oid)
	return append(dst, sub...)
}

// ParseElemKey takes an element row's key apart; sub points into row.
func ParseElemKey(row []byte) (db uint32, oid uint64, sub []byte, ok bool) {
	if len(row) < 13 || row[0] != TagElem {
		return 0, 0, nil, false
	}
	return binary.BigEndian.Uint32(row[1:]), binary.BigEndian.Uint64(row[5:]), row[13:], true
}

// AppendExpireKey appends the key of an expiry row; atMs is unix milliseconds, not negative.
func AppendExpireKey(dst []byte, db uint32, atMs int64, slot uint16, hash uint64, key []byte) []byte {
	dst = append(dst, TagExpire)
	dst = binary.BigEndian.AppendUint32(dst, db)
	dst = binary.BigEndian.AppendUint64(dst, uint64(atMs))
	dst = binary.BigEndian.AppendUint16(dst, slot)
	dst = binary.BigEndian.AppendUint64(dst, hash)
	return append(dst, key...)
}

// ParseExpireKey takes an expiry row's key apart; key points into row.
func ParseExpireKey(row []byte) (db uint32, atMs int64, slot uint16, hash uint64, key []byte, ok bool) {
	if len(row) < 23 || row[0] != TagExpire {
		return 0, 0, 0, 0, nil, false
	}
	return binary.BigEndian.Uint32(row[1:]), int64(binary.BigEndian.Uint64(row[5:])),
		binary.BigEndian.Uint16(row[13:]), binary.BigEndian.Uint64(row[15:]), row[23:], true
}

// MainRange bounds the main rows of a database: lo included, hi excluded. The same for the others.
func MainRange(db uint32) (lo, hi []byte) { return tagRange(TagMain, db) }

// ElemRange bounds the element rows of a database.
func ElemRange(db uint32) (lo, hi []byte) { return tagRange(TagElem, db) }

// ExpireRange bounds the expiry rows of a database.
func ExpireRange(db uint32) (lo, hi []byte) { return tagRange(TagExpire, db) }

// ElemObjectRange bounds the element rows of one big collection.
func ElemObjectRange(db uint32, oid uint64) (lo, hi []byte) {
	lo = AppendElemKey(nil, db, oid, nil)
	if oid == 1<<64-1 {
		_, hi = ElemRange(db)
		return lo, hi
	}
	return lo, AppendElemKey(nil, db, oid+1, nil)
}

func tagRange(tag byte, db uint32) (lo, hi []byte) {
	lo = binary.BigEndian.AppendUint32([]byte{tag}, db)
	if db == 1<<32-1 {
		return lo, []byte{tag + 1}
	}
	return lo, binary.BigEndian.AppendUint32([]byte{tag}, db+1)
}
