package keyspace

import (
	"iter"
	"math/rand/v2"

	"github.com/holdfast-db/holdfast/snapshot/rdb"
)

// Hash is a hash: fields with values. Small ones are packed and keep the order of insertion, as Redis's listpacks do;
// past a limit a hash becomes a dict, and never goes back. A packed hash is always one row, since only that keeps its
// order; a dict has a row for each field once it is big. When fields expire is told beside them (fieldTimes); a field that has expired
// is a field until it is deleted.
//
// Slices given to a Hash are copied; slices it returns are read-only and valid until its next change.
type Hash struct {
	lim *Limits
	p   []byte // packed: field, value, field, value …
	n   int    // fields in p
	d   *dict  // nil while packed
	tr  *elemTracker
	t   *fieldTimes // nil: no field expires
}

// hashOverhead is the struct with its allocation header; those of the others are alike.
const hashOverhead = 64

// NewHash returns an empty hash.
func NewHash(l *Limits) *Hash { return &Hash{lim: l} }

// Len returns the number of fields.
func (h *Hash) Len() int {
	if h.d != nil {
		return h.d.n
	}
	return h.n
}

// Encoding returns EncListpack, EncListpackEx if fields expire, or EncHashtable.
func (h *Hash) Encoding() Encoding {
	if h.d != nil {
		return EncHashtable
	}
	if h.timed() {
		return EncListpackEx
	}
	return EncListpack
}

// Bytes estimates the memory in use.
func (h *Hash) Bytes() int64 {
	n := int64(hashOverhead)
	if h.t != nil {
		n += h.t.memory()
	}
	if h.d != nil {
		return n + h.d.bytes
	}
	return n + int64(cap(h.p))
}

func (h *Hash) timed() bool { return h.t != nil && h.t.len() > 0 }

// Timed returns how many fields have an expiry.
func (h *Hash) Timed() int {
	if h.t == nil {
		return 0
	}
	return h.t.len()
}

// ExpireAt returns when field f expires in unix ms, 0 if it does not or is not there.
func (h *Hash) ExpireAt(f []byte) int64 {
	if h.t == nil {
		return 0
	}
	return h.t.get(f)
}

// SetExpire sets when field f expires in unix ms; 0 removes its expiry. REQUIRES: f is there.
func (h *Hash) SetExpire(f []byte, atMs int64) {
	if atMs == 0 {
		if h.t != nil {
			h.t.remove(f)
		}
		return
	}
	if h.t == nil {
		h.t = newFieldTimes(h.tr != nil)
	}
	h.t.set(f, atMs)
}

// Due yields the fields whose time has come, in order of time, equal times in order of name. The hash must not change meanwhile.
func (h *Hash) Due(nowMs int64) iter.Seq[string] {
	return func(yield func(f string) bool) {
		if h.t != nil {
			h.t.each(func(f string, at int64) bool { return at <= nowMs && yield(f) })
		}
	}
}

// EarliestExpire returns the time in unix ms at which the first of the fields expires, 0 if none does.
func (h *Hash) EarliestExpire() int64 {
	if h.t == nil {
		return 0
	}
	return h.t.earliest()
}

// locate returns where field f of a packed hash begins, its value, and the offsets where the value begins and ends.
func (h *Hash) locate(f []byte) (at int, v []byte, from, to int, ok bool) {
	for off := 0; off < len(h.p); {
		at = off
		var e []byte
		e, from = packedAt(h.p, off)
		v, to = packedAt(h.p, from)
		if equalBytes(e, f) {
			return at, v, from, to, true
		}
		off = to
	}
	return 0, nil, 0, 0, false
}

// Get returns the value of field f.
func (h *Hash) Get(f []byte) (v []byte, ok bool) {
	if h.d == nil {
		_, v, _, _, ok = h.locate(f)
		return v, ok
	}
	if b := h.d.find(f); b != nil {
		return b.val(), true
	}
	return nil, false
}

// Set sets field f to v, which never expires then, and tells whether the field is new.
func (h *Hash) Set(f, v []byte) (created bool) {
	if h.t != nil {
		h.t.remove(f)
	}
	return h.SetKeepExpire(f, v)
}

// SetKeepExpire is Set that leaves alone when the field expires.
func (h *Hash) SetKeepExpire(f, v []byte) (created bool) {
	if h.d == nil && (len(f) > h.lim.HashMaxListpackValue || len(v) > h.lim.HashMaxListpackValue) {
		h.convert()
	}
	if h.d == nil {
		if _, old, from, to, ok := h.locate(f); ok {
			if len(old) == len(v) {
				copy(old, v)
			} else {
				h.p = splicePacked(h.p, from, to, v)
			}
			return false
		}
		h.p = appendPacked(appendPacked(h.p, f), v)
		h.n++
		if h.n > h.lim.HashMaxListpackEntries {
			h.convert()
		}
		return true
	}
	if b := h.d.find(f); b != nil {
		if h.tr != nil {
			h.tr.touch(b)
		}
		if int(b.n)-b.keyLen() == len(v) {
			copy(b.val(), v)
		} else {
			h.d.replace(b, newBlk(f, v))
			h.grown()
		}
		return false
	}
	b := newBlk(f, v)
	if h.tr != nil {
		h.tr.add(&b)
	}
	h.d.insert(b)
	h.grown()
	return true
}

