package keyspace

import (
	"bytes"
	"encoding/binary"
	"iter"
	"math"
	"math/rand/v2"

	"github.com/holdfast-db/holdfast/snapshot/rdb"
)

// ZSet is a sorted set: members with scores, in order of (score, member). Small ones are packed in that order; past a
// limit a set becomes a dict from member to score and a ztree, for good. A packed set is always one row; the others have
// a row for each member once they are big.
//
// Slices given to a ZSet are copied; slices it returns are read-only and valid until its next change. Scores are never
// NaN.
type ZSet struct {
	lim *Limits
	p   []byte // packed: 8 bytes little endian score, member; in order
	n   int    // members in p
	d   *dict  // nil while packed; the value of an element is its score, 8 bytes big endian
	t   *ztree
	tr  *elemTracker
}

// ScoreRange is a range of scores; an end may be excluded.
type ScoreRange struct {
	Min, Max     float64
	MinEx, MaxEx bool
}

func (r *ScoreRange) reached(s float64) bool { return s > r.Min || s == r.Min && !r.MinEx }
func (r *ScoreRange) passed(s float64) bool  { return s > r.Max || s == r.Max && r.MaxEx }

// LexRange is a range of members in byte order, for sets whose scores are all equal. An end may be excluded or infinite:
// MinInf stands for "-" as Min, MaxInf for "+" as Max; the reverse ends ("+" as Min, "-" as Max) are MinInfPos and
// MaxInfNeg, and make the range empty.
type LexRange struct {
	Min, Max             []byte
	MinEx, MaxEx         bool
	MinInf, MaxInf       bool
	MinInfPos, MaxInfNeg bool
}

func (r *LexRange) reached(m string) bool {
	switch {
	case r.MinInfPos:
		return false
	case r.MinInf:
		return true
	}
	return m > string(r.Min) || m == string(r.Min) && !r.MinEx
}

func (r *LexRange) passed(m string) bool {
	switch {
	case r.MaxInfNeg:
		return true
	case r.MaxInf:
		return false
	}
	return m > string(r.Max) || m == string(r.Max) && r.MaxEx
}

// NewZSet returns an empty sorted set.
func NewZSet(l *Limits) *ZSet { return &ZSet{lim: l} }

// Len returns the number of members.
func (z *ZSet) Len() int {
	if z.d != nil {
		return z.d.n
	}
	return z.n
}

// Encoding returns EncListpack or EncSkiplist.
func (z *ZSet) Encoding() Encoding {
	if z.d != nil {
		return EncSkiplist
	}
	return EncListpack
}

// Bytes estimates the memory in use.
func (z *ZSet) Bytes() int64 {
	if z.d != nil {
		return hashOverhead + z.d.bytes + zelemCost*int64(z.d.n)
	}
	return hashOverhead + int64(cap(z.p))
}

const scoreLen = 8

// packedItem returns the element at off and the offset behind it.
func packedItem(p []byte, off int) (score float64, m []byte, next int) {
	score = math.Float64frombits(binary.LittleEndian.Uint64(p[off:]))
	m, next = packedAt(p, off+scoreLen)
	return score, m, next
}

func blkScore(b blk) float64 { return math.Float64frombits(binary.BigEndian.Uint64(b.val())) }

// locate finds m in a packed set.
func (z *ZSet) locate(m []byte) (at, end, rank int, score float64, ok bool) {
	for off := 0; off < len(z.p); rank++ {
		s, e, next := packedItem(z.p, off)
		if equalBytes(e, m) {
			return off, next, rank, s, true
		}
		off = next
	}
	return 0, 0, 0, 0, false
}

// Score returns the score of m.
func (z *ZSet) Score(m []byte) (float64, bool) {
	if z.d == nil {
		_, _, _, s, ok := z.locate(m)
		return s, ok
	}
	if b := z.d.find(m); b != nil {
		return blkScore(*b), true
	}
	return 0, false
}

