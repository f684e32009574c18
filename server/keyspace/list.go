package keyspace

import (
	"encoding/binary"
	"iter"
	"math"
	"slices"
	"sort"

	"github.com/holdfast-db/holdfast/snapshot/rdb"
)

// List is a list: a deque of nodes of a few KiB of packed elements. Pushing and popping at both ends is O(1); an index is
// found by adding up the element counts of the nodes from the nearer end, which stand in one array. A list is big once it
// holds more than 4 KiB, and each node is a row then.
//
// Slices given to a List are copied; slices it returns are read-only and valid until its next change.
type List struct {
	lim   *Limits
	q     []lref // q[off:] are the nodes; the rest is room for nodes in front
	off   int
	n     int   // elements
	data  int   // bytes of packed elements
	alloc int64 // bytes of buffers
	tr    *tracker
}

// lnodeCost is the memory of a node beside its buffer: struct and reference.
const lnodeCost = 64 + 16

// nodeGap is the distance of the ids of nodes that are added at the ends: 2^31 nodes at either end, and some thirty
// splits in one place before neighbours are renumbered.
const nodeGap = 1 << 32

// NewList returns an empty list.
func NewList(l *Limits) *List { return &List{lim: l} }

// Len returns the number of elements.
func (l *List) Len() int { return l.n }

// Encoding returns EncQuicklist, the only one that lists have in Redis 7.0.
func (l *List) Encoding() Encoding { return EncQuicklist }

// Bytes estimates the memory in use.
func (l *List) Bytes() int64 { return hashOverhead + l.alloc + lnodeCost*int64(len(l.q)-l.off) }

// Big tells whether each node has a row of its own.
func (l *List) Big() bool { return l.tr != nil }

func (l *List) nodes() []lref { return l.q[l.off:] }

// limits returns the most bytes and elements of a node, as list-max-listpack-size says: -1 to -5 are 4 to 64 KiB, a
// positive number counts elements. A larger element has a node for itself.
func (l *List) limits() (bytes, elems int) {
	switch s := l.lim.ListMaxListpackSize; {
	case s > 0:
		return 8 << 10, s
	case s <= -1 && s >= -5:
		return 2 << 10 << -s, math.MaxInt
	}
	return 8 << 10, math.MaxInt
}

func (l *List) fits(r lref, size int) bool {
	b, e := l.limits()
	return r.n < e && r.len()+size <= b
}

func nodeSub(id uint64) string {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], id)
	return string(b[:])
}

// touch declares that a node is about to change, come or go.
func (l *List) touch(nd *lnode) {
	if l.tr != nil && nd.mark != l.tr.epoch {
		nd.mark = l.tr.epoch
		l.tr.change(nodeSub(nd.id))
	}
}

func (l *List) grown() {
	if l.tr == nil && l.data > bigBytes {
		l.tr = newTracker(l)
		l.markAllDirty()
	}
}

// addNode puts an empty node at place i among the nodes.
func (l *List) addNode(i int) *lnode {
	nd := &lnode{id: l.newID(i)}
	l.touch(nd)
	if i == 0 {
		if l.off == 0 {
			room := len(l.q)/2 + 4
			q := make([]lref, room+len(l.q), 2*room+len(l.q))
			copy(q[room:], l.q)
			l.q, l.off = q, room
		}
		l.off--
		l.q[l.off] = lref{lnode: nd}
	} else {
		l.q = slices.Insert(l.q, l.off+i, lref{lnode: nd})
	}
	return nd
}

// newID returns an id for a node that comes to place i.
func (l *List) newID(i int) uint64 {
	for {
		ns := l.nodes()
		switch {
		case len(ns) == 0:
			return 1 << 63
		case i == len(ns) && ns[i-1].id < math.MaxUint64-nodeGap:
			return ns[i-1].id + nodeGap
		case i == 0 && ns[0].id > nodeGap:
			return ns[0].id - nodeGap
		}
		lo, hi := l.gap(i, i)
		if hi-lo >= 2 {
			return lo + (hi-lo)/2
		}
		l.renumber(i)
	}
}

// gap returns the ids around the nodes a to b-1.
func (l *List) gap(a, b int) (lo, hi uint64) {
	ns := l.nodes()
	hi = math.MaxUint64
	if a > 0 {
		lo = ns[a-1].id
	}
	if b < len(ns) {
		hi = ns[b].id
	}
	return lo, hi
}

