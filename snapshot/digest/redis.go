// Package digest computes digests of keys that do not depend on the order in which they are visited.
package digest

import (
	"crypto/sha1" // not for security: it is the digest that DEBUG DIGEST is defined by
	"encoding/binary"
	"strconv"

	"github.com/holdfast-db/holdfast/snapshot/rdb"
)

// Redis is the digest of DEBUG DIGEST and DEBUG DIGEST-VALUE (debug.c), equal to a redis-server's byte for byte. The
// zero value is the digest of nothing.
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

// Merge adds the finished digest of a key: plain xor, without another hash.
func (d *Redis) Merge(key Redis) {
	for i, b := range key {
		d[i] ^= b
	}
}

// mixInt mixes n as 4 bytes, big-endian.
func (d *Redis) mixInt(n uint32) { d.Mix(binary.BigEndian.AppendUint32(nil, n)) }

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
	var e Redis
	e.Mix(member)
	e.Mix(appendG17(nil, score))
	d.Xor(e[:])
}

// XorExpire says that the key has an expiry; its time is not part of the digest.
func (d *Redis) XorExpire() { d.Xor([]byte("!!expire!!")) }

// appendG17 appends f as C's printf("%.17g") has it.
func appendG17(dst []byte, f float64) []byte {
	switch {
	case f > 0 && f*2 == f:
		return append(dst, "inf"...)
	case f < 0 && f*2 == f:
		return append(dst, "-inf"...)
	}
	// %g drops trailing zeros and goes to exponents below -4 and from the precision on; strconv's 'g' with a precision
	// has the same limits and the same two-digit exponent, and prints no trailing zeros that it does not need.
	return strconv.AppendFloat(dst, f, 'g', 17, 64)
}
