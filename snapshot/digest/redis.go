package digest

import (
	"crypto/sha1" // not for security: it is the digest that DEBUG DIGEST is defined by
	"encoding/binary"
	"math"
	"strconv"

	"github.com/holdfast-db/holdfast/snapshot/rdb"
)

// Redis is the digest of DEBUG DIGEST and DEBUG DIGEST-VALUE (debug.c), equal to a redis-server's byte for byte. The
// zero value is the digest of nothing.
//
//	data set   per database with keys, in ascending order: MixDB, then Xor of each key's digest
//	key        Mix of the key, then its value into the same digest
//	value      MixKind, the content, XorExpire if the key expires; DIGEST-VALUE is this from the zero digest
//	content    string: Mix; list: Mix of each element; set: Xor of each; hash: XorField; zset: XorMember
type Redis [sha1.Size]byte

// Xor adds p regardless of order.
func (d *Redis) Xor(p []byte) {
	for i, b := range sha1.Sum(p) {
		d[i] ^= b
	}
}

// Mix adds p so that order matters.
func (d *Redis) Mix(p []byte) {
	d.Xor(p)
	*d = sha1.Sum(d[:])
}

func (d *Redis) mixInt(n uint32) {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], n)
	d.Mix(b[:])
}

// MixDB opens a database that has keys; databases come in ascending order.
func (d *Redis) MixDB(db uint32) { d.mixInt(db) }

// MixKind opens the value of a key.
func (d *Redis) MixKind(k rdb.Kind) { d.mixInt(uint32(k)) }

// XorField adds a field of a hash.
func (d *Redis) XorField(field, value []byte) {
	var e Redis
	e.Mix(field)
	e.Mix(value)
	d.Xor(e[:])
}

// XorMember adds a member of a sorted set.
func (d *Redis) XorMember(member []byte, score float64) {
	var (
		e   Redis
		buf [32]byte
	)
	e.Mix(member)
	e.Mix(appendG17(buf[:0], score))
	d.Xor(e[:])
}

// XorTimedField adds a field of a hash that expires; its time is not part of the digest.
func (d *Redis) XorTimedField(f, v []byte) {
	var e Redis
	e.Mix(f)
	e.Mix(v)
	e.Xor([]byte("!!hexpire!!"))
	d.Xor(e[:])
}

// XorExpire says that the key has an expiry; its time is not part of the digest.
func (d *Redis) XorExpire() { d.Xor([]byte("!!expire!!")) }

// appendG17 appends f as C's printf("%.17g") has it.
func appendG17(dst []byte, f float64) []byte {
	if math.IsInf(f, 0) {
		if f < 0 {
			dst = append(dst, '-')
		}
		return append(dst, "inf"...)
	}
	// %g drops trailing zeros and goes to exponents below -4 and from the precision on; strconv's 'g' with a precision
	// has the same limits and the same two-digit exponent, and prints no trailing zeros that it does not need.
	return strconv.AppendFloat(dst, f, 'g', 17, 64)
}

// RedisValue is an rdb.Sink that adds the decoded value to D, which starts as the zero digest or holds Mix of the key.
type RedisValue struct {
	D    Redis
	kind rdb.Kind
}

var _ rdb.Sink = (*RedisValue)(nil)

// String implements rdb.Sink.
func (r *RedisValue) String(v []byte) error {
	r.D.MixKind(rdb.KindString)
	r.D.Mix(v)
	return nil
}

// Begin implements rdb.Sink.
func (r *RedisValue) Begin(k rdb.Kind, _ int) error {
	r.kind = k
	r.D.MixKind(k)
	return nil
}

// Element implements rdb.Sink.
func (r *RedisValue) Element(v []byte) error {
	if r.kind == rdb.KindList {
		r.D.Mix(v)
	} else {
		r.D.Xor(v)
	}
	return nil
}

// Field implements rdb.Sink.
func (r *RedisValue) Field(f, v []byte) error {
	r.D.XorField(f, v)
	return nil
}

// FieldTTL implements rdb.Sink as Redis 7.4 has it: that the field expires is added to the digest, when is not.
func (r *RedisValue) FieldTTL(f, v []byte, _ int64) error {
	r.D.XorTimedField(f, v)
	return nil
}

// Member implements rdb.Sink.
func (r *RedisValue) Member(m []byte, score float64) error {
	r.D.XorMember(m, score)
	return nil
}

// End implements rdb.Sink.
func (r *RedisValue) End() error { return nil }
