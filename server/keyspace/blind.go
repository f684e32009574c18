package keyspace

// A blind write replaces a cold key without reading what the store has for it: nobody asks. What the store has is found out later, for
// many keys in one walk, and at the latest before a checkpoint: it decides which rows that must delete, and how many keys there are.
//
// Until then the object carries flagBlind, and its key counts twice if the store has it: as resident and as cold. Memory is the
// authority over its value all the same (K1), its tombstone stays (K3), and no hand-over has it, so what the store has for it does not
// change meanwhile.

// placed is an entry that a blind write is about to take.
type placed struct {
	db *DB
	o  *Object
}

// Blind lets the command that runs next replace key whatever the store has for it: a cold key is known not to exist, until the command
// has run. REQUIRES: not NoBlind; AfterCommand is called once the command has run.
func (db *DB) Blind(key []byte) {
	slot, hash := db.ks.locate(key)
	if db.cold == 0 || db.t.find(slot, hash, key) != nil {
		return
	}
	o := &Object{key: string(key), hash: hash, slot: slot, lru: db.ks.Clock, flags: flagBlind}
	db.t.insert(o)
	db.ks.placed = append(db.ks.placed, placed{db, o})
}

// settlePlaced ends what Blind began: who has replaced its key is listed, who has not is forgotten.
func (ks *Keyspace) settlePlaced() {
	for i, p := range ks.placed {
		ks.placed[i] = placed{}
		switch {
		case p.o.flags&flagBlind == 0: // resolved within the command
		case p.o.epoch == 0:
			p.db.t.remove(p.o)
			p.o.flags |= flagDetached
		default:
			p.db.blind.add(p.o)
			p.db.blinds++
			ks.blinds++
		}
	}
	ks.placed = ks.placed[:0]
}

// Blinds returns the number of objects of which is not known what the store has for them.
func (ks *Keyspace) Blinds() int { return ks.blinds }

// BlindObjects is a database's objects of which is not known what the store has for them, for whoever finds out.
type BlindObjects struct {
	db      *DB
	list    objectList
	end     int       // where list ends, counted from the first object that was ever blind
	objects []*Object // in the order of the store's rows, after Sort
}

// StoredKey is what the store has for a key: its main row's header, if there is a row.
type StoredKey struct {
	Header RowHeader
	Exists bool
}

// BlindObjects returns a database's blind objects to the caller, who looks them up without the lock, calls Resolve for all of them, and
// then Resolved. It returns nil if there are none. Several may do so at once: one of them is sooner.
func (db *DB) BlindObjects() *BlindObjects {
	if db.blinds == 0 {
		return nil
	}
	list := db.blind
	list.pieces = append([][]*Object(nil), list.pieces...)
	return &BlindObjects{db: db, list: list, end: db.seen + list.n}
}

// Sort brings the objects into the order of the store's rows. It needs no lock: what it looks at never changes.
func (b *BlindObjects) Sort() { b.objects = b.list.sorted() }

// Len returns the number of objects.
func (b *BlindObjects) Len() int { return b.list.n }

// AppendRow appends the key of the main row that the store has for object i, if it has one. It needs no lock.
func (b *BlindObjects) AppendRow(dst []byte, i int) []byte {
	o := b.objects[i]
	return AppendMainKey(dst, b.db.phys, o.slot, o.hash, []byte(o.key))
}

// Resolve tells what the store has for the objects from i on. REQUIRES: the lock.
func (b *BlindObjects) Resolve(i int, found []StoredKey) {
	b.db.ks.prefetched = loadAll(b.objects[i : i+len(found)])
	for j := range found {
		b.db.resolve(b.objects[i+j], &found[j])
	}
}

// Resolved forgets the objects, all of which have been resolved. REQUIRES: the lock.
func (b *BlindObjects) Resolved() {
	if n := b.end - b.db.seen; n > 0 {
		b.db.blind.drop(n)
		b.db.seen += n
	}
}

// resolve notes what the store has for o.
func (db *DB) resolve(o *Object, s *StoredKey) {
	ks := db.ks
	if o.flags&flagBlind == 0 || db.dead {
		return
	}
	o.flags &^= flagBlind
	ks.blinds--
	db.blinds--
	if !s.Exists {
		return
	}
	h := &s.Header
	if ks.Mutant != "blind to counts" {
		db.cold--
	}
	if h.ExpireAt != 0 {
		db.coldExpires--
	}
	if h.FieldsExpireAt != 0 {
		db.coldTimed--
	}
	due := h.Due()
	if ks.Mutant == "blind to expiry rows" {
		due = 0
	}
	o.setStored(true, due)
	if h.Big && ks.Mutant != "blind to element rows" {
		db.deadOIDs = append(db.deadOIDs, h.OID)
		if h.TimesOID != 0 {
			db.deadOIDs = append(db.deadOIDs, h.TimesOID)
		}
	}
}

// look reads what the store has for the key of a main row.
func look(rows Rows, rowKey []byte) (s StoredKey, err error) {
	row, ok, err := rows.Get(rowKey)
	if err != nil || !ok {
		return s, err
	}
	if s.Header, err = ParseRow(row); err != nil {
		return s, err
	}
	s.Header.Value, s.Exists = nil, true
	return s, nil
}

// Look reads what the store has for the objects from i on, as many as found has room for. rows is asked in ascending order. It needs no
// lock.
func (b *BlindObjects) Look(rows Rows, i int, found []StoredKey) (err error) {
	var key []byte
	for j := range found {
		key = b.AppendRow(key[:0], i+j)
		if found[j], err = look(rows, key); err != nil {
			return err
		}
	}
	return nil
}

// ResolveBlind finds out under the lock what the store has for all blind objects of the database: for who must count keys at once.
func (db *DB) ResolveBlind() {
	b := db.BlindObjects()
	if b == nil {
		return
	}
	b.Sort()
	var found [1]StoredKey
	for i, o := range b.objects {
		if o.flags&flagBlind == 0 {
			continue
		}
		if err := b.Look(db.ks.rows, i, found[:]); err != nil {
			db.ks.fail(err)
			return
		}
		db.ks.ColdInLock++
		db.resolve(o, &found[0])
	}
	b.Resolved()
}
