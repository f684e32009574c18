package keyspace

import (
	"encoding/binary"
	"slices"
	"strings"

	"github.com/holdfast-db/holdfast/snapshot/rdb"
)

// A checkpoint is freeze → ingest → settle, and this file is the keyspace's part in it.
//
// Every object carries the epoch of its newest change. HandOver, O(1) under the lock, gives the checkpointer the list of
// objects changed in the epoch that ends, and begins a new epoch. From then on the checkpointer visits the handed-over
// objects, a few for each hold of the lock, and takes their rows as they were at the hand-over:
//
//   - nobody has changed the object since: its row is its value now;
//   - somebody wants to: Touch sees the ended epoch, and freezes the row first. A string or small collection is encoded
//     (a large string is shared and loses its right to be changed in place); a big collection freezes its header, and its
//     tracker then freezes element by element. So the cost of copy-on-write is bounded for each command (K4).
//
// After the rows are in the store, Settle makes what has not changed since clean (K2) and drops tombstones (K3). If the
// checkpoint failed, GiveBack makes everything dirty again.

// Handover is what one checkpoint has to write.
type Handover struct {
	epoch   uint32
	DBs     []HandedDB
	DeadDBs []uint32 // physical databases to delete
	// Layout as of the hand-over, for the store's meta row.
	Layout   []DBLayout
	NextPhys uint32
	NextOID  uint64
	Objects  int64
}

// HandedDB is one physical database's part of a hand-over.
type HandedDB struct {
	db       *DB
	list     objectList // until Sort
	Phys     uint32
	Objects  []*Object // in row order, after Sort
	DeadOIDs []uint64  // element rows to delete
}

// DBLayout maps a logical database to its physical id, with its counts.
type DBLayout struct {
	Logical       int
	Phys          uint32
	Keys, Expires int64
	Timed         int64 // hashes with fields that expire
}

// frozenRow is the state that an object had at the hand-over, kept because it has changed since. Under load there is one for a
// good part of the objects that changed since the last checkpoint, so it is small, and goes as soon as its row is taken if all
// else that Settle asks for fits in a flag (flagPlain).
type frozenRow struct {
	row    []byte // encoded main row; nil if it was taken already
	expire int64  // due
	exists bool
	*frozenParts
}

// frozenParts is what a frozen row does not have in one piece; nil for most.
type frozenParts struct {
	val      []byte // if not nil, the end of the row: the bytes of a large string, shared with whoever has them
	big      collection
	oid      uint64
	times    *fieldTimes // of a big hash, nil if no field expires
	timesOID uint64
}

// plain tells whether all that matters of it once its row is taken is that it existed.
func (f *frozenRow) plain() bool { return f.exists && f.expire == 0 && f.frozenParts == nil }

// FreezeStats counts copy-on-write.
type FreezeStats struct {
	Objects int64 // objects frozen since the last hand-over
	Bytes   int64 // bytes copied for them
}

// sharedFreezeMin is the length in bytes from which a checkpoint shares a string instead of copying it under the lock: copying
// 64 KiB takes about 5 µs, larger ones would be felt.
const sharedFreezeMin = 64 << 10

// stringRowLen is the length of the row of a string that is not shared, or a little more.
func stringRowLen(o *Object) int {
	n := 2 + 1 + 1 + int(o.n) // head, type, length
	if o.n >= 1<<6 {          // more than an RDB length of one byte tells
		n += 4
		if o.n < 1<<14 {
			n -= 3
		}
	}
	if o.ExpireAt() != 0 {
		n += 8
	}
	return n
}

// shareRow is appendRow that leaves a large string's bytes out and returns them: nobody changes them from now on, since the
// object loses its right to change them in place (K4). shared is nil if dst has the whole row.
func shareRow(dst []byte, o *Object) (row, shared []byte) {
	if o.typ != TypeString || o.n < sharedFreezeMin {
		return appendRow(dst, o), nil
	}
	o.c = 0
	dst = append(appendRowHead(dst, o), byte(rdb.TypeString))
	return rdb.AppendLen(dst, uint64(o.n)), o.String()
}

