package keyspace

import (
	"bytes"
	"math"
	"math/bits"
	"math/rand/v2"
	"slices"
	"sort"
	"unsafe"

	"github.com/cespare/xxhash/v2"
)

// dict is the hash table behind large hashes, sets and sorted sets.
//
// It is extendible hashing over the top 32 bits of xxhash: a directory indexed by the first bits of the hash points to
// segments, each of which holds its elements sorted by (hash, key) in two dense arrays. A segment that is full splits in
// two by its next bit, so growing never moves more than segmentMax elements; doubling the directory copies one pointer
// for about every sixty elements. Three things follow from the order:
//
//   - iteration is in hash order, whatever the history of the table: the same in every process with the same elements;
//   - a scan cursor is a hash, so it stays valid over growth, shrinking, unloading and restart, and needs no state: an
//     element that is there all the time is returned at least once, since it always stands at its own hash;
//   - a lookup guesses the place from the hash and is off by a few entries of one or two cache lines.
//
// Keys with equal hashes, by chance or by an attacker, make a segment longer than segmentMax, never the directory larger
// than the number of elements justifies (maxDepth); binary search keeps such a segment usable.
type dict struct {
	dir   []*segment
	bits  uint8 // len(dir) == 1 << bits
	n     int   // elements
	deep  int   // segments with depth == bits: the directory halves when there are none
	bytes int64 // estimated memory of blocks and table
}

type segment struct {
	hash  []uint32
	blk   []blk
	depth uint8 // number of leading hash bits that all elements share
}

// segmentMax is the number of elements at which a segment splits: 128 make an insert move 1.3 kB on average, about 30 ns,
// and fill size classes of the allocator exactly (512 B and 2 KiB). Larger slows inserts, smaller enlarges the directory.
const segmentMax = 128

// dictElemCost estimates the table's bytes for an element: 20 in its segment at the usual fill of 70 %, and a share of
// the directory.
const dictElemCost = 30

// blk is one element: a block of memory with the key and then the value. The key's bytes never change, so strings may
// share them; the value may be overwritten in place.
type blk struct {
	p *byte
	k uint32 // bytes of the key; the top two bits are the tag, see elemTracker
	n uint32 // bytes of key and value
}

// blkTag is where the tag is in blk.k. A key is 512 MiB at most, which leaves two bits.
const blkTag = 30

func (b blk) keyLen() int      { return int(b.k & (1<<blkTag - 1)) }
func (b blk) tag() uint32      { return b.k >> blkTag }
func (b *blk) setTag(t uint32) { b.k = b.k&(1<<blkTag-1) | t<<blkTag }

func newBlk(key, val []byte) blk {
	b := make([]byte, max(1, len(key)+len(val)))
	copy(b, key)
	copy(b[len(key):], val)
	return blk{unsafe.SliceData(b), uint32(len(key)), uint32(len(key) + len(val))}
}

func (b blk) key() []byte       { return unsafe.Slice(b.p, b.keyLen()) }
func (b blk) keyString() string { return unsafe.String(b.p, b.keyLen()) }
func (b blk) val() []byte       { return unsafe.Slice(b.p, max(1, int(b.n)))[b.keyLen():b.n:b.n] }

// cost estimates the bytes of the block as the allocator rounds it.
func (b blk) cost() int64 {
	n := int64(b.n)
	if n <= 16 {
		return (n + 7) &^ 7
	}
	return (n + 15) &^ 15
}

// hashOf returns the part of the hash that places key in a dict.
func hashOf(key []byte) uint32 { return uint32(xxhash.Sum64(key) >> 32) }

func newDict() *dict { return &dict{dir: []*segment{{}}, deep: 1} }

func (d *dict) segment(h uint32) *segment { return d.dir[h>>(32-d.bits)] }

// lower returns the place of the first element whose hash is h or more.
func (s *segment) lower(h uint32) int {
	n := len(s.hash)
	if n == 0 {
		return 0
	}
	if n > 2*segmentMax {
		return sort.Search(n, func(i int) bool { return s.hash[i] >= h })
	}
	i := int(uint64(h<<s.depth) * uint64(n) >> 32)
	if s.hash[i] < h {
		for i++; i < n && s.hash[i] < h; i++ {
		}
		return i
	}
	for i > 0 && s.hash[i-1] >= h {
		i--
	}
	return i
}

