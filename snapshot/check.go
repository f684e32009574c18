package snapshot

import (
	"context"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/sstable"

	"github.com/holdfast-db/holdfast/server/keyspace"
)

// Check verifies a store offline without changing it: format and meta row; every block of every table against its
// checksum; that tables are in order and stand in their levels as they must; that every row's key parses and stands at its
// place; that counts equal the meta row's; that each main row with an expiry has its expiry row and the other way round;
// that each element row belongs to a big main row, and that there are as many as it says. How many elements a list's rows
// hold is known to who can decode them (keyspace.CheckRows). report gets a line for each thing looked at. The first thing
// found wrong is returned, as *CorruptionError.
func Check(ctx context.Context, o Options, report func(line string)) error {
	o.ReadOnly = true
	s, err := Open(o)
	if err != nil {
		return err
	}
	return errors.Join(s.check(ctx, report), s.Close())
}

func (s *Store) check(ctx context.Context, report func(line string)) error {
	m := s.Meta()
	report(fmt.Sprintf("S2: the store stands at offset %d", m.C))
	n, err := s.checkTables(ctx)
	if err != nil {
		return err
	}
	report(fmt.Sprintf("tables: %d, all blocks match their checksums, levels are in order", n))
	c := &rowChecker{s: s, meta: m, counts: map[uint32]*DBMeta{}, bigs: map[uint64]*bigRow{}}
	if err := c.run(ctx); err != nil {
		return err
	}
	report(fmt.Sprintf("rows: %d keys, %d element rows, %d expiry rows; all parse, stand at their place and match the meta row's counts",
		c.mains, c.elems, c.expires))
	return nil
}

// checkTables reads every block of every table, those that newer rows hide and the filters among them.
func (s *Store) checkTables(ctx context.Context) (n int, err error) {
	levels, err := s.db.SSTables()
	if err != nil {
		return 0, readError(err)
	}
	for _, tables := range levels {
		for _, t := range tables {
			if err := ctx.Err(); err != nil {
				return n, err
			}
			name := fmt.Sprintf("%s.sst", t.BackingSSTNum)
			if err := s.checkTable(ctx, name); err != nil {
				return n, &CorruptionError{"table " + name, err}
			}
			n++
		}
	}
	if err := s.db.CheckLevels(&pebble.CheckLevelsStats{}); err != nil {
		return n, &CorruptionError{"order of the tables", err}
	}
	return n, nil
}

func (s *Store) checkTable(ctx context.Context, name string) (err error) {
	f, err := s.opts.FS.Open(s.opts.FS.PathJoin(s.opts.Dir, name))
	if err != nil {
		return err
	}
	readable, err := sstable.NewSimpleReadable(f)
	if err != nil {
		return errors.Join(err, f.Close())
	}
	po := s.pebbleOptions()
	po.EnsureDefaults()
	r, err := sstable.NewReader(ctx, readable, po.MakeReaderOptions())
	if err != nil {
		return errors.Join(err, readable.Close())
	}
	return errors.Join(r.ValidateBlockChecksums(), r.Close())
}

// rowChecker walks all rows once, in key order: main rows come before the element and expiry rows that belong to them.
type rowChecker struct {
	s                     *Store
	meta                  Meta
	counts                map[uint32]*DBMeta // by physical id: what the rows say
	bigs                  map[uint64]*bigRow // by object id
	mains, elems, expires int64
}

// bigRow is what a big main row says of its element rows.
type bigRow struct {
	db   uint32
	want uint64 // element rows still to come
	list bool   // a list's rows hold several elements each
}