// Del removes field f and tells whether it was there.
func (h *Hash) Del(f []byte) bool {
	if h.t != nil {
		h.t.remove(f)
	}
	if h.d == nil {
		at, _, _, to, ok := h.locate(f)
		if ok {
			h.p = append(h.p[:at], h.p[to:]...)
			h.n--
		}
		return ok
	}
	return removeElem(h.d, h.tr, f)
}

// removeElem takes key out of a table, telling the tracker first.
func removeElem(d *dict, tr *elemTracker, key []byte) bool {
	if tr != nil {
		b := d.find(key)
		if b == nil {
			return false
		}
		tr.remove(b)
	}
	_, ok := d.remove(key)
	return ok
}

func (h *Hash) convert() {
	d := newDict()
	for f, v := range h.All() {
		d.insert(newBlk(f, v))
	}
	h.d, h.p, h.n = d, nil, 0
	h.grown()
}

func (h *Hash) grown() {
	if h.tr == nil && tableIsBig(h.d) {
		h.tr = newElemTracker(h)
		markTable(h.tr, h.d)
		if h.t != nil {
			h.t.grown()
		}
	}
}

func tableIsBig(d *dict) bool { return d.n > bigElements || d.bytes > bigBytes }

// All yields the fields and values: in order of insertion if packed, else in hash order. The hash must not change
// meanwhile.
func (h *Hash) All() iter.Seq2[[]byte, []byte] {
	return func(yield func(f, v []byte) bool) {
		if h.d != nil {
			h.d.all(func(b blk) bool { return yield(b.key(), b.val()) })
			return
		}
		for off := 0; off < len(h.p); {
			var f, v []byte
			f, off = packedAt(h.p, off)
			v, off = packedAt(h.p, off)
			if !yield(f, v) {
				return
			}
		}
	}
}

// Scan calls fn for at least count fields (if there are so many; all of a packed hash) from cursor on and returns the
// cursor to go on with; 0 at the start and at the end. A field that is there during the whole scan is returned at least
// once, whatever changes meanwhile.
func (h *Hash) Scan(cursor uint64, count int, fn func(f, v []byte)) (next uint64) {
	if h.d != nil {
		return h.d.scan(cursor, count, func(b blk) { fn(b.key(), b.val()) })
	}
	for f, v := range h.All() {
		fn(f, v)
	}
	return 0
}

// Random returns a field at random. REQUIRES: Len() > 0.
func (h *Hash) Random(r *rand.Rand) (f, v []byte) {
	if h.d != nil {
		b := h.d.random(r)
		return b.key(), b.val()
	}
	k := r.IntN(h.n)
	for f, v := range h.All() {
		if k == 0 {
			return f, v
		}
		k--
	}
	panic("keyspace: hash counts more fields than it has")
}

// Clone returns an independent copy.
func (h *Hash) Clone() *Hash {
	c := &Hash{lim: h.lim, n: h.n}
	if h.timed() {
		c.t = h.t.clone(h.tr != nil)
	}
	if h.d == nil {
		c.p = append([]byte(nil), h.p...)
		return c
	}
	c.d = h.d.clone(true)
	if h.tr != nil {
		c.tr = newElemTracker(c)
		markTable(c.tr, c.d)
	}
	return c
}

// Big tells whether each field has a row of its own.
func (h *Hash) Big() bool { return h.tr != nil }

// AppendValue appends the RDB type byte and payload.
func (h *Hash) AppendValue(dst []byte) []byte {
	if h.timed() {
		first := h.t.earliest()
		dst = rdb.AppendFieldTTLHeader(dst, first, h.Len())
		for f, v := range h.All() {
			dst = rdb.AppendFieldTTL(dst, f, v, h.t.get(f), first)
		}
		return dst
	}
	dst = rdb.AppendHeader(dst, rdb.TypeHash, h.Len())
	for f, v := range h.All() {
		dst = rdb.AppendString(rdb.AppendString(dst, f), v)
	}
	return dst
}

func (h *Hash) row(sub string) ([]byte, bool) {
	if b := h.d.find(subBytes(sub)); b != nil {
		return b.val(), true
	}
	return nil, false
}

func (h *Hash) table() *dict { return h.d }

func (h *Hash) rowOf(b *blk) []byte { return b.val() }

func (h *Hash) loadRow(sub, val []byte) error { return loadElem(h.d, sub, val) }

// loadElem adds an element that is read back; a second of the same key is an error.
func loadElem(d *dict, sub, val []byte) error {
	if d.find(sub) != nil {
		return errRow
	}
	d.insert(newBlk(sub, val))
	return nil
}

func (h *Hash) handover() {
	h.tr.handover()
	if h.t != nil {
		h.t.handover()
	}
}

func (h *Hash) giveBack() {
	h.tr.giveBack()
	if h.t != nil {
		h.t.giveBack()
	}
}

func (h *Hash) settle() {
	h.tr.settle()
	if h.t != nil {
		h.t.settle()
	}
}

func (h *Hash) markAllDirty() {
	markTable(h.tr, h.d)
	if h.t != nil {
		h.t.markAllDirty()
	}
}

func (h *Hash) handedSubs() []string { return h.tr.handedSubs() }
func (h *Hash) handedRow(sub string) ([]byte, bool) {
	return h.tr.handedRow(sub)
}

// markTable makes all elements dirty; nothing if the collection is small.
func markTable(tr *elemTracker, d *dict) {
	if tr == nil {
		return
	}
	for i := 0; i < len(d.dir); i = d.after(i) {
		for j := range d.dir[i].blk {
			tr.touch(&d.dir[i].blk[j])
		}
	}
}
