package keyspace

import (
	"bytes"
	"encoding/binary"
	"slices"
)

// Small collections are packed: all elements in one allocation, each as a uvarint length and its bytes. The bytes come
// from our own code or have been validated by it, so reading has no error.

// packedAt returns the element at off and the offset behind it.
func packedAt(p []byte, off int) (e []byte, next int) {
	n := int(p[off])
	off++
	if n >= 0x80 {
		u, k := binary.Uvarint(p[off-1:])
		n, off = int(u), off-1+k
	}
	return p[off : off+n : off+n], off + n
}

func appendPacked(p, e []byte) []byte {
	return append(binary.AppendUvarint(p, uint64(len(e))), e...)
}

// uvarintLen returns the length of n's encoding.
func uvarintLen(n int) int {
	k := 1
	for ; n >= 0x80; n >>= 7 {
		k++
	}
	return k
}

// splice replaces p[from:to] by an element.
func splicePacked(p []byte, from, to int, e []byte) []byte {
	need := uvarintLen(len(e)) + len(e)
	p = makeGap(p, from, to, need)
	k := binary.PutUvarint(p[from:from+need], uint64(len(e)))
	copy(p[from+k:], e)
	return p
}

// makeGap makes p[from:to] need bytes long; what they hold is undefined.
func makeGap(p []byte, from, to, need int) []byte {
	if grow := need - (to - from); grow > 0 {
		p = slices.Grow(p, grow)
		p = p[:len(p)+grow]
		copy(p[from+need:], p[to:len(p)-grow])
		return p
	}
	return append(p[:from+need], p[to:]...)
}

func equalBytes(a, b []byte) bool { return len(a) == len(b) && bytes.Equal(a, b) }