func (c *rowChecker) run(ctx context.Context) (err error) {
	for _, d := range c.meta.DBs {
		c.counts[d.Phys] = &DBMeta{}
	}
	it, err := c.s.NewIter(nil, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	for ok := it.First(); ok; ok = it.Next() {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := c.row(it.Key(), it.Value()); err != nil {
			return err
		}
	}
	if err := it.Err(); err != nil {
		return err
	}
	for oid, b := range c.bigs {
		if !b.list && b.want != 0 {
			return &CorruptionError{What: fmt.Sprintf("collection %d lacks %d element rows", oid, b.want)}
		}
	}
	for _, d := range c.meta.DBs {
		if n := c.counts[d.Phys]; n.Timed != d.Timed {
			return &CorruptionError{What: fmt.Sprintf("database %d has %d hashes with fields that expire where the meta row says %d",
				d.Logical, n.Timed, d.Timed)}
		}
		if n := c.counts[d.Phys]; n.Keys != d.Keys || n.Expires != d.Expires {
			return &CorruptionError{What: fmt.Sprintf("database %d has %d keys, %d with an expiry, where the meta row says %d and %d",
				d.Logical, n.Keys, n.Expires, d.Keys, d.Expires)}
		}
	}
	return nil
}

func badRow(key []byte, format string, args ...any) error {
	return &CorruptionError{What: fmt.Sprintf("row %x: ", key) + fmt.Sprintf(format, args...)}
}

func (c *rowChecker) row(key, val []byte) error {
	switch key[0] {
	case keyspace.TagMeta:
		if len(key) != len(metaKey) {
			return badRow(key, "unknown")
		}
		return nil
	case keyspace.TagMain:
		return c.main(key, val)
	case keyspace.TagElem:
		return c.elem(key)
	case keyspace.TagExpire:
		return c.expire(key, val)
	default:
		return badRow(key, "unknown")
	}
}

func (c *rowChecker) main(key, val []byte) error {
	db, slot, hash, name, ok := keyspace.ParseMainKey(key)
	if !ok || slot != keyspace.Slot(name) || hash != keyspace.KeyHash(name) {
		return badRow(key, "key does not stand at its slot and hash")
	}
	n := c.counts[db]
	if n == nil {
		return badRow(key, "belongs to no database")
	}
	h, err := keyspace.ParseRow(val)
	if err != nil {
		return badRow(key, "%v", err)
	}
	n.Keys++
	c.mains++
	if h.ExpireAt != 0 {
		n.Expires++
	}
	if h.FieldsExpireAt != 0 {
		n.Timed++
	}
	if at := h.Due(); at != 0 {
		_, ok, err := c.s.Get(keyspace.AppendExpireKey(nil, db, at, slot, hash, name))
		if err != nil {
			return err
		}
		if !ok {
			return badRow(key, "has an expiry but no expiry row")
		}
	}
	if h.Big {
		if err := c.big(key, h.OID, &bigRow{db, h.Count, h.Type == keyspace.TypeList}); err != nil {
			return err
		}
		if h.TimesOID != 0 {
			return c.big(key, h.TimesOID, &bigRow{db, h.Times, false})
		}
	}
	return nil
}

// big notes element rows that must come.
func (c *rowChecker) big(key []byte, oid uint64, b *bigRow) error {
	if oid >= c.meta.NextOID {
		return badRow(key, "has the object id %d, the next one to give is %d", oid, c.meta.NextOID)
	}
	if c.bigs[oid] != nil {
		return badRow(key, "shares the element rows of another key")
	}
	c.bigs[oid] = b
	return nil
}

func (c *rowChecker) elem(key []byte) error {
	db, oid, _, ok := keyspace.ParseElemKey(key)
	b := c.bigs[oid]
	if !ok || b == nil || b.db != db {
		return badRow(key, "belongs to no collection")
	}
	if !b.list {
		if b.want == 0 {
			return badRow(key, "one more than its collection has")
		}
		b.want--
	}
	c.elems++
	return nil
}

func (c *rowChecker) expire(key, val []byte) error {
	db, at, slot, hash, name, ok := keyspace.ParseExpireKey(key)
	if !ok || len(val) != 0 || c.counts[db] == nil {
		return badRow(key, "belongs to no database")
	}
	row, ok, err := c.s.Get(keyspace.AppendMainKey(nil, db, slot, hash, name))
	if err != nil {
		return err
	}
	if !ok {
		return badRow(key, "expiry row without its key")
	}
	if h, err := keyspace.ParseRow(row); err != nil || h.Due() != at {
		return badRow(key, "expiry row differs from its key's expiry")
	}
	c.expires++
	return nil
}
