package keyspace

import "math/rand/v2"

// Which keys leave memory when the budget is used up. Every victim is the best of a few samples, judged by how long it has been
// idle and by how many bytes its leaving gives back for what its return will cost (loadCost): of two keys that are used as often,
// the larger one takes the place of more others. A sample of keys hardly ever meets the few large ones, and those few may take
// all of the memory, so they are listed and sampled apart.

// unloadable: clean, in the store, not pinned (K2).
func (o *Object) unloadable() bool {
	return o.epoch == 0 && o.typ != TypeNone && o.flags&(flagInStore|flagPinned|flagDetached|flagVisited|flagFrozen) == flagInStore
}

func (db *DB) unload(o *Object) {
	db.t.remove(o)
	o.flags |= flagDetached
	db.live--
	db.cold++
	if o.ExpireAt() != 0 {
		db.expiry.Delete(o)
		db.expires--
		db.coldExpires++
	}
	if o.typ == TypeHash && o.Hash().t != nil {
		db.unindexFields(o)
		db.coldTimed++
	}
	db.resize(o, 0)
	if o.off > db.ks.lastDelete {
		db.ks.lastDelete = o.off
	}
}

// unloadSample and unloadBigSample are how many keys, and how many large ones, compete for being unloaded. More judge
// better; each costs a cache miss or two.
const (
	unloadSample    = 8
	unloadBigSample = 4
)

// loadCost is what reading a key costs whatever its size, in units of 16 bytes' worth of reading and decoding: 20 … 50 µs to find
// the row, and 5 ns for each byte, make some 8 KiB. It is what keeps a key of a hundred bytes from leaving as soon as the same
// hundred bytes of a large collection.
const loadCost = 1 << 10 >> 4

// bigObject is the size in units of 16 bytes from which on an object is listed as large: 64 KiB. A budget holds a few thousand
// of them for each 256 MiB at most.
const bigObject = 64 << 10 >> 4

// bigList lists the large objects in memory.
type bigList struct {
	list []bigEntry
	at   map[*Object]int // index in list
}

type bigEntry struct {
	db *DB
	o  *Object
}

// resized keeps the list after the size of o has changed.
func (b *bigList) resized(db *DB, o *Object, old uint32) {
	if was, is := old >= bigObject, o.size >= bigObject; was == is {
		return
	} else if is {
		if b.at == nil {
			b.at = map[*Object]int{}
		}
		b.at[o] = len(b.list)
		b.list = append(b.list, bigEntry{db, o})
		return
	}
	b.remove(o)
}

func (b *bigList) remove(o *Object) {
	i, ok := b.at[o]
	if !ok {
		return
	}
	delete(b.at, o)
	last := len(b.list) - 1
	if i != last {
		b.list[i] = b.list[last]
		b.at[b.list[i].o] = i
	}
	b.list[last] = bigEntry{}
	b.list = b.list[:last]
}

// forget drops the objects of a database that is emptied.
func (b *bigList) forget(db *DB) {
	for i := len(b.list) - 1; i >= 0; i-- {
		if b.list[i].db == db {
			b.remove(b.list[i].o)
		}
	}
}

// Unload takes clean objects out of memory until no more than target bytes are resident, at most max of them. It returns how
// many left; fewer than max with the target not reached means that clean objects are hard to find: time for a checkpoint.
func (ks *Keyspace) Unload(r *rand.Rand, target int64, max int) (n int) {
	misses := 0
	for n < max && ks.used > target && misses < 64 {
		best, home := ks.victim(r)
		if best == nil {
			misses++
			continue
		}
		home.unload(best)
		n++
	}
	return n
}

// victim samples; nil if none of the samples may leave.
func (ks *Keyspace) victim(r *rand.Rand) (best *Object, home *DB) {
	var worst float64
	look := func(db *DB, o *Object) {
		if o == nil || !o.unloadable() {
			return
		}
		idle := float64(int64(ks.Clock) - int64(o.lru) + 1)
		if score := idle * float64(o.size) / float64(o.size+loadCost); best == nil || score > worst {
			best, home, worst = o, db, score
		}
	}
	for range min(unloadBigSample, len(ks.bigs.list)) {
		e := ks.bigs.list[r.IntN(len(ks.bigs.list))]
		look(e.db, e.o)
	}
	for range unloadSample {
		if db := ks.weightedDB(r); db != nil {
			look(db, db.t.random(r))
		}
	}
	return best, home
}

// UnloadAll takes every clean object out of memory and returns how many left.
func (ks *Keyspace) UnloadAll() (n int) {
	for _, db := range ks.dbs {
		var w walker
		var all []*Object
		for w.seek(&db.t, 0); w.peek() != nil; w.next() {
			if w.peek().unloadable() {
				all = append(all, w.peek())
			}
		}
		for _, o := range all {
			db.unload(o)
		}
		n += len(all)
	}
	return n
}

// weightedDB picks a database in proportion to its entries in memory.
func (ks *Keyspace) weightedDB(r *rand.Rand) *DB {
	total := 0
	for _, db := range ks.dbs {
		total += db.t.n
	}
	if total == 0 {
		return nil
	}
	k := r.IntN(total)
	for _, db := range ks.dbs {
		if k < db.t.n {
			return db
		}
		k -= db.t.n
	}
	return nil
}