// Set gives m a score. It tells whether m is new, and if not whether its score changed.
func (z *ZSet) Set(m []byte, score float64) (created, changed bool) {
	if z.d == nil {
		at, end, _, old, ok := z.locate(m)
		switch {
		case ok && old == score:
			return false, false
		case ok:
			z.p = append(z.p[:at], z.p[end:]...)
			z.insertPacked(m, score)
			return false, true
		case z.n+1 <= z.lim.ZSetMaxListpackEntries && len(m) <= z.lim.ZSetMaxListpackValue:
			z.insertPacked(m, score)
			z.n++
			return true, false
		}
		z.convert()
	}
	if b := z.d.find(m); b != nil {
		old := blkScore(*b)
		if old == score {
			return false, false
		}
		key := b.keyString()
		if z.tr != nil {
			z.tr.touch(b)
		}
		z.t.remove(zitem{old, key})
		binary.BigEndian.PutUint64(b.val(), math.Float64bits(score))
		z.t.insert(zitem{score, key})
		return false, true
	}
	b := newItemBlk(m, score)
	if z.tr != nil {
		z.tr.add(&b)
	}
	z.insertBlk(b, score)
	return true, false
}

func newItemBlk(m []byte, score float64) blk {
	var v [scoreLen]byte
	binary.BigEndian.PutUint64(v[:], math.Float64bits(score))
	return newBlk(m, v[:])
}

func (z *ZSet) insertBlk(b blk, score float64) {
	z.d.insert(b)
	z.t.insert(zitem{score, b.keyString()})
	z.grown()
}

// insertPacked puts an absent member in its place.
func (z *ZSet) insertPacked(m []byte, score float64) {
	off := 0
	for off < len(z.p) {
		s, e, next := packedItem(z.p, off)
		if s > score || s == score && bytes.Compare(e, m) > 0 {
			break
		}
		off = next
	}
	need := uvarintLen(len(m)) + len(m)
	z.p = makeGap(z.p, off, off, scoreLen+need)
	binary.LittleEndian.PutUint64(z.p[off:], math.Float64bits(score))
	off += scoreLen
	z.p = splicePacked(z.p, off, off+need, m)
}

// Remove removes m and tells whether it was a member.
func (z *ZSet) Remove(m []byte) bool {
	if z.d == nil {
		at, end, _, _, ok := z.locate(m)
		if ok {
			z.p = append(z.p[:at], z.p[end:]...)
			z.n--
		}
		return ok
	}
	b := z.d.find(m)
	if b == nil {
		return false
	}
	if z.tr != nil {
		z.tr.remove(b)
	}
	z.t.remove(zitem{blkScore(*b), b.keyString()})
	z.d.remove(m)
	return true
}

func (z *ZSet) convert() {
	d, t := newDict(), newZTree()
	for m, s := range z.All() {
		b := newItemBlk(m, s)
		d.insert(b)
		t.insert(zitem{s, b.keyString()})
	}
	z.d, z.t, z.p, z.n = d, t, nil, 0
	z.grown()
}

func (z *ZSet) grown() {
	if z.tr == nil && tableIsBig(z.d) {
		z.tr = newElemTracker(z)
		z.markAllDirty()
	}
}

// Rank returns the number of members before m, and its score.
func (z *ZSet) Rank(m []byte) (rank int, score float64, ok bool) {
	if z.d == nil {
		_, _, rank, score, ok = z.locate(m)
		return rank, score, ok
	}
	b := z.d.find(m)
	if b == nil {
		return 0, 0, false
	}
	score = blkScore(*b)
	return z.t.rank(zitem{score, b.keyString()}), score, true
}

// At returns the member with that rank. REQUIRES: 0 <= rank < Len().
func (z *ZSet) At(rank int) (m []byte, score float64) {
	if z.d != nil {
		leaf, i := z.t.seek(rank)
		it := leaf.items[i]
		return subBytes(it.m), it.score
	}
	off := z.offset(rank)
	score, m, _ = packedItem(z.p, off)
	return m, score
}

// offset returns where the packed member with that rank begins.
func (z *ZSet) offset(rank int) (off int) {
	for ; rank > 0; rank-- {
		_, _, off = packedItem(z.p, off)
	}
	return off
}

