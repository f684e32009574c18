package keyspace

import (
	"slices"
	"strings"
)

// ztree keeps the members of a large sorted set in order of (score, member), with ranks. Redis has a skiplist with spans
// here; this is a B+ tree whose inner nodes count the elements below each child. It does the same in O(log n), but a
// node of 64 elements is read from memory in one go where a skiplist follows twenty pointers, and it takes a third of
// the space. Member strings share the bytes of the dict's blocks.
type ztree struct {
	root *znode
	n    int
}

// znodeMax is the number of entries at which a node splits: three levels hold 260,000 to 16 million elements, and an
// insert moves 800 bytes on average.
const znodeMax = 64

// zelemCost estimates the tree's bytes for an element at the usual fill of 70 %.
const zelemCost = 36

type zitem struct {
	score float64
	m     string
}

func (a zitem) less(b zitem) bool {
	return a.score < b.score || a.score == b.score && a.m < b.m
}

func compareItems(a, b zitem) int {
	switch {
	case a.score < b.score:
		return -1
	case a.score > b.score:
		return 1
	}
	return strings.Compare(a.m, b.m)
}

// znode is a leaf (kids == nil) with elements, or an inner node where items[i] is the first element below kids[i] and
// counts[i] the number of elements there. No node but the root is ever empty.
type znode struct {
	items      []zitem
	kids       []*znode
	counts     []int
	next, prev *znode // leaves only
}

func newZTree() *ztree { return &ztree{root: &znode{}} }

func (n *znode) total() int {
	if n.kids == nil {
		return len(n.items)
	}
	t := 0
	for _, c := range n.counts {
		t += c
	}
	return t
}

