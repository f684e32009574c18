package keyspace

import (
	"math/rand/v2"
	"unsafe"

	"github.com/tidwall/btree"
)

// Rows is what the keyspace needs of the snapshot store: the rows as of its offset C.
type Rows interface {
	// Get returns the row's value, owned by the caller.
	Get(rowKey []byte) (val []byte, ok bool, err error)
	// Iter walks rows in [lo, hi).
	Iter(lo, hi []byte) (RowIter, error)
}

// RowIter walks rows. Key and Value are valid until the next step.
type RowIter interface {
	SeekGE(key []byte) bool
	Next() bool
	Key() []byte
	Value() []byte
	Err() error
	Close() error
}

// Keyspace is the data of all databases as far as it is in memory, and the knowledge of what is not. It has no lock and
// no clock: whoever owns it (the engine's executor) serialises access and tells it the time.
//
// K1: the value of a key = resident object, else tombstone, else what the store holds, minus what has expired.
type Keyspace struct {
	limits *Limits
	rows   Rows
	dbs    []*DB

	nextPhys uint32
	nextOID  uint64
	deadDBs  []uint32 // physical databases whose rows the next checkpoint deletes

	// Checkpoint state; see dirty.go.
	epoch       uint32
	handed      *Handover
	frozen      map[*Object]*frozenRow
	settleGen   uint64
	dirtyBytes  int64
	dirtyCount  int64
	FreezeStats FreezeStats

	used    int64 // bytes accounted for resident objects
	bigs    bigList
	touched []touched
	placed  []placed // see blind.go
	blinds  int
	// NoBlind: cold keys are read before they are written, whatever the command. For who needs blind writes to end.
	NoBlind bool
	// NextOff is one past the offset at which the next record starts; the executor keeps it up to date. A change made
	// now is durable once the log's durable offset has reached it (A1).
	NextOff int64
	// Seen is the newest NextOff of anything read or written since the executor reset it (A1).
	Seen       int64
	lastDelete int64 // newest deletion that left no tombstone
	Clock      uint32
	// NoTouch: look-ups leave the time of the last access alone (CLIENT NO-TOUCH). The executor sets it for each command.
	NoTouch bool

	// OnTouch is called for each change of a key while Watching, with the key's database and name.
	Watching bool
	OnTouch  func(db int, key string)
	// OnFlush is called before database db is emptied, or its content replaced by that of database by (by >= 0).
	OnFlush func(db, by int)
	// OnAdd is called when a key comes into being while Blocking (a waiting client may be served).
	Blocking bool
	OnAdd    func(db int, key string, t Type)
	// OnNew is called when a key comes into being while Announcing, one that takes the place of another excepted.
	Announcing bool
	OnNew      func(db int, key string)
	// OnError is told of a read from the store that failed inside the lock.
	OnError func(error)

	// MaxMemory is the memory budget in bytes, 0 = none. Only replies depend on it.
	MaxMemory int64

	// Mutant names a rule that a test leaves out, to see that the crash test finds it; "" in every other case.
	Mutant string

	// ColdInLock counts rows that had to be read while the lock was held.
	ColdInLock int64
	Expired    int64
	// ExpiredFields counts fields of hashes that were deleted because their time had come.
	ExpiredFields int64
	// Hits and Misses count the look-ups of commands that read, as INFO shows them.
	Hits, Misses int64
	// Verified counts the payloads of RESTORE that were checked to the last byte, as all are.
	Verified int64

	prefetched uint64 // keeps the loads of Prefetch from being optimised away
	memo       struct {
		p    *byte
		n    int
		hash uint64
		slot uint16
	}
}

// touched is a collection that the current command changes.
type touched struct {
	db *DB
	o  *Object
}

// DB is one database.
type DB struct {
	ks    *Keyspace
	index int
	phys  uint32
	t     table

	live        int // resident keys
	cold        int // keys that only the store has
	expires     int // resident keys with an expiry
	coldExpires int
	coldTimed   int // hashes with fields that expire that only the store has

	used int64 // bytes accounted for what is resident
	dead bool  // flushed: nothing of it counts any more

	expiry   *btree.BTreeG[*Object] // resident keys by expiry
	fieldDue *btree.BTreeG[*Object] // resident hashes by the expiry of their first field

	dirty    objectList
	deadOIDs []uint64

	blind  objectList // see blind.go
	blinds int        // of them: not yet resolved
	seen   int        // how many have left the list
}

