package keyspace

import (
	"encoding/binary"
	"slices"
	"strings"

	"github.com/tidwall/btree"
)

// fieldTimes is when fields of a hash expire. A hash has one only while at least one of its fields does, so that all others pay
// nothing but a nil pointer.
//
// In the store the times of a small hash are in its row. Those of a big one have rows of their own, under an identity of their own:
// setting one writes one row, and neither reads nor rewrites the field's. So fieldTimes is to a checkpoint what a big
// collection is: it is handed over, frozen row by row (K4) and settled together with its hash.
type fieldTimes struct {
	list []fieldTime // by time; nil once there is a tree
	// Past fewFieldTimes:
	at    map[string]int64
	order *btree.BTreeG[fieldTime]

	oid     uint64   // identity of the rows, 0 = none given yet
	tr      *tracker // nil while the hash is small
	bytes   int64    // of the entries, estimated
	indexed int64    // the time under which DB.fieldDue lists the hash, 0 = it does not
}

// fieldTime is one field with its unix time in ms.
type fieldTime struct {
	at    int64
	field string
}

func (a fieldTime) compare(b fieldTime) int {
	if a.at != b.at {
		if a.at < b.at {
			return -1
		}
		return 1
	}
	return strings.Compare(a.field, b.field)
}

const (
	// fewFieldTimes is how many times are kept as a list and searched one by one: up to here that is as fast as a look-up in a map
	// and a tree, and takes a fifth of their memory.
	fewFieldTimes = 32
	// fieldTimesOverhead is the struct with its allocation header, and fieldTimeCost what an entry costs beside its name: 24
	// bytes in a list with room to grow and a string's rounding; past fewFieldTimes its places in the map and the tree, too.
	fieldTimesOverhead = 112
	fieldTimeCost      = 48
	fieldTimeTreeCost  = 120
)

func newFieldTimes(big bool) *fieldTimes {
	t := &fieldTimes{}
	if big {
		t.tr = newTracker(t)
	}
	return t
}

func (t *fieldTimes) len() int {
	if t.order != nil {
		return t.order.Len()
	}
	return len(t.list)
}

func (t *fieldTimes) memory() int64 { return fieldTimesOverhead + t.bytes }

func (t *fieldTimes) cost(field string) int64 {
	if t.order != nil {
		return fieldTimeTreeCost + int64(len(field))
	}
	return fieldTimeCost + int64(len(field))
}

// get returns when a field expires, 0 = never.
func (t *fieldTimes) get(field []byte) int64 {
	if t.order != nil {
		return t.at[string(field)]
	}
	for i := range t.list {
		if t.list[i].field == string(field) {
			return t.list[i].at
		}
	}
	return 0
}

// earliest returns the time at which the first field expires, 0 if none does.
func (t *fieldTimes) earliest() int64 {
	if t.order != nil {
		e, _ := t.order.Min()
		return e.at
	}
	if len(t.list) == 0 {
		return 0
	}
	return t.list[0].at
}

// each yields the fields in order of time, equal times in order of name. Nothing may change meanwhile.
func (t *fieldTimes) each(yield func(field string, at int64) bool) {
	if t.order != nil {
		t.order.Scan(func(e fieldTime) bool { return yield(e.field, e.at) })
		return
	}
	for _, e := range t.list {
		if !yield(e.field, e.at) {
			return
		}
	}
}

// set sets when a field expires. REQUIRES: at > 0.
func (t *fieldTimes) set(field []byte, at int64) {
	old := t.get(field)
	if old == at {
		return
	}
	e := fieldTime{at, string(field)}
	if t.tr != nil {
		t.tr.change(e.field)
	}
	if old != 0 {
		t.take(fieldTime{old, e.field})
	}
	t.put(e)
}

// remove lets a field never expire. It does nothing if it does not.
func (t *fieldTimes) remove(field []byte) {
	old := t.get(field)
	if old == 0 {
		return
	}
	name := string(field)
	if t.tr != nil {
		t.tr.change(name)
	}
	t.take(fieldTime{old, name})
}

func (t *fieldTimes) put(e fieldTime) {
	if t.order == nil && len(t.list) == fewFieldTimes {
		t.order = btree.NewBTreeGOptions(func(a, b fieldTime) bool { return a.compare(b) < 0 }, btree.Options{NoLocks: true})
		t.at = make(map[string]int64, 2*fewFieldTimes)
		for _, e := range t.list {
			t.order.Set(e)
			t.at[e.field] = e.at
		}
		t.bytes += int64(len(t.list)) * (fieldTimeTreeCost - fieldTimeCost)
		t.list = nil
	}
	t.bytes += t.cost(e.field)
	if t.order != nil {
		t.order.Set(e)
		t.at[e.field] = e.at
		return
	}
	i, _ := slices.BinarySearchFunc(t.list, e, fieldTime.compare)
	t.list = slices.Insert(t.list, i, e)
}