// Touch declares that o is about to change. It MUST be called before the first change of a value, by every command: it
// freezes what a running checkpoint still needs (K4), makes o dirty (K2), and tells whoever watches the key.
func (db *DB) Touch(o *Object) {
	ks := db.ks
	o.off = ks.NextOff
	if ks.NextOff > ks.Seen {
		ks.Seen = ks.NextOff
	}
	if o.epoch != ks.epoch {
		if ks.handed != nil && o.epoch == ks.handed.epoch && ks.Mutant != "no freeze" {
			ks.freeze(o)
		}
		o.epoch = ks.epoch
		db.dirty.add(o)
		ks.dirtyCount++
		ks.dirtyBytes += objectOverhead + min(int64(o.size)<<4, bigDirtyCost)
	}
	if o.typ > TypeString {
		ks.touched = append(ks.touched, touched{db, o})
	}
	if ks.Watching && ks.OnTouch != nil {
		ks.OnTouch(db.index, o.key)
	}
}

// bigDirtyCost bounds what one object counts as dirty when it is touched: a big collection writes rows, not itself.
const bigDirtyCost = 64 << 10

func (ks *Keyspace) freeze(o *Object) {
	exists, expire := o.typ != TypeNone, o.due()
	c := o.coll()
	big := c != nil && c.Big()
	if o.flags&flagVisited != 0 && exists && expire == 0 && !big {
		o.flags |= flagFrozen | flagPlain
		return
	}
	f := &frozenRow{exists: exists, expire: expire}
	if big {
		f.frozenParts = &frozenParts{big: c}
	}
	if o.flags&flagVisited == 0 {
		if big {
			ks.assignOID(o)
			f.oid = o.oid()
			f.times, f.timesOID = o.bigTimes()
			ks.handOver(o, c)
		}
		if exists {
			room := 0
			if o.typ == TypeString && o.n < sharedFreezeMin {
				room = stringRowLen(o) // in one piece: growing from nothing leaves more garbage than row
			}
			row, val := shareRow(make([]byte, 0, room), o)
			if f.row = row; val != nil {
				f.frozenParts = &frozenParts{val: val}
			}
			ks.FreezeStats.Bytes += int64(len(row))
		}
		ks.FreezeStats.Objects++
	}
	ks.frozen[o] = f
	o.flags |= flagFrozen
}

// handOver gives the rows of a big collection, and of its fields' times, to the running checkpoint.
func (ks *Keyspace) handOver(o *Object, c collection) {
	c.handover()
	if t, _ := o.bigTimes(); t != nil && ks.Mutant == "no freeze of field times" {
		clear(t.tr.handed) // rows are then read as they are when their turn comes
	}
}

// plainRow is the frozen state of every object with flagPlain.
var plainRow = &frozenRow{exists: true}

// frozenOf returns the state of o that the running checkpoint froze, read-only but for what Visit takes; nil, most often without
// a look at the map, if there is none.
func (ks *Keyspace) frozenOf(o *Object) *frozenRow {
	switch o.flags & (flagFrozen | flagPlain) {
	case 0:
		return nil
	case flagFrozen:
		return ks.frozen[o]
	}
	return plainRow
}

// thaw forgets what froze of o.
func (ks *Keyspace) thaw(o *Object) {
	if o.flags&(flagFrozen|flagPlain) == flagFrozen {
		delete(ks.frozen, o)
	}
	o.flags &^= flagVisited | flagFrozen | flagPlain
}

// Frozen returns how many objects have a frozen row, or what is left of one. REQUIRES: the lock.
func (ks *Keyspace) Frozen() int { return len(ks.frozen) }

// assignOID gives a big collection the identity of its element rows, and of those of its times.
func (ks *Keyspace) assignOID(o *Object) {
	if e := o.extend(); e.oid == 0 {
		e.oid = ks.nextOID
		ks.nextOID++
	}
	if t, oid := o.bigTimes(); t != nil && oid == 0 {
		t.oid = ks.nextOID
		ks.nextOID++
	}
}

// bigTimes returns when the fields of a big hash expire, and the identity of the rows that tell it; nil if none does.
func (o *Object) bigTimes() (*fieldTimes, uint64) {
	if o.typ != TypeHash || !o.Hash().timed() {
		return nil, 0
	}
	return o.Hash().t, o.Hash().t.oid
}

// Dirty returns the bytes (estimated) and objects that changed since the last hand-over.
func (ks *Keyspace) Dirty() (bytes, objects int64) { return ks.dirtyBytes, ks.dirtyCount }

// AnyDirty tells whether a checkpoint has anything to write.
func (ks *Keyspace) AnyDirty() bool {
	if ks.dirtyCount > 0 || len(ks.deadDBs) > 0 {
		return true
	}
	for _, db := range ks.dbs {
		if db.dirty.n > 0 || len(db.deadOIDs) > 0 {
			return true
		}
	}
	return false
}