// New returns an empty keyspace of n databases over rows, which may be nil if nothing is ever unloaded.
func New(n int, limits *Limits, rows Rows) *Keyspace {
	ks := &Keyspace{limits: limits, rows: rows, epoch: 1, frozen: map[*Object]*frozenRow{}, nextOID: 1, NextOff: 1}
	for i := range n {
		ks.dbs = append(ks.dbs, ks.newDB(i))
	}
	return ks
}

func (ks *Keyspace) newDB(index int) *DB {
	ks.nextPhys++
	return &DB{ks: ks, index: index, phys: ks.nextPhys, expiry: newExpiry(), fieldDue: newFieldDue()}
}

// Limits returns the encoding thresholds.
func (ks *Keyspace) Limits() *Limits { return ks.limits }

// NumDBs returns the number of databases.
func (ks *Keyspace) NumDBs() int { return len(ks.dbs) }

// DB returns database i.
func (ks *Keyspace) DB(i int) *DB { return ks.dbs[i] }

// Used returns the bytes accounted for what is resident.
func (ks *Keyspace) Used() int64 { return ks.used }

// Index returns the database's number.
func (db *DB) Index() int { return db.index }

// Len returns the number of keys, resident or not, expired ones included until they are removed.
func (db *DB) Len() int {
	db.ks.saw(db.ks.NextOff - 1)
	db.ResolveBlind()
	return db.live + db.cold
}

// Expires returns the number of keys with an expiry. Keys that were written blind may count twice: see ResolveBlind.
func (db *DB) Expires() int { return db.expires + db.coldExpires }

// Resident returns the number of keys in memory.
func (db *DB) Resident() int { return db.live }

// Cold returns the number of keys that only the store has. Keys that were written blind count too, if the store has them.
func (db *DB) Cold() int { return db.cold }

// CountExpired counts a key that was deleted because its time had come.
func (db *DB) CountExpired() { db.ks.Expired++ }

func (ks *Keyspace) saw(off int64) {
	if off > ks.Seen {
		ks.Seen = off
	}
}

// locate returns the slot and hash of key. The last key is remembered by its address: a command looks its key up more
// than once.
func (ks *Keyspace) locate(key []byte) (slot uint16, hash uint64) {
	p := unsafe.SliceData(key)
	m := &ks.memo
	if m.p == p && m.n == len(key) && p != nil && KeyHash(key) == m.hash {
		return m.slot, m.hash
	}
	m.p, m.n = p, len(key)
	m.slot, m.hash = Slot(key), KeyHash(key)
	return m.slot, m.hash
}

// Get returns the key's object, live or logically expired, or nil. A key that only the store has is read here, inside
// the lock: the executor has loaded what a command names before (Engine.Warm), so this is the exception, and counted.
func (db *DB) Get(key []byte) *Object {
	slot, hash := db.ks.locate(key)
	o := db.t.find(slot, hash, key)
	if o == nil {
		if db.cold == 0 {
			db.ks.saw(db.ks.lastDelete)
			return nil
		}
		return db.getCold(slot, hash, key)
	}
	db.ks.saw(o.off)
	if o.typ == TypeNone {
		return nil
	}
	if !db.ks.NoTouch {
		o.lru = db.ks.Clock
	}
	return o
}

// Peek returns the resident object of key without counting as an access; nil if there is none in memory.
func (db *DB) Peek(key []byte) *Object {
	o := db.t.find(Slot(key), KeyHash(key), key)
	if o == nil || o.typ == TypeNone {
		return nil
	}
	return o
}

func (db *DB) getCold(slot uint16, hash uint64, key []byte) *Object {
	ks := db.ks
	ks.saw(ks.lastDelete)
	ks.ColdInLock++
	l, err := readObject(ks.rows, ks.limits, db.phys, slot, hash, key)
	if err != nil {
		ks.fail(err)
		return nil
	}
	if l == nil {
		return nil
	}
	return db.install(l)
}