// Range yields the members with ranks start to stop, both included; with rev ranks count from the last member, and the
// order is descending. Ends outside the set are clamped. The set must not change meanwhile.
func (z *ZSet) Range(start, stop int, rev bool) iter.Seq2[[]byte, float64] {
	return func(yield func(m []byte, score float64) bool) {
		n := z.Len()
		start, stop := max(0, start), min(stop, n-1)
		if start > stop {
			return
		}
		if rev {
			z.descend(n-1-start, n-1-stop, yield)
		} else {
			z.ascend(start, stop, yield)
		}
	}
}

// ascend yields ranks from to last. REQUIRES: 0 <= from <= last < Len().
func (z *ZSet) ascend(from, last int, yield func(m []byte, score float64) bool) {
	if z.d == nil {
		off := z.offset(from)
		for ; from <= last; from++ {
			var s float64
			var m []byte
			s, m, off = packedItem(z.p, off)
			if !yield(m, s) {
				return
			}
		}
		return
	}
	leaf, i := z.t.seek(from)
	for ; from <= last; from++ {
		if i == len(leaf.items) {
			leaf, i = leaf.next, 0
		}
		if !yield(subBytes(leaf.items[i].m), leaf.items[i].score) {
			return
		}
		i++
	}
}

// descend yields ranks from down to last. REQUIRES: Len() > from >= last >= 0.
func (z *ZSet) descend(from, last int, yield func(m []byte, score float64) bool) {
	if z.d == nil {
		// A packed set reads forward only: note where its members begin.
		var few [128]int32
		offs := few[:0]
		for off, k := 0, 0; k <= from; k++ {
			if k >= last {
				offs = append(offs, int32(off))
			}
			_, _, off = packedItem(z.p, off)
		}
		for i := len(offs) - 1; i >= 0; i-- {
			if s, m, _ := packedItem(z.p, int(offs[i])); !yield(m, s) {
				return
			}
		}
		return
	}
	leaf, i := z.t.seek(from)
	for ; from >= last; from-- {
		if i < 0 {
			leaf = leaf.prev
			i = len(leaf.items) - 1
		}
		if !yield(subBytes(leaf.items[i].m), leaf.items[i].score) {
			return
		}
		i--
	}
}

// All yields all members in order. The set must not change meanwhile.
func (z *ZSet) All() iter.Seq2[[]byte, float64] { return z.Range(0, math.MaxInt, false) }

// lower returns the number of members for which reached is false, where it becomes true once in their order.
func (z *ZSet) lower(reached func(it zitem) bool) int {
	if z.d != nil {
		return z.t.lower(reached)
	}
	rank := 0
	for off := 0; off < len(z.p); rank++ {
		s, m, next := packedItem(z.p, off)
		if reached(zitem{s, viewString(m)}) {
			break
		}
		off = next
	}
	return rank
}

func (z *ZSet) scoreBounds(r *ScoreRange) (from, to int) {
	if r.Min > r.Max || r.Min == r.Max && (r.MinEx || r.MaxEx) {
		return 0, 0
	}
	from = z.lower(func(it zitem) bool { return r.reached(it.score) })
	to = z.lower(func(it zitem) bool { return r.passed(it.score) })
	return from, max(from, to)
}

func (z *ZSet) lexBounds(r *LexRange) (from, to int) {
	from = z.lower(func(it zitem) bool { return r.reached(it.m) })
	to = z.lower(func(it zitem) bool { return r.passed(it.m) })
	return from, max(from, to)
}

func first(from, to int) int {
	if from >= to {
		return -1
	}
	return from
}

func last(from, to int) int {
	if from >= to {
		return -1
	}
	return to - 1
}

// FirstInScore returns the rank of the first member in r, -1 if there is none.
func (z *ZSet) FirstInScore(r ScoreRange) int { return first(z.scoreBounds(&r)) }

// LastInScore returns the rank of the last member in r, -1 if there is none.
func (z *ZSet) LastInScore(r ScoreRange) int { return last(z.scoreBounds(&r)) }

// CountScore returns the number of members in r.
func (z *ZSet) CountScore(r ScoreRange) int {
	from, to := z.scoreBounds(&r)
	return to - from
}