// HandOver ends the epoch. It returns nil if a checkpoint is running, or objects are blind. What it returns belongs to the checkpointer until
// Settled or GiveBack.
func (ks *Keyspace) HandOver() *Handover {
	if ks.handed != nil || ks.blinds > 0 {
		return nil
	}
	h := &Handover{epoch: ks.epoch, DeadDBs: ks.deadDBs, Objects: ks.dirtyCount, NextPhys: ks.nextPhys}
	ks.deadDBs = nil
	for i, db := range ks.dbs {
		if db.dirty.n > 0 || len(db.deadOIDs) > 0 {
			h.DBs = append(h.DBs, HandedDB{db: db, Phys: db.phys, list: db.dirty, DeadOIDs: db.deadOIDs})
			db.dirty, db.deadOIDs = objectList{}, nil
		}
		h.Layout = append(h.Layout, DBLayout{Logical: i, Phys: db.phys,
			Keys: int64(db.live + db.cold), Expires: int64(db.expires + db.coldExpires), Timed: int64(db.TimedHashes())})
	}
	slices.SortFunc(h.DBs, func(a, b HandedDB) int { return int(a.Phys) - int(b.Phys) })
	ks.handed = h
	ks.epoch++
	ks.dirtyBytes, ks.dirtyCount = 0, 0
	ks.FreezeStats = FreezeStats{}
	return h
}

// Sort brings the handed-over objects into row order; once they are, it does nothing. It needs no lock: what it looks at
// never changes.
func (d *HandedDB) Sort() {
	if d.list.n > 0 {
		d.Objects, d.list = d.list.sorted(), objectList{}
	}
}

// NextOID returns the identity that the next big collection gets; all in the checkpoint's rows are below it once its
// objects are visited.
func (ks *Keyspace) NextOID() uint64 { return ks.nextOID }

// RowSink takes what Visit yields.
type RowSink struct {
	Main   func(key, val []byte)        // val nil: delete. Both valid during the call
	Shared func(key, head, val []byte)  // a main row whose value is head and val; val is valid for ever, the others during the call
	Expire func(old, new []byte)        // expiry row keys, nil = none. Owned by the callee
	Big    func(oid uint64, r *BigRows) // element rows to be fetched after all main rows
}

// BigRows gives the element rows of a big collection that changed before the hand-over.
type BigRows struct {
	c      handedRows
	subs   []string
	i      int
	loaded uint64 // keeps the loads of elemWalk from being optimised away
}

// lookEvery is after how many objects a pass under the lock asks whether it has held it for long enough, and lookBytes is the
// same in bytes of rows.
const (
	lookEvery = 16
	lookBytes = 16 << 10
)

// Visit yields the rows of objs as they were at the hand-over, in their order, until enough says so, and returns how many it
// has done, at least one. Called under the lock with few objects at a time.
func (d *HandedDB) Visit(objs []*Object, sink *RowSink, scratch *[]byte, enough func() bool) int {
	ks := d.db.ks
	ks.prefetched = loadAll(objs)
	bytes := 0
	for i, o := range objs {
		if i > 0 && (i%lookEvery == 0 || bytes >= lookBytes) {
			if bytes = 0; enough() {
				return i
			}
		}
		f := ks.frozenOf(o)
		if f == nil && o.flags&flagDetached != 0 {
			continue // was never in the store, and is not to be
		}
		buf := AppendMainKey((*scratch)[:0], d.Phys, o.slot, o.hash, []byte(o.key))
		keyLen := len(buf)
		var stored int64
		if o.ext != nil {
			stored = o.ext.storedExpire
		}
		var expire int64
		exists := false
		if f != nil {
			exists, expire = f.exists, f.expire
			parts := f.frozenParts
			switch {
			case parts != nil && parts.val != nil:
				sink.Shared(buf, f.row, parts.val)
				f.frozenParts = nil
			case exists:
				sink.Main(buf, f.row)
			}
			if parts != nil && parts.big != nil {
				sink.Big(parts.oid, &BigRows{c: parts.big})
				if parts.times != nil {
					sink.Big(parts.timesOID, &BigRows{c: parts.times})
				}
			}
			bytes += len(f.row)
			if f.row = nil; f.plain() {
				delete(ks.frozen, o)
				o.flags |= flagPlain
			}
		} else {
			o.flags |= flagVisited
			exists, expire = o.typ != TypeNone, o.due()
			if exists {
				if c := o.coll(); c != nil && c.Big() {
					ks.assignOID(o)
					ks.handOver(o, c)
					sink.Big(o.oid(), &BigRows{c: c})
					if t, oid := o.bigTimes(); t != nil {
						sink.Big(oid, &BigRows{c: t})
					}
				}
				var shared []byte
				if buf, shared = shareRow(buf, o); shared != nil {
					sink.Shared(buf[:keyLen:keyLen], buf[keyLen:], shared)
				} else {
					sink.Main(buf[:keyLen:keyLen], buf[keyLen:])
				}
				bytes += len(buf)
			}
		}
		if !exists && o.flags&flagInStore != 0 {
			sink.Main(buf[:keyLen], nil)
		}
		if !exists {
			expire = 0
		}
		if stored != expire {
			var old, now []byte
			if stored != 0 {
				old = AppendExpireKey(nil, d.Phys, stored, o.slot, o.hash, []byte(o.key))
			}
			if expire != 0 {
				now = AppendExpireKey(nil, d.Phys, expire, o.slot, o.hash, []byte(o.key))
			}
			sink.Expire(old, now)
		}
		*scratch = buf
	}
	return len(objs)
}

