package keyspace

import (
	"slices"
	"unsafe"
)

// prefetchMax is how many keys one pass looks at: enough to hide the latency of memory behind one another, few enough that
// what was fetched is still in the cache when it is used.
const prefetchMax = 32

// prefetchFrom is the number of entries from which a table no longer fits into the processor's caches.
const prefetchFrom = 16 << 10

// Prefetch brings what a table holds of keys into the processor's cache; elems[i], if not nil, is an element of the
// collection at keys[i] that will be looked up.
//
// A look-up in a large table is four loads, each of which needs what the one before it has read, and each of which goes to
// memory: slot, bucket, object, value. Done for many keys one level at a time, the loads of a level do not depend on each
// other, and the processor has them all under way at once. What is found is not kept, since commands may change it.
func (db *DB) Prefetch(keys, elems [][]byte) {
	if db.t.n < prefetchFrom && !slices.ContainsFunc(elems, func(e []byte) bool { return e != nil }) {
		return
	}
	var (
		slots  [prefetchMax]*slotTable
		hashes [prefetchMax]uint64
		heads  [prefetchMax]**Object
		objs   [prefetchMax]*Object
		walk   elemWalk
		sum    uint64
	)
	for len(keys) > 0 {
		n := min(len(keys), prefetchMax)
		for i, key := range keys[:n] {
			slot, hash := Slot(key), KeyHash(key)
			hashes[i], slots[i] = hash, nil
			if page := db.t.pages[slot/slotsPerPage]; page != nil {
				slots[i] = &page[slot%slotsPerPage]
			}
		}
		for i, s := range slots[:n] {
			if heads[i] = nil; s != nil && s.n > 0 {
				heads[i] = &s.buckets[s.index(hashes[i])]
			}
		}
		for i, h := range heads[:n] {
			if objs[i] = nil; h != nil {
				objs[i] = *h
			}
		}
		for i, o := range objs[:n] {
			for o != nil && o.hash != hashes[i] {
				o = o.next
			}
			objs[i] = o
		}
		walk.n = 0
		for i, o := range objs[:n] {
			if o == nil {
				continue
			}
			sum += o.touchAll()
			if elems[i] != nil {
				walk.add(o.dict(), elems[i])
			}
		}
		sum += walk.run()
		keys, elems = keys[n:], elems[n:]
	}
	db.ks.prefetched = sum
}

// touchAll loads what of an object and of its key and value may lie in different lines of the cache; of a long string the first
// and the last.
func (o *Object) touchAll() (sum uint64) {
	sum = uint64(o.lru)
	if n := len(o.key); n > 0 {
		sum += uint64(o.key[0]) + uint64(o.key[n-1])
	}
	if o.p != nil {
		sum += uint64(*(*byte)(o.p))
		if o.typ == TypeString && o.n > 0 {
			sum += uint64(*(*byte)(unsafe.Add(o.p, o.n-1)))
		}
	}
	return sum
}

// prefetchDictFrom is the number of elements from which a dict no longer fits into the processor's caches.
const prefetchDictFrom = 8 << 10

// dict returns the table of a large hash, set or sorted set, nil of anything else.
func (o *Object) dict() *dict {
	var d *dict
	switch o.typ {
	case TypeHash:
		d = (*Hash)(o.p).d
	case TypeSet:
		d = (*Set)(o.p).d
	case TypeZSet:
		d = (*ZSet)(o.p).d
	}
	if d == nil || d.n < prefetchDictFrom {
		return nil
	}
	return d
}

// elemWalk does for elements of dicts what Prefetch does for keys.
type elemWalk struct {
	n      int
	segs   [prefetchMax]**segment
	hashes [prefetchMax]uint32
	blks   [prefetchMax]*byte
}

// add notes an element that is to be fetched. At most prefetchMax are noted before run.
func (w *elemWalk) add(d *dict, elem []byte) {
	if d == nil {
		return
	}
	h := hashOf(elem)
	w.segs[w.n], w.hashes[w.n] = &d.dir[h>>(32-d.bits)], h
	w.n++
}

func (w *elemWalk) run() (sum uint64) {
	for i, s := range w.segs[:w.n] {
		if s := *s; len(s.hash) > 0 {
			sum += uint64(s.hash[uint64(w.hashes[i]<<s.depth)*uint64(len(s.hash))>>32])
		}
	}
	for i, s := range w.segs[:w.n] {
		w.blks[i] = nil
		if j := (*s).lower(w.hashes[i]); j < len((*s).blk) {
			w.blks[i] = (*s).blk[j].p
		}
	}
	for _, p := range w.blks[:w.n] {
		if p != nil {
			sum += uint64(*p)
		}
	}
	w.n = 0
	return sum
}

// loadAll brings objects, their keys and their values into the cache, see Prefetch.
func loadAll(objs []*Object) (sum uint64) {
	for _, o := range objs {
		sum += o.hash
	}
	for _, o := range objs {
		if len(o.key) > 0 {
			sum += uint64(o.key[0])
		}
		if o.p != nil {
			sum += uint64(*(*byte)(o.p))
		}
	}
	return sum
}
