package keyspace

import (
	"encoding/binary"
)

// lnode is a node of a list: elements packed one behind the other, with free room before and behind them, so that both
// ends push and pop in O(1). An element is
//
//	uvarint   length of the bytes
//	bytes
//	back      length of the two above, 7 bits to a byte, most significant first, all but the first with bit 7 set
//
// so that a node is read in both directions. The packed bytes are the node's row in the store.
type lnode struct {
	buf        []byte
	start, end int
	id         uint64 // place among the nodes; the row's sub-key
	mark       uint32 // == tracker.epoch: known to be dirty
}

// lref is a node with its number of elements, which stands here so that walking by index reads no node.
type lref struct {
	*lnode
	n int
}

func entrySize(n int) int {
	n += uvarintLen(n)
	return n + uvarintLen(n)
}

// putEntry writes v into p, which is exactly as long as it needs.
func putEntry(p, v []byte) {
	k := binary.PutUvarint(p, uint64(len(v)))
	k += copy(p[k:], v)
	i := len(p) - 1
	for ; k >= 0x80; k >>= 7 {
		p[i] = byte(k) | 0x80
		i--
	}
	p[i] = byte(k)
}

// entryAt returns the element at off and the offset behind it.
func entryAt(p []byte, off int) (v []byte, next int) {
	v, next = packedAt(p, off)
	return v, next + uvarintLen(next-off)
}

// entryBefore returns the offset of the element that ends at end.
func entryBefore(p []byte, end int) int {
	n, k := 0, 1
	for shift := 0; ; shift += 7 {
		b := p[end-k]
		n |= int(b&0x7f) << shift
		if b < 0x80 {
			break
		}
		k++
	}
	return end - k - n
}

// countEntries validates packed elements from elsewhere and returns their number.
func countEntries(p []byte) (n int, ok bool) {
	for off := 0; off < len(p); n++ {
		u, k := binary.Uvarint(p[off:])
		if k <= 0 || k != uvarintLen(int(u&(1<<62-1))) || u > uint64(len(p)-off-k) {
			return 0, false
		}
		size := entrySize(int(u))
		if size > len(p)-off || entryBefore2(p[off:off+size]) != k+int(u) {
			return 0, false
		}
		off += size
	}
	return n, n > 0
}

// entryBefore2 reads the back length at the end of one element, -1 if it does not lie within it.
func entryBefore2(p []byte) int {
	n := 0
	for k, shift := 1, 0; k <= len(p) && shift < 63; k, shift = k+1, shift+7 {
		b := p[len(p)-k]
		n |= int(b&0x7f) << shift
		if b < 0x80 {
			if n+k != len(p) {
				return -1
			}
			return n
		}
	}
	return -1
}

func (nd *lnode) bytes() []byte { return nd.buf[nd.start:nd.end:nd.end] }
func (nd *lnode) len() int      { return nd.end - nd.start }

// offset returns where the k-th of n elements begins, walking from the nearer end.
func (nd *lnode) offset(k, n int) int {
	if k <= n/2 {
		off := nd.start
		for ; k > 0; k-- {
			_, off = entryAt(nd.buf, off)
		}
		return off
	}
	off := nd.end
	for ; k < n; k++ {
		off = entryBefore(nd.buf, off)
	}
	return off
}

// minNode is the smallest buffer; keeps tiny lists small.
const minNode = 32

// room makes need bytes free in front or behind. only tells that the node is the list's only one, whose other end may be
// pushed to next.
func (nd *lnode) room(need, limit int, front, only bool) {
	if front && nd.start >= need || !front && len(nd.buf)-nd.end >= need {
		return
	}
	total := nd.len() + need
	size := minNode
	for size < total {
		size *= 2
	}
	if only && size < total+total/2 {
		size *= 2
	}
	if size > limit && total <= limit {
		size = limit
	} else if total > limit {
		size = total
	}
	slack := size - total
	other := 0
	if only {
		other = slack / 4
	}
	buf := make([]byte, size)
	at := other
	if front {
		at = need + slack - other
	}
	copy(buf[at:], nd.bytes())
	nd.buf, nd.start, nd.end = buf, at, at+nd.len()
}

// splice replaces the bytes from..to of the buffer by need bytes whose content is undefined, and returns them.
func (nd *lnode) splice(from, to, need int) []byte {
	grow := need - (to - from)
	if grow > len(nd.buf)-nd.end {
		buf := make([]byte, nd.len()+grow)
		k := copy(buf, nd.buf[nd.start:from])
		copy(buf[k+need:], nd.buf[to:nd.end])
		nd.buf, nd.start, nd.end = buf, 0, len(buf)
		return buf[k : k+need]
	}
	copy(nd.buf[from+need:], nd.buf[to:nd.end])
	nd.end += grow
	return nd.buf[from : from+need]
}