// Prepare fetches the list of changed rows. Under the lock; O(1) per changed element, so large lists cost a pass.
func (r *BigRows) Prepare() { r.subs = r.c.handedSubs() }

// Sort orders the rows; without the lock.
func (r *BigRows) Sort() { sortStrings(r.subs) }

// sortStrings sorts many strings that may have much in common at their beginning: by the eight bytes behind that first,
// which are read once, instead of going to memory for both strings at each comparison.
func sortStrings(a []string) {
	const few = 64
	if len(a) < few {
		slices.Sort(a)
		return
	}
	common := len(a[0])
	for _, s := range a {
		common = min(common, len(s))
		for i := range common {
			if s[i] != a[0][i] {
				common = i
				break
			}
		}
	}
	type item struct {
		head uint64
		s    string
	}
	items := make([]item, len(a))
	for i, s := range a {
		var b [8]byte
		copy(b[:], s[common:])
		items[i] = item{binary.BigEndian.Uint64(b[:]), s}
	}
	slices.SortFunc(items, func(a, b item) int {
		switch {
		case a.head < b.head:
			return -1
		case a.head > b.head:
			return 1
		}
		return strings.Compare(a.s, b.s) // a shorter one's missing bytes count as zeros
	})
	for i := range items {
		a[i] = items[i].s
	}
}

// Next yields up to n rows under the lock, fewer if enough says so, val nil meaning deleted, and tells whether there are more.
func (r *BigRows) Next(n int, enough func() bool, fn func(sub string, val []byte, exists bool)) (more bool) {
	if src, ok := r.c.(elemSource); ok {
		if d := src.table(); d.n >= prefetchDictFrom {
			var walk elemWalk
			for i := r.i; i < min(r.i+n, len(r.subs)); {
				for ; walk.n < prefetchMax && i < min(r.i+n, len(r.subs)); i++ {
					walk.add(d, subBytes(r.subs[i]))
				}
				r.loaded += walk.run()
			}
		}
	}
	bytes := 0
	for i := 0; i < n && r.i < len(r.subs); i++ {
		if i > 0 && (i%lookEvery == 0 || bytes >= lookBytes) {
			if bytes = 0; enough() {
				break
			}
		}
		sub := r.subs[r.i]
		r.i++
		if r.i > 1 && sub == r.subs[r.i-2] {
			continue
		}
		v, ok := r.c.handedRow(sub)
		fn(sub, v, ok)
		bytes += len(sub) + len(v)
	}
	return r.i < len(r.subs)
}

// BeginSettle is called under the lock once the checkpoint is committed, before the first Settle.
func (ks *Keyspace) BeginSettle() { ks.settleGen++ }

