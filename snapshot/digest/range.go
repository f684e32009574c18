package digest

import (
	"encoding/binary"
	"encoding/hex"
	"math"
	"math/bits"

	"github.com/cespare/xxhash/v2"

	"github.com/holdfast-db/holdfast/snapshot/rdb"
)

// Sum128 is a number modulo 2^128: the hash of a key, or a sum of hashes. Comparable with ==.
type Sum128 struct{ Hi, Lo uint64 }

func (s *Sum128) add(h Sum128) {
	lo, carry := bits.Add64(s.Lo, h.Lo, 0)
	s.Hi, _ = bits.Add64(s.Hi, h.Hi, carry)
	s.Lo = lo
}

func (s *Sum128) sub(h Sum128) {
	lo, borrow := bits.Sub64(s.Lo, h.Lo, 0)
	s.Hi, _ = bits.Sub64(s.Hi, h.Hi, borrow)
	s.Lo = lo
}

// AppendBinary appends the 16 bytes, big-endian. The error is always nil.
func (s Sum128) AppendBinary(dst []byte) ([]byte, error) {
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(dst, s.Hi), s.Lo), nil
}

// String returns 32 hexadecimal digits.
func (s Sum128) String() string {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:], s.Hi)
	binary.BigEndian.PutUint64(b[8:], s.Lo)
	return hex.EncodeToString(b[:])
}

// Range is the digest of a set of keys: the sum of their hashes, and their number. Two servers that hold the same keys
// with the same values and expiries have equal Ranges, however each stores them and in whatever order it visits them
// (S3). Ranges of disjoint parts merge to that of the whole; a key can be taken out again. Comparable with ==; the zero
// value is the digest of no keys.
type Range struct {
	Keys uint64
	Sum  Sum128
}

// Add adds a key by its hash, from KeyHasher.
func (r *Range) Add(key Sum128) {
	r.Keys++
	r.Sum.add(key)
}

// Remove undoes an Add of the same hash.
func (r *Range) Remove(key Sum128) {
	r.Keys--
	r.Sum.sub(key)
}

// Merge adds all keys of o.
func (r *Range) Merge(o Range) {
	r.Keys += o.Keys
	r.Sum.add(o.Sum)
}

// The tags that open what is hashed, so that no two kinds of input are the same bytes. They, and the layout behind them,
// are compared between servers: changing one makes servers of different versions differ in everything.
const (
	tagKey      = 1 // db (4), kind (1), expire ms (8), elements (8), value's sum (16), key
	tagString   = 2 // string
	tagListItem = 3 // sum of the list so far (16), element
	tagElement  = 4 // element of a set
	tagField    = 5 // length of the field (8), expire ms (8), field, value
	tagMember   = 6 // score (8, IEEE 754), member
)

// KeyHasher hashes one key at a time: Reset, the value by way of the methods of rdb.Sink, then Sum. Elements of sets,
// hashes and sorted sets may come in any order. It needs no constructor and reuses its memory.
type KeyHasher struct {
	db     uint32
	expire uint64
	kind   rdb.Kind
	n      uint64 // elements seen
	value  Sum128
	key    []byte
	buf    []byte
	stream [2]xxhash.Digest
}

var _ rdb.Sink = (*KeyHasher)(nil)

// Reset begins a key of a database. expireMs is unix time in ms; zero and negative mean none. key is copied.
func (h *KeyHasher) Reset(db int, key []byte, expireMs int64) {
	h.db, h.expire = uint32(db), uint64(max(expireMs, 0))
	h.kind, h.n, h.value = 0, 0, Sum128{}
	h.key = append(h.key[:0], key...)
}

// Sum returns the hash of the key with its value.
func (h *KeyHasher) Sum() Sum128 {
	b := h.open(tagKey)
	b = binary.LittleEndian.AppendUint32(b, h.db)
	b = append(b, byte(h.kind))
	b = binary.LittleEndian.AppendUint64(b, h.expire)
	b = binary.LittleEndian.AppendUint64(b, h.n)
	return h.hash(appendSum(b, h.value), h.key, nil)
}

func appendSum(b []byte, s Sum128) []byte {
	return binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(b, s.Lo), s.Hi)
}

// String implements rdb.Sink.
func (h *KeyHasher) String(v []byte) error {
	h.kind, h.n = rdb.KindString, 1
	h.value = h.hash(h.open(tagString), v, nil)
	return nil
}

// Begin implements rdb.Sink.
func (h *KeyHasher) Begin(k rdb.Kind, _ int) error {
	h.kind = k
	return nil
}

// Element implements rdb.Sink.
func (h *KeyHasher) Element(v []byte) error {
	h.n++
	if h.kind == rdb.KindList {
		h.value = h.hash(appendSum(h.open(tagListItem), h.value), v, nil)
	} else {
		h.value.add(h.hash(h.open(tagElement), v, nil))
	}
	return nil
}

// Field implements rdb.Sink.
func (h *KeyHasher) Field(f, v []byte) error { return h.FieldTTL(f, v, 0) }

// FieldTTL implements rdb.Sink.
func (h *KeyHasher) FieldTTL(f, v []byte, expireMs int64) error {
	h.n++
	b := binary.LittleEndian.AppendUint64(h.open(tagField), uint64(len(f)))
	h.value.add(h.hash(binary.LittleEndian.AppendUint64(b, uint64(expireMs)), f, v))
	return nil
}

// Member implements rdb.Sink. Minus zero counts as zero: which of both a zset holds depends on its encoding.
func (h *KeyHasher) Member(m []byte, score float64) error {
	h.n++
	b := binary.LittleEndian.AppendUint64(h.open(tagMember), math.Float64bits(score+0))
	h.value.add(h.hash(b, m, nil))
	return nil
}

// End implements rdb.Sink.
func (h *KeyHasher) End() error { return nil }

// open begins an input in buf.
func (h *KeyHasher) open(tag byte) []byte { return append(h.buf[:0], tag) }

// copyLimit is up to which size in bytes an input is assembled in buf, which saves writes to the streams; longer ones are
// hashed where they are, since copying would cost more and buf would keep the room. The result is the same.
const copyLimit = 1 << 10

// seeds start the two halves of a hash. They must differ for all of xxHash's four lanes: with a differing first byte
// instead, inputs that collide in another lane would collide in both halves.
var seeds = [2]uint64{0, 0x9e3779b97f4a7c15}

// hash hashes head, p and q one behind the other.
func (h *KeyHasher) hash(head, p, q []byte) Sum128 {
	if len(p)+len(q) <= copyLimit {
		head, p, q = append(append(head, p...), q...), nil, nil
	}
	h.buf = head
	var half [2]uint64
	for i := range h.stream {
		d := &h.stream[i]
		d.ResetWithSeed(seeds[i])
		for _, part := range [...][]byte{head, p, q} {
			if len(part) == 0 {
				continue
			}
			if _, err := d.Write(part); err != nil {
				panic(err) // documented never to fail
			}
		}
		half[i] = d.Sum64()
	}
	return Sum128{Lo: half[0], Hi: half[1]}
}
