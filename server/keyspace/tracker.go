package keyspace

// collection is what the checkpoint and the cache need of a list, set, hash or sorted set.
//
// A collection is small or big. A small one is written whole, as one row. A big one has a row for each element (a list:
// for each node), under a sub-key, so that a change in a collection of a million elements writes one row. It becomes big
// by growing and stays so: going back and forth would rewrite all rows each time.
type collection interface {
	Len() int
	Bytes() int64
	Encoding() Encoding
	Big() bool
	// AppendValue appends the RDB type byte and payload of the whole value, in the plain types 1, 2, 4 and 5; 24 for a hash whose
	// fields expire.
	AppendValue(dst []byte) []byte

	// row returns the current value of an element row, valid until the next change: a hash's value, nothing for a set,
	// the score's IEEE bits big endian for a sorted set, the packed elements of a list's node.
	row(sub string) (val []byte, ok bool)
	// loadRow adds a row while a big collection is read back, in order of sub. Nothing becomes dirty.
	loadRow(sub, val []byte) error

	handedRows
	handover()
	giveBack()
	settle()
	markAllDirty()
}

// handedRows is what a checkpoint writes of a big collection, or of the times of a big hash.
type handedRows interface {
	handedSubs() []string
	handedRow(sub string) (val []byte, exists bool)
}

const (
	// bigElements and bigBytes are where a collection becomes big. A small one is encoded whole under the lock for each
	// checkpoint in which it changed, and whole rows are rewritten for a change of one element: 4 KiB keep that at a
	// few µs. Much smaller, and the row keys (about 40 bytes for each element) outweigh the elements.
	bigElements = 256
	bigBytes    = 4 << 10
)

// tracker knows which rows of a big list changed since the last checkpoint, and keeps what a running one still needs;
// elemTracker is the same for what has a dict. Every step is O(1) in the size of the collection (K4):
//
//	change    before an element changes: its sub-key becomes dirty; if a running checkpoint was handed the row and has
//	          not taken it yet, the row's old value is frozen
//	handover  the checkpoint takes over the dirty sub-keys
//	giveBack  the checkpoint failed: what it was handed is dirty again
//	settle    the checkpoint is committed: forget it
type tracker struct {
	src rowSource
	// dirty and handed map sub-keys to what is kept of them; dirty holds nothing but nil. handed == nil: no checkpoint.
	dirty, handed map[string]*frozenElem
	// The same sub-keys as lists, so that handing them to the checkpointer is O(1).
	dirtySubs, subs []string
	epoch           uint32 // number of hand-overs + 1: lets a list mark its nodes as known to be dirty
}

type rowSource interface {
	row(sub string) (val []byte, ok bool)
}

// frozenElem is a row as it was at the hand-over.
type frozenElem struct {
	val    []byte
	exists bool
}

// takenElem marks a handed-over row that the checkpoint has taken.
var takenElem = new(frozenElem)

func newTracker(src rowSource) *tracker {
	return &tracker{src: src, dirty: map[string]*frozenElem{}, epoch: 1}
}

// change declares that the row of sub is about to change, come or go. The tracker keeps sub: its bytes must not change.
func (t *tracker) change(sub string) {
	if _, ok := t.dirty[sub]; ok {
		return // and frozen, if that was needed, when it became dirty
	}
	t.dirty[sub] = nil
	t.dirtySubs = append(t.dirtySubs, sub)
	if t.handed == nil {
		return
	}
	if f, ok := t.handed[sub]; ok && f == nil {
		v, exists := t.src.row(sub)
		t.handed[sub] = &frozenElem{append([]byte(nil), v...), exists}
	}
}

// handover gives the dirty rows to a checkpoint.
func (t *tracker) handover() {
	if t == nil {
		return
	}
	t.giveBack()
	t.handed, t.subs = t.dirty, t.dirtySubs
	t.dirty, t.dirtySubs = map[string]*frozenElem{}, nil
	t.epoch++
}

// giveBack makes what was handed over dirty again, at its current value.
func (t *tracker) giveBack() {
	if t == nil || t.handed == nil {
		return
	}
	handed, subs := t.handed, t.subs
	t.settle()
	if len(subs) > len(t.dirtySubs) {
		// Fold the smaller set into the larger.
		handed, t.dirty = t.dirty, handed
		subs, t.dirtySubs = t.dirtySubs, subs
		for s, f := range t.dirty {
			if f != nil {
				t.dirty[s] = nil
			}
		}
	}
	for _, s := range subs {
		if _, ok := t.dirty[s]; !ok {
			t.dirty[s] = nil
			t.dirtySubs = append(t.dirtySubs, s)
		}
	}
}

// settle forgets what was handed over.
func (t *tracker) settle() {
	if t != nil {
		t.handed, t.subs = nil, nil
	}
}

// handedSubs returns the handed-over sub-keys. The caller may sort them in place, without the lock, until it settles or
// gives back: nothing else looks at them before.
func (t *tracker) handedSubs() []string {
	if t == nil {
		return nil
	}
	return t.subs
}

// handedRow returns a row as it was at the hand-over and marks it as taken, so that later changes freeze nothing. A
// frozen value belongs to the caller, a current one is valid until the next change.
func (t *tracker) handedRow(sub string) (val []byte, exists bool) {
	f := t.handed[sub]
	if f == takenElem {
		f = nil
	}
	t.handed[sub] = takenElem
	if f != nil {
		return f.val, f.exists
	}
	return t.src.row(sub)
}

// newCollection returns an empty collection to be filled by loadRow. enc restores an encoding that does not follow from
// the elements alone.
func newCollection(t Type, l *Limits, big bool, enc Encoding) collection {
	switch t {
	case TypeHash:
		h := NewHash(l)
		if enc == EncHashtable || big {
			h.d = newDict()
		}
		if big {
			h.tr = newElemTracker(h)
		}
		return h
	case TypeSet:
		s := NewSet(l)
		if enc == EncHashtable || big {
			s.d = newDict()
		}
		if big {
			s.tr = newElemTracker(s)
		}
		return s
	case TypeZSet:
		z := NewZSet(l)
		if enc == EncSkiplist || big {
			z.d, z.t = newDict(), newZTree()
		}
		if big {
			z.tr = newElemTracker(z)
		}
		return z
	case TypeList:
		q := NewList(l)
		if big {
			q.tr = newTracker(q)
		}
		return q
	}
	panic("keyspace: not a collection: " + t.String())
}