// Settle makes handed-over objects clean that have not changed since (K2) and removes tombstones that the store no
// longer needs (K3). It returns how many it has done when enough says so, at least one. Under the lock, few at a time.
func (d *HandedDB) Settle(h *Handover, objs []*Object, enough func() bool) int {
	db := d.db
	ks := db.ks
	ks.prefetched = loadAll(objs)
	for i, o := range objs {
		if i > 0 && i%lookEvery == 0 && enough() {
			return i
		}
		f := ks.frozenOf(o)
		ks.thaw(o)
		if f != nil {
			if f.frozenParts != nil && f.big != nil {
				f.big.settle()
			}
			if o.flags&flagDetached != 0 {
				continue
			}
			o.setStored(f.exists, f.expire)
			if ks.Mutant == "settle what has changed" {
				o.epoch = 0
			}
			continue
		}
		if o.flags&flagDetached != 0 {
			continue
		}
		if o.epoch != h.epoch {
			continue
		}
		o.epoch = 0
		if c := o.coll(); c != nil {
			c.settle()
		}
		o.setStored(o.typ != TypeNone, o.due())
		if o.typ == TypeNone && o.flags&flagPinned == 0 && !db.dead {
			db.discard(o)
		}
	}
	return len(objs)
}

func (o *Object) setStored(exists bool, expire int64) {
	if exists {
		o.flags |= flagInStore
	} else {
		o.flags &^= flagInStore
		expire = 0
	}
	if o.ext != nil || expire != 0 {
		o.extend().storedExpire = expire
		if *o.ext == (ext{}) {
			o.ext = nil
		}
	}
}

// EndCheckpoint forgets the hand-over after the last Settle.
func (ks *Keyspace) EndCheckpoint() { ks.handed = nil }

// GiveBack makes objs, of a checkpoint that failed, dirty again. Called under the lock with few objects at a time, before
// EndGiveBack; what changes between the calls is frozen, as while the checkpoint ran.
func (d *HandedDB) GiveBack(h *Handover, objs []*Object) {
	db := d.db
	ks := db.ks
	for _, o := range objs {
		f := ks.frozenOf(o)
		ks.thaw(o)
		if f != nil {
			if f.frozenParts != nil && f.big != nil {
				f.big.giveBack()
			}
			continue // dirty in the current epoch already
		}
		if o.flags&flagDetached != 0 || o.epoch != h.epoch || db.dead {
			continue
		}
		if c := o.coll(); c != nil {
			c.giveBack()
		}
		o.epoch = ks.epoch
		db.dirty.add(o)
		ks.dirtyCount++
		ks.dirtyBytes += objectOverhead + min(int64(o.size)<<4, bigDirtyCost)
	}
}

// EndGiveBack forgets the hand-over of a failed checkpoint after the last GiveBack.
func (ks *Keyspace) EndGiveBack(h *Handover) {
	for i := range h.DBs {
		d := &h.DBs[i]
		d.db.deadOIDs = append(d.DeadOIDs, d.db.deadOIDs...)
	}
	ks.deadDBs = append(h.DeadDBs, ks.deadDBs...)
	ks.handed = nil
}

// --- memory

// objectOverhead is what an entry costs beside its value: the struct, its key's allocation header, its share of buckets.
const objectOverhead = 112

// account brings the bytes accounted for o up to date.
func (db *DB) account(o *Object) {
	var n int64
	switch o.typ {
	case TypeNone:
	case TypeString:
		n = objectOverhead + int64(len(o.key)) + int64(max(o.c, o.n))
	default:
		n = objectOverhead + int64(len(o.key)) + o.coll().Bytes()
	}
	db.resize(o, n)
}

func (db *DB) resize(o *Object, bytes int64) {
	size := uint32(min((bytes+15)>>4, 1<<32-1))
	old := o.size
	delta := (int64(size) - int64(old)) << 4
	o.size = size
	db.used += delta
	if db.dead {
		return
	}
	if old >= bigObject || size >= bigObject {
		db.ks.bigs.resized(db, o, old)
	}
	db.ks.used += delta
	if delta > 0 && o.epoch == db.ks.epoch {
		db.ks.dirtyBytes += delta
	}
}

// AfterCommand brings the accounts of the collections that a command touched up to date, and the list of those with fields that
// expire.
func (ks *Keyspace) AfterCommand() {
	if len(ks.placed) > 0 {
		ks.settlePlaced()
	}
	for i, t := range ks.touched {
		if t.o.typ > TypeString && t.o.flags&flagDetached == 0 {
			if t.o.typ == TypeHash {
				t.db.indexFields(t.o)
			}
			t.db.account(t.o)
		}
		ks.touched[i] = touched{}
	}
	ks.touched = ks.touched[:0]
}

// SizeOf returns the bytes accounted for o (MEMORY USAGE).
func (o *Object) SizeOf() int64 { return int64(o.size) << 4 }