// search returns the place of key, or the place where it belongs.
func (s *segment) search(h uint32, key []byte) (i int, found bool) {
	i = s.lower(h)
	if i+16 < len(s.hash) && s.hash[i+16] == h {
		i += sort.Search(len(s.hash)-i, func(j int) bool {
			return s.hash[i+j] > h || bytes.Compare(s.blk[i+j].key(), key) >= 0
		})
	}
	for ; i < len(s.hash) && s.hash[i] == h; i++ {
		if c := bytes.Compare(s.blk[i].key(), key); c >= 0 {
			return i, c == 0
		}
	}
	return i, false
}

// find returns the element with key, nil if there is none. The pointer is valid until the next insert or remove.
func (d *dict) find(key []byte) *blk {
	h := hashOf(key)
	s := d.segment(h)
	if i, ok := s.search(h, key); ok {
		return &s.blk[i]
	}
	return nil
}

// insert adds b. REQUIRES: its key is absent.
func (d *dict) insert(b blk) {
	h := hashOf(b.key())
	s := d.segment(h)
	for len(s.hash) >= segmentMax && s.depth < d.maxDepth() {
		d.split(s)
		s = d.segment(h)
	}
	i, _ := s.search(h, b.key())
	s.hash = slices.Insert(s.hash, i, h)
	s.blk = slices.Insert(s.blk, i, b)
	d.n++
	d.bytes += b.cost() + dictElemCost
}

// replace puts b in the place of the element at p, which has the same key. The tag stays.
func (d *dict) replace(p *blk, b blk) {
	d.bytes += b.cost() - p.cost()
	b.setTag(p.tag())
	*p = b
}

// maxDepth bounds the directory to about an entry for eight elements, so that crafted keys cannot blow it up.
func (d *dict) maxDepth() uint8 { return uint8(min(32, bits.Len(uint(d.n/16)))) }

func (d *dict) split(s *segment) {
	if s.depth == d.bits {
		dir := make([]*segment, 2*len(d.dir))
		for i, s := range d.dir {
			dir[2*i], dir[2*i+1] = s, s
		}
		d.dir, d.deep = dir, 0
		d.bits++
	}
	s.depth++
	// The right half begins where the bit that now counts is set.
	low := s.hash[0] >> (32 - s.depth) &^ 1
	mid := (low | 1) << (32 - s.depth)
	i := sort.Search(len(s.hash), func(i int) bool { return s.hash[i] >= mid })
	r := &segment{depth: s.depth}
	if i < len(s.hash) {
		room := max(segmentMax, len(s.hash)-i)
		r.hash = append(make([]uint32, 0, room), s.hash[i:]...)
		r.blk = append(make([]blk, 0, room), s.blk[i:]...)
	}
	clear(s.blk[i:])
	s.hash, s.blk = s.hash[:i], s.blk[:i]
	if s.depth == d.bits {
		d.deep += 2
	}
	d.point(mid, r)
}

// point makes the directory's entries for the hashes that share h's first bits point to s.
func (d *dict) point(h uint32, s *segment) {
	span := 1 << (d.bits - s.depth)
	from := int(h>>(32-d.bits)) &^ (span - 1)
	for i := from; i < from+span; i++ {
		d.dir[i] = s
	}
}

// remove takes the element with key out and returns it.
func (d *dict) remove(key []byte) (blk, bool) {
	h := hashOf(key)
	s := d.segment(h)
	i, ok := s.search(h, key)
	if !ok {
		return blk{}, false
	}
	b := s.blk[i]
	s.hash = slices.Delete(s.hash, i, i+1)
	s.blk = slices.Delete(s.blk, i, i+1)
	d.n--
	d.bytes -= b.cost() + dictElemCost
	for s.depth > 0 && len(s.hash) < segmentMax/4 && d.merge(h) {
		s = d.segment(h)
	}
	return b, true
}

