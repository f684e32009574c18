package keyspace

import (
	"math/rand/v2"
	"strings"

	"github.com/tidwall/btree"
)

// This file is the cache's mechanics: what is not in memory is read, put in place, and leaves again.

// Residency says what memory knows of a key.
type Residency uint8

const (
	// Known: the key is resident, or memory knows that it does not exist.
	Known Residency = iota
	// Cold: only the store knows.
	Cold
)

// Residency tells whether key can be used without reading the store.
func (db *DB) Residency(key []byte) Residency {
	if db.cold == 0 {
		return Known
	}
	slot, hash := db.ks.locate(key)
	if db.t.find(slot, hash, key) != nil {
		return Known
	}
	return Cold
}

// Loading is a key being read from the store outside the lock.
type Loading struct {
	db   *DB
	gen  uint64
	key  []byte
	phys uint32
	slot uint16
	hash uint64
	obj  *Object
	err  error
}

// BeginLoad notes, under the lock, that key is going to be read.
func (db *DB) BeginLoad(key []byte) *Loading {
	slot, hash := Slot(key), KeyHash(key)
	return &Loading{db: db, gen: db.ks.settleGen, key: append([]byte(nil), key...), phys: db.phys, slot: slot, hash: hash}
}

// Read reads the key's rows. It needs no lock.
func (l *Loading) Read(rows Rows, limits *Limits) error {
	l.obj, l.err = readObject(rows, limits, l.phys, l.slot, l.hash, l.key)
	return l.err
}

// Take is Read for whoever has the key's main row at hand, which it read after BeginLoad. It reports false, and l is as before,
// if the row by itself is not enough or cannot be decoded. It needs no lock.
func (l *Loading) Take(row []byte, limits *Limits) bool {
	h, err := ParseRow(row)
	if err != nil || h.Big {
		return false
	}
	if h.Type != TypeString {
		row = cloneBytes(row) // a small collection may keep it
	}
	o, err := decodeObject(nil, limits, l.phys, string(l.key), row)
	if err != nil {
		return false
	}
	o.slot, o.hash = l.slot, l.hash
	l.obj = o
	return true
}

// Beside returns a load of another key of l's database, as if begun when l was, that has taken the key's main row; nil where Take
// would report false. The row must have been read after l began. It needs no lock.
func (l *Loading) Beside(rowKey, row []byte, limits *Limits) *Loading {
	phys, slot, hash, key, ok := ParseMainKey(rowKey)
	if !ok || phys != l.phys {
		return nil
	}
	m := &Loading{db: l.db, gen: l.gen, key: cloneBytes(key), phys: phys, slot: slot, hash: hash}
	if !m.Take(row, limits) {
		return nil
	}
	return m
}

// Less orders loads by the store's rows, so that many of them are read as a walk.
func (l *Loading) Less(m *Loading) bool {
	if l.phys != m.phys {
		return l.phys < m.phys
	}
	if l.slot != m.slot {
		return l.slot < m.slot
	}
	return l.hash < m.hash
}

// Place returns where the key's row lies: its physical database, and within that the slot and most of the hash. Whoever sorts many
// loads compares these first, without a look at them.
func (l *Loading) Place() (phys uint32, head uint64) { return l.phys, uint64(l.slot)<<48 | l.hash>>16 }

// Same tells whether both load the same key.
func (l *Loading) Same(m *Loading) bool {
	return l.phys == m.phys && l.hash == m.hash && string(l.key) == string(m.key)
}

