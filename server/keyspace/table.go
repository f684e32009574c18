package keyspace

import (
	"math/rand/v2"
	"slices"
	"strings"
)

// table holds the resident objects and tombstones of one database in the order of the snapshot store's rows: by slot,
// then by hash. Each of the 16384 slots has a little hash table of its own whose buckets are indexed by the top bits of
// the hash. So growing is a matter of a few hundred entries at a time, a position (slot, hash) is a SCAN cursor that
// survives growth, unloading and restart, and memory and store can be merged by walking both in one order.
type table struct {
	pages [slotPages]*[slotsPerPage]slotTable
	n     int // entries, tombstones included
}

const (
	slotCount    = 16384
	slotsPerPage = 64
	slotPages    = slotCount / slotsPerPage
)

type slotTable struct {
	buckets []*Object
	n       int32
	bits    uint8 // len(buckets) == 1 << bits
}

func (s *slotTable) index(hash uint64) uint64 { return hash >> (64 - s.bits) } // bits 0: shift by 64 gives 0

func (t *table) find(slot uint16, hash uint64, key []byte) *Object {
	page := t.pages[slot/slotsPerPage]
	if page == nil {
		return nil
	}
	s := &page[slot%slotsPerPage]
	if s.n == 0 {
		return nil
	}
	for o := s.buckets[s.index(hash)]; o != nil; o = o.next {
		if o.hash == hash && o.key == string(key) {
			return o
		}
	}
	return nil
}

func (t *table) insert(o *Object) {
	page := t.pages[o.slot/slotsPerPage]
	if page == nil {
		page = new([slotsPerPage]slotTable)
		t.pages[o.slot/slotsPerPage] = page
	}
	s := &page[o.slot%slotsPerPage]
	if s.buckets == nil {
		s.buckets = make([]*Object, 1)
	} else if int(s.n) >= len(s.buckets)+len(s.buckets)/2 {
		s.resize(s.bits + 1)
	}
	i := s.index(o.hash)
	o.next = s.buckets[i]
	s.buckets[i] = o
	s.n++
	t.n++
}

func (t *table) remove(o *Object) {
	s := &t.pages[o.slot/slotsPerPage][o.slot%slotsPerPage]
	for pp := &s.buckets[s.index(o.hash)]; *pp != nil; pp = &(*pp).next {
		if *pp == o {
			*pp = o.next
			o.next = nil
			s.n--
			t.n--
			if s.bits > 2 && int(s.n) < len(s.buckets)/4 {
				s.resize(s.bits - 1)
			}
			return
		}
	}
}

func (s *slotTable) resize(bits uint8) {
	old := s.buckets
	s.bits = bits
	s.buckets = make([]*Object, 1<<bits)
	for _, o := range old {
		for o != nil {
			next := o.next
			i := s.index(o.hash)
			o.next = s.buckets[i]
			s.buckets[i] = o
			o = next
		}
	}
}

// comparePos orders objects as the store orders their rows: by slot, hash, key.
func comparePos(a, b *Object) int {
	switch {
	case a.slot != b.slot:
		return int(a.slot) - int(b.slot)
	case a.hash < b.hash:
		return -1
	case a.hash > b.hash:
		return 1
	}
	return strings.Compare(a.key, b.key)
}

// walker yields the entries of a table in position order. The table must not change meanwhile.
type walker struct {
	t      *table
	slot   int
	bucket int
	run    []*Object // entries of the current bucket, sorted
	i      int
}

// seek positions the walker at the first entry whose position is pos or later.
func (w *walker) seek(t *table, pos uint64) {
	w.t, w.run, w.i = t, w.run[:0], 0
	w.slot, w.bucket = int(pos>>50), 0
	if page := t.pages[w.slot/slotsPerPage]; page != nil {
		if s := &page[w.slot%slotsPerPage]; s.n > 0 {
			w.bucket = int(s.index(pos << 14))
		}
	}
	w.fill()
	for w.i < len(w.run) && Position(w.run[w.i].slot, w.run[w.i].hash) < pos {
		w.next()
	}
}

// fill advances to the next bucket that has entries.
func (w *walker) fill() {
	w.run, w.i = w.run[:0], 0
	for w.slot < slotCount {
		page := w.t.pages[w.slot/slotsPerPage]
		if page == nil {
			w.slot, w.bucket = (w.slot/slotsPerPage+1)*slotsPerPage, 0
			continue
		}
		s := &page[w.slot%slotsPerPage]
		if s.n == 0 || w.bucket >= len(s.buckets) {
			w.slot, w.bucket = w.slot+1, 0
			continue
		}
		for o := s.buckets[w.bucket]; o != nil; o = o.next {
			w.run = append(w.run, o)
		}
		w.bucket++
		if len(w.run) > 0 {
			if len(w.run) > 1 {
				slices.SortFunc(w.run, comparePos)
			}
			return
		}
	}
}

func (w *walker) peek() *Object {
	if w.i < len(w.run) {
		return w.run[w.i]
	}
	return nil
}

func (w *walker) next() {
	w.i++
	if w.i >= len(w.run) {
		w.fill()
	}
}

// random returns an entry (tombstones included), nil if the table is empty. Each entry is about equally likely.
func (t *table) random(r *rand.Rand) *Object {
	if t.n == 0 {
		return nil
	}
	// With many entries most slots have some: try slots, accept a bucket's chain by its length. With few, count.
	if t.n > slotCount/4 {
		for range 1000 {
			slot := r.IntN(slotCount)
			page := t.pages[slot/slotsPerPage]
			if page == nil {
				continue
			}
			s := &page[slot%slotsPerPage]
			if s.n == 0 {
				continue
			}
			// Accept a slot in proportion to its entries, 4 times the mean being certain.
			if limit := 4*t.n/slotCount + 1; int(s.n) < limit && r.IntN(limit) >= int(s.n) {
				continue
			}
			return s.at(r.IntN(int(s.n)), r)
		}
	}
	k := r.IntN(t.n)
	for _, page := range t.pages {
		if page == nil {
			continue
		}
		for i := range page {
			if k < int(page[i].n) {
				return page[i].at(k, r)
			}
			k -= int(page[i].n)
		}
	}
	return nil
}

// at returns an entry of the slot: the k-th of a small one, a random one of a large one.
func (s *slotTable) at(k int, r *rand.Rand) *Object {
	if s.n > 256 {
		for range 10000 {
			// Chains are short: pick a bucket and a place in 0..7, and accept if it is taken, so that long and short
			// chains are served alike.
			o := s.buckets[r.IntN(len(s.buckets))]
			for place := r.IntN(8); o != nil && place > 0; place-- {
				o = o.next
			}
			if o != nil {
				return o
			}
		}
	}
	for _, o := range s.buckets {
		for ; o != nil; o = o.next {
			if k == 0 {
				return o
			}
			k--
		}
	}
	return nil
}