func (ks *Keyspace) fail(err error) {
	if ks.OnError != nil {
		ks.OnError(err)
	}
}

// IdleSeconds returns how long ago o was last looked up.
func (db *DB) IdleSeconds(o *Object) int64 { return int64(db.ks.Clock) - int64(o.lru) }

// SetIdle sets the last access of o to seconds ago.
func (db *DB) SetIdle(o *Object, seconds int64) { o.lru = uint32(int64(db.ks.Clock) - seconds) }

// obtain returns the entry for key, a new one (a tombstone outside the table's counts) if there is none. The caller
// gives it a value at once.
func (db *DB) obtain(key []byte) *Object {
	slot, hash := db.ks.locate(key)
	o := db.t.find(slot, hash, key)
	if o == nil && db.cold > 0 {
		db.getCold(slot, hash, key)
		o = db.t.find(slot, hash, key)
	}
	if o == nil {
		o = &Object{key: string(key), hash: hash, slot: slot, lru: db.ks.Clock}
		db.t.insert(o)
	}
	return o
}

// SetString sets key to a copy of val, whatever it held. Its expiry goes, unless keepTTL.
func (db *DB) SetString(key, val []byte, keepTTL bool) *Object {
	return db.SetStringOf(db.obtain(key), val, keepTTL)
}

// SetStringOf is SetString for who has looked the key up. REQUIRES: o is what Get returned, and nothing has changed since.
func (db *DB) SetStringOf(o *Object, val []byte, keepTTL bool) *Object {
	db.Touch(o)
	if o.typ == TypeString {
		if !keepTTL && o.ext != nil {
			db.setExpire(o, 0)
		}
		// Overwrite in place when it fits without wasting more than half; a frozen value has lost its capacity (K4).
		if c := int(o.c); len(val) <= c && (c <= 64 || len(val) >= c/2) {
			o.n = uint32(copy(unsafe.Slice((*byte)(o.p), c), val))
			o.flags &^= flagRaw
			return o
		}
		o.setBytes(cloneBytes(val))
		o.flags &^= flagRaw
		db.account(o)
		return o
	}
	created := o.typ == TypeNone
	db.dropValue(o, keepTTL)
	o.typ = TypeString
	o.setBytes(cloneBytes(val))
	db.account(o)
	o.lru = db.ks.Clock
	if created {
		db.added(o)
	}
	return o
}

func cloneBytes(b []byte) []byte {
	if len(b) == 0 {
		return emptyBytes
	}
	// append rounds the capacity up to Go's size class: room to overwrite in place, at no cost.
	return append([]byte(nil), b...)
}

// emptyBytes is what all empty strings point to: an address, but no capacity, or one key's next value would be written
// into all of them.
var emptyBytes = make([]byte, 1)[:0:0]

// added accounts for a key that came into being.
func (db *DB) added(o *Object) {
	db.live++
	if db.ks.Announcing {
		db.ks.OnNew(db.index, o.key)
	}
	if db.ks.Blocking && db.ks.OnAdd != nil {
		db.ks.OnAdd(db.index, o.key, o.typ)
	}
}

// Append appends tail to a string. REQUIRES: o.Type() == TypeString.
func (db *DB) Append(o *Object, tail []byte) {
	db.Touch(o)
	o.setBytes(append(o.storage(), tail...))
	o.flags |= flagRaw
	db.account(o)
}

// SetRange overwrites part of a string from off on, padding with zero bytes if it is shorter. REQUIRES: a string.
func (db *DB) SetRange(o *Object, off int, data []byte) {
	db.Touch(o)
	b := o.storage()
	if o.c == 0 || cap(b) < off+len(data) {
		need := max(off+len(data), len(b))
		grown := make([]byte, len(b), need+need/8)
		copy(grown, b)
		b = grown
	}
	if need := off + len(data); need > len(b) {
		old := len(b)
		b = b[:need]
		clear(b[old : off+len(data)])
	}
	copy(b[off:], data)
	o.setBytes(b)
	o.flags |= flagRaw
	db.account(o)
}

// SetRaw makes OBJECT ENCODING say raw, as Redis does for strings built by certain commands. REQUIRES: Touch(o).
func (db *DB) SetRaw(o *Object) { o.flags |= flagRaw }

