package keyspace

import "slices"

// objectList is a list of objects that only grows, in pieces: an array that doubles would be copied under the executor lock,
// with millions of dirty objects for many milliseconds.
type objectList struct {
	pieces [][]*Object
	n      int
}

// Lengths of an objectList's pieces: few objects cost little, and a full piece takes some µs to be allocated.
const (
	firstPiece = 64
	fullPiece  = 4096
)

func (l *objectList) add(o *Object) {
	last := len(l.pieces) - 1
	if last < 0 || len(l.pieces[last]) == cap(l.pieces[last]) {
		size := firstPiece
		if last >= 0 {
			size = min(2*cap(l.pieces[last]), fullPiece)
		}
		l.pieces = append(l.pieces, make([]*Object, 0, size))
		last++
	}
	l.pieces[last] = append(l.pieces[last], o)
	l.n++
}

// drop forgets the first n objects.
func (l *objectList) drop(n int) {
	l.n -= n
	for n > 0 && n >= len(l.pieces[0]) {
		n -= len(l.pieces[0])
		l.pieces = l.pieces[1:]
	}
	if n > 0 {
		l.pieces[0] = l.pieces[0][n:]
	}
}

// flat returns the objects in one piece.
func (l *objectList) flat() []*Object {
	all := make([]*Object, 0, l.n)
	for _, p := range l.pieces {
		all = append(all, p...)
	}
	return all
}

// sorted returns the objects in row order. It needs no lock: what it looks at never changes.
//
// A counting pass by slot comes first. It reads each object once, where a sort of the whole would wait for memory at each
// of its comparisons; the few objects of a slot then are in the processor's cache while they are sorted.
func (l *objectList) sorted() []*Object {
	const fewObjects = 4 * slotCount
	if l.n < fewObjects {
		all := l.flat()
		slices.SortFunc(all, comparePos)
		return all
	}
	var ends [slotCount]int32
	slots := make([]uint16, 0, l.n)
	for _, piece := range l.pieces {
		for _, o := range piece {
			slots = append(slots, o.slot)
			ends[o.slot]++
		}
	}
	sum := int32(0)
	for i := range ends {
		sum, ends[i] = sum+ends[i], sum
	}
	sorted := make([]*Object, l.n)
	for _, piece := range l.pieces {
		for i, o := range piece {
			sorted[ends[slots[i]]] = o
			ends[slots[i]]++
		}
		slots = slots[len(piece):]
	}
	start := int32(0)
	for _, end := range ends {
		slices.SortFunc(sorted[start:end], comparePos)
		start = end
	}
	return sorted
}
