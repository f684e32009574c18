package rdb

import (
	"encoding/binary"
	"math"
)

// AppendLen appends n in the shortest length form.
func AppendLen(dst []byte, n uint64) []byte {
	switch {
	case n < 1<<6:
		return append(dst, byte(n))
	case n < 1<<14:
		return append(dst, 0x40|byte(n>>8), byte(n))
	case n <= math.MaxUint32:
		return binary.BigEndian.AppendUint32(append(dst, 0x80), uint32(n))
	}
	return binary.BigEndian.AppendUint64(append(dst, 0x81), n)
}

// AppendString appends s as a raw string: length and bytes, neither integer-encoded nor compressed.
func AppendString(dst, s []byte) []byte { return append(AppendLen(dst, uint64(len(s))), s...) }

// AppendDouble appends f as TypeZSet2 holds scores: 8 bytes, little-endian IEEE 754.
func AppendDouble(dst []byte, f float64) []byte {
	return binary.LittleEndian.AppendUint64(dst, math.Float64bits(f))
}

// AppendHeader appends the type byte and the count of elements, the head of a LIST, SET, HASH or ZSET_2 value. The
// elements follow: n strings for LIST and SET, n pairs for HASH, n × (AppendString, AppendDouble) for ZSET_2.
// REQUIRES: n > 0; Redis has no empty collections and refuses them in RESTORE.
func AppendHeader(dst []byte, t Type, n int) []byte {
	return AppendLen(append(dst, byte(t)), uint64(n))
}

// AppendFieldTTLHeader appends the head of a HASH_METADATA value: type byte, the earliest time in unix ms at which one of its fields
// expires, and the count of fields. n × AppendFieldTTL follow. REQUIRES: n > 0.
func AppendFieldTTLHeader(dst []byte, earliestMs int64, n int) []byte {
	dst = binary.LittleEndian.AppendUint64(append(dst, byte(TypeHashMetadata)), uint64(earliestMs))
	return AppendLen(dst, uint64(n))
}

// AppendFieldTTL appends a field of a HASH_METADATA value. expireMs is its time, 0 = none; earliestMs is the header's, and not later.
func AppendFieldTTL(dst, f, v []byte, expireMs, earliestMs int64) []byte {
	ttl := uint64(0)
	if expireMs != 0 {
		ttl = uint64(expireMs-earliestMs) + 1
	}
	return AppendString(AppendString(AppendLen(dst, ttl), f), v)
}

// AppendStringValue appends a whole STRING value: type byte and string.
func AppendStringValue(dst, s []byte) []byte { return AppendString(append(dst, byte(TypeString)), s) }