// place returns the index of the first item that is it or comes after it.
func (n *znode) place(it zitem) int {
	lo, hi := 0, len(n.items)
	for lo < hi {
		mid := int(uint(lo+hi) >> 1)
		if n.items[mid].less(it) {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo
}

// childOf returns the child of an inner node whose range holds it.
func (n *znode) childOf(it zitem) int {
	i := n.place(it)
	if i < len(n.items) && n.items[i] == it {
		return i
	}
	return max(0, i-1)
}

// insert adds it. REQUIRES: it is absent.
func (t *ztree) insert(it zitem) {
	if r := t.root.insert(it); r != nil {
		l := t.root
		t.root = &znode{
			items:  append(make([]zitem, 0, znodeMax), l.items[0], r.items[0]),
			kids:   append(make([]*znode, 0, znodeMax), l, r),
			counts: append(make([]int, 0, znodeMax), l.total(), r.total()),
		}
	}
	t.n++
}

// insert returns the new right sibling if the node had to split.
func (n *znode) insert(it zitem) (right *znode) {
	if n.kids == nil {
		i := n.place(it)
		if len(n.items) == znodeMax {
			right = n.splitLeaf(i)
			if i > len(n.items) || i == len(n.items) && i == znodeMax {
				right.items = slices.Insert(right.items, i-len(n.items), it)
				return right
			}
		}
		n.items = slices.Insert(n.items, i, it)
		return right
	}
	i := n.childOf(it)
	kid := n.kids[i]
	r := kid.insert(it)
	n.items[i] = kid.items[0]
	if r == nil {
		n.counts[i]++
		return nil
	}
	moved := r.total()
	n.counts[i] += 1 - moved
	if len(n.kids) == znodeMax {
		at := znodeMax / 2
		if i == znodeMax-1 {
			at = znodeMax - 1 // elements that come in order fill their nodes
		}
		right = n.splitInner(at)
		if i >= at {
			right.insertKid(i-at+1, r, moved)
			return right
		}
	}
	n.insertKid(i+1, r, moved)
	return right
}

func (n *znode) insertKid(i int, kid *znode, count int) {
	n.items = slices.Insert(n.items, i, kid.items[0])
	n.kids = slices.Insert(n.kids, i, kid)
	n.counts = slices.Insert(n.counts, i, count)
}

// splitLeaf moves half of a full leaf into a new right sibling: nothing at all if the next element goes to the end of
// the last leaf, so that elements which come in order fill their leaves.
func (n *znode) splitLeaf(place int) *znode {
	at := znodeMax / 2
	if place == znodeMax && n.next == nil {
		at = znodeMax
	}
	r := &znode{items: append(make([]zitem, 0, znodeMax), n.items[at:]...), next: n.next, prev: n}
	clear(n.items[at:])
	n.items = n.items[:at]
	if r.next != nil {
		r.next.prev = r
	}
	n.next = r
	return r
}

func (n *znode) splitInner(at int) *znode {
	r := &znode{
		items:  append(make([]zitem, 0, znodeMax), n.items[at:]...),
		kids:   append(make([]*znode, 0, znodeMax), n.kids[at:]...),
		counts: append(make([]int, 0, znodeMax), n.counts[at:]...),
	}
	clear(n.items[at:])
	clear(n.kids[at:])
	n.items, n.kids, n.counts = n.items[:at], n.kids[:at], n.counts[:at]
	return r
}

// remove takes it out and tells whether it was there.
func (t *ztree) remove(it zitem) bool {
	if !t.root.remove(it) {
		return false
	}
	t.n--
	for t.root.kids != nil && len(t.root.kids) <= 1 {
		if len(t.root.kids) == 0 {
			t.root = &znode{}
			break
		}
		t.root = t.root.kids[0]
	}
	return true
}

func (n *znode) remove(it zitem) bool {
	if n.kids == nil {
		i := n.place(it)
		if i == len(n.items) || n.items[i] != it {
			return false
		}
		n.items = slices.Delete(n.items, i, i+1)
		return true
	}
	i := n.childOf(it)
	kid := n.kids[i]
	if !kid.remove(it) {
		return false
	}
	n.counts[i]--
	if len(kid.items) == 0 {
		n.removeKid(i)
		return true
	}
	n.items[i] = kid.items[0]
	if len(kid.items) < znodeMax/4 {
		if i+1 < len(n.kids) && len(kid.items)+len(n.kids[i+1].items) <= znodeMax*3/4 {
			n.mergeKids(i)
		} else if i > 0 && len(kid.items)+len(n.kids[i-1].items) <= znodeMax*3/4 {
			n.mergeKids(i - 1)
		}
	}
	return true
}

// mergeKids moves what child i+1 has into child i.
func (n *znode) mergeKids(i int) {
	l, r := n.kids[i], n.kids[i+1]
	l.items = append(l.items, r.items...)
	l.kids = append(l.kids, r.kids...)
	l.counts = append(l.counts, r.counts...)
	n.counts[i] += n.counts[i+1]
	n.removeKid(i + 1)
}

func (n *znode) removeKid(i int) {
	if kid := n.kids[i]; kid.kids == nil {
		if kid.prev != nil {
			kid.prev.next = kid.next
		}
		if kid.next != nil {
			kid.next.prev = kid.prev
		}
	}
	n.items = slices.Delete(n.items, i, i+1)
	n.kids = slices.Delete(n.kids, i, i+1)
	n.counts = slices.Delete(n.counts, i, i+1)
}

// rank returns the number of elements before it.
func (t *ztree) rank(it zitem) int {
	n, rank := t.root, 0
	for n.kids != nil {
		i := n.childOf(it)
		for _, c := range n.counts[:i] {
			rank += c
		}
		n = n.kids[i]
	}
	return rank + n.place(it)
}

// lower returns the number of elements for which reached is false. REQUIRES: reached is false up to some element and
// true from there on.
func (t *ztree) lower(reached func(it zitem) bool) int {
	n, rank := t.root, 0
	for {
		lo, hi := 0, len(n.items)
		for lo < hi {
			mid := int(uint(lo+hi) >> 1)
			if reached(n.items[mid]) {
				hi = mid
			} else {
				lo = mid + 1
			}
		}
		if n.kids == nil {
			return rank + lo
		}
		// The first element of child lo is reached already, so the border is in the child before.
		i := max(0, lo-1)
		for _, c := range n.counts[:i] {
			rank += c
		}
		n = n.kids[i]
	}
}

// seek returns the leaf and the index in it of the element with that rank. REQUIRES: 0 <= rank < t.n.
func (t *ztree) seek(rank int) (leaf *znode, i int) {
	n := t.root
	for n.kids != nil {
		i := 0
		for rank >= n.counts[i] {
			rank -= n.counts[i]
			i++
		}
		n = n.kids[i]
	}
	return n, rank
}

// clone copies the tree; intern gives the copy's own string for a member.
func (t *ztree) clone(intern func(m string) string) *ztree {
	c := &ztree{n: t.n}
	var last *znode
	var copyNode func(n *znode) *znode
	copyNode = func(n *znode) *znode {
		m := &znode{items: make([]zitem, len(n.items), znodeMax)}
		if n.kids == nil {
			for i, it := range n.items {
				m.items[i] = zitem{it.score, intern(it.m)}
			}
			m.prev = last
			if last != nil {
				last.next = m
			}
			last = m
			return m
		}
		m.kids = make([]*znode, len(n.kids), znodeMax)
		m.counts = append(make([]int, 0, znodeMax), n.counts...)
		for i, k := range n.kids {
			m.kids[i] = copyNode(k)
			m.items[i] = m.kids[i].items[0]
		}
		return m
	}
	c.root = copyNode(t.root)
	return c
}
