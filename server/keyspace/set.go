package keyspace

import (
	"iter"
	"math/rand/v2"
	"strconv"
	"unsafe"

	"github.com/holdfast-db/holdfast/snapshot/rdb"
)

// Set is a set: an intset while all members are integers and not too many, then a dict, for good. An intset is always
// one row; a dict has a row for each member once it is big.
//
// Slices given to a Set are copied; slices it returns are read-only and valid until its next change.
type Set struct {
	lim  *Limits
	ints intset
	d    *dict // nil while an intset
	tr   *elemTracker
}

// NewSet returns an empty set.
func NewSet(l *Limits) *Set { return &Set{lim: l} }

// Len returns the number of members.
func (s *Set) Len() int {
	if s.d != nil {
		return s.d.n
	}
	return len(s.ints)
}

// Encoding returns EncIntset or EncHashtable.
func (s *Set) Encoding() Encoding {
	if s.d != nil {
		return EncHashtable
	}
	return EncIntset
}

// Bytes estimates the memory in use.
func (s *Set) Bytes() int64 {
	if s.d != nil {
		return hashOverhead + s.d.bytes
	}
	return hashOverhead + 8*int64(cap(s.ints))
}

// Has tells whether m is a member.
func (s *Set) Has(m []byte) bool {
	if s.d != nil {
		return s.d.find(m) != nil
	}
	v, ok := parseInt64(m)
	return ok && s.ints.has(v)
}

// Add adds m and tells whether it is new.
func (s *Set) Add(m []byte) bool {
	if s.d == nil {
		v, ok := parseInt64(m)
		if ok {
			added := s.ints.add(v)
			if added && len(s.ints) > s.lim.SetMaxIntsetEntries {
				s.convert()
			}
			return added
		}
		s.convert()
	}
	if s.d.find(m) != nil {
		return false
	}
	b := newBlk(m, nil)
	if s.tr != nil {
		s.tr.add(&b)
	}
	s.d.insert(b)
	s.grown()
	return true
}

// Remove removes m and tells whether it was a member.
func (s *Set) Remove(m []byte) bool {
	if s.d != nil {
		return removeElem(s.d, s.tr, m)
	}
	v, ok := parseInt64(m)
	return ok && s.ints.remove(v)
}

func (s *Set) convert() {
	d := newDict()
	var buf [maxIntLen]byte
	for _, v := range s.ints {
		d.insert(newBlk(strconv.AppendInt(buf[:0], v, 10), nil))
	}
	s.d, s.ints = d, nil
	s.grown()
}

func (s *Set) grown() {
	if s.tr == nil && tableIsBig(s.d) {
		s.tr = newElemTracker(s)
		s.markAllDirty()
	}
}

// All yields the members: integers ascending, else in hash order. The set must not change meanwhile.
func (s *Set) All() iter.Seq[[]byte] {
	return func(yield func(m []byte) bool) {
		if s.d != nil {
			s.d.all(func(b blk) bool { return yield(b.key()) })
			return
		}
		// The texts must outlive the iteration, so they get a buffer; it is garbage, but one piece of it.
		buf := make([]byte, 0, s.intText())
		for _, v := range s.ints {
			at := len(buf)
			buf = strconv.AppendInt(buf, v, 10)
			if !yield(buf[at:len(buf):len(buf)]) {
				return
			}
		}
	}
}

// intText bounds the bytes of all members' texts.
func (s *Set) intText() int {
	n := len(s.ints)
	if n == 0 {
		return 0
	}
	longest := max(len(formatInt(s.ints[0])), len(formatInt(s.ints[n-1])))
	return n * longest
}

// Scan calls fn for at least count members (if there are so many; all of an intset) from cursor on and returns the
// cursor to go on with; see Hash.Scan.
func (s *Set) Scan(cursor uint64, count int, fn func(m []byte)) (next uint64) {
	if s.d != nil {
		return s.d.scan(cursor, count, func(b blk) { fn(b.key()) })
	}
	for m := range s.All() {
		fn(m)
	}
	return 0
}

// Random returns a member at random. REQUIRES: Len() > 0.
func (s *Set) Random(r *rand.Rand) []byte {
	if s.d != nil {
		return s.d.random(r).key()
	}
	return formatInt(s.ints[r.IntN(len(s.ints))])
}

// Clone returns an independent copy.
func (s *Set) Clone() *Set {
	c := &Set{lim: s.lim}
	if s.d == nil {
		c.ints = append(intset(nil), s.ints...)
		return c
	}
	c.d = s.d.clone(false) // a member's block never changes
	if s.tr != nil {
		c.tr = newElemTracker(c)
		c.markAllDirty()
	}
	return c
}

// Big tells whether each member has a row of its own.
func (s *Set) Big() bool { return s.tr != nil }

// AppendValue appends the RDB type byte and payload.
func (s *Set) AppendValue(dst []byte) []byte {
	dst = rdb.AppendHeader(dst, rdb.TypeSet, s.Len())
	if s.d == nil {
		var buf [maxIntLen]byte
		for _, v := range s.ints {
			dst = rdb.AppendString(dst, strconv.AppendInt(buf[:0], v, 10))
		}
		return dst
	}
	for m := range s.All() {
		dst = rdb.AppendString(dst, m)
	}
	return dst
}

func (s *Set) row(sub string) ([]byte, bool) {
	return emptyBytes, s.d.find(subBytes(sub)) != nil
}

func (s *Set) table() *dict { return s.d }

func (s *Set) rowOf(*blk) []byte { return emptyBytes }

func (s *Set) loadRow(sub, val []byte) error {
	if len(val) != 0 {
		return errRow
	}
	return loadElem(s.d, sub, nil)
}

func (s *Set) handover()            { s.tr.handover() }
func (s *Set) giveBack()            { s.tr.giveBack() }
func (s *Set) settle()              { s.tr.settle() }
func (s *Set) handedSubs() []string { return s.tr.handedSubs() }
func (s *Set) markAllDirty()        { markTable(s.tr, s.d) }
func (s *Set) handedRow(sub string) ([]byte, bool) {
	return s.tr.handedRow(sub)
}

// subBytes views a sub-key as bytes without copying; read-only.
func subBytes(s string) []byte { return unsafe.Slice(unsafe.StringData(s), len(s)) }