// renumber spreads the ids of as many nodes around place i as it takes to make room between them. All their rows change.
func (l *List) renumber(i int) {
	a, b := i, i
	ns := l.nodes()
	var lo, hi uint64
	for w := 2; ; w *= 2 {
		a, b = max(0, i-w), min(len(ns), i+w)
		lo, hi = l.gap(a, b)
		if (hi-lo)/uint64(b-a+1) >= 1<<16 || a == 0 && b == len(ns) {
			break
		}
	}
	step := (hi - lo) / uint64(b-a+1)
	if l.tr != nil {
		for k := a; k < b; k++ {
			l.touch(ns[k].lnode)
		}
		for k := a; k < b; k++ { // new ids may be old ids of others: both sides first, K4
			l.tr.change(nodeSub(lo + uint64(k-a+1)*step))
		}
	}
	for k := a; k < b; k++ {
		ns[k].id = lo + uint64(k-a+1)*step
	}
}

// dropNodes removes the nodes a to b-1 and all they hold.
func (l *List) dropNodes(a, b int) {
	ns := l.nodes()
	for k := a; k < b; k++ {
		l.touch(ns[k].lnode)
	}
	for k := a; k < b; k++ {
		l.n -= ns[k].n
		l.data -= ns[k].len()
		l.alloc -= int64(len(ns[k].buf))
	}
	if a == 0 {
		clear(ns[:b])
		l.off += b
		if l.off == len(l.q) {
			l.q, l.off = nil, 0
		} else if l.off > 64 && l.off > len(l.q)*3/4 {
			l.q, l.off = slices.Clone(l.nodes()), 0
		}
		return
	}
	l.q = slices.Delete(l.q, l.off+a, l.off+b)
}

// push appends v to one end of node i, which has room for it by the limits.
func (l *List) push(i int, v []byte, size int, front bool) {
	r := &l.nodes()[i]
	l.touch(r.lnode)
	limit, _ := l.limits()
	l.alloc -= int64(len(r.buf))
	r.room(size, limit, front, len(l.q)-l.off == 1)
	l.alloc += int64(len(r.buf))
	if front {
		r.start -= size
		putEntry(r.buf[r.start:r.start+size], v)
	} else {
		putEntry(r.buf[r.end:r.end+size], v)
		r.end += size
	}
	r.n++
	l.n++
	l.data += size
	l.grown()
}

// PushLeft adds v as the first element.
func (l *List) PushLeft(v []byte) {
	size := entrySize(len(v))
	if len(l.q) == l.off || !l.fits(l.q[l.off], size) {
		l.addNode(0)
	}
	l.push(0, v, size, true)
}

// PushRight adds v as the last element.
func (l *List) PushRight(v []byte) {
	size := entrySize(len(v))
	last := len(l.q) - l.off - 1
	if last < 0 || !l.fits(l.q[len(l.q)-1], size) {
		last++
		l.addNode(last)
	}
	l.push(last, v, size, false)
}

// PopLeft removes the first element and returns it, valid until the next change. REQUIRES: Len() > 0.
func (l *List) PopLeft() []byte {
	r := &l.q[l.off]
	v, next := entryAt(r.buf, r.start)
	if r.n == 1 {
		l.dropNodes(0, 1)
		return v
	}
	l.touch(r.lnode)
	l.data -= next - r.start
	r.start = next
	r.n--
	l.n--
	return v
}

// PopRight removes the last element and returns it, valid until the next change. REQUIRES: Len() > 0.
func (l *List) PopRight() []byte {
	r := &l.q[len(l.q)-1]
	from := entryBefore(r.buf, r.end)
	v, _ := entryAt(r.buf, from)
	if r.n == 1 {
		last := len(l.q) - l.off - 1
		l.dropNodes(last, last+1)
		return v
	}
	l.touch(r.lnode)
	l.data -= r.end - from
	r.end = from
	r.n--
	l.n--
	return v
}

// find returns the node and the place in it of element i. REQUIRES: 0 <= i < Len().
func (l *List) find(i int) (node, k int) {
	ns := l.nodes()
	if i <= l.n/2 {
		for i >= ns[node].n {
			i -= ns[node].n
			node++
		}
		return node, i
	}
	after := l.n - i // elements from i on
	node = len(ns) - 1
	for after > ns[node].n {
		after -= ns[node].n
		node--
	}
	return node, ns[node].n - after
}

// index makes a negative index count from the end.
func (l *List) index(i int) (int, bool) {
	if i < 0 {
		i += l.n
	}
	return i, i >= 0 && i < l.n
}