// merge joins the segment of h with its sibling if they are small and of one depth.
func (d *dict) merge(h uint32) bool {
	s := d.segment(h)
	bit := uint32(1) << (32 - s.depth)
	l, r := d.segment(h&^bit), d.segment(h|bit)
	if l.depth != r.depth || len(l.hash)+len(r.hash) > segmentMax/2 {
		return false
	}
	l.hash = append(l.hash, r.hash...)
	l.blk = append(l.blk, r.blk...)
	if l.depth == d.bits {
		d.deep -= 2
	}
	l.depth--
	if l.depth+1 == d.bits && d.deep == 0 {
		d.point(h&^bit, l)
		d.halve()
		return true
	}
	d.point(h&^bit, l)
	return true
}

func (d *dict) halve() {
	dir := make([]*segment, len(d.dir)/2)
	d.bits--
	for i := range dir {
		dir[i] = d.dir[2*i]
		if dir[i].depth == d.bits {
			d.deep++
		}
	}
	d.dir = dir
}

// after returns the directory index behind the segment at i.
func (d *dict) after(i int) int {
	span := d.bits - d.dir[i].depth
	return (i>>span + 1) << span
}

// all yields the elements in hash order until yield returns false.
func (d *dict) all(yield func(b blk) bool) {
	for i := 0; i < len(d.dir); i = d.after(i) {
		for _, b := range d.dir[i].blk {
			if !yield(b) {
				return
			}
		}
	}
}

// scan calls fn for at least count elements (if there are so many) whose hash is cursor or more, and returns the cursor
// to go on with, 0 at the end. Elements of one hash are never separated, so the cursor misses nothing.
func (d *dict) scan(cursor uint64, count int, fn func(b blk)) (next uint64) {
	if cursor > math.MaxUint32 {
		return 0
	}
	h := uint32(cursor)
	count = max(1, count)
	n, last := 0, uint32(0)
	j := d.segment(h).lower(h)
	for i := int(h >> (32 - d.bits)); i < len(d.dir); i = d.after(i) {
		s := d.dir[i]
		for ; j < len(s.hash); j++ {
			if n >= count && s.hash[j] != last {
				return uint64(s.hash[j])
			}
			fn(s.blk[j])
			n, last = n+1, s.hash[j]
		}
		j = 0
	}
	return 0
}

// random returns an element, each with the same probability. REQUIRES: d.n > 0.
func (d *dict) random(r *rand.Rand) blk {
	for range 4096 {
		i := r.IntN(len(d.dir))
		s := d.dir[i]
		// A segment with several directory entries counts for one of them only, and in proportion to its elements.
		if i&(1<<(d.bits-s.depth)-1) != 0 || len(s.blk) == 0 {
			continue
		}
		if j := r.IntN(max(segmentMax, len(s.blk))); j < len(s.blk) {
			return s.blk[j]
		}
	}
	// Nearly all segments are empty: count.
	k := r.IntN(d.n)
	for i := 0; i < len(d.dir); i = d.after(i) {
		if s := d.dir[i]; k < len(s.blk) {
			return s.blk[k]
		} else {
			k -= len(s.blk)
		}
	}
	panic("keyspace: dict counts more elements than it has")
}

// clone copies the table, without tags; the blocks, too, unless they are never changed in place.
func (d *dict) clone(copyBlocks bool) *dict {
	c := &dict{dir: make([]*segment, len(d.dir)), bits: d.bits, n: d.n, deep: d.deep, bytes: d.bytes}
	for i := 0; i < len(d.dir); i = d.after(i) {
		s := d.dir[i]
		t := &segment{hash: slices.Clone(s.hash), blk: slices.Clone(s.blk), depth: s.depth}
		for j, b := range t.blk {
			if copyBlocks {
				b = newBlk(b.key(), b.val())
			}
			b.setTag(0)
			t.blk[j] = b
		}
		for k := i; k < d.after(i); k++ {
			c.dir[k] = t
		}
	}
	return c
}