// Install puts what Read found in place, under the lock, and pins it until Unpin: the command that wanted it has not run
// yet. It reports false if a checkpoint was settled meanwhile, when what was read may be older than what has been
// unloaded since: read again.
func (l *Loading) Install() (pinned *Object, ok bool) {
	db := l.db
	ks := db.ks
	if db.dead {
		return nil, true
	}
	o := db.t.find(l.slot, l.hash, l.key)
	if o == nil {
		if l.gen != ks.settleGen {
			return nil, false
		}
		if l.obj != nil {
			o = db.install(l.obj)
		} else {
			// Known not to exist, for as long as it is pinned.
			o = &Object{key: string(l.key), hash: l.hash, slot: l.slot, lru: ks.Clock}
			db.t.insert(o)
		}
	}
	if o.flags&flagPinned != 0 {
		return nil, true // somebody else's pin
	}
	o.flags |= flagPinned
	return o, true
}

func (db *DB) install(o *Object) *Object {
	o.lru = db.ks.Clock
	db.t.insert(o)
	db.live++
	db.cold--
	if o.ExpireAt() != 0 {
		db.expiry.Set(o)
		db.expires++
		db.coldExpires--
	}
	if o.typ == TypeHash && o.Hash().t != nil {
		db.indexFields(o)
		db.coldTimed--
	}
	db.account(o)
	return o
}

// Unpin releases what Install pinned.
func (l *Loading) Unpin(o *Object) {
	o.flags &^= flagPinned
	if o.typ == TypeNone && o.epoch == 0 && o.flags&(flagInStore|flagDetached) == 0 && !l.db.dead {
		l.db.t.remove(o)
		o.flags |= flagDetached
	}
}

// SampleResident returns a live resident object at random with its database, for Redis's eviction policies.
func (ks *Keyspace) SampleResident(r *rand.Rand) (*DB, *Object) {
	for range 16 {
		db := ks.weightedDB(r)
		if db == nil {
			return nil, nil
		}
		if o := db.t.random(r); o != nil && o.typ != TypeNone {
			return db, o
		}
	}
	return nil, nil
}

// Restore sets the layout of a keyspace that begins at the store's C: all keys are cold.
func (ks *Keyspace) Restore(layout []DBLayout, nextPhys uint32, nextOID uint64) {
	for _, l := range layout {
		for len(ks.dbs) <= l.Logical {
			ks.dbs = append(ks.dbs, ks.newDB(len(ks.dbs)))
		}
		db := ks.dbs[l.Logical]
		db.phys, db.cold, db.coldExpires, db.coldTimed = l.Phys, int(l.Keys), int(l.Expires), int(l.Timed)
	}
	ks.nextPhys = max(ks.nextPhys, nextPhys)
	ks.nextOID = max(ks.nextOID, nextOID)
	// Databases that the store does not know must not share a physical id with one that it does.
	seen := map[uint32]bool{}
	for _, l := range layout {
		seen[l.Phys] = true
	}
	for i, db := range ks.dbs {
		if i >= len(layout) || db.phys == 0 {
			for db.phys == 0 || seen[db.phys] {
				ks.nextPhys++
				db.phys = ks.nextPhys
			}
			seen[db.phys] = true
		}
	}
}

// --- walking

// Scan calls fn for at least count keys (if there are so many) from the position cursor on, in position order, and
// returns where to go on; 0 at the end. A position is a place in (slot, hash), the same in memory and in the store, so a
// cursor stays valid over growth, unloading and restart, and needs no state. The object of a cold key has its key, type
// and expiry, but no value.
func (db *DB) Scan(cursor uint64, count int, fn func(o *Object)) (next uint64) {
	ks := db.ks
	ks.saw(ks.NextOff - 1)
	var w walker
	w.seek(&db.t, cursor)
	cold := db.coldIter(cursor)
	defer cold.close()
	n := 0
	last := uint64(0)
	for {
		o, fromStore := db.earlier(w.peek(), cold)
		if o == nil {
			if cold.err != nil {
				ks.fail(cold.err)
			}
			return 0
		}
		pos := Position(o.slot, o.hash)
		if n >= count && pos != last {
			return pos
		}
		if fromStore {
			cold.next()
			if db.t.find(o.slot, o.hash, []byte(o.key)) != nil {
				continue // memory is the authority (K1)
			}
		} else {
			w.next()
			if o.typ == TypeNone {
				continue
			}
		}
		fn(o)
		n, last = n+1, pos
	}
}