// Put sets key to a collection (*List, *Hash, *Set or *ZSet), whatever it held. It has no expiry. The keyspace owns v.
func (db *DB) Put(key []byte, v any) *Object {
	o := db.obtain(key)
	db.Touch(o)
	created := o.typ == TypeNone
	db.dropValue(o, false)
	o.setColl(v)
	o.lru = db.ks.Clock
	db.ks.touched = append(db.ks.touched, touched{db, o})
	db.account(o)
	if created {
		db.added(o)
	} else if db.ks.Blocking && db.ks.OnAdd != nil {
		db.ks.OnAdd(db.index, o.key, o.typ)
	}
	return o
}

// dropValue removes o's value (and its expiry, unless keepTTL) ahead of a new one. REQUIRES: Touch(o).
func (db *DB) dropValue(o *Object, keepTTL bool) {
	if o.typ == TypeHash && o.p != nil {
		db.dropFields(o)
	}
	if o.ext != nil {
		if o.ext.oid != 0 {
			db.deadOIDs = append(db.deadOIDs, o.ext.oid)
			o.ext.oid = 0
		}
		if !keepTTL {
			db.setExpire(o, 0)
		}
	}
	o.p, o.n, o.c = nil, 0, 0
	o.flags &^= flagRaw
}

// Delete removes key and tells whether it existed.
func (db *DB) Delete(key []byte) bool {
	o := db.Get(key)
	if o == nil {
		return false
	}
	db.DeleteObject(o)
	return true
}

// DeleteObject removes a live object.
func (db *DB) DeleteObject(o *Object) {
	handedOver := db.ks.handed != nil && o.epoch == db.ks.handed.epoch
	db.Touch(o)
	db.dropValue(o, false)
	o.typ = TypeNone
	db.live--
	db.resize(o, 0)
	// K3: what the store has, or will have once the running checkpoint is in, must be hidden until a checkpoint that
	// covers the deletion is settled.
	if db.ks.Mutant == "blind tombstones go" {
		o.flags &^= flagBlind
	}
	if (o.flags&(flagInStore|flagFrozen|flagBlind) != 0 || handedOver) && db.ks.Mutant != "no tombstones" {
		return
	}
	if o.flags&flagPinned != 0 {
		return // removed by Unpin
	}
	db.discard(o)
}

// discard takes an entry without a row in the store out of the table.
func (db *DB) discard(o *Object) {
	db.t.remove(o)
	o.flags |= flagDetached
	db.ks.lastDelete = max(db.ks.lastDelete, o.off)
}

// SetExpire sets the expiry in unix milliseconds; 0 removes it.
func (db *DB) SetExpire(o *Object, atMs int64) {
	db.Touch(o)
	db.setExpire(o, atMs)
}

func (db *DB) setExpire(o *Object, atMs int64) {
	old := o.ExpireAt()
	if old == atMs {
		return
	}
	if old != 0 {
		db.expiry.Delete(o)
		db.expires--
	}
	o.extend().expireAt = atMs
	if atMs != 0 {
		db.expiry.Set(o)
		db.expires++
	} else if *o.ext == (ext{}) {
		o.ext = nil
	}
}

// Rename moves o's value and expiry to newKey, overwriting it. The object of the new key is returned. REQUIRES: o is
// not newKey.
func (db *DB) Rename(o *Object, newKey []byte) *Object { return db.MoveTo(o, db, newKey) }

