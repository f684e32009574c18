package keyspace

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