// At returns element i; -1 is the last.
func (l *List) At(i int) ([]byte, bool) {
	i, ok := l.index(i)
	if !ok {
		return nil, false
	}
	node, k := l.find(i)
	r := l.nodes()[node]
	v, _ := entryAt(r.buf, r.offset(k, r.n))
	return v, true
}

// SetAt replaces element i (-1 is the last) and tells whether there is one.
func (l *List) SetAt(i int, v []byte) bool {
	i, ok := l.index(i)
	if !ok {
		return false
	}
	node, k := l.find(i)
	r := &l.nodes()[node]
	from := r.offset(k, r.n)
	old, to := entryAt(r.buf, from)
	if len(old) == len(v) {
		l.touch(r.lnode)
		copy(old, v)
		return true
	}
	size := entrySize(len(v))
	if limit, _ := l.limits(); r.n > 1 && r.len()-(to-from)+size > limit {
		v = append([]byte(nil), v...)
		l.RemoveRange(i, 1)
		l.InsertAt(i, v)
		return true
	}
	l.touch(r.lnode)
	l.replace(r, from, to, v)
	l.grown()
	return true
}

// replace puts v in the place of the bytes from..to of a node.
func (l *List) replace(r *lref, from, to int, v []byte) {
	size := entrySize(len(v))
	l.alloc -= int64(len(r.buf))
	putEntry(r.splice(from, to, size), v)
	l.alloc += int64(len(r.buf))
	l.data += size - (to - from)
}

// InsertAt inserts v before element i. REQUIRES: 0 <= i <= Len().
func (l *List) InsertAt(i int, v []byte) {
	switch i {
	case 0:
		l.PushLeft(v)
		return
	case l.n:
		l.PushRight(v)
		return
	}
	size := entrySize(len(v))
	node, k := l.find(i)
	r := &l.nodes()[node]
	if l.fits(*r, size) {
		l.touch(r.lnode)
		at := r.offset(k, r.n)
		l.replace(r, at, at, v)
		r.n++
		l.n++
		l.grown()
		return
	}
	if k > 0 {
		l.split(node, k)
		node++
	}
	// v comes between node-1 and node.
	switch {
	case node > 0 && l.fits(l.nodes()[node-1], size):
		l.push(node-1, v, size, false)
	case l.fits(l.nodes()[node], size):
		l.push(node, v, size, true)
	default:
		l.addNode(node)
		l.push(node, v, size, false)
	}
}

// split moves the elements from the k-th on into a new node behind.
func (l *List) split(node, k int) {
	l.touch(l.nodes()[node].lnode)
	nd := l.addNode(node + 1)
	ns := l.nodes()
	r, s := &ns[node], &ns[node+1]
	at := r.offset(k, r.n)
	nd.buf = append([]byte(nil), r.buf[at:r.end]...)
	nd.buf = nd.buf[:cap(nd.buf)]
	nd.end = r.end - at
	r.end = at
	s.n, r.n = r.n-k, k
	l.alloc += int64(len(nd.buf))
}

// RemoveRange removes up to n elements from element start on.
func (l *List) RemoveRange(start, n int) {
	if start < 0 || start >= l.n {
		return
	}
	n = min(n, l.n-start)
	if n <= 0 {
		return
	}
	node, k := l.find(start)
	if k > 0 {
		cut := min(n, l.nodes()[node].n-k)
		l.cut(node, k, cut)
		n -= cut
		node++
	}
	whole := node
	for ns := l.nodes(); n > 0 && whole < len(ns) && ns[whole].n <= n; whole++ {
		n -= ns[whole].n
	}
	if whole > node {
		l.dropNodes(node, whole)
	}
	if n > 0 {
		l.cut(node, 0, n)
	}
	// What is left on both sides may be little: keep nodes from becoming many and tiny.
	for i := node; i >= node-1; i-- {
		l.join(i)
	}
}

// cut removes n elements from the k-th on, but not all, of a node.
func (l *List) cut(node, k, n int) {
	r := &l.nodes()[node]
	l.touch(r.lnode)
	from := r.offset(k, r.n)
	to := from
	if k+n == r.n {
		to = r.end
	} else {
		for range n {
			_, to = entryAt(r.buf, to)
		}
	}
	if k == 0 {
		r.start = to
	} else {
		r.splice(from, to, 0)
	}
	r.n -= n
	l.n -= n
	l.data -= to - from
}

