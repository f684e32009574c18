package keyspace

// prefetchMax is how many keys one pass looks at: enough to hide the latency of memory behind one another, few enough that
// what was fetched is still in the cache when it is used.
const prefetchMax = 32

// prefetchFrom is the number of entries from which a table no longer fits into the processor's caches.
const prefetchFrom = 16 << 10

// Prefetch brings what a table holds of keys into the processor's cache.
//
// A look-up in a large table is four loads, each of which needs what the one before it has read, and each of which goes to
// memory: slot, bucket, object, value. Done for many keys one level at a time, the loads of a level do not depend on each
// other, and the processor has them all under way at once. What is found is not kept, since commands may change it.
func (db *DB) Prefetch(keys [][]byte) {
	if db.t.n < prefetchFrom {
		return
	}
	var (
		slots  [prefetchMax]*slotTable
		hashes [prefetchMax]uint64
		heads  [prefetchMax]**Object
		objs   [prefetchMax]*Object
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
		for _, o := range objs[:n] {
			if o == nil {
				continue
			}
			if len(o.key) > 0 {
				sum += uint64(o.key[0])
			}
			if o.p != nil {
				sum += uint64(*(*byte)(o.p))
			}
		}
		keys = keys[n:]
	}
	db.ks.prefetched = sum
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