func (t *fieldTimes) take(e fieldTime) {
	t.bytes -= t.cost(e.field)
	if t.order != nil {
		t.order.Delete(e)
		delete(t.at, e.field)
		return
	}
	if i, ok := slices.BinarySearchFunc(t.list, e, fieldTime.compare); ok {
		t.list = slices.Delete(t.list, i, i+1)
	}
}

// clone returns an independent copy that has no rows yet.
func (t *fieldTimes) clone(big bool) *fieldTimes {
	c := newFieldTimes(false)
	t.each(func(field string, at int64) bool {
		c.put(fieldTime{at, field})
		return true
	})
	if big {
		c.grown()
	}
	return c
}

// grown gives each time a row of its own.
func (t *fieldTimes) grown() {
	t.tr = newTracker(t)
	t.markAllDirty()
}

// fieldTimeLen is the length of a time's row in bytes: unix ms, big endian.
const fieldTimeLen = 8

func (t *fieldTimes) row(sub string) (val []byte, ok bool) {
	at := t.get(subBytes(sub))
	if at == 0 {
		return nil, false
	}
	return binary.BigEndian.AppendUint64(nil, uint64(at)), true
}

// ParseFieldTime decodes the row of a field's time.
func ParseFieldTime(val []byte) (atMs int64, err error) {
	if len(val) != fieldTimeLen {
		return 0, errRow
	}
	if atMs = int64(binary.BigEndian.Uint64(val)); atMs <= 0 {
		return 0, errRow
	}
	return atMs, nil
}

// loadRow adds a time that is read back.
func (t *fieldTimes) loadRow(sub, val []byte) error {
	at, err := ParseFieldTime(val)
	if err != nil || t.get(sub) != 0 {
		return errRow
	}
	t.put(fieldTime{at, string(sub)})
	return nil
}

func (t *fieldTimes) handover()            { t.tr.handover() }
func (t *fieldTimes) giveBack()            { t.tr.giveBack() }
func (t *fieldTimes) settle()              { t.tr.settle() }
func (t *fieldTimes) handedSubs() []string { return t.tr.handedSubs() }
func (t *fieldTimes) handedRow(sub string) ([]byte, bool) {
	return t.tr.handedRow(sub)
}

func (t *fieldTimes) markAllDirty() {
	if t.tr != nil {
		t.each(func(field string, _ int64) bool {
			t.tr.change(field)
			return true
		})
	}
}

// --- what the database knows of them

func newFieldDue() *btree.BTreeG[*Object] {
	return btree.NewBTreeGOptions(func(a, b *Object) bool {
		if x, y := a.Hash().t.indexed, b.Hash().t.indexed; x != y {
			return x < y
		}
		if a.hash != b.hash {
			return a.hash < b.hash
		}
		return strings.Compare(a.key, b.key) < 0
	}, btree.Options{NoLocks: true})
}

// indexFields lists a hash under the time at which its first field expires, after a change or when it comes into memory, and
// lets go of times that are no more. REQUIRES: o is a hash with its value.
func (db *DB) indexFields(o *Object) {
	h := o.Hash()
	t := h.t
	if t == nil {
		return
	}
	at := t.earliest()
	if at == t.indexed && at != 0 {
		return
	}
	db.unindexFields(o)
	if at != 0 {
		t.indexed = at
		db.fieldDue.Set(o)
		return
	}
	if t.oid != 0 {
		db.deadOIDs = append(db.deadOIDs, t.oid)
	}
	h.t = nil
}

// unindexFields takes a hash out of the list. REQUIRES: as indexFields.
func (db *DB) unindexFields(o *Object) {
	if t := o.Hash().t; t != nil && t.indexed != 0 {
		db.fieldDue.Delete(o)
		t.indexed = 0
	}
}

// dropFields forgets the times of a hash whose value goes. REQUIRES: as indexFields.
func (db *DB) dropFields(o *Object) {
	db.unindexFields(o)
	if t := o.Hash().t; t != nil && t.oid != 0 {
		db.deadOIDs = append(db.deadOIDs, t.oid)
		t.oid = 0
	}
}

// DueFields returns the resident hash whose field expires first, if that one's time has come.
func (db *DB) DueFields(nowMs int64) *Object {
	o, ok := db.fieldDue.Min()
	if !ok || o.Hash().t.indexed > nowMs {
		return nil
	}
	return o
}

// TimedHashes returns the number of hashes that have fields with an expiry, resident or not.
func (db *DB) TimedHashes() int { return db.fieldDue.Len() + db.coldTimed }

// due returns when something of o expires first, the key or a field: its place in the store's expiry index. 0 = nothing does.
func (o *Object) due() int64 {
	at := o.ExpireAt()
	if o.typ == TypeHash && o.p != nil {
		if t := o.Hash().t; t != nil {
			at = earlier(at, t.earliest())
		}
	}
	return at
}

// earlier returns the smaller of two times, 0 being none.
func earlier(a, b int64) int64 {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}