// join moves the elements of node i+1 into node i if the two fill less than half of a node.
func (l *List) join(i int) {
	ns := l.nodes()
	if i < 0 || i+1 >= len(ns) {
		return
	}
	a, b := &ns[i], &ns[i+1]
	limit, elems := l.limits()
	if a.len()+b.len() > limit/2 || a.n+b.n > elems {
		return
	}
	l.touch(a.lnode)
	l.touch(b.lnode)
	l.alloc -= int64(len(a.buf))
	copy(a.splice(a.end, a.end, b.len()), b.bytes())
	l.alloc += int64(len(a.buf)) - int64(len(b.buf))
	a.n += b.n
	// b is empty now as far as the counts are concerned.
	l.q = slices.Delete(l.q, l.off+i+1, l.off+i+2)
}

// Range yields elements start to stop, both included and clamped. Negative indexes are not understood here. The list must
// not change meanwhile.
func (l *List) Range(start, stop int) iter.Seq[[]byte] {
	return func(yield func(v []byte) bool) {
		start, left := max(0, start), min(stop, l.n-1)-max(0, start)+1
		if left <= 0 {
			return
		}
		ns := l.nodes()
		node, k := l.find(start)
		off := ns[node].offset(k, ns[node].n)
		for ; left > 0; left-- {
			if off == ns[node].end {
				node++
				off = ns[node].start
			}
			var v []byte
			v, off = entryAt(ns[node].buf, off)
			if !yield(v) {
				return
			}
		}
	}
}

// RangeRev yields elements start down to stop, both included: start >= stop. Ends outside the list are clamped. The list
// must not change meanwhile.
func (l *List) RangeRev(start, stop int) iter.Seq[[]byte] {
	return func(yield func(v []byte) bool) {
		start, left := min(start, l.n-1), min(start, l.n-1)-max(0, stop)+1
		if left <= 0 {
			return
		}
		ns := l.nodes()
		node, k := l.find(start)
		_, end := entryAt(ns[node].buf, ns[node].offset(k, ns[node].n))
		for ; left > 0; left-- {
			if end == ns[node].start {
				node--
				end = ns[node].end
			}
			end = entryBefore(ns[node].buf, end)
			if v, _ := entryAt(ns[node].buf, end); !yield(v) {
				return
			}
		}
	}
}

// All yields all elements. The list must not change meanwhile.
func (l *List) All() iter.Seq[[]byte] { return l.Range(0, l.n-1) }

// Clone returns an independent copy.
func (l *List) Clone() *List {
	c := &List{lim: l.lim, n: l.n, data: l.data, alloc: int64(l.data)}
	c.q = make([]lref, 0, len(l.nodes()))
	for _, r := range l.nodes() {
		nd := &lnode{buf: make([]byte, r.len()), end: r.len(), id: r.id}
		copy(nd.buf, r.bytes())
		c.q = append(c.q, lref{nd, r.n})
	}
	if l.tr != nil {
		c.tr = newTracker(c)
		c.markAllDirty()
	}
	return c
}

// AppendValue appends the RDB type byte and payload.
func (l *List) AppendValue(dst []byte) []byte {
	dst = rdb.AppendHeader(dst, rdb.TypeList, l.n)
	for v := range l.All() {
		dst = rdb.AppendString(dst, v)
	}
	return dst
}

func (l *List) row(sub string) ([]byte, bool) {
	if len(sub) != 8 {
		return nil, false
	}
	id := binary.BigEndian.Uint64(subBytes(sub))
	ns := l.nodes()
	i := sort.Search(len(ns), func(i int) bool { return ns[i].id >= id })
	if i == len(ns) || ns[i].id != id {
		return nil, false
	}
	return ns[i].bytes(), true
}

func (l *List) loadRow(sub, val []byte) error {
	n, ok := countEntries(val)
	if !ok || len(sub) != 8 {
		return errRow
	}
	id := binary.BigEndian.Uint64(sub)
	if ns := l.nodes(); len(ns) > 0 && ns[len(ns)-1].id >= id {
		return errRow
	}
	l.q = append(l.q, lref{&lnode{buf: append([]byte(nil), val...), end: len(val), id: id}, n})
	l.n += n
	l.data += len(val)
	l.alloc += int64(len(val))
	return nil
}

func (l *List) markAllDirty() {
	for _, r := range l.nodes() {
		l.touch(r.lnode)
	}
}

func (l *List) handover()            { l.tr.handover() }
func (l *List) giveBack()            { l.tr.giveBack() }
func (l *List) settle()              { l.tr.settle() }
func (l *List) handedSubs() []string { return l.tr.handedSubs() }
func (l *List) handedRow(sub string) ([]byte, bool) {
	return l.tr.handedRow(sub)
}