// RangeScore yields the members in r, descending with rev. The set must not change meanwhile.
func (z *ZSet) RangeScore(r ScoreRange, rev bool) iter.Seq2[[]byte, float64] {
	return z.between(rev, func() (int, int) { return z.scoreBounds(&r) })
}

// FirstInLex returns the rank of the first member in r, -1 if there is none.
func (z *ZSet) FirstInLex(r LexRange) int { return first(z.lexBounds(&r)) }

// LastInLex returns the rank of the last member in r, -1 if there is none.
func (z *ZSet) LastInLex(r LexRange) int { return last(z.lexBounds(&r)) }

// CountLex returns the number of members in r.
func (z *ZSet) CountLex(r LexRange) int {
	from, to := z.lexBounds(&r)
	return to - from
}

// RangeLex yields the members in r, descending with rev. The set must not change meanwhile.
func (z *ZSet) RangeLex(r LexRange, rev bool) iter.Seq2[[]byte, float64] {
	return z.between(rev, func() (int, int) { return z.lexBounds(&r) })
}

func (z *ZSet) between(rev bool, bounds func() (from, to int)) iter.Seq2[[]byte, float64] {
	return func(yield func(m []byte, score float64) bool) {
		from, to := bounds()
		switch {
		case from >= to:
		case rev:
			z.descend(to-1, from, yield)
		default:
			z.ascend(from, to-1, yield)
		}
	}
}

// Scan calls fn for at least count members (if there are so many; all of a packed set) from cursor on and returns the
// cursor to go on with; see Hash.Scan.
func (z *ZSet) Scan(cursor uint64, count int, fn func(m []byte, score float64)) (next uint64) {
	if z.d != nil {
		return z.d.scan(cursor, count, func(b blk) { fn(b.key(), blkScore(b)) })
	}
	for m, s := range z.All() {
		fn(m, s)
	}
	return 0
}

// Random returns a member at random. REQUIRES: Len() > 0.
func (z *ZSet) Random(r *rand.Rand) (m []byte, score float64) {
	if z.d != nil {
		b := z.d.random(r)
		return b.key(), blkScore(b)
	}
	return z.At(r.IntN(z.n))
}

// Clone returns an independent copy.
func (z *ZSet) Clone() *ZSet {
	c := &ZSet{lim: z.lim, n: z.n}
	if z.d == nil {
		c.p = append([]byte(nil), z.p...)
		return c
	}
	c.d = z.d.clone(true)
	c.t = z.t.clone(func(m string) string { return c.d.find(subBytes(m)).keyString() })
	if z.tr != nil {
		c.tr = newElemTracker(c)
		c.markAllDirty()
	}
	return c
}

// Big tells whether each member has a row of its own.
func (z *ZSet) Big() bool { return z.tr != nil }

// AppendValue appends the RDB type byte and payload (ZSET_2), members in order.
func (z *ZSet) AppendValue(dst []byte) []byte {
	dst = rdb.AppendHeader(dst, rdb.TypeZSet2, z.Len())
	for m, s := range z.All() {
		dst = rdb.AppendDouble(rdb.AppendString(dst, m), s)
	}
	return dst
}

func (z *ZSet) row(sub string) ([]byte, bool) {
	if b := z.d.find(subBytes(sub)); b != nil {
		return b.val(), true
	}
	return nil, false
}

func (z *ZSet) table() *dict { return z.d }

func (z *ZSet) rowOf(b *blk) []byte { return b.val() }

func (z *ZSet) loadRow(sub, val []byte) error {
	if len(val) != scoreLen {
		return errRow
	}
	score := math.Float64frombits(binary.BigEndian.Uint64(val))
	if math.IsNaN(score) || z.d.find(sub) != nil {
		return errRow
	}
	z.insertBlk(newBlk(sub, val), score)
	return nil
}

func (z *ZSet) handover()            { z.tr.handover() }
func (z *ZSet) giveBack()            { z.tr.giveBack() }
func (z *ZSet) settle()              { z.tr.settle() }
func (z *ZSet) handedSubs() []string { return z.tr.handedSubs() }
func (z *ZSet) markAllDirty()        { markTable(z.tr, z.d) }
func (z *ZSet) handedRow(sub string) ([]byte, bool) {
	return z.tr.handedRow(sub)
}