// MoveTo moves o's value and expiry to newKey of another database, overwriting it.
func (db *DB) MoveTo(o *Object, to *DB, newKey []byte) *Object {
	n := to.obtain(newKey)
	db.Touch(o)
	to.Touch(n)
	created := n.typ == TypeNone
	to.dropValue(n, false)
	expire := o.ExpireAt()
	n.typ, n.p, n.n, n.c = o.typ, o.p, o.n, o.c
	n.flags = n.flags&^flagRaw | o.flags&flagRaw
	n.lru = o.lru
	if oid := o.oid(); oid != 0 {
		if db == to {
			// Element rows stay where they are, under their identity.
			n.extend().oid = oid
			o.ext.oid = 0
		} else if c := n.coll(); c != nil {
			c.markAllDirty() // the rows in the other database get a new identity
		}
	}
	if o.typ == TypeHash {
		db.unindexFields(o)
		if t := n.Hash().t; t != nil && db != to && t.oid != 0 {
			db.deadOIDs = append(db.deadOIDs, t.oid)
			t.oid = 0
		}
		to.indexFields(n)
		o.p = nil // what is told of its fields is n's now
	}
	if o.typ != TypeString {
		to.ks.touched = append(to.ks.touched, touched{to, n})
	}
	if expire != 0 {
		to.setExpire(n, expire)
	}
	to.account(n)
	if created {
		to.added(n)
	} else if to.ks.Blocking && to.ks.OnAdd != nil {
		to.ks.OnAdd(to.index, n.key, n.typ)
	}
	db.DeleteObject(o)
	return n
}

// FlushDB empties database i in a time that does not depend on its size: it goes on under a new physical id, and the
// rows of the old one are deleted by the next checkpoint.
func (ks *Keyspace) FlushDB(i int) {
	old := ks.dbs[i]
	if ks.OnFlush != nil {
		ks.OnFlush(i, -1)
	}
	ks.dbs[i] = ks.newDB(i)
	ks.forget(old)
}

func (ks *Keyspace) forget(old *DB) {
	ks.deadDBs = append(ks.deadDBs, old.phys)
	ks.lastDelete = ks.NextOff
	ks.saw(ks.NextOff)
	ks.used -= old.used
	ks.bigs.forget(old)
	old.dead = true
	ks.blinds -= old.blinds
	ks.memo.p = nil
}

// FlushAll empties all databases.
func (ks *Keyspace) FlushAll() {
	for i := range ks.dbs {
		if db := ks.dbs[i]; db.live+db.cold > 0 || db.t.n > 0 {
			ks.FlushDB(i)
		}
	}
}

// SwapDB exchanges two databases.
func (ks *Keyspace) SwapDB(a, b int) {
	if ks.OnFlush != nil && a != b {
		ks.OnFlush(a, b)
		ks.OnFlush(b, a)
	}
	ks.dbs[a], ks.dbs[b] = ks.dbs[b], ks.dbs[a]
	ks.dbs[a].index, ks.dbs[b].index = a, b
	// Anything read from either from now on depends on the swap being durable.
	ks.lastDelete = ks.NextOff
	ks.saw(ks.NextOff)
	if ks.Blocking && ks.OnAdd != nil {
		for _, i := range []int{a, b} {
			ks.OnAdd(i, "", TypeNone)
		}
	}
}

// Random returns a key at random, nil if there is none. Its object may be a header only (see Scan).
func (db *DB) Random(r *rand.Rand) *Object {
	total := db.live + db.cold
	if total == 0 {
		return nil
	}
	if db.live > 0 && r.IntN(total) < db.live {
		for range 100 {
			if o := db.t.random(r); o != nil && o.typ != TypeNone {
				db.ks.saw(o.off)
				return o
			}
		}
	}
	var found *Object
	pick := func(o *Object) { found = o }
	db.Scan(r.Uint64(), 1, pick)
	if found == nil {
		db.Scan(0, 1, pick)
	}
	return found
}

// CopyFrom sets key to a deep copy of o's value, without its expiry.
func (db *DB) CopyFrom(o *Object, key []byte) *Object {
	switch o.typ {
	case TypeList:
		return db.Put(key, o.List().Clone())
	case TypeHash:
		return db.Put(key, o.Hash().Clone())
	case TypeSet:
		return db.Put(key, o.Set().Clone())
	case TypeZSet:
		return db.Put(key, o.ZSet().Clone())
	}
	n := db.SetString(key, o.String(), false)
	n.flags |= o.flags & flagRaw
	return n
}

// IdleBefore returns how many seconds ago key was used, without using it; 0 if it is not in memory.
func (db *DB) IdleBefore(key []byte) int64 {
	if o := db.Peek(key); o != nil {
		return db.IdleSeconds(o)
	}
	return 0
}

// Budget returns the memory budget in bytes that the engine has announced; 0 = none.
func (ks *Keyspace) Budget() int64 { return ks.MaxMemory }