// earlier picks whichever comes first.
func (db *DB) earlier(mem *Object, cold *coldIter) (o *Object, fromStore bool) {
	c := cold.o
	switch {
	case mem == nil:
		return c, c != nil
	case c == nil || comparePos(mem, c) <= 0:
		return mem, false
	}
	return c, true
}

// Each calls fn for all keys.
func (db *DB) Each(fn func(o *Object)) { db.Scan(0, int(^uint(0)>>1), fn) }

// EachValue calls fn for all keys with their values, cold ones read for the call and forgotten after it.
func (db *DB) EachValue(fn func(o *Object)) {
	db.Each(func(o *Object) {
		if o.p == nil && o.flags&flagDetached != 0 {
			full, err := readObject(db.ks.rows, db.ks.limits, db.phys, o.slot, o.hash, []byte(o.key))
			if err != nil || full == nil {
				if err == nil {
					err = errRow
				}
				db.ks.fail(err)
				return
			}
			o = full
		}
		fn(o)
	})
}

// coldIter walks main rows of the store as header objects.
type coldIter struct {
	it  RowIter
	o   *Object
	err error
}

func (db *DB) coldIter(cursor uint64) *coldIter {
	c := &coldIter{}
	if db.cold == 0 || db.ks.rows == nil {
		return c
	}
	_, hi := MainRange(db.phys)
	lo := AppendMainKey(nil, db.phys, uint16(cursor>>50), cursor<<14, nil)
	if c.it, c.err = db.ks.rows.Iter(lo, hi); c.err != nil {
		c.it = nil
		return c
	}
	c.set(c.it.SeekGE(lo))
	return c
}

func (c *coldIter) next() { c.set(c.it.Next()) }

func (c *coldIter) set(ok bool) {
	c.o = nil
	if !ok {
		c.err = c.it.Err()
		return
	}
	_, slot, hash, key, good := ParseMainKey(c.it.Key())
	h, err := ParseRow(c.it.Value())
	if !good || err != nil {
		c.err = errRow
		return
	}
	c.o = headerObject(string(key), &h)
	c.o.slot, c.o.hash, c.o.flags = slot, hash, flagInStore|flagDetached
}

func (c *coldIter) close() {
	if c.it != nil {
		c.it.Close() // a read-only iterator: nothing to lose, and its errors were seen by set
	}
}

// --- expiry

func newExpiry() *btree.BTreeG[*Object] {
	return btree.NewBTreeGOptions(func(a, b *Object) bool {
		if x, y := a.ext.expireAt, b.ext.expireAt; x != y {
			return x < y
		}
		if a.hash != b.hash {
			return a.hash < b.hash
		}
		return strings.Compare(a.key, b.key) < 0
	}, btree.Options{NoLocks: true})
}

// Due returns the resident key that expires first, if its time has come.
func (db *DB) Due(nowMs int64) *Object {
	o, ok := db.expiry.Min()
	if !ok || o.ext.expireAt > nowMs {
		return nil
	}
	return o
}

// Phys returns the physical id under which the store keeps the database's rows.
func (db *DB) Phys() uint32 { return db.phys }

// HasColdExpires tells whether the store may have keys with an expiry, their own or a field's, that are not in memory.
func (db *DB) HasColdExpires() bool { return db.coldExpires > 0 || db.coldTimed > 0 }

// Row returns the physical database of the load and the key of its main row.
func (l *Loading) Row() (phys uint32, row []byte) {
	return l.phys, AppendMainKey(nil, l.phys, l.slot, l.hash, l.key)
}

// Key returns the key of the load.
func (l *Loading) Key() []byte { return l.key }

// Failed tells whether Read met an error.
func (l *Loading) Failed() bool { return l.err != nil }

// DB returns the database of the load.
func (l *Loading) DB() *DB { return l.db }
