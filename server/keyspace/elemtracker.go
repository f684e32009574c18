package keyspace

// elemTracker knows which elements of a big hash, set or sorted set changed since the last checkpoint, and keeps what a
// running one still needs (K4). Hand-over and settling are O(1), a change is O(1) without a look-up: the element itself
// carries a tag that says in which epoch it changed last, the number of the epoch modulo three plus one; 0 says that it is
// clean. Of older epochs than the running and the handed-over one no tag is left, since a checkpoint clears those of the
// elements that it takes.
//
//	touch     before an element changes: it becomes dirty; if a running checkpoint was handed it and has not taken it yet,
//	          its old value is frozen
//	add       before a new element comes: the running checkpoint, if it was handed its removal, must find it absent
//	remove    before an element goes
type elemTracker struct {
	src   elemSource
	epoch uint32 // number of hand-overs + 1

	// dirty lists the sub-keys that changed in this epoch, each at least once.
	dirty []string
	// gone are those among them that were removed in this epoch and have no element to carry a tag.
	gone map[string]struct{}

	running    bool                // a checkpoint has subs
	subs       []string            // handed over
	handedGone map[string]struct{} // and gone, as it was then
	// frozen are rows as they were at the hand-over, of elements that changed since.
	frozen map[string]*frozenElem
}

type elemSource interface {
	rowSource
	rowOf(b *blk) []byte // what row returns for the element at b
	table() *dict
}

func newElemTracker(src elemSource) *elemTracker {
	return &elemTracker{src: src, epoch: 1}
}

func epochTag(epoch uint32) uint32 { return epoch%3 + 1 }

// touch declares that the element at b is about to change.
func (t *elemTracker) touch(b *blk) {
	now := epochTag(t.epoch)
	tag := b.tag()
	if tag == now {
		return // and frozen, if that was needed, when it became dirty
	}
	if t.running && tag == epochTag(t.epoch-1) {
		t.freeze(b.keyString())
	}
	b.setTag(now)
	t.dirty = append(t.dirty, b.keyString())
}

// absentElem is the frozen state of an element that was not there.
var absentElem = new(frozenElem)

func (t *elemTracker) freeze(sub string) {
	if t.frozen[sub] != nil {
		return
	}
	v, exists := t.src.row(sub)
	t.frozen[sub] = &frozenElem{append([]byte(nil), v...), exists}
}

// add declares that the element b, which is not there, is about to be inserted.
func (t *elemTracker) add(b *blk) {
	sub := b.keyString()
	b.setTag(epochTag(t.epoch))
	if _, ok := t.handedGone[sub]; ok && t.frozen[sub] == nil {
		t.frozen[sub] = absentElem
	}
	if _, ok := t.gone[sub]; ok {
		delete(t.gone, sub) // listed when it was removed
		return
	}
	t.dirty = append(t.dirty, sub)
}

// remove declares that the element at b is about to be removed.
func (t *elemTracker) remove(b *blk) {
	t.touch(b)
	if t.gone == nil {
		t.gone = map[string]struct{}{}
	}
	t.gone[b.keyString()] = struct{}{}
}

// handover gives the dirty rows to a checkpoint.
func (t *elemTracker) handover() {
	if t == nil {
		return
	}
	t.giveBack()
	t.subs, t.handedGone, t.dirty, t.gone = t.dirty, t.gone, nil, nil
	t.frozen, t.running = map[string]*frozenElem{}, true
	t.epoch++
}

// giveBack makes what was handed over dirty again, at its current value.
func (t *elemTracker) giveBack() {
	if t == nil || !t.running {
		return
	}
	subs := t.subs
	t.settle()
	now := epochTag(t.epoch)
	d := t.src.table()
	for _, sub := range subs {
		if b := d.find(subBytes(sub)); b != nil {
			if b.tag() != now {
				b.setTag(now)
				t.dirty = append(t.dirty, sub)
			}
			continue
		}
		if _, ok := t.gone[sub]; ok {
			continue
		}
		if t.gone == nil {
			t.gone = map[string]struct{}{}
		}
		t.gone[sub] = struct{}{}
		t.dirty = append(t.dirty, sub)
	}
}

// settle forgets what was handed over.
func (t *elemTracker) settle() {
	if t != nil {
		t.subs, t.handedGone, t.frozen, t.running = nil, nil, nil, false
	}
}

// handedSubs returns the handed-over sub-keys, each at least once. The caller may sort them in place, without the lock,
// until it settles or gives back: nothing else looks at them before.
func (t *elemTracker) handedSubs() []string {
	if t == nil {
		return nil
	}
	return t.subs
}

// handedRow returns a row as it was at the hand-over and marks it as taken, so that later changes freeze nothing. It is
// called once for each sub-key. A frozen value belongs to the caller, a current one is valid until the next change.
func (t *elemTracker) handedRow(sub string) (val []byte, exists bool) {
	if b := t.src.table().find(subBytes(sub)); b != nil && b.tag() == epochTag(t.epoch-1) {
		b.setTag(0) // not changed since
		return t.src.rowOf(b), true
	}
	if f := t.frozen[sub]; f != nil {
		return f.val, f.exists
	}
	return t.src.row(sub)
}
